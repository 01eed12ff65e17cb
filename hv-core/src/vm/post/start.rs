//! The start of a vCPU that waits for it.

use super::{Post, Taken};

/// How a vCPU starts that has waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    /// In real mode, at the page with this number: by a startup IPI.
    Page(u8),
    /// In 64-bit mode, by a call.
    Called {
        /// The linear address of the first instruction.
        entry: u64,
        /// CR3.
        tables: u64,
        /// RDI.
        argument: u64,
    },
}

/// What a vCPU is asked that waits to be started.
#[derive(Debug)]
pub(super) struct Starts {
    /// It waits, and nobody has asked.
    pub open: bool,
    pub asked: Option<Startup>,
}

impl Post {
    /// The vCPU may be asked to start, or no longer.
    pub fn may_start(&self, may: bool) {
        *self.starts.lock() = Starts { open: may, asked: None };
    }

    /// Asks the vCPU to start. `false` if it does not wait for that, or has been asked. Otherwise the
    /// caller leaves [`Notice::Start`](super::Notice::Start).
    pub fn ask_start(&self, start: Startup) -> bool {
        let mut starts = self.starts.lock();
        let open = core::mem::take(&mut starts.open);
        if open {
            starts.asked = Some(start);
        }
        open
    }

    /// How the vCPU, which has taken this and waits for it, is to start.
    pub fn startup(&self, taken: &Taken) -> Option<Startup> {
        let asked = self.starts.lock().asked.take();
        asked.or_else(|| taken.startup().map(Startup::Page))
    }
}
