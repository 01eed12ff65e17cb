//! Locks that every CPU wants.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_kernel::smp::lock::{Lock, PvLock, SpinLock, TicketLock};
use guest_kernel::smp::{self, Wait};
use guest_kernel::timer;

use super::{begin, end};
use crate::measure::Meter;

/// How long a CPU has the lock, in rounds of a loop of two instructions, and how long it does something
/// else before it wants it again. With two CPUs the lock is free for a while; from four on it never is.
const HOLD: u64 = 100;
const GAP: u64 = 200;
/// How long the CPUs do that, in TSC ticks for each of the number of operations that the table has.
const TIME: u64 = 1000;

static STOP: AtomicBool = AtomicBool::new(false);
static DEADLINE: AtomicU64 = AtomicU64::new(0);
/// How often somebody had the lock. Only who has it writes, in two steps: it is right if the lock is.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static OWN: AtomicU64 = AtomicU64::new(0);

static SPIN: SpinLock = SpinLock::new();
static TICKET: TicketLock = TicketLock::new();
static PV: PvLock = PvLock::new();

fn pass(rounds: u64) {
    // SAFETY: counts a register down.
    unsafe {
        asm!("2: dec {}", "jnz 2b", inout(reg) rounds => _, options(nomem, nostack));
    }
}

/// Takes the lock again and again until CPU 0 finds that the time is over.
fn contend(cpu: usize, lock: &impl Lock) {
    let mut own = 0;
    while !STOP.load(Ordering::Relaxed) {
        lock.lock();
        let taken = TAKEN.load(Ordering::Relaxed);
        pass(HOLD);
        TAKEN.store(taken + 1, Ordering::Relaxed);
        lock.unlock();
        own += 1;
        pass(GAP);
        if cpu == 0 && timer::now() >= DEADLINE.load(Ordering::Relaxed) {
            STOP.store(true, Ordering::Relaxed);
        }
    }
    OWN.fetch_add(own, Ordering::Relaxed);
}

fn contended(meter: &mut Meter, ops: u64, contend: fn(usize)) {
    let n = begin(Wait::Spin);
    TAKEN.store(0, Ordering::Relaxed);
    OWN.store(0, Ordering::Relaxed);
    STOP.store(false, Ordering::Relaxed);
    meter.section_of_time(|| {
        DEADLINE.store(timer::now() + ops * TIME, Ordering::Relaxed);
        smp::run_on_all(n, contend);
        TAKEN.load(Ordering::Relaxed)
    });
    let own = OWN.load(Ordering::Relaxed);
    assert_eq!(TAKEN.load(Ordering::Relaxed), own, "two CPUs had the lock at once");
    end();
}

/// A lock that is tried until it is free: an operation is one time that somebody had it.
pub fn spin(meter: &mut Meter, ops: u64) {
    contended(meter, ops, |cpu| contend(cpu, &SPIN));
}

/// One with tickets.
pub fn ticket(meter: &mut Meter, ops: u64) {
    contended(meter, ops, |cpu| contend(cpu, &TICKET));
}

/// One that is tried until it is free, where who waits long lets the CPU run that has it.
pub fn pv(meter: &mut Meter, ops: u64) {
    contended(meter, ops, |cpu| contend(cpu, &PV));
}
