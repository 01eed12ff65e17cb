//! From the boot loader to running VMs: memory, tables, the other CPUs, the bundle.

mod choose;
mod clean;
mod entry;
mod finish;
mod home;
mod info;
mod machine;
mod make;
mod sched;
mod sleep;
mod smp;
mod start;
mod trampoline;
mod turn;

use core::fmt::Write;

use crate::host::link::{Channel, HYPERVISOR};
use crate::host::report::{Cause, End};
use crate::hw::{instructions, output};
use zerocopy::{FromZeros, IntoBytes};

/// Entered by the assembly with the boot protocol and the address of its information, on the boot
/// stack, with the first 4 GiB identity mapped.
extern "C" fn main(protocol: u32, information: u32) -> ! {
    output::init();
    let protocol = match protocol {
        1 => entry::Protocol::Multiboot2,
        _ => entry::Protocol::Pvh,
    };
    start::start(protocol, u64::from(information))
}

/// Ends the run before any guest has started, with a reason for the user.
fn refuse(reason: impl core::fmt::Display) -> ! {
    refuse_for(&reason)
}

#[cold]
#[inline(never)]
fn refuse_for(reason: &dyn core::fmt::Display) -> ! {
    let mut text = output::Text::<512>::new();
    let _ = write!(text, "{reason}");
    let mut end = End::new_zeroed();
    end.cause = Cause::Refused as u32;
    let mut payload = output::Text::<1024>::new();
    payload.push(end.as_bytes());
    payload.push(text.as_bytes());
    output::send(HYPERVISOR, Channel::End, payload.as_bytes());
    finish()
}

/// Ends the run.
fn finish() -> ! {
    output::finish();
    // Bochs stops at this instruction when asked to; elsewhere it exchanges a register with
    // itself.
    // SAFETY: see above.
    unsafe { core::arch::asm!("xchg bx, bx", options(nomem, nostack, preserves_flags)) };
    instructions::stop()
}
