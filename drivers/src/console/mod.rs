//! The console: by call ([`PvConsole`]) or through a ring in shared memory ([`RingConsole`]).
//!
//! Both exist only on Paravane: use them if `guest_shim::operations()` contains `CONSOLE`, and a
//! UART driver otherwise.

mod call;
mod ring;

use core::cell::UnsafeCell;

use guest_shim::hypercall::{CallError, console};

pub use call::PvConsole;
pub use ring::RingConsole;

/// A page for a console, in a `static` of the kernel: its buffer or its ring.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Page(UnsafeCell<[u8; 4096]>);

impl Page {
    /// A page of zeros.
    pub const fn new() -> Page {
        Page(UnsafeCell::new([0; 4096]))
    }

    /// Where it is.
    pub const fn as_ptr(&self) -> *mut u8 {
        self.0.get().cast()
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::new()
    }
}

// SAFETY: there is no access to the bytes except through the pointer, whose users argue for
// themselves: a console is given its page for itself alone.
unsafe impl Sync for Page {}

/// The calls that the front ends make; a model takes their place in tests.
trait Backend {
    fn write(&mut self, gpa: u64, length: u64) -> Result<u64, CallError>;
    /// # Safety
    ///
    /// `length` bytes at `gpa` are the caller's.
    unsafe fn read(&mut self, gpa: u64, length: u64) -> Result<u64, CallError>;
    /// # Safety
    ///
    /// The page at `gpa` is the caller's and stays shared.
    unsafe fn ring_register(&mut self, gpa: u64) -> Result<u64, CallError>;
    fn ring_flush(&mut self) -> Result<u64, CallError>;
}

/// Hypercalls.
#[derive(Debug)]
struct Hypervisor;

impl Backend for Hypervisor {
    fn write(&mut self, gpa: u64, length: u64) -> Result<u64, CallError> {
        console::write(gpa, length)
    }

    unsafe fn read(&mut self, gpa: u64, length: u64) -> Result<u64, CallError> {
        // SAFETY: the caller's promise.
        unsafe { console::read(gpa, length) }
    }

    unsafe fn ring_register(&mut self, gpa: u64) -> Result<u64, CallError> {
        // SAFETY: the caller's promise.
        unsafe { console::ring_register(gpa) }
    }

    fn ring_flush(&mut self) -> Result<u64, CallError> {
        console::ring_flush()
    }
}

/// The number of calls in a row that may make no progress before a front end gives up: the
/// hypervisor's link can be busy, but not for ever.
const PATIENCE: u32 = 1000;

#[cfg(test)]
mod tests;
