//! The end of a guest: by call on Paravane, by the debug exit device of QEMU when bare.

use core::fmt::Write;
use core::panic::PanicInfo;

use x86_64::hypercall::sys;
use x86_64::instructions::interrupts;
use x86_64::power;

use crate::{println, serial};

/// The port of QEMU's isa-debug-exit.
pub(crate) const DEBUG_EXIT: u16 = 0xf4;
/// The exit code of a guest that failed without a hypervisor to tell.
const FAILED: u8 = 1;

/// Ends the machine with an exit code: on Paravane by call in every mode, since a native guest has
/// no other way to tell its code.
pub fn end(code: u8) -> ! {
    let _ = sys::shutdown(code.into());
    serial::flush();
    power::shutdown(code)
}

/// A text for a crash report, cut off where it is full.
struct Message {
    bytes: [u8; 512],
    length: usize,
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.length..];
        let n = room.len().min(text.len());
        room[..n].copy_from_slice(&text.as_bytes()[..n]);
        self.length += n;
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    println!("@{} fail {info}", crate::guest().name);
    let mut message = Message { bytes: [0; 512], length: 0 };
    let _ = writeln!(message, "{info}");
    // Without a hypervisor there is nobody to tell.
    let _ = sys::crash(&raw const message.bytes as u64, message.length as u64);
    end(FAILED)
}
