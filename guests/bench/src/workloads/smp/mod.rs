//! Several CPUs: interrupts between them, flushes, locks, shared work.
//!
//! They take every CPU that there is, or `cpus=N` of them, and leave the others halted. An operation is
//! measured by CPU 0, and the exits of a row are those of its vCPU.

pub mod ipi;
pub mod locks;
pub mod tlb;
pub mod work;

use guest_kernel::info;
use guest_kernel::smp::{self, Wait};

/// How many CPUs take part.
pub fn cpus() -> usize {
    let wanted = info::options().number("cpus").and_then(|n| usize::try_from(n).ok());
    wanted.unwrap_or(smp::CPUS).min(smp::available())
}

/// Whether there is more than one.
pub fn exist() -> bool {
    cpus() > 1
}

/// Whether there is, and they reach each other by calls.
pub fn call() -> bool {
    exist() && smp::calls_are_offered()
}

/// Starts those that take part, the first time, and says how they wait for work. Halted is what they are
/// after a workload.
pub fn begin(wait: Wait) -> usize {
    let n = cpus();
    smp::start(n);
    smp::wait_by(wait);
    n
}

pub(super) fn end() {
    smp::wait_by(Wait::Halt);
}
