//! Work that is shared.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::smp::{self, Wait};

use super::{begin, end};
use crate::measure::Meter;

/// What there is to do in an operation, in rounds of a loop of two instructions.
const WORK: u64 = 4096;

static SHARE: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

fn share(_: usize) {
    let rounds = SHARE.load(Ordering::Relaxed);
    // SAFETY: counts a register down.
    unsafe {
        asm!("2: dec {}", "jnz 2b", inout(reg) rounds => _, options(nomem, nostack));
    }
    DONE.fetch_add(rounds, Ordering::Relaxed);
}

fn fork_and_join(meter: &mut Meter, ops: u64, wait: Wait) {
    let n = begin(wait);
    let rounds = WORK / n as u64;
    SHARE.store(rounds, Ordering::Relaxed);
    DONE.store(0, Ordering::Relaxed);
    meter.section(ops, || smp::run_on_all(n, share));
    assert_eq!(DONE.load(Ordering::Relaxed), ops * rounds * n as u64, "work was not done");
    end();
}

/// Work for all CPUs, which are halted before; the operation ends when the last has done its share.
pub fn fork_join(meter: &mut Meter, ops: u64) {
    fork_and_join(meter, ops, Wait::Halt);
}

/// The same with CPUs that look for work.
pub fn fork_join_spin(meter: &mut Meter, ops: u64) {
    fork_and_join(meter, ops, Wait::Spin);
}
