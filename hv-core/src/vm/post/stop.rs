//! The stop of all vCPUs of a VM.

use crate::sync::atomic::{AtomicU8, Ordering};

/// Why the vCPUs of a VM stop, and how it is told.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

/// What becomes of a VM when its vCPUs have stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Then {
    /// It is gone.
    End = 1,
    /// It starts anew.
    Reset = 2,
}

impl Stop {
    /// All are to stop. `false` if they were already.
    pub fn begin(&self, then: Then) -> bool {
        self.0.compare_exchange(0, then as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// What becomes of the VM, if all are to stop.
    pub fn then(&self) -> Option<Then> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(Then::End),
            2 => Some(Then::Reset),
            _ => None,
        }
    }

    /// The VM has been reset.
    pub fn over(&self) {
        self.0.store(0, Ordering::Release);
    }
}
