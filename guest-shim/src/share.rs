//! Memory that VMs share: pages that one offers and the other maps, and a ring of messages in such a page.
//!
//! The other VM is not trusted. It can write anything at any time where it may write at all, so a page is
//! made of atomics, each value is read once, and none is used as an index or a length as it is.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use x86_64::PhysAddr;

use crate::hypercall::{CallError, share as call};

/// What the other VM may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Access {
    /// Read it.
    Read = pv_abi::call::grant::READ,
    /// Read and write it.
    ReadWrite = pv_abi::call::grant::READ_WRITE,
}

/// Offers the page at `gpa` to another VM.
///
/// # Errors
///
/// Whatever the call returns.
///
/// # Safety
///
/// Until it is revoked the other VM reads the page, and with [`Access::ReadWrite`] writes it, at any time: no
/// Rust object lives there but atomics such as [`RingPage`].
#[inline]
pub unsafe fn offer(slot: u8, gpa: PhysAddr, vm: u8, access: Access) -> Result<(), CallError> {
    // SAFETY: the caller's promise.
    unsafe { call::offer(slot.into(), gpa.as_u64(), vm.into(), access as u64) }.map(drop)
}

/// Takes an offer back, and returns when the other VM cannot reach the page.
///
/// # Errors
///
/// Whatever the call returns, but for [`CallError::Again`], after which it is made again.
#[inline]
pub fn revoke(slot: u8) -> Result<(), CallError> {
    loop {
        match call::revoke(slot.into()) {
            Err(CallError::Again(_)) => core::hint::spin_loop(),
            result => return result.map(drop),
        }
    }
}

/// Maps what another VM offers at a place of this one's window, and returns where that is.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn map(vm: u8, slot: u8, index: u16) -> Result<PhysAddr, CallError> {
    call::map(vm.into(), slot.into(), index.into()).map(PhysAddr::new_truncate)
}

/// Gives it back. Other vCPUs may reach it until they exit or are [flushed](crate::smp::flush).
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn unmap(vm: u8, slot: u8) -> Result<(), CallError> {
    call::unmap(vm.into(), slot.into()).map(drop)
}

/// A message: as much as fits a cache line.
pub type Message = [u64; 8];

/// Messages that a ring holds: a power of two, by which the counters are reduced.
pub const MESSAGES: usize = 32;

/// A counter or flag on a cache line of its own.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line(AtomicU32);

impl Line {
    /// Sets a flag, before this side looks for the last time.
    fn raise(&self) {
        self.0.store(1, Ordering::Relaxed);
        // Either the other side, which looks at the flag after it has changed a counter, sees it, or this side
        // sees the counter.
        fence(Ordering::SeqCst);
    }

    /// Clears a flag, and says whether it was set.
    fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0 && self.0.swap(0, Ordering::Relaxed) != 0
    }
}

/// A page with a ring of messages from one sender to one receiver. All zeros is an empty ring.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct RingPage {
    /// Messages stored so far, modulo 2^32: the sender's.
    head: Line,
    /// Messages taken so far: the receiver's.
    tail: Line,
    /// The receiver does not look: it is to be sent an event. The receiver sets it, and whoever ends the sleep
    /// clears it, so that each sleep takes one event.
    sleeps: Line,
    /// The same of a sender that waits for room.
    waits: Line,
    messages: [[AtomicU64; 8]; MESSAGES],
}

const _: () = assert!(size_of::<RingPage>() == 4096 && MESSAGES.is_power_of_two());

impl RingPage {
    /// An empty ring.
    pub const fn new() -> RingPage {
        RingPage {
            head: Line(AtomicU32::new(0)),
            tail: Line(AtomicU32::new(0)),
            sleeps: Line(AtomicU32::new(0)),
            waits: Line(AtomicU32::new(0)),
            messages: [const { [const { AtomicU64::new(0) }; 8] }; MESSAGES],
        }
    }

