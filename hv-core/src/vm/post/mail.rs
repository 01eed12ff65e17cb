//! What the vCPUs that sleep on a CPU have been left.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::vm::bits::{Bits, WORDS};

/// How many vCPUs can belong to one CPU.
pub const SLOTS: usize = WORDS * 64;

/// Which of the vCPUs that sleep on a CPU have something in their [`Post`](super::Post), and whether there are new ones.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Mail {
    /// By their numbers, and [`NEW`].
    slots: Bits,
    apic_id: AtomicU32,
}

/// vCPUs come to this CPU, or all are gone.
const NEW: u64 = 1 << 63;

impl Mail {
    /// Empty.
    pub fn new() -> Mail {
        Mail { slots: Bits::new(), apic_id: AtomicU32::new(0) }
    }

    /// The APIC ID by which the CPU is interrupted.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Sets it, before the CPU has vCPUs.
    pub fn set_apic_id(&self, id: u32) {
        self.apic_id.store(id, Ordering::Relaxed);
    }

    /// The vCPU with this number has something in its post.
    pub fn put(&self, slot: u16) {
        self.slots.set(slot);
    }

    /// There is something else to be looked at.
    pub fn announce(&self) {
        self.slots.announce(NEW);
    }

    /// Whether something is here.
    #[inline]
    pub fn waits(&self) -> bool {
        self.slots.any()
    }

    /// Takes all: gives `each` the numbers, and says whether something was announced.
    pub fn take(&self, mut each: impl FnMut(u16)) -> bool {
        let own = self.slots.take(|word, mut bits| {
            while let Some(bit) = lowest(&mut bits) {
                each(word << 6 | bit);
            }
        });
        own & NEW != 0
    }
}

/// Takes the lowest bit of a word.
pub fn lowest(word: &mut u64) -> Option<u16> {
    let bit = (*word != 0).then(|| word.trailing_zeros() as u16);
    *word &= word.wrapping_sub(1);
    bit
}
