//! Timer, idling, interrupts.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::apic::{self, SELF_VECTOR, TIMER_VECTOR};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::timer;
use x86_64::instructions::interrupts as flag;

use crate::measure::Meter;

/// How far ahead a deadline that is waited for lies, in TSC ticks: longer than it takes to arm it.
pub const SOON: u64 = 20_000;
/// How far ahead a deadline that never comes lies.
const FAR: u64 = 1 << 40;
/// By how much each later deadline is later.
const LATER: u64 = 1000;

static TAKEN: AtomicU64 = AtomicU64::new(0);
static DEADLINE: AtomicU64 = AtomicU64::new(0);

fn count_and_end(_: &mut Frame) {
    TAKEN.fetch_add(1, Ordering::Relaxed);
    apic::end_of_interrupt();
}

fn count(_: &mut Frame) {
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

/// Handles the timer and the interrupt to itself by counting and ending them.
pub fn prepare() {
    interrupts::handle(TIMER_VECTOR, count_and_end);
    interrupts::handle(SELF_VECTOR, count_and_end);
    DEADLINE.store(timer::now() + FAR, Ordering::Relaxed);
}

/// Waits for the next interrupt without an instruction that could exit.
fn spin_past(taken: u64) {
    while TAKEN.load(Ordering::Relaxed) == taken {}
}

/// Arm, interrupt, end of interrupt, the CPU busy meanwhile.
pub fn timer_tick(meter: &mut Meter, ops: u64) {
    prepare();
    meter.section_with_waits(ops, ops, SOON, op::timer_tick);
}

/// Arm, halt, interrupt, end of interrupt.
pub fn idle_wake(meter: &mut Meter, ops: u64) {
    prepare();
    meter.section_with_waits(ops, ops, SOON, op::idle_wake);
}

/// Send, interrupt, end of interrupt.
pub fn self_ipi(meter: &mut Meter, ops: u64) {
    prepare();
    meter.section(ops, op::self_ipi);
}

/// The end of an interrupt alone: one section for each, between which the interrupt is sent and
/// taken.
pub fn eoi(meter: &mut Meter, ops: u64) {
    interrupts::handle(SELF_VECTOR, count);
    flag::enable();
    for _ in 0..ops {
        let taken = TAKEN.load(Ordering::Relaxed);
        apic::send_to_self(SELF_VECTOR);
        spin_past(taken);
        meter.section(1, apic::end_of_interrupt);
    }
    flag::disable();
}

/// Moving a deadline that has not come to a later time.
pub fn later_deadline(meter: &mut Meter, ops: u64) {
    prepare();
    op::later_deadline();
    meter.section(ops, op::later_deadline);
    timer::arm(0);
}

/// One operation each; interrupts are disabled before and after. Whether a row holds a call of them is not left to
/// the compiler.
pub mod op {
    use super::*;

    #[inline(always)]
    pub fn timer_tick() {
        let taken = TAKEN.load(Ordering::Relaxed);
        flag::enable();
        timer::arm(timer::now() + SOON);
        spin_past(taken);
        flag::disable();
    }

    #[inline(always)]
    pub fn idle_wake() {
        let taken = TAKEN.load(Ordering::Relaxed);
        let deadline = timer::now() + SOON;
        while TAKEN.load(Ordering::Relaxed) == taken {
            timer::halt_until(deadline);
            flag::disable();
        }
    }

    #[inline(always)]
    pub fn self_ipi() {
        let taken = TAKEN.load(Ordering::Relaxed);
        flag::enable();
        apic::send_to_self(SELF_VECTOR);
        spin_past(taken);
        flag::disable();
    }

    #[inline(always)]
    pub fn later_deadline() {
        timer::arm(DEADLINE.fetch_add(LATER, Ordering::Relaxed));
    }
}
