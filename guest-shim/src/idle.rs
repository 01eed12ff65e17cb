//! Waiting for an interrupt.

use pv_abi::call::halt::ENABLE_INTERRUPTS;
use x86_64::instructions::interrupts;

use crate::site::{Key, enabled};
use crate::{area, hypercall, timer};

/// Arms the timer for the absolute guest TSC `deadline`, unless that is 0, enables interrupts and
/// waits for one. To be called with interrupts disabled; they are enabled on return.
///
/// Paravirtual it is one call. Natively it is [`timer::arm`] and `sti; hlt`.
#[inline]
pub fn halt_until(deadline: u64) {
    if enabled::<{ Key::Halt as u32 }>() {
        // A deadline that is armed already rides on the halt; see `timer::arm`.
        if deadline != 0
            && let Some(page) = area::shared()
        {
            timer::store(page, deadline);
        }
        if halt(deadline, ENABLE_INTERRUPTS) {
            return;
        }
    }
    if deadline != 0 {
        timer::arm(deadline);
    }
    interrupts::enable_and_hlt();
}

/// Halts by call. `false` if that was refused and the instruction has to do.
#[inline]
pub(crate) fn halt(deadline: u64, flags: u64) -> bool {
    // SAFETY: enabling interrupts is what the callers of `enable_and_hlt` and `halt_until` ask for,
    // and is as safe as STI, which has no memory effect of its own.
    unsafe { hypercall::sched::halt_until(deadline, flags) }.is_ok()
}
