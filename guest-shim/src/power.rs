//! Ends: shutdown, reset, crash.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use x86_64::PhysAddr;
use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use crate::hypercall;
use crate::site::{Key, enabled};

/// The port of the debug-exit device, or this for none.
static DEBUG_EXIT: AtomicU32 = AtomicU32::new(NONE);
const NONE: u32 = u32::MAX;

pub(crate) fn set_debug_exit(port: Option<u16>) {
    DEBUG_EXIT.store(port.map_or(NONE, u32::from), Ordering::Relaxed);
}

/// Ends the machine and reports `code`.
///
/// Natively the code goes to the debug-exit device, if `init` was given its port: QEMU's
/// isa-debug-exit turns it into the exit status `code * 2 + 1`. Without one, a real machine is
/// switched off by ACPI, which is the kernel's own business: the CPU stops.
pub fn shutdown(code: u8) -> ! {
    if enabled::<{ Key::Sys as u32 }>() {
        let _ = hypercall::sys::shutdown(code.into());
    }
    debug_exit(code.into());
    stop()
}

/// Starts the machine again.
///
/// Natively: the reset control register (port CF9h), the keyboard controller, then a triple fault.
pub fn reset() -> ! {
    if enabled::<{ Key::Sys as u32 }>() {
        let _ = hypercall::sys::reset();
    }
    interrupts::disable();
    // SAFETY: what these ports do if they are there is the purpose; where they are not, nothing.
    unsafe {
        Port::<u8>::new(0xcf9).write(0x06);
        Port::<u8>::new(0x64).write(0xfe);
    }
    let nothing = DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: no exception can be delivered by an empty table; the second fault while delivering
    // it, and the third, reset the machine.
    unsafe {
        lidt(&nothing);
        asm!("ud2", options(noreturn));
    }
}

/// Ends the machine as crashed. `message` says where at most a page of text is, by guest-physical
/// address and length; the hypervisor reports it with the registers.
///
/// Natively the debug-exit device gets 255; the message is the kernel's own business.
pub fn crash(message: Option<(PhysAddr, usize)>) -> ! {
    if enabled::<{ Key::Sys as u32 }>() {
        if let Some((gpa, length)) = message {
            let _ = hypercall::sys::crash(gpa.as_u64(), length as u64);
        }
        let _ = hypercall::sys::shutdown(255);
    }
    debug_exit(255);
    stop()
}

fn debug_exit(code: u32) {
    if let Ok(port) = u16::try_from(DEBUG_EXIT.load(Ordering::Relaxed)) {
        // SAFETY: `init` was promised that the port is that of such a device.
        unsafe { Port::<u32>::new(port).write(code) };
    }
}

fn stop() -> ! {
    interrupts::disable();
    loop {
        x86_64::instructions::hlt();
    }
}
