//! Enabling and disabling interrupts, which never exits, and waiting for one, which does.

pub use x86_64::instructions::interrupts::{
    are_enabled, disable, enable, int3, without_interrupts,
};

/// Enables interrupts and puts the CPU to sleep, with nothing in between.
///
/// To sleep until a point in time, [`crate::idle::halt_until`] takes one call for both.
#[inline]
pub fn enable_and_hlt() {
    crate::idle::halt_until(0);
}
