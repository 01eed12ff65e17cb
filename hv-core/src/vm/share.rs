//! Pages that a VM offers to those that it is linked to, and its window, in which it has what they offer.
//!
//! What is offered is known to the grantor alone, by its slots, and so is where the grantee has it: one
//! lock decides on both. Whoever has it may change the grantee's nested table; nobody has two of them, and
//! nobody waits for a CPU meanwhile. An exit of another kind takes none.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;

use pv_abi::Status;
use pv_abi::call::grant::{PLACES, SLOTS};
use spin::{Mutex, MutexGuard};

use super::Vm;
use super::desc::{MEMORY_STEP, link};
use super::post::lowest;
use crate::mem::frames::PAGE;
use crate::mem::nested::Access;
use crate::mem::tlb::MustFlush;

/// Size of a window in bytes: what one table of the last level maps.
pub const WINDOW: u64 = 2 << 20;

const _: () = {
    assert!(WINDOW == PLACES as u64 * PAGE && MEMORY_STEP.is_multiple_of(WINDOW));
    // The read-only halves are between the RAM and the window.
    assert!(super::desc::MAX_VCPUS as u64 * pv_abi::area::INFO_SIZE as u64 <= WINDOW);
};

/// Where the window of a VM with this much RAM is.
pub const fn window(memory: u64) -> u64 {
    memory.wrapping_add(WINDOW)
}

/// Pages of a nested page table for which it has all tables, whoever's format it has.
pub trait Window: Send + Sync {
    /// What is mapped there.
    #[cfg(test)]
    fn find(&self, gpa: u64) -> Option<(u64, Access)>;

    /// Maps a page; `false`, and nothing done, if something is mapped there.
    fn show(&self, gpa: u64, hpa: u64, access: Access) -> bool;

    /// Takes a page away, for which a flush is owed.
    fn hide(&self, gpa: u64) -> Option<MustFlush>;
}

/// What a VM that may share shares.
pub struct Share {
    offers: Mutex<Box<[Offer]>>,
    window: &'static dyn Window,
    /// Where it is, as a guest-physical address.
    base: u64,
}

/// One slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offer {
    #[default]
    Free,
    /// Offered to the VM with the number `to`.
    Made {
        /// The host-physical address.
        page: u64,
        to: u8,
        access: Access,
        /// Where the other VM has it mapped, as its guest-physical address.
        at: Option<u64>,
        /// It was mapped at least once: CPUs may have cached that.
        used: bool,
    },
    /// It is mapped nowhere, but these vCPUs of the other VM, a bit for each, may have that cached.
    Revoked {
        to: u8,
        missing: u64,
        /// One that revokes waits for them.
        busy: bool,
    },
}

/// What is to be done to revoke an offer.
pub enum Revocation {
    /// Nothing.
    Done,
    /// Another one is at it, and waits for these vCPUs.
    Busy(u64),
    /// These vCPUs of this VM have to flush; [`Vm::revoked`] is told who has not.
    Flush(&'static Vm, u64),
}

fn slot(number: u64) -> Result<usize, Status> {
    let number = usize::try_from(number).ok().filter(|&number| number < SLOTS);
    number.ok_or(Status::InvalidArgument)
}

impl Share {
    /// Of a VM with this much RAM, whose nested page table has all tables of the window.
    pub fn new(window: &'static dyn Window, memory: u64) -> Share {
        let offers = Mutex::new(vec![Offer::Free; SLOTS].into_boxed_slice());
        Share { offers, window, base: self::window(memory) }
    }
}

impl Vm {
    /// Offers the page at this host-physical address, which is RAM of this VM, to the VM `to`.
    ///
    /// # Errors
    ///
    /// Those of the call, but for those of the address.
    pub fn offer(&self, number: u64, page: u64, to: u64, access: Access) -> Result<(), Status> {
        let slot = slot(number)?;
        let share = self.share.as_ref().ok_or(Status::Denied)?;
        let mut offers = share.offers.lock();
        let offer = offers.get_mut(slot).ok_or(Status::InvalidArgument)?;
        if *offer != Offer::Free {
            return Err(Status::AlreadyDone);
        }
        let peer = self.peer(to).filter(|peer| peer.share.is_some()).ok_or(Status::Denied)?;
        *offer = Offer::Made { page, to: peer.number, access, at: None, used: false };
        Ok(())
    }

