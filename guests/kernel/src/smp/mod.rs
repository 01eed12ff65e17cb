//! The other CPUs: found, started, given work and interrupted.
//!
//! A CPU has a number, 0 for the one that the guest began on, and those that are started count up from 1.
//! What a guest gives to other CPUs is a `fn(usize)`, which gets the number. Between two of them a CPU waits
//! with interrupts enabled, as it has them enabled while it works.
//!
//! Threads and what the shim shares with the hypervisor (deadline, end of interrupt, halting by call)
//! belong to CPU 0.

mod cpu;
pub mod lock;
mod operations;
mod set;
pub mod shootdown;
mod trampoline;

use core::hint;
use core::mem::transmute;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use x86_64::instructions::interrupts as flag;
use x86_64::structures::paging::page::PageRange;

pub use cpu::{CPUS, this};
pub use operations::{NATIVE, Operations, operations, use_operations};
pub use set::CpuSet;

use crate::acpi::{self, Memory};
use crate::{apic, descriptors, frames, info, interrupts, ipi, timer};
use cpu::{ALL, Cpu};

/// The vector that ends a CPU's halt.
pub const WAKE: u8 = 0xf0;
/// How many frames a CPU has for each of its stacks: its own, that of double faults, and that of a change
/// of privilege.
const STACK_FRAMES: [u64; 3] = [4, 2, 2];

/// How the other CPUs wait for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Halted, until an interrupt.
    Halt,
    /// Looking.
    Spin,
}

static SPINS: AtomicBool = AtomicBool::new(false);
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

/// The CPUs that run.
pub fn online() -> CpuSet {
    let other = |cpu: &&Cpu| cpu.online.load(Ordering::Acquire);
    CpuSet(ALL[1..count()].iter().filter(other).fold(1, |set, cpu| set | 1 << cpu.index()))
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
            interrupts::handle(WAKE, |_| end_of_interrupt());
            interrupts::handle(shootdown::VECTOR, shootdown::interrupt);
            ALL[0].apic_id.store(apic::id(), Ordering::Relaxed);
            ALL[0].is_here();
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
    let started = || cpu.online.load(Ordering::Acquire);
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
    cpu.online.store(false, Ordering::Release);
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
    apic::enable();
    timer::prepare();
    cpu.online.store(true, Ordering::Release);
    loop {
        flag::enable();
        work(cpu);
        flag::disable();
        if !SPINS.load(Ordering::Relaxed) {
            // Whoever gives work looks at `asleep` after that, and this at the work after this.
            cpu.asleep.store(true, Ordering::SeqCst);
            if cpu.job.load(Ordering::SeqCst) == 0 {
                // The instruction: the shim's way to halt is that of CPU 0.
                // SAFETY: touches nothing; an interrupt that is pending by now ends it.
                unsafe { core::arch::asm!("sti", "hlt", options(nomem, nostack)) };
            }
            cpu.asleep.store(false, Ordering::Relaxed);
        } else {
            hint::spin_loop();
        }
    }
}

/// Does the work that this CPU has, if any.
fn work(cpu: &Cpu) {
    let job = cpu.job.load(Ordering::Acquire);
    if job != 0 {
        // SAFETY: `run_on` is what stores anything but 0.
        let job = unsafe { transmute::<usize, fn(usize)>(job) };
        job(cpu.index());
        cpu.job.store(0, Ordering::Release);
    }
}

/// Says how the other CPUs wait for work from here on.
pub fn wait_by(wait: Wait) {
    SPINS.store(wait == Wait::Spin, Ordering::Relaxed);
    if wait == Wait::Spin {
        online().without(CpuSet::of(this())).iter().for_each(|cpu| ipi::send(cpu, WAKE));
    }
}

/// Has another CPU execute `job`, after [`join`] of what it had before. What was written before is seen there.
pub fn run_on(number: usize, job: fn(usize)) {
    join(number);
    let cpu = &ALL[number];
    cpu.job.store(job as usize, Ordering::SeqCst);
    if cpu.asleep.load(Ordering::SeqCst) {
        ipi::send(number, WAKE);
    }
}

/// Waits until a CPU has done its work. What it wrote is seen after that.
pub fn join(number: usize) {
    while ALL[number].job.load(Ordering::Acquire) != 0 {
        relax();
    }
}

/// Executes `job` on CPUs 0 to `n` - 1, of which this is one, at the same time, and waits for all of them.
pub fn run_on_all(n: usize, job: fn(usize)) {
    let others = CpuSet::first(n).without(CpuSet::of(this()));
    others.iter().for_each(|cpu| run_on(cpu, job));
    job(this());
    others.iter().for_each(join);
}

/// One round of waiting for another CPU, which may wait for this one to flush its TLB.
#[inline]
pub fn relax() {
    hint::spin_loop();
    shootdown::serve();
}

/// Ends the interrupt in service on whichever CPU this is.
#[inline]
pub fn end_of_interrupt() {
    if this() == 0 { apic::end_of_interrupt() } else { apic::end_of_interrupt_natively() }
}

/// Flushes `pages` from the TLBs of those of `cpus` that run, and from this CPU's.
#[inline]
pub fn shootdown(pages: PageRange, cpus: CpuSet) {
    (operations().flush)(pages, cpus);
}
