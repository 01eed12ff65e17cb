//! The wait of a vCPU for a kick, which ends its next wait if it comes before.

use super::{Place, Post};
use crate::sync::atomic::Ordering;

/// [`Post::kick`]: it was kicked, and has not waited since.
pub(super) const KICKED: u8 = 1 << 0;
/// [`Post::kick`]: it waits to be.
pub(super) const WAITING: u8 = 1 << 1;

impl Post {
    /// Kicks the vCPU. Returns where it is if it must be fetched for it.
    pub fn kick(&self) -> Place {
        // Either this sees that the vCPU waits, or the vCPU, which says so before it looks, sees this. It
        // looks again wherever it moves until it sleeps.
        match self.kick.fetch_or(KICKED, Ordering::SeqCst) {
            WAITING => match self.place() {
                Place::Running(_) => Place::Queued,
                place => place,
            },
            _ => Place::Queued,
        }
    }

    /// The vCPU begins to wait for a kick. `false` if it was kicked since the last time.
    pub fn begin_wait(&self) -> bool {
        let kicked = self.kick.swap(WAITING, Ordering::SeqCst) & KICKED != 0;
        if kicked {
            self.kick.store(0, Ordering::SeqCst);
        }
        !kicked
    }

    /// The vCPU waits no longer. A kick that has come by now was for this time.
    #[inline]
    pub fn end_wait(&self) {
        if self.kick.load(Ordering::Relaxed) & WAITING != 0 {
            self.kick.store(0, Ordering::SeqCst);
        }
    }
}
