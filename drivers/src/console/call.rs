//! The console by call: one exit for up to a page.

use core::fmt;

use guest_shim::PhysAddr;
use guest_shim::hypercall::CallError;
use pv_abi::Status;

use super::{Backend, Hypervisor, PATIENCE, Page};

/// A console that copies into a page of its own and has that written by call.
///
/// It keeps nothing back: when a write returns, the hypervisor has the bytes.
#[derive(Debug)]
pub struct PvConsole {
    inner: Calls<Hypervisor>,
}

impl PvConsole {
    /// A console on `page`, which is at `gpa`. `longest` is the longest transfer in bytes that the
    /// hypervisor takes, as `Paravane::console_max` says; a page at most is used.
    ///
    /// # Safety
    ///
    /// `gpa` is the guest-physical address of `page`, and nobody else uses the page.
    pub const unsafe fn new(page: &'static Page, gpa: PhysAddr, longest: u32) -> PvConsole {
        // SAFETY: the caller's promise.
        PvConsole { inner: unsafe { Calls::new(Hypervisor, page, gpa, longest) } }
    }

    /// Writes all of `bytes`, a call for each chunk that fits.
    ///
    /// # Errors
    ///
    /// The call's; [`CallError::Again`], with the bytes of the last chunk that were taken, if the
    /// hypervisor made no progress for a long time.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        self.inner.write(bytes)
    }

    /// Reads what was typed, without waiting; returns how many bytes of `buffer` were filled.
    ///
    /// # Errors
    ///
    /// The call's.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, CallError> {
        self.inner.read(buffer)
    }
}

impl fmt::Write for PvConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[derive(Debug)]
pub(super) struct Calls<B> {
    pub(super) backend: B,
    page: &'static Page,
    gpa: PhysAddr,
    chunk: usize,
}

impl<B: Backend> Calls<B> {
    /// # Safety
    ///
    /// As [`PvConsole::new`].
    pub(super) const unsafe fn new(
        backend: B,
        page: &'static Page,
        gpa: PhysAddr,
        longest: u32,
    ) -> Calls<B> {
        let chunk =
            if longest as usize > size_of::<Page>() { size_of::<Page>() } else { longest as usize };
        Calls { backend, page, gpa, chunk }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        if self.chunk == 0 && !bytes.is_empty() {
            return Err(CallError::Status(Status::BadLength));
        }
        bytes.chunks(self.chunk.max(1)).try_for_each(|chunk| self.write_chunk(chunk))
    }

    fn write_chunk(&mut self, chunk: &[u8]) -> Result<(), CallError> {
        // SAFETY: a chunk is at most a page, and the page is this console's alone; it is not read
        // by anybody between calls.
        unsafe { self.page.as_ptr().copy_from_nonoverlapping(chunk.as_ptr(), chunk.len()) };
        let (mut done, mut idle) = (0, 0);
        while done < chunk.len() {
            let left = chunk.len() - done;
            // A short success and AGAIN mean the same here: the rest is still to be written.
            let taken = match self.backend.write(self.gpa.as_u64() + done as u64, left as u64) {
                Ok(taken) | Err(CallError::Again(taken)) => (taken as usize).min(left),
                Err(error) => return Err(error),
            };
            done += taken;
            idle = if taken == 0 { idle + 1 } else { 0 };
            if idle > PATIENCE {
                return Err(CallError::Again(done as u64));
            }
        }
        Ok(())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, CallError> {
        let asked = buffer.len().min(self.chunk);
        if asked == 0 {
            return Ok(0);
        }
        // SAFETY: the page is this console's alone and `asked` is at most its size.
        let answer = unsafe { self.backend.read(self.gpa.as_u64(), asked as u64) };
        let stored = match answer {
            Ok(stored) | Err(CallError::Again(stored)) => (stored as usize).min(asked),
            Err(error) => return Err(error),
        };
        // SAFETY: the hypervisor has stored that many bytes and is done with the page.
        unsafe { self.page.as_ptr().copy_to_nonoverlapping(buffer.as_mut_ptr(), stored) };
        Ok(stored)
    }
}
