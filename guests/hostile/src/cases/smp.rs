//! What CPUs can do to each other by the interrupt command register.

use core::arch::asm;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_kernel::apic::{self, ALL_BUT_SELF, INIT, NMI, STARTUP};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::println;
use guest_kernel::probe::probe;
use guest_kernel::smp::{self, CPUS};
use guest_kernel::timer;
use x86_64::VirtAddr;
use x86_64::instructions::interrupts as flag;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::{Action, Case, Expected, Verdict, Wrong};

const fn several(name: &'static str, expected: Expected, run: fn() -> Verdict) -> Case {
    Case { name, expected, needs_pv: false, action: Action::Several(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    several("interrupts-once", Expected::Survives, interrupts_once),
    several("ipi-storm", Expected::Survives, ipi_storm),
    several("sipi-nowhere", Expected::Survives, sipi_nowhere),
    several("triple-fault-on-one-cpu", Expected::Depends, triple_fault_on_one_cpu),
];

/// More CPUs than these are let be.
const MOST: usize = 8;
/// The vector of every interrupt, and the page that every startup IPI names: nothing is there.
pub(super) const VECTOR: u8 = 0x70;
const NMI_VECTOR: u8 = 2;
/// APIC IDs that no CPU has; the last are too large for an xAPIC.
const NOWHERE: [u32; 5] = [0xa1, 0xee, 0xfe, 0x1234, 0xffff_fffe];
/// Delivery modes that leave a CPU as it is, if they do anything: fixed, lowest priority, one that is reserved,
/// startup, and that of an 8259's interrupts.
const HARMLESS: [u32; 5] = [0, 0b001 << 8, 0b011 << 8, STARTUP, 0b111 << 8];
/// Times that a CPU goes through all of them.
const ROUNDS: u64 = 50;
/// Interrupts of `interrupts-once`, and how long it waits behind each for another, in microseconds: together for
/// longer than some slices take.
const INTERRUPTS: u64 = 200;
const BEHIND: u64 = 20;
/// How long something may take, and for how long nothing must happen, in microseconds.
const PATIENCE: u64 = 1_000_000;
const STILL: u64 = 2_000;

static CAME: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
static NMIS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

pub(super) fn sound(is: bool, why: &'static str) -> Verdict {
    if is { Ok(()) } else { Err(Wrong::Other(why)) }
}

pub(super) fn count(_: &mut Frame) {
    CAME[smp::this()].fetch_add(1, Ordering::Relaxed);
    apic::end_of_interrupt();
}

fn count_nmi(_: &mut Frame) {
    NMIS[smp::this()].fetch_add(1, Ordering::Relaxed);
}

pub(super) fn came(cpu: usize) -> u64 {
    CAME[cpu].load(Ordering::Relaxed)
}

/// Waits for something that must come to be.
fn comes(condition: impl FnMut() -> bool) -> bool {
    timer::spin_until(PATIENCE, condition)
}

/// Sends a command. The x2APIC may refuse it by an exception.
fn send(destination: u32, command: u32) {
    let _ = probe(|| apic::command(destination, command | u32::from(VECTOR)));
}

/// To where there is no CPU, by every delivery mode.
fn send_nowhere() {
    let reachable = |id: &u32| !apic::is_by_memory() || *id < 0xff;
    for id in NOWHERE.into_iter().filter(reachable) {
        (0..8).for_each(|mode| send(id, mode << 8));
    }
}

/// Whatever can be sent to whatever there is and is not.
pub(super) fn storm_once() {
    send_nowhere();
    for cpu in 0..smp::count() {
        let id = smp::apic_id(cpu);
        HARMLESS.iter().for_each(|mode| send(id, *mode));
        send(id, NMI);
    }
    HARMLESS.iter().for_each(|mode| send(0, ALL_BUT_SELF | *mode));
}

/// What each CPU does in the storm.
fn storm(_: usize) {
    (0..ROUNDS).for_each(|_| storm_once());
}

/// Starts the CPUs and counts what comes to each.
pub(super) fn begin() -> usize {
    interrupts::handle(VECTOR, count);
    interrupts::handle(NMI_VECTOR, count_nmi);
    smp::start(MOST)
}

pub(super) fn end() {
    interrupts::forget(VECTOR);
    interrupts::forget(NMI_VECTOR);
}

/// Each CPU is there: it works, and an interrupt comes to it once.
pub(super) fn all_is_well(n: usize) -> Verdict {
    static WORKED: AtomicU64 = AtomicU64::new(0);
    WORKED.store(0, Ordering::Relaxed);
    smp::run_on_all(n, |cpu| {
        WORKED.fetch_add(1 << (8 * cpu), Ordering::Relaxed);
    });
    let each_once = (0..n).fold(0, |sum, cpu| sum + (1 << (8 * cpu)));
    sound(WORKED.load(Ordering::Relaxed) == each_once, "a CPU did not work once")?;
    flag::enable();
    timer::delay(STILL);
    let all = (0..n).all(|cpu| {
        let before = came(cpu);
        send(smp::apic_id(cpu), 0);
        comes(|| came(cpu) > before) && {
            timer::delay(STILL);
            came(cpu) == before + 1
        }
    });
    flag::disable();
    sound(all, "an interrupt did not come once")
}

/// A CPU interrupts itself, again and again; each interrupt comes once, also where the time between is such that other
/// vCPUs run.
fn interrupts_once() -> Verdict {
    begin();
    flag::enable();
    let once = (0..INTERRUPTS).all(|round| {
        let before = came(0);
        send(smp::apic_id(0), 0);
        timer::delay(BEHIND + round % BEHIND);
        came(0) == before + 1
    });
    flag::disable();
    end();
    sound(once, "an interrupt did not come once")
}

/// Every CPU sends whatever can be sent to whatever there is and is not; none is the worse for it.
fn ipi_storm() -> Verdict {
    let n = begin();
    flag::enable();
    smp::run_on_all(n, storm);
    let reached = |counts: &[AtomicU64]| counts[..n].iter().all(|c| c.load(Ordering::Relaxed) != 0);
    let reached_all = comes(|| reached(&CAME) && reached(&NMIS));
    // What is still under way comes.
    timer::delay(STILL);
    flag::disable();
    let verdict =
        sound(reached_all, "a CPU got no interrupt or no NMI").and_then(|()| all_is_well(n));
    end();
    verdict
}

static TURNS: AtomicU64 = AtomicU64::new(0);
static ENOUGH: AtomicBool = AtomicBool::new(false);

/// Counts until it is enough.
fn turn(_: usize) {
    while !ENOUGH.load(Ordering::Relaxed) {
        TURNS.fetch_add(1, Ordering::Relaxed);
        hint::spin_loop();
    }
}

fn turns() -> u64 {
    TURNS.load(Ordering::Relaxed)
}

/// Startup IPIs to CPUs that are not there, and to one that runs, are lost; one that is stopped by INIT
/// stands still until it is started, and then begins anew.
fn sipi_nowhere() -> Verdict {
    let n = begin();
    let cpu = n - 1;
    let id = smp::apic_id(cpu);
    send_nowhere();
    ENOUGH.store(false, Ordering::Relaxed);
    smp::run_on(cpu, turn);
    let turns_on = || {
        let before = turns();
        comes(|| turns() > before + 1)
    };
    sound(turns_on(), "a CPU does not work")?;
    send(id, STARTUP);
    send(apic::id(), STARTUP);
    send(0, ALL_BUT_SELF | STARTUP);
    sound(turns_on(), "a startup IPI stopped a CPU that ran")?;
    for _ in 0..3 {
        smp::stop(cpu);
        let before = turns();
        timer::delay(STILL);
        sound(turns() == before, "a CPU goes on after INIT")?;
        // A second INIT changes nothing.
        apic::command(id, INIT);
        sound(smp::start_again(cpu), "a CPU that was stopped does not start")?;
        timer::delay(STILL);
        sound(turns() == before, "a CPU that was started goes on with what it was at")?;
        smp::run_on(cpu, turn);
        sound(turns_on(), "a CPU that was started again does not work")?;
    }
    ENOUGH.store(true, Ordering::Relaxed);
    smp::join(cpu);
    let verdict = all_is_well(n);
    end();
    verdict
}

/// One CPU has an exception with an empty interrupt table, while the others work.
fn triple_fault_on_one_cpu() -> Verdict {
    let n = smp::start(MOST);
    (2..n).for_each(|cpu| smp::run_on(cpu, turn));
    println!("@hostile {n} CPUs work");
    smp::run_on(1, |_| {
        let nothing = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
        // SAFETY: to be without handlers is what is wanted.
        unsafe {
            lidt(&nothing);
            asm!("ud2");
        }
    });
    comes(|| false);
    Err(Wrong::Other("the guest goes on"))
}
