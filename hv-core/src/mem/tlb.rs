//! TLB obligations as types.
//!
//! Removing or narrowing a nested mapping leaves stale translations in the TLBs of every CPU that
//! ran the VM. The operation returns a [`MustFlush`]; only [`Generation::publish`] consumes it.
//! Each CPU compares the generation that it has flushed for with the VM's before it enters the
//! guest, so the flush happens there, once, and nowhere else. Who has to know that it has happened asks for
//! it behind that, by [`Post::ask_flush`](crate::vm::post::Post::ask_flush). An emulator's TLB need not
//! catch a forgotten flush, so models do (see the tests).

use crate::sync::atomic::{AtomicU64, Ordering};

/// A flush that is owed. Dropping it without publishing it is a bug.
#[must_use = "stale translations stay in use until this is published"]
#[derive(Debug)]
pub struct MustFlush(());

impl MustFlush {
    /// Created where a mapping is removed or narrowed.
    pub(super) const fn new() -> MustFlush {
        MustFlush(())
    }

    /// An obligation of a backend that is not real.
    #[cfg(any(test, loom))]
    pub fn in_a_test() -> MustFlush {
        MustFlush::new()
    }

    /// Two obligations of the same address space are one.
    pub const fn and(self, _other: MustFlush) -> MustFlush {
        self
    }
}

/// The generation of an address space's translations: it grows with every published flush.
#[derive(Debug, Default)]
pub struct Generation(AtomicU64);

impl Generation {
    /// Makes every CPU flush before it next enters a guest of this address space. A CPU that is in
    /// the guest now goes on with old translations until it exits: the caller kicks it.
    pub fn publish(&self, _owed: MustFlush) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// The generation, for [`Seen::behind`].
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What one CPU has flushed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(u64);

impl Seen {
    /// A CPU that has never run the address space: it must flush first, because a tag may have been
    /// used for another one.
    pub const NEVER: Seen = Seen(u64::MAX);

    /// Whether a flush is owed before entry; if so, the caller flushes at once.
    pub fn behind(&mut self, generation: &Generation) -> bool {
        let current = generation.current();
        let behind = self.0 != current;
        self.0 = current;
        behind
    }
}

#[cfg(test)]
mod order;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_cpu_flushes_once_for_each_generation() {
        let generation = Generation::default();
        let mut cpus = [Seen::NEVER; 2];
        assert!(cpus[0].behind(&generation), "the first entry flushes");
        assert!(!cpus[0].behind(&generation));
        generation.publish(MustFlush::new().and(MustFlush::new()));
        assert!(cpus[0].behind(&generation));
        assert!(!cpus[0].behind(&generation));
        assert!(cpus[1].behind(&generation));
    }

    proptest! {
        /// CPUs with TLBs that keep everything until flushed: no access may hit a mapping that was
        /// removed before the CPU last entered.
        #[test]
        fn no_cpu_enters_with_a_translation_that_was_removed(
            steps in prop::collection::vec((0usize..3, 0usize..2, 0usize..4), 1..200),
        ) {
            let generation = Generation::default();
            let mut mapped = [true; 4];
            let mut seen = [Seen::NEVER; 2];
            let mut tlb = [[false; 4]; 2];
            for (what, cpu, page) in steps {
                match what {
                    0 if mapped[page] => {
                        mapped[page] = false;
                        generation.publish(MustFlush::new());
                    }
                    0 => mapped[page] = true,
                    _ => {
                        if seen[cpu].behind(&generation) {
                            tlb[cpu] = [false; 4];
                        }
                        prop_assert!(!tlb[cpu][page] || mapped[page], "stale hit");
                        tlb[cpu][page] |= mapped[page];
                    }
                }
            }
        }
    }
}
