//! What CPUs do to each other by calls.

use core::hint;
use core::sync::atomic::Ordering;

use x86_64::hypercall::CallError;
use x86_64::instructions::interrupts;
use x86_64::pv_abi::Status;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::page::PageRange;
use x86_64::{VirtAddr, smp as call};

use super::cpu::ALL;
use super::operations::{PATIENCE, stop, use_operations};
use super::{CpuSet, Operations, online, this, trampoline};
use crate::timer;

/// By calls, with an exit for each whatever the number of CPUs. Who waits for a word looks, as natively:
/// the lock that waits otherwise is [`super::lock::PvLock`].
pub static PV: Operations = Operations {
    start,
    stop,
    send: |cpu, vector| made(call::send(vector, vcpus(CpuSet::of(cpu)))),
    broadcast: |vector| made(call::send(vector, vcpus(others()))),
    halt,
    rouse: |cpu| made(call::kick(vcpu(cpu))),
    flush,
    wait: |_, _| hint::spin_loop(),
    wake: None,
};

/// Has calls used, if the shim says that they are there and pay.
pub(super) fn use_calls() {
    if are_offered() {
        use_operations(&PV);
    }
}

/// Whether they are: then [`PV`] is in use once a CPU has been started.
pub fn are_offered() -> bool {
    x86_64::operations().contains(x86_64::Operations::SMP)
}

/// Whether calls are in use.
fn calls() -> bool {
    core::ptr::eq(super::operations(), &raw const PV)
}

fn made(result: Result<(), CallError>) {
    if let Err(error) = result {
        panic!("a call was refused: {error}");
    }
}

/// The number of a CPU for the hypervisor.
fn vcpu(cpu: usize) -> u32 {
    ALL[cpu].apic_id.load(Ordering::Relaxed)
}

fn vcpus(cpus: CpuSet) -> u64 {
    cpus.iter().fold(0, |mask, cpu| mask | 1 << vcpu(cpu))
}

fn others() -> CpuSet {
    online().without(CpuSet::of(this()))
}

fn start(apic_id: u32, page: u8, started: &dyn Fn() -> bool) {
    let (tables, entry) = (Cr3::read().0.start_address(), trampoline::long_entry(page));
    // SAFETY: the trampoline's page is prepared, and what is there is for a CPU in this state.
    let start = || unsafe { call::start(apic_id, VirtAddr::new(entry), tables, 0) };
    let mut result = start();
    if result == Err(CallError::Status(Status::AlreadyDone)) {
        stop(apic_id);
        result = start();
    }
    made(result);
    timer::spin_until(PATIENCE, started);
}

/// A kick from now on, or from before, ends it; so does an interrupt, which is then taken.
fn halt() {
    made(call::wait());
    interrupts::enable();
}

/// The others' translations go as a whole, which needs no code of theirs.
fn flush(pages: PageRange, cpus: CpuSet) {
    super::shootdown::flush_here(pages);
    let others = others().and(cpus);
    if !others.is_empty() {
        made(call::flush(vcpus(others)));
    }
}

/// Has another CPU run instead of this one, if it does not; without calls, waits for no longer than a look takes.
pub(super) fn yield_to(cpu: usize) {
    if calls() { made(call::yield_to(vcpu(cpu))) } else { hint::spin_loop() }
}
