//! What CPUs do to each other, as a table: by the local APIC here, and by calls where somebody has them.

use core::hint;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use x86_64::instructions::interrupts;
use x86_64::structures::paging::page::PageRange;

use super::cpu::ALL;
use super::{CpuSet, WAKE, shootdown};
use crate::{apic, ipi, timer};

/// Ways to do what one CPU does to another.
pub struct Operations {
    /// Starts the CPU with an APIC ID at the trampoline in a page below 1 MiB, given by its number. Returns
    /// when `started` says so, or when the CPU had time enough and did not.
    pub start: fn(apic_id: u32, page: u8, started: &dyn Fn() -> bool),
    /// Puts the CPU with an APIC ID back to where it waits to be started.
    pub stop: fn(apic_id: u32),
    /// Interrupts a CPU, by its number.
    pub send: fn(cpu: usize, vector: u8),
    /// Interrupts every CPU but this one.
    pub broadcast: fn(vector: u8),
    /// Halts this CPU until an interrupt comes, or [`Operations::rouse`]; it may return early. To be called
    /// with interrupts disabled, and with what is waited for looked at after that; they are enabled on
    /// return.
    pub halt: fn(),
    /// Ends the halt of a CPU, by its number.
    pub rouse: fn(cpu: usize),
    /// Flushes pages from the TLBs of some CPUs, and from this one's.
    pub flush: fn(pages: PageRange, cpus: CpuSet),
    /// Waits for a word to be other than it was seen. It may return early: the caller looks again.
    pub wait: fn(word: &AtomicU32, seen: u32),
    /// Ends the waiting for a word; `None` if those who wait look by themselves.
    pub wake: Option<fn(word: &AtomicU32)>,
}

/// By the local APIC, and by PAUSE.
pub static NATIVE: Operations = Operations {
    start,
    stop,
    send: |cpu, vector| command(ALL[cpu].apic_id.load(Ordering::Relaxed), vector.into()),
    broadcast: |vector| command(0, apic::ALL_BUT_SELF | u32::from(vector)),
    halt: interrupts::enable_and_hlt,
    rouse: |cpu| ipi::send(cpu, WAKE),
    flush: shootdown::by_interrupts,
    wait: |_, _| hint::spin_loop(),
    wake: None,
};

static IN_USE: AtomicPtr<Operations> = AtomicPtr::new((&raw const NATIVE).cast_mut());

/// The table in use.
#[inline]
pub fn operations() -> &'static Operations {
    // SAFETY: the pointer is to `NATIVE`, or to what `use_operations` was given for good.
    unsafe { &*IN_USE.load(Ordering::Relaxed) }
}

/// Has another table used from here on.
pub fn use_operations(operations: &'static Operations) {
    IN_USE.store((&raw const *operations).cast_mut(), Ordering::Release);
}

/// The xAPIC takes a command in two pieces, between which no handler may send another.
fn command(destination: u32, command: u32) {
    if apic::is_by_memory() {
        interrupts::without_interrupts(|| apic::command(destination, command));
    } else {
        apic::command(destination, command);
    }
}

/// How long a CPU may take until it says that it has started, in microseconds.
pub(super) const PATIENCE: u64 = 1_000_000;

/// INIT, SIPI, SIPI (SDM vol. 3, MP Initialization Protocol Algorithm for MP Systems).
fn start(apic_id: u32, page: u8, started: &dyn Fn() -> bool) {
    stop(apic_id);
    for patience in [200, PATIENCE] {
        command(apic_id, apic::STARTUP | u32::from(page));
        if timer::spin_until(patience, started) {
            return;
        }
    }
}

pub(super) fn stop(apic_id: u32) {
    command(apic_id, apic::INIT);
    timer::delay(10_000);
}