    fn message(&self, count: u32) -> &[AtomicU64; 8] {
        &self.messages[count as usize % MESSAGES]
    }
}

impl Default for RingPage {
    fn default() -> RingPage {
        RingPage::new()
    }
}

/// The ring has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The other side's counter is not one that it can have: it is at fault, or at the beginning again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// The sending end of a ring. Where it is comes from nothing that the other side can write.
#[derive(Debug)]
pub struct Sender<'a> {
    page: &'a RingPage,
    head: u32,
}

impl<'a> Sender<'a> {
    /// That of an empty ring. There is one sender of a ring.
    pub const fn new(page: &'a RingPage) -> Sender<'a> {
        Sender { page, head: 0 }
    }

    /// Sends a message, and has the receiver told by `event` if it does not look by itself.
    ///
    /// # Errors
    ///
    /// [`Full`]: the receiver has taken too little, or says nonsense of it.
    #[inline]
    pub fn send(&mut self, message: &Message, event: impl FnOnce()) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full);
        }
        for (to, &word) in self.page.message(self.head).iter().zip(message) {
            to.store(word, Ordering::Relaxed);
        }
        self.head = self.head.wrapping_add(1);
        self.page.head.0.store(self.head, Ordering::Release);
        // See `Line::raise`.
        fence(Ordering::SeqCst);
        if self.page.sleeps.take() {
            event();
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let used = self.head.wrapping_sub(self.page.tail.0.load(Ordering::Acquire));
        used >= MESSAGES as u32
    }

    /// Says that the sender waits for an event that tells of room. `false` if it must not, since there is some.
    #[inline]
    pub fn may_sleep(&self) -> bool {
        self.page.waits.raise();
        let full = self.is_full();
        if !full {
            self.awake();
        }
        full
    }

    /// Says that it waits no more.
    #[inline]
    pub fn awake(&self) {
        self.page.waits.0.store(0, Ordering::Relaxed);
    }
}

/// The receiving end of a ring.
#[derive(Debug)]
pub struct Receiver<'a> {
    page: &'a RingPage,
    tail: u32,
}

impl<'a> Receiver<'a> {
    /// That of an empty ring. There is one receiver of a ring. It looks by itself until it says that it
    /// [sleeps](Receiver::may_sleep).
    pub const fn new(page: &'a RingPage) -> Receiver<'a> {
        Receiver { page, tail: 0 }
    }

    /// Takes the next message, if there is one.
    ///
    /// # Errors
    ///
    /// [`Broken`].
    #[inline]
    pub fn receive(&mut self) -> Result<Option<Message>, Broken> {
        let ahead = self.page.head.0.load(Ordering::Acquire).wrapping_sub(self.tail);
        if ahead == 0 {
            return Ok(None);
        }
        if ahead > MESSAGES as u32 {
            return Err(Broken);
        }
        let words = self.page.message(self.tail);
        let message = core::array::from_fn(|i| words[i].load(Ordering::Relaxed));
        self.tail = self.tail.wrapping_add(1);
        self.page.tail.0.store(self.tail, Ordering::Release);
        Ok(Some(message))
    }

    /// Says that the receiver looks no more until an event comes. `false` if it must not wait for one, since
    /// there is a message.
    #[inline]
    pub fn may_sleep(&self) -> bool {
        self.page.sleeps.raise();
        let empty = self.page.head.0.load(Ordering::Relaxed) == self.tail;
        if !empty {
            self.awake();
        }
        empty
    }

    /// Whether the sender waits for an event that tells of room; it does not from here on, so it is to be sent.
    /// A receiver asks after [`Receiver::may_sleep`] has said that it may: then no wait is missed.
    #[inline]
    pub fn sender_waits(&self) -> bool {
        self.page.waits.take()
    }

    /// Says that it looks by itself again.
    #[inline]
    pub fn awake(&self) {
        self.page.sleeps.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
