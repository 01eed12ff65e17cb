//! Events: between vCPUs, and between VMs that are linked. There is no native way, so nothing is patched; where
//! the hypervisor does not have them, calls return an error.
//!
//! A port is opened for a vCPU and for another VM, and connected by either of the two. What has come a vCPU finds
//! in its own [`SharedPage`], which it has registered; by [`set_vector`] it is interrupted when it has to look.
//!
//! ```no_run
//! # use guest_shim as x86_64;
//! # fn page() -> &'static x86_64::area::SharedPage { unimplemented!() }
//! # fn serve(_: u16) {}
//! # fn main() -> Result<(), x86_64::hypercall::CallError> {
//! use x86_64::event;
//!
//! let (port, remote, other) = (3, 3, 1);
//! event::open(port, 0, other)?;
//! // Whoever is second connects, and the first gets an event.
//! let _ = event::connect(port, remote);
//! loop {
//!     page().events().for_each(serve);
//!     event::wait(0)?;
//! }
//! # }
//! ```

use core::sync::atomic::Ordering::SeqCst;

pub use pv_abi::event::PORTS;
use pv_abi::event::WAIT;

use crate::area::SharedPage;
use crate::hypercall::{CallError, event as call};

/// The number of this VM, by which others name it.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn number() -> Result<u64, CallError> {
    call::number()
}

/// The VMs that this one is linked to, bit *i* for number *i*.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn links() -> Result<u64, CallError> {
    call::links()
}

/// Opens a port whose events go to `vcpu`, for a port of `vm` to be connected. For the own VM it is its own
/// peer: whichever vCPU sends from it raises it.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn open(port: u16, vcpu: u32, vm: u64) -> Result<(), CallError> {
    call::open(port.into(), vcpu.into(), vm).map(drop)
}

/// Connects an open port with one that the other VM has opened for this one, which gets an event.
///
/// # Errors
///
/// [`Status::NotReady`](pv_abi::Status::NotReady) if the other VM has not opened it yet, and whatever else the
/// call returns.
#[inline]
pub fn connect(port: u16, remote: u16) -> Result<(), CallError> {
    call::connect(port.into(), remote.into()).map(drop)
}

/// Closes a port. Its peer is open again, and gets an event.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn close(port: u16) -> Result<(), CallError> {
    call::close(port.into()).map(drop)
}

/// Raises the peer of a port.
///
/// # Errors
///
/// [`Status::NotReady`](pv_abi::Status::NotReady) if it is not connected, and whatever else the call returns.
#[inline]
pub fn send(port: u16) -> Result<(), CallError> {
    call::send(port.into(), 0).map(drop)
}

/// As [`send`] and then [`wait`] without a deadline, by one call. After an error nothing was waited for.
///
/// # Errors
///
/// Those of [`send`].
#[inline]
pub fn send_and_wait(port: u16) -> Result<(), CallError> {
    call::send(port.into(), WAIT).map(drop)
}

/// Says by which interrupt this vCPU is told that there is something in its page; `None` for none.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn set_vector(vector: Option<u8>) -> Result<(), CallError> {
    call::vector(vector.unwrap_or(0).into()).map(drop)
}

/// Halts until an event that is not masked or an interrupt is pending, or for no reason; with a deadline other
/// than 0 the timer is armed for it. RFLAGS.IF is as before.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn wait(deadline: u64) -> Result<(), CallError> {
    call::wait(deadline).map(drop)
}

/// Where a port stands in the words of a page.
const fn place(port: u16) -> (usize, u64) {
    ((port >> 6) as usize, 1 << (port & 63))
}

/// The vCPU whose page it is calls these; others may mask and unmask.
impl SharedPage {
    /// Whether there may be events to take.
    #[inline]
    pub fn has_events(&self) -> bool {
        self.selector.load(SeqCst) != 0
    }

    /// Takes the events that have come and are not masked, as ports. What the iterator has not reached when it is
    /// dropped is not taken.
    #[inline]
    pub fn events(&self) -> Events<'_> {
        // First what leads to the bits and then the bits: the hypervisor sets them in the other order.
        Events { page: self, words: self.selector.swap(0, SeqCst), word: 0, bits: 0 }
    }

    /// The event of a port is not told, nor taken, until it is unmasked. A port that does not exist never is.
    #[inline]
    pub fn mask(&self, port: u16) {
        let (word, bit) = place(port);
        if let Some(masked) = self.masked.get(word) {
            masked.fetch_or(bit, SeqCst);
        }
    }

    /// The event of a port is told again. If one has come meanwhile, nobody is told of that: it is `true`, and
    /// [`SharedPage::events`] has it.
    #[inline]
    pub fn unmask(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        let (Some(masked), Some(pending)) = (self.masked.get(word), self.pending.get(word)) else {
            return false;
        };
        masked.fetch_and(!bit, SeqCst);
        let came = pending.load(SeqCst) & bit != 0;
        if came {
            self.selector.fetch_or(1 << word, SeqCst);
        }
        came
    }
}

