//! Flushes of a vCPU's translations that others ask for.

use super::{Place, Post};
use crate::sync::atomic::Ordering;

impl Post {
    /// Asks for a flush of the vCPU's translations; returns its number.
    ///
    /// Who asks counts up and then looks where the vCPU is. The vCPU says that it runs, then looks at the
    /// count, and is entered only after that. So either the one who asks sees that it runs, or it sees that
    /// it is asked: a vCPU that does not run need not be told. One that runs may have looked before; it is
    /// interrupted, which ends guest mode however far the entry had come, looks again, flushes, and
    /// says up to which number that was good. Where it was not running meanwhile it has looked as well.
    pub fn ask_flush(&self) -> u64 {
        self.flushes.fetch_add(1, Ordering::SeqCst).wrapping_add(1)
    }

    /// The CPU on which the vCPU runs and may not have done the flush with that number.
    pub fn runs_unflushed(&self, asked: u64) -> Option<u16> {
        match self.place() {
            Place::Running(cpu) if self.flushed.load(Ordering::SeqCst) < asked => Some(cpu),
            _ => None,
        }
    }

    /// The number up to which the vCPU is to flush, if it owes that.
    #[inline]
    pub fn flush_owed(&self) -> Option<u64> {
        let asked = self.flushes.load(Ordering::SeqCst);
        (asked != self.flushed.load(Ordering::Relaxed)).then_some(asked)
    }

    /// The vCPU executes nothing before its translations are flushed: all that were made before that number
    /// was asked for.
    pub fn flushed(&self, asked: u64) {
        self.flushed.store(asked, Ordering::SeqCst);
    }
}
