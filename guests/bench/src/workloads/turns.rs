//! Turns on a CPU: how long it is from one vCPU to another, and from a halted CPU to a vCPU. They run only where they
//! are asked for by name: what they measure is the company that the machine's description gives them.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_kernel::apic::{self, TIMER_VECTOR};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::smp::{self, Wait};
use guest_kernel::{info, ipi, pv, timer};
use x86_64::hypercall::sched;
use x86_64::instructions::interrupts as flag;

use super::smp as several;
use super::time::SOON;
use crate::measure::Meter;

/// Turns after which the others do what they are here for, however long their start took.
const WARM_UP: u64 = 3000;

static OVER: AtomicBool = AtomicBool::new(false);
static WOKEN: AtomicU64 = AtomicU64::new(0);

/// Whether they are asked for.
pub fn wanted() -> bool {
    info::options().value("workload").is_some_and(|list| list.contains("turn-"))
}

/// Whether they are, and yield by call.
pub fn call() -> bool {
    wanted() && pv::active()
}

fn give_way() {
    let _ = sched::yield_now();
}

fn give_way_until_over(_: usize) {
    while !OVER.load(Ordering::Relaxed) {
        give_way();
    }
}

/// `sched.yield` to another vCPU that does nothing else, and back: one of another VM, or the other one of this.
pub fn turn_yield(meter: &mut Meter, ops: u64) {
    OVER.store(false, Ordering::Relaxed);
    if several::exist() {
        several::begin(Wait::Halt);
        smp::run_on(1, give_way_until_over);
    }
    (0..WARM_UP).for_each(|_| give_way());
    meter.section(ops, give_way);
    OVER.store(true, Ordering::Relaxed);
    if several::exist() {
        smp::join(1);
    }
}

fn woken(_: &mut Frame) {
    WOKEN.store(timer::now(), Ordering::Release);
    apic::end_of_interrupt();
}

/// How late a handler's first look at the clock is if the interrupt comes now: saved registers, and the way to it.
fn stub() -> u64 {
    let begin = timer::now();
    // SAFETY: the vector has a handler, which returns. Ending an interrupt where none is in service does nothing.
    unsafe { asm!("int {vector}", vector = const TIMER_VECTOR) };
    WOKEN.load(Ordering::Acquire) - begin
}

/// From a deadline, for which the CPU is halted, to the guest's first instruction.
pub fn turn_wake(meter: &mut Meter, ops: u64) {
    interrupts::handle(TIMER_VECTOR, woken);
    let mut late = 0;
    for _ in 0..ops {
        let deadline = timer::now() + SOON;
        while WOKEN.load(Ordering::Acquire) < deadline {
            timer::halt_until(deadline);
            flag::disable();
        }
        late += WOKEN.load(Ordering::Acquire) - deadline;
    }
    meter.measured(ops, late, ops * stub());
}

/// The vector of [`turn_rouse`].
const ROUSE: u8 = 0x63;
/// The TSC at which a vCPU was interrupted; 0 when it has seen that.
static ROUSED: AtomicU64 = AtomicU64::new(0);

fn roused(_: &mut Frame) {
    WOKEN.store(timer::now(), Ordering::Release);
    apic::end_of_interrupt();
    ROUSED.store(0, Ordering::Release);
}

/// From the instruction by which a vCPU interrupts another, whose CPU is halted, to that one's first instruction: what
/// both CPUs do for it.
pub fn turn_rouse(meter: &mut Meter, ops: u64) {
    several::begin(Wait::Halt);
    interrupts::handle(ROUSE, roused);
    interrupts::handle(TIMER_VECTOR, woken);
    let mut late = 0;
    for _ in 0..ops {
        // By then the other has halted.
        timer::delay(200);
        let begin = timer::now();
        ROUSED.store(begin, Ordering::Release);
        ipi::send(1, ROUSE);
        while ROUSED.load(Ordering::Acquire) != 0 {}
        late += WOKEN.load(Ordering::Acquire) - begin;
    }
    meter.measured(ops, late, ops * stub());
}