/// Ports whose events have come; see [`SharedPage::events`].
#[derive(Debug)]
pub struct Events<'a> {
    page: &'a SharedPage,
    /// Words that have not been looked at.
    words: u64,
    word: u16,
    /// What is left of it. It was looked at once, so that a peer cannot keep the taking from its end.
    bits: u64,
}

impl Iterator for Events<'_> {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        while self.bits == 0 {
            if self.words == 0 {
                return None;
            }
            self.word = self.words.trailing_zeros() as u16;
            self.words &= self.words - 1;
            let word = usize::from(self.word);
            if let (Some(pending), Some(masked)) =
                (self.page.pending.get(word), self.page.masked.get(word))
            {
                self.bits = pending.load(SeqCst) & !masked.load(SeqCst);
            }
        }
        let bit = self.bits.trailing_zeros() as u16;
        self.bits &= self.bits - 1;
        if let Some(pending) = self.page.pending.get(usize::from(self.word)) {
            pending.fetch_and(!(1 << bit), SeqCst);
        }
        Some(self.word << 6 | bit)
    }
}

impl Drop for Events<'_> {
    #[inline]
    fn drop(&mut self) {
        let here = u64::from(self.bits != 0) << self.word;
        if self.words | here != 0 {
            self.page.selector.fetch_or(self.words | here, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// What the hypervisor does when it delivers an event. Whether the vCPU is told.
    fn come(page: &SharedPage, port: u16) -> bool {
        let (word, bit) = place(port);
        let before = page.pending[word].fetch_or(bit, SeqCst);
        let told = bit & !(before | page.masked[word].load(SeqCst)) != 0;
        told && page.selector.fetch_or(1 << word, SeqCst) == 0
    }

    fn taken(page: &SharedPage) -> Vec<u16> {
        page.events().collect()
    }

    #[test]
    fn events_are_taken_once_and_in_the_order_of_their_ports() {
        let page = SharedPage::new();
        assert!(!page.has_events() && taken(&page).is_empty());
        assert!(come(&page, 1023));
        for port in [64, 0, 65, 0] {
            assert!(!come(&page, port), "it was told already");
        }
        assert!(page.has_events());
        assert_eq!(taken(&page), [0, 64, 65, 1023]);
        assert!(!page.has_events() && taken(&page).is_empty());
        assert!(come(&page, 7), "it has looked");
    }

    #[test]
    fn what_was_not_reached_is_still_there() {
        let page = SharedPage::new();
        assert_eq!([3, 5, 200].map(|port| come(&page, port)), [true, false, false]);
        assert_eq!(page.events().next(), Some(3));
        assert!(page.has_events());
        assert_eq!(page.events().take(2).collect::<Vec<_>>(), [5, 200]);
        assert!(taken(&page).is_empty());
    }

    #[test]
    fn a_masked_event_waits_until_it_is_unmasked() {
        let page = SharedPage::new();
        page.mask(70);
        assert!(!come(&page, 70));
        assert!(!page.has_events());
        come(&page, 71);
        assert_eq!(taken(&page), [71]);
        assert!(page.unmask(70) && page.has_events());
        assert_eq!(taken(&page), [70]);
        page.mask(70);
        assert!(!page.unmask(70));
        assert!(come(&page, 70));
    }

    #[test]
    fn ports_that_do_not_exist_are_let_be() {
        let page = SharedPage::new();
        page.mask(PORTS);
        assert!(!page.unmask(PORTS) && !page.unmask(u16::MAX));
        page.selector.store(u64::MAX, SeqCst);
        assert_eq!(taken(&page), vec![]);
    }

    #[test]
    fn no_event_is_lost_between_a_sender_and_a_taker() {
        let page = SharedPage::new();
        let mut seen = 0;
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                for round in 0..20_000u16 {
                    while page.pending[2].load(SeqCst) & 1 << 5 != 0 {
                        std::hint::spin_loop();
                    }
                    if round % 3 == 0 {
                        page.mask(133);
                        come(&page, 133);
                        page.unmask(133);
                    } else {
                        come(&page, 133);
                    }
                }
            });
            while !sender.is_finished() {
                seen += taken(&page).len();
            }
        });
        assert_eq!(seen + taken(&page).len(), 20_000);
    }
}
