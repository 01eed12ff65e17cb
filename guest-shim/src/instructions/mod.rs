//! Instructions, under the paths of the `x86_64` crate.

pub mod interrupts;
pub mod port;

pub use x86_64::instructions::{
    bochs_breakpoint, nop, random, read_rip, segmentation, smap, tables, tlb,
};

use crate::site::{Key, enabled};

/// Halts the CPU until the next interrupt arrives.
///
/// Paravirtual it is `sched.halt_until` without a deadline, which unlike HLT also returns when an
/// interrupt is pending and interrupts are disabled.
#[inline]
pub fn hlt() {
    if enabled::<{ Key::Halt as u32 }>() && crate::idle::halt(0, 0) {
        return;
    }
    x86_64::instructions::hlt();
}
