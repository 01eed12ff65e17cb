//! The workloads, and the mix.

use guest_kernel::scratch;

use crate::measure::Meter;
use crate::workloads::{console, cpu, events, memory, mixed, rings, smp, time, turns};

/// A workload.
pub struct Workload {
    /// Its number in marks and rows.
    pub id: u64,
    /// Its name.
    pub name: &'static str,
    /// How many operations it does unless told otherwise.
    pub ops: u64,
    /// Whether it exists here.
    pub exists: fn() -> bool,
    /// Does that many operations in sections of the meter.
    pub run: fn(&mut Meter, u64),
}

const fn any(id: u64, name: &'static str, ops: u64, run: fn(&mut Meter, u64)) -> Workload {
    Workload { id, name, ops, exists: || true, run }
}

/// With the shim in use.
const fn pv(id: u64, name: &'static str, ops: u64, run: fn(&mut Meter, u64)) -> Workload {
    Workload { exists: guest_kernel::pv::active, ..any(id, name, ops, run) }
}

/// With the scratch page.
const fn mmio(id: u64, name: &'static str, ops: u64, run: fn(&mut Meter, u64)) -> Workload {
    Workload { exists: scratch::is_present, ..any(id, name, ops, run) }
}

/// With several CPUs.
const fn several(id: u64, name: &'static str, ops: u64, run: fn(&mut Meter, u64)) -> Workload {
    Workload { exists: smp::exist, ..any(id, name, ops, run) }
}

/// With several CPUs that reach each other by calls.
const fn calls(id: u64, name: &'static str, ops: u64, run: fn(&mut Meter, u64)) -> Workload {
    Workload { exists: smp::call, ..any(id, name, ops, run) }
}

/// Linked to another VM.
const fn linked(id: u64, name: &'static str, ops: u64, run: fn(&mut Meter, u64)) -> Workload {
    Workload { exists: events::is_linked, ..any(id, name, ops, run) }
}

/// Linked to another VM and sharing memory with it.
const fn shared(id: u64, name: &'static str, ops: u64, run: fn(&mut Meter, u64)) -> Workload {
    Workload { exists: rings::exist, ..any(id, name, ops, run) }
}

/// Every workload, in the order in which they run.
pub const WORKLOADS: &[Workload] = &[
    pv(1, "null-hypercall", 1000, cpu::null_hypercall),
    any(2, "cpuid", 1000, cpu::cpuid_leaf),
    any(3, "clock-read", 1000, cpu::clock_read),
    any(4, "msr-read", 1000, cpu::msr_read),
    any(5, "msr-write", 1000, cpu::msr_write),
    any(6, "context-switch", 1000, memory::context_switch),
    any(7, "page-fault", 1000, memory::page_fault),
    any(8, "timer-tick", 100, time::timer_tick),
    any(9, "idle-wake", 100, time::idle_wake),
    any(10, "self-ipi", 1000, time::self_ipi),
    any(11, "eoi", 100, time::eoi),
    any(12, "later-deadline", 1000, time::later_deadline),
    any(13, "console-line", 20, console::line),
    pv(14, "console-ring", 20, console::ring),
    any(15, "cr-toggle", 1000, cpu::cr_toggle),
    any(16, "cr-redundant", 1000, cpu::cr_redundant),
    any(17, "port-io", 1000, cpu::port_io),
    any(18, "port-console", 79, console::port),
    any(19, "first-touch", 64, memory::first_touch),
    any(20, "mixed", 20, mixed::run),
    mmio(21, "mmio-read", 1000, cpu::mmio_read),
    mmio(22, "mmio-write", 1000, cpu::mmio_write),
    // The other CPUs run from here on.
    several(23, "ipi-ping-pong", 1000, smp::ipi::ping_pong),
    several(24, "ipi-wake", 1000, smp::ipi::wake),
    several(25, "ipi-broadcast", 1000, smp::ipi::broadcast),
    several(26, "tlb-shootdown-1", 1000, smp::tlb::shootdown::<1>),
    several(27, "tlb-shootdown-8", 1000, smp::tlb::shootdown::<8>),
    several(28, "tlb-shootdown-64", 1000, smp::tlb::shootdown::<64>),
    several(29, "lock-spin", 10_000, smp::locks::spin),
    several(30, "lock-ticket", 10_000, smp::locks::ticket),
    several(31, "fork-join", 1000, smp::work::fork_join),
    several(32, "fork-join-spin", 1000, smp::work::fork_join_spin),
    calls(33, "lock-pv", 10_000, smp::locks::pv),
    calls(34, "event-ping-pong", 1000, events::ping_pong),
    linked(35, "vm-message", 1000, events::message),
    shared(36, "vm-message-poll", 1000, rings::poll),
    shared(37, "vm-throughput", 1000, rings::throughput),
    Workload { exists: turns::call, ..any(40, "turn-yield", 1000, turns::turn_yield) },
    Workload { exists: turns::wanted, ..any(41, "turn-wake", 100, turns::turn_wake) },
    Workload { exists: turns::wanted, ..several(42, "turn-rouse", 100, turns::turn_rouse) },
];

/// A part of the mix.
pub struct Part {
    /// How often it is done in a round.
    pub times: u64,
    /// One operation.
    pub op: fn(),
    /// Whether it waits for a deadline.
    pub waits: bool,
}

const fn part(times: u64, op: fn()) -> Part {
    Part { times, op, waits: false }
}

const fn waiting(times: u64, op: fn()) -> Part {
    Part { times, op, waits: true }
}

/// One round of the mix, a day in the life of a small kernel in brief: how often it does what.
///
/// An operation of the workload `mixed` is one round. The numbers are fixed: they are part of what
/// a published figure means.
pub const MIX: &[Part] = &[
    part(32, cpu::op::clock_read),
    part(16, time::op::later_deadline),
    part(16, memory::op::switch_there_and_back),
    part(8, memory::op::page_fault),
    waiting(8, time::op::idle_wake),
    waiting(4, time::op::timer_tick),
    part(4, cpu::op::cpuid_leaf),
    part(2, time::op::self_ipi),
    part(2, cpu::op::msr_read),
    part(2, cpu::op::cr_toggle),
    part(1, cpu::op::msr_write),
    part(1, cpu::op::port_io),
    part(1, console::op::line),
];
