//! The one-shot timer, in guest TSC ticks.
//!
//! Paravirtual: the deadline is stored in the shared half, and a call is made only if the
//! hypervisor would otherwise look at it too late. Native: IA32_TSC_DEADLINE, or the count-down
//! timer on CPUs (and emulators) that have no TSC-deadline mode.

use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use x86_64::registers::model_specific::Msr;

use crate::area::{self, SharedPage};
use crate::site::{Key, enabled};
use crate::{apic, hypercall};

/// IA32_TSC_DEADLINE.
const TSC_DEADLINE: u32 = 0x6e0;
/// The LVT timer entry's mode bits for TSC-deadline mode (SDM vol. 3, Local Vector Table).
const LVT_TSC_DEADLINE: u32 = 0b10 << 17;
/// The divide configuration that divides by 1.
const DIVIDE_BY_1: u32 = 0b1011;

/// APIC timer ticks per TSC tick, times 2^32.
static RATE: AtomicU64 = AtomicU64::new(0);

/// Whether a deadline that has been stored needs a call.
///
/// `armed` is when the hypervisor looks next, 0 for never. It finds out by itself about a deadline
/// that is not earlier, and that there is none any more (0).
pub const fn needs_call(armed: u64, deadline: u64) -> bool {
    deadline != 0 && (armed == 0 || deadline < armed)
}

/// Prepares the local APIC timer to deliver `vector`. Once on each CPU, with the APIC enabled and
/// no timer armed.
///
/// # Safety
///
/// The interrupt descriptor table has a handler at `vector`, which ends with [`apic::eoi`].
pub unsafe fn setup(vector: u8) {
    // `timer.arm` is a deadline in TSC ticks, so paravirtual operation takes that mode in any case.
    let counts = enabled::<{ Key::OneShot as u32 }>() && !enabled::<{ Key::Timer as u32 }>();
    let mode = if counts { 0 } else { LVT_TSC_DEADLINE };
    // SAFETY: the caller's promise; both registers only concern the timer.
    unsafe {
        apic::write(apic::Register::TimerDivide, DIVIDE_BY_1);
        apic::write(apic::Register::LvtTimer, u32::from(vector) | mode);
    }
    // SDM vol. 3, TSC-Deadline Mode: the MSR write must not overtake the LVT write, which it can
    // when that goes to memory.
    // SAFETY: a fence.
    unsafe { core::arch::x86_64::_mm_mfence() };
}

/// Tells the frequencies of APIC timer (before its divider) and TSC, in Hz, for the native
/// count-down timer; [`calibrate`] finds them out. Without a rate that timer fires at once.
pub fn set_rate(apic_hz: u64, tsc_hz: u64) {
    RATE.store(rate(apic_hz, tsc_hz), Ordering::Relaxed);
}

/// Measures the native count-down timer against the TSC for `ticks` TSC ticks and keeps the rate;
/// nothing where the timer compares the TSC. With the APIC enabled, before the first [`arm`].
///
/// Long enough is what makes one APIC tick a small error: some 10 milliseconds on real machines.
pub fn calibrate(ticks: u64) {
    if !enabled::<{ Key::OneShot as u32 }>() {
        return;
    }
    /// LVT entry: no interrupt.
    const MASKED: u32 = 1 << 16;
    // SAFETY: the registers only concern the timer, which is masked while it runs.
    let entry = unsafe {
        let entry = apic::read(apic::Register::LvtTimer);
        apic::write(apic::Register::LvtTimer, MASKED);
        apic::write(apic::Register::TimerDivide, DIVIDE_BY_1);
        apic::write(apic::Register::TimerInitial, u32::MAX);
        entry
    };
    let begin = crate::clock::tsc();
    while crate::clock::tsc().wrapping_sub(begin) < ticks {
        core::hint::spin_loop();
    }
    let counted = u32::MAX - apic::read(apic::Register::TimerCurrent);
    let elapsed = crate::clock::tsc().wrapping_sub(begin);
    // SAFETY: stops the timer and gives the entry back what it was.
    unsafe {
        apic::write(apic::Register::TimerInitial, 0);
        apic::write(apic::Register::LvtTimer, entry);
    }
    set_rate(counted.into(), elapsed);
}

fn rate(apic_hz: u64, tsc_hz: u64) -> u64 {
    let rate = (u128::from(apic_hz) << 32).checked_div(u128::from(tsc_hz)).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The initial count for a time `ticks` TSC ticks ahead: at least 1, since 0 stops the timer, and
/// at most what the register holds, so that a far deadline comes early rather than never.
fn count(ticks: u64, rate: u64) -> u32 {
    let count = (u128::from(ticks) * u128::from(rate)) >> 32;
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

/// Arms the timer for the absolute guest TSC `deadline`; 0 disarms. A deadline in the past fires
/// at once.
///
/// With the native count-down timer the interrupt may come before the deadline if that is more
/// than 2^32 APIC ticks away: look at the TSC and arm again.
#[inline]
pub fn arm(deadline: u64) {
    if enabled::<{ Key::Timer as u32 }>() {
        paravirtual_arm(deadline);
    } else {
        native_arm(deadline);
    }
}

/// Stores the deadline, so that the hypervisor does not find an older one when it looks.
///
/// The hypervisor looks on this CPU and at an exit, which waits for the store, so the compiler is
/// all that must not reorder.
#[inline]
pub(crate) fn store(page: &SharedPage, deadline: u64) {
    page.deadline().store(deadline, Ordering::Release);
    compiler_fence(Ordering::SeqCst);
}

#[inline]
fn paravirtual_arm(deadline: u64) {
    if let Some(page) = area::shared() {
        store(page, deadline);
        if !needs_call(page.armed(), deadline) {
            return;
        }
    }
    arm_by_call(deadline);
}

/// Out of line: next to an exit a call of a function is nothing, and the path without one stays
/// short.
#[cold]
#[inline(never)]
fn arm_by_call(deadline: u64) {
    // The call is defined to succeed; should it not, the timer still has to fire.
    if hypercall::timer::arm(deadline).is_err() {
        native_arm(deadline);
    }
}

/// Arms the timer by the instruction, whatever the mode.
#[inline]
pub(crate) fn native_arm(deadline: u64) {
    if enabled::<{ Key::OneShot as u32 }>() {
        let initial = match deadline {
            0 => 0,
            _ => count(deadline.saturating_sub(crate::clock::tsc()), RATE.load(Ordering::Relaxed)),
        };
        // SAFETY: the register only starts or stops this CPU's timer, whose vector `setup` was
        // promised a handler for.
        unsafe { apic::write(apic::Register::TimerInitial, initial) };
    } else {
        // SAFETY: as above; the site is not patched, so the CPU has the MSR.
        unsafe { Msr::new(TSC_DEADLINE).write(deadline) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_deadline_or_the_first_needs_a_call() {
        assert!(needs_call(0, 100), "nobody looks");
        assert!(needs_call(100, 99), "looked at too late");
        assert!(!needs_call(100, 100));
        assert!(!needs_call(100, 101), "found when it is looked at");
        assert!(!needs_call(100, 0), "found gone when it is looked at");
        assert!(!needs_call(0, 0));
    }

    #[test]
    fn the_count_is_rounded_down_and_stays_in_range() {
        let half = rate(1_000_000_000, 2_000_000_000);
        assert_eq!(count(1000, half), 500);
        assert_eq!(count(1001, half), 500);
        assert_eq!(count(0, half), 1, "0 would stop the timer");
        assert_eq!(count(u64::MAX, half), u32::MAX);
        assert_eq!(rate(1, 0), 0);
    }
}