    /// Begins to take an offer back: it is mapped nowhere after that.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn begin_revocation(&self, number: u64) -> Result<Revocation, Status> {
        let slot = slot(number)?;
        let share = self.share.as_ref().ok_or(Status::NotReady)?;
        let mut offers = share.offers.lock();
        let offer = offers.get_mut(slot).ok_or(Status::InvalidArgument)?;
        let (to, missing) = match *offer {
            Offer::Free => return Err(Status::NotReady),
            Offer::Made { used: false, .. } => {
                *offer = Offer::Free;
                return Ok(Revocation::Done);
            }
            Offer::Made { to, at, .. } => {
                self.hide_from(to, at);
                (to, u64::MAX)
            }
            Offer::Revoked { busy: true, missing, .. } => return Ok(Revocation::Busy(missing)),
            Offer::Revoked { to, missing, .. } => (to, missing),
        };
        let peer = self.peer(to.into()).ok_or(Status::NotReady)?;
        let missing = missing & all(peer);
        *offer = Offer::Revoked { to, missing, busy: true };
        Ok(Revocation::Flush(peer, missing))
    }

    /// Of those that had to flush, these may not have.
    pub fn revoked(&self, number: u64, still: u64) {
        let Some(share) = &self.share else { return };
        if let Ok(slot) = slot(number)
            && let Some(offer) = share.offers.lock().get_mut(slot)
            && let Offer::Revoked { to, .. } = *offer
        {
            *offer = match still {
                0 => Offer::Free,
                missing => Offer::Revoked { to, missing, busy: false },
            };
        }
    }

    /// Maps what the VM `of` offers at a place of the window, and returns its guest-physical address.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn map_offer(&self, of: u64, number: u64, index: u64) -> Result<u64, Status> {
        let slot = slot(number)?;
        if index >= PLACES as u64 {
            return Err(Status::InvalidArgument);
        }
        let share = self.share.as_ref().ok_or(Status::NotReady)?;
        let gpa = share.base.wrapping_add(index.wrapping_mul(PAGE));
        let mut offers = self.offers_of(of).ok_or(Status::NotReady)?;
        match offers.get_mut(slot) {
            Some(Offer::Made { page, to, access, at, used }) if *to == self.number => {
                if at.is_some() || !share.window.show(gpa, *page, *access) {
                    return Err(Status::AlreadyDone);
                }
                (*at, *used) = (Some(gpa), true);
                Ok(gpa)
            }
            _ => Err(Status::NotReady),
        }
    }

    /// Gives back what was mapped; for the caller's other vCPUs nobody waits.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn unmap_offer(&self, of: u64, number: u64) -> Result<(), Status> {
        let slot = slot(number)?;
        let mut offers = self.offers_of(of).ok_or(Status::NotReady)?;
        match offers.get_mut(slot) {
            Some(Offer::Made { to, at, .. }) if *to == self.number => {
                self.hide(at.take().ok_or(Status::NotReady)?);
                Ok(())
            }
            _ => Err(Status::NotReady),
        }
    }

    /// Gives back all that is mapped and takes all offers back, when no vCPU of this VM runs. Returns the VMs, a
    /// bit for each, whose vCPUs have to flush before nobody reaches its RAM for them.
    pub fn take_all_back(&self) -> u64 {
        let Some(share) = &self.share else { return 0 };
        let mut peers = self.links;
        while let Some(of) = lowest(&mut peers) {
            let Some(mut offers) = self.offers_of(of.into()) else { continue };
            for offer in offers.iter_mut() {
                if let Offer::Made { to, at, .. } = offer
                    && *to == self.number
                    && let Some(gpa) = at.take()
                {
                    self.hide(gpa);
                }
            }
        }
        let mut users = 0;
        for offer in share.offers.lock().iter_mut() {
            match core::mem::take(offer) {
                Offer::Made { used: true, to, at, .. } => {
                    self.hide_from(to, at);
                    users |= link(to);
                }
                Offer::Revoked { to, .. } => users |= link(to),
                _ => {}
            }
        }
        users
    }

    fn offers_of(&self, number: u64) -> Option<MutexGuard<'static, Box<[Offer]>>> {
        Some(self.peer(number)?.share.as_ref()?.offers.lock())
    }

    fn hide_from(&self, to: u8, at: Option<u64>) {
        if let (Some(peer), Some(gpa)) = (self.peer(to.into()), at) {
            peer.hide(gpa);
        }
    }

    /// Takes a page out of the window; who may have it cached is asked behind that.
    fn hide(&self, gpa: u64) {
        if let Some(owed) = self.share.as_ref().and_then(|share| share.window.hide(gpa)) {
            self.generation.publish(owed);
        }
    }
}

/// All vCPUs of a VM, a bit for each.
fn all(vm: &Vm) -> u64 {
    u64::MAX.checked_shr(u64::BITS.saturating_sub(vm.posts.len() as u32)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
