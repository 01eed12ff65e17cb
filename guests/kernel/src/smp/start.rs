//! Finding, starting and stopping CPUs.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::cpu::{ALL, CPUS, Cpu};
use super::{
    CpuSet, ONLINE, WAKE, online, operations, pv as calls, shootdown, this, trampoline, work,
};
use crate::acpi::{self, Memory};
use crate::{apic, descriptors, extended, frames, info, interrupts, pv, timer};

/// How many frames a CPU has for each of its stacks: its own, that of double faults, and that of a change
/// of privilege.
const STACK_FRAMES: [u64; 3] = [4, 2, 2];

static STARTED: AtomicUsize = AtomicUsize::new(1);

struct Identity;

impl Memory<'static> for Identity {
    fn bytes(&self, address: u64, length: usize) -> Option<&'static [u8]> {
        const END: u64 = 4 << 30;
        let end = address.checked_add(length as u64)?;
        // SAFETY: what is below 4 GiB is identity mapped; the firmware's tables do not change.
        (address != 0 && end <= END)
            .then(|| unsafe { core::slice::from_raw_parts(address as *const u8, length) })
    }
}

/// The APIC IDs of the other CPUs that the firmware names.
fn others() -> impl Iterator<Item = u32> {
    let madt = info::root_pointer().and_then(|address| acpi::madt(&Identity, address));
    let reachable = |&id: &u32| !apic::is_by_memory() || id < 0xff;
    let this = apic::id();
    madt.into_iter().flat_map(acpi::apic_ids).filter(move |&id| id != this).filter(reachable)
}

/// How many CPUs there are, this one among them, whether started or not.
pub fn available() -> usize {
    (1 + others().count()).min(CPUS)
}

/// How many CPUs have been started, this one among them. CPUs 0 to one less than that exist.
pub fn count() -> usize {
    STARTED.load(Ordering::Acquire)
}

/// The APIC ID of a CPU, once others have been started.
///
/// # Panics
///
/// If there is no such CPU.
pub fn apic_id(number: usize) -> u32 {
    assert!(number < count(), "there is no CPU {number}");
    ALL[number].apic_id.load(Ordering::Relaxed)
}

/// Starts CPUs until there are `most`, or as many as there are, and says how many there are then.
///
/// # Panics
///
/// If a CPU that the firmware names does not start.
pub fn start(most: usize) -> usize {
    assert_eq!(this(), 0, "CPUs are started by the one that the guest began on");
    let wanted = most.min(CPUS);
    for id in others().skip(count() - 1) {
        let number = count();
        if number >= wanted {
            break;
        }
        if number == 1 {
            interrupts::handle(WAKE, |_| apic::end_of_interrupt());
            interrupts::handle(shootdown::VECTOR, shootdown::interrupt);
            ALL[0].apic_id.store(apic::id(), Ordering::Relaxed);
            ALL[0].is_first();
            calls::use_calls();
        }
        ALL[number].apic_id.store(id, Ordering::Relaxed);
        assert!(start_again(number), "the CPU with APIC ID {id} does not start");
        STARTED.store(number + 1, Ordering::Release);
    }
    count()
}

/// Starts a CPU from the beginning, whatever it does; false if it does not come. What it was at is lost.
///
/// # Panics
///
/// For CPU 0.
pub fn start_again(number: usize) -> bool {
    assert_ne!(number, 0, "this CPU runs");
    let cpu = &ALL[number];
    forget(cpu);
    if cpu.stacks.load(Ordering::Relaxed) == 0 {
        let stacks = frames::allocate_run(STACK_FRAMES.iter().sum());
        cpu.stacks.store(stacks.start_address().as_u64(), Ordering::Relaxed);
    }
    let stack = tops(cpu)[0];
    // SAFETY: CPUs come one after the other: this returns when one has come, or was sent back.
    let page = unsafe { trampoline::prepare(enter, cpu, stack) };
    let id = cpu.apic_id.load(Ordering::Relaxed);
    let started = || !online().and(CpuSet::of(number)).is_empty();
    (operations().start)(id, page, &started);
    // Sent back, so that it cannot come late, when the page belongs to another.
    if !started() {
        stop(number);
    }
    started()
}

/// Takes a CPU away, whatever it does, until it is started again.
pub fn stop(number: usize) {
    let cpu = &ALL[number];
    (operations().stop)(cpu.apic_id.load(Ordering::Relaxed));
    forget(cpu);
}

/// Forgets what a CPU was at.
fn forget(cpu: &Cpu) {
    ONLINE.fetch_and(!CpuSet::of(cpu.index()).0, Ordering::AcqRel);
    cpu.job.store(0, Ordering::Relaxed);
    cpu.asleep.store(false, Ordering::Relaxed);
}

/// The tops of a CPU's stacks.
fn tops(cpu: &Cpu) -> [u64; 3] {
    let mut top = cpu.stacks.load(Ordering::Relaxed);
    STACK_FRAMES.map(|frames| {
        top += frames * 4096;
        top
    })
}

/// Where another CPU comes from the trampoline.
extern "C" fn enter(cpu: &'static Cpu) -> ! {
    let [_, fault, privilege] = tops(cpu);
    // SAFETY: the trampoline's tables are in use, and the stacks were allocated for this CPU.
    unsafe { descriptors::load(cpu.index(), fault, privilege) };
    cpu.is_here();
    interrupts::load();
    extended::enable();
    apic::enable();
    timer::prepare();
    if pv::present() {
        pv::register();
    }
    ONLINE.fetch_or(CpuSet::of(cpu.index()).0, Ordering::AcqRel);
    work::serve(cpu)
}
