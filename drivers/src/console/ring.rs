//! The console through a ring: no exit of its own, since the hypervisor drains it at any exit.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_shim::PhysAddr;
use guest_shim::hypercall::CallError;
use pv_abi::ring::{CAPACITY, ConsoleRing};

use super::{Backend, Hypervisor, PATIENCE, Page};

/// A console that stores into a ring. A call is made only when the ring is full, or to
/// [`flush`](RingConsole::flush).
///
/// What is in the ring is written when the VM exits next, at the latest at the end of its time
/// slice. A guest that is about to end need not flush: the call that ends it is an exit.
#[derive(Debug)]
pub struct RingConsole {
    inner: Ring<Hypervisor>,
}

impl RingConsole {
    /// Registers `page`, which is at `gpa`, as the ring.
    ///
    /// # Errors
    ///
    /// The call's; `ALREADY_DONE` if the VM has a ring.
    ///
    /// # Safety
    ///
    /// `gpa` is the guest-physical address of `page`, and nobody else uses the page.
    pub unsafe fn register(page: &'static Page, gpa: PhysAddr) -> Result<RingConsole, CallError> {
        // SAFETY: the caller's promise.
        unsafe { Ring::register(Hypervisor, page, gpa) }.map(|inner| RingConsole { inner })
    }

    /// Stores all of `bytes`, and has the ring drained as often as it is full.
    ///
    /// # Errors
    ///
    /// The call's; [`CallError::Again`], with the bytes of `bytes` that were stored, if the
    /// hypervisor drained nothing for a long time.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        self.inner.write(bytes)
    }

    /// Has the ring drained now; returns how many bytes it held.
    ///
    /// # Errors
    ///
    /// The call's.
    pub fn flush(&mut self) -> Result<u64, CallError> {
        self.inner.backend.ring_flush()
    }
}

impl fmt::Write for RingConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[derive(Debug)]
pub(super) struct Ring<B> {
    pub(super) backend: B,
    page: &'static Page,
    /// What `head` in the page says; only this side writes it.
    head: u32,
}

const _: () = {
    assert!(size_of::<ConsoleRing>() <= size_of::<Page>());
    assert!(CAPACITY.is_power_of_two());
};

impl<B: Backend> Ring<B> {
    /// # Safety
    ///
    /// As [`RingConsole::register`].
    pub(super) unsafe fn register(
        mut backend: B,
        page: &'static Page,
        gpa: PhysAddr,
    ) -> Result<Ring<B>, CallError> {
        // SAFETY: not shared yet, and the caller's alone: a ring is registered empty.
        unsafe { page.as_ptr().write_bytes(0, size_of::<Page>()) };
        // SAFETY: the page is static and given to the ring for good.
        unsafe { backend.ring_register(gpa.as_u64()) }?;
        Ok(Ring { backend, page, head: 0 })
    }

    /// Lets both counters stand at `start`, as if that many bytes had gone through.
    #[cfg(test)]
    pub(super) fn start_at(&mut self, start: u32) {
        self.tail().store(start, Ordering::Relaxed);
        self.head = start;
        self.publish(0);
    }

    fn ring(&self) -> *mut ConsoleRing {
        self.page.as_ptr().cast()
    }

    fn tail(&self) -> &AtomicU32 {
        // SAFETY: aligned and within the page, which is static; both sides use it atomically.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.ring()).tail) }
    }

    fn publish(&mut self, stored: usize) {
        self.head = self.head.wrapping_add(stored as u32);
        // SAFETY: as for the tail.
        let head = unsafe { AtomicU32::from_ptr(&raw mut (*self.ring()).head) };
        // Release: whoever sees the new head sees the bytes before it.
        head.store(self.head, Ordering::Release);
    }

    /// Bytes that can be stored. Acquire: the hypervisor has read what lay there. A tail that
    /// cannot be (ahead of the head) counts as a full ring rather than as room.
    fn room(&self) -> usize {
        let used = self.head.wrapping_sub(self.tail().load(Ordering::Acquire)) as usize;
        CAPACITY.saturating_sub(used)
    }

    /// Stores what fits; returns how much that was.
    fn store(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.room());
        let start = self.head as usize % CAPACITY;
        let (before, after) = bytes[..length].split_at(length.min(CAPACITY - start));
        // SAFETY: both parts lie within `data`, in bytes that the hypervisor does not read before
        // the head is published.
        unsafe {
            let data = (&raw mut (*self.ring()).data).cast::<u8>();
            data.add(start).copy_from_nonoverlapping(before.as_ptr(), before.len());
            data.copy_from_nonoverlapping(after.as_ptr(), after.len());
        }
        self.publish(length);
        length
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        let (mut done, mut idle) = (self.store(bytes), 0);
        while done < bytes.len() {
            match self.backend.ring_flush() {
                Ok(_) | Err(CallError::Again(_)) => {}
                Err(error) => return Err(error),
            }
            let stored = self.store(&bytes[done..]);
            done += stored;
            idle = if stored == 0 { idle + 1 } else { 0 };
            if idle > PATIENCE {
                return Err(CallError::Again(done as u64));
            }
        }
        Ok(())
    }
}
