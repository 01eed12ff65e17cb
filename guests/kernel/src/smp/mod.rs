//! The other CPUs: found, started, given work and interrupted.
//!
//! A CPU has a number, 0 for the one that the guest began on, and those that are started count up from 1.
//! What a guest gives to other CPUs is a `fn(usize)`, which gets the number. Between two of them a CPU waits
//! with interrupts enabled, as it has them enabled while it works.
//!
//! Threads belong to CPU 0. What the shim shares with the hypervisor (clock, deadline, end of interrupt, events) each CPU
//! has for itself.

mod cpu;
pub mod lock;
mod operations;
mod pv;
mod set;
pub mod shootdown;
mod start;
mod trampoline;
mod work;

use core::hint;
use core::sync::atomic::{AtomicU32, Ordering};

use x86_64::structures::paging::page::PageRange;

pub use cpu::{CPUS, this};
pub use operations::{NATIVE, Operations, operations, use_operations};
pub use pv::{PV, are_offered as calls_are_offered};
pub use set::CpuSet;
pub use start::{apic_id, available, count, start, start_again, stop};
pub use work::{WAKE, Wait, join, run_on, run_on_all, wait_by};

/// The bits of [`online`].
static ONLINE: AtomicU32 = AtomicU32::new(1);

/// The CPUs that run.
#[inline]
pub fn online() -> CpuSet {
    CpuSet(ONLINE.load(Ordering::Acquire))
}

/// One round of waiting for another CPU, which may wait for this one to flush its TLB.
#[inline]
pub fn relax() {
    hint::spin_loop();
    shootdown::serve();
}

/// Flushes `pages` from the TLBs of those of `cpus` that run, and from this CPU's.
#[inline]
pub fn shootdown(pages: PageRange, cpus: CpuSet) {
    (operations().flush)(pages, cpus);
}
