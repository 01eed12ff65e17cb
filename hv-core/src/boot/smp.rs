//! Bringing up the other CPUs.

use core::sync::atomic::Ordering;

use super::machine::Machine;
use super::sched::Cpu;
use super::start::run_cpu;
use super::trampoline::{MAILBOX, Mailbox, trampoline_end, trampoline_start};
use crate::host::acpi::Cpus;
use crate::hw::instructions::ThisCpu;
use crate::hw::{cpu, instructions, local_apic, paging};
use crate::mem::frames::{PAGE, Range};

/// Size of a CPU's stack in bytes, without its guard page.
const STACK: u64 = 32 << 10;

/// Starts every CPU that the firmware enabled, one after the other. What cannot be started is
/// logged and left out.
pub fn start(machine: &'static Machine, cpus: Option<Cpus>, trampoline: Option<Range>) {
    let Some(cpus) = cpus else {
        defmt::warn!("no ACPI tables were found: one CPU is used");
        return;
    };
    let this = local_apic::id();
    let mut others = cpus.ids().iter().copied().filter(|&id| id != this).peekable();
    if others.peek().is_none() {
        return;
    }
    let Some(page) = trampoline else {
        defmt::warn!("no memory below 1 MiB is free: one CPU is used");
        return;
    };
    for id in others {
        let before = machine.online.load(Ordering::Acquire);
        let Some(stack) = stack(machine) else {
            defmt::warn!("no memory for the stack of CPU {=u32}", id);
            return;
        };
        fill(page, machine, stack);
        let started = || machine.online.load(Ordering::Acquire) != before;
        let per_us = machine.tsc_hz / 1_000_000;
        local_apic::start_cpu(id, (page.start >> 12) as u8, per_us, started);
        if !started() {
            // Parked again, so that it cannot come up late, on the stack and mailbox of another.
            local_apic::park(id);
            defmt::warn!("the CPU with APIC ID {=u32} does not start; no more are started", id);
            return;
        }
    }
    defmt::info!("{=u32} CPUs", machine.online.load(Ordering::Acquire));
}

/// A stack with a guard page below it; returns its top.
fn stack(machine: &Machine) -> Option<u64> {
    let mut frames = machine.frames.lock();
    let range = frames.allocate_below(STACK.wrapping_add(PAGE), PAGE, 4 << 30)?;
    paging::unmap(&mut frames, range.start)?;
    Some(range.end)
}

/// Copies the trampoline and fills its mailbox.
fn fill(page: Range, machine: &'static Machine, stack: u64) {
    let start = &raw const trampoline_start;
    let length = (&raw const trampoline_end as usize).wrapping_sub(start as usize);
    let mailbox = Mailbox {
        cr3: paging::root(),
        stack,
        argument: core::ptr::from_ref(machine) as u64,
        entry: enter as *const () as u64,
    };
    // SAFETY: the page was allocated for this and is mapped; the code is shorter than the offset of
    // the mailbox, which fits behind it; no CPU is in the trampoline, because the one before has
    // reported before the next is started.
    unsafe {
        core::ptr::copy_nonoverlapping(start, page.start as *mut u8, length.min(MAILBOX));
        ((page.start as usize).wrapping_add(MAILBOX) as *mut Mailbox).write_volatile(mailbox);
    }
}

/// Entered by the trampoline, on this CPU's own stack.
extern "C" fn enter(machine: &'static Machine) -> ! {
    let segments = cpu::init();
    local_apic::init();
    machine.timer.enable();
    let index = machine.online.load(Ordering::Relaxed) as usize;
    let on = machine.vendor.enable(&mut machine.frames.lock(), &segments, index);
    let on = match on {
        Some(Ok(on)) => on,
        Some(Err(why)) => {
            defmt::warn!("CPU {=usize}: {=str}", index, why);
            instructions::stop();
        }
        None => {
            defmt::warn!("CPU {=usize}: no memory", index);
            instructions::stop();
        }
    };
    cpu::enable_xsave(&ThisCpu);
    if let Some(mail) = machine.mails.get(index) {
        mail.set_apic_id(local_apic::id());
    }
    // CPUs come up one at a time, so the count is this one's index; from here on the next starts.
    machine.online.fetch_add(1, Ordering::AcqRel);
    let running = loop {
        match machine.go.load(Ordering::Acquire) {
            0 => core::hint::spin_loop(),
            running => break running as usize,
        }
    };
    if index >= running {
        instructions::stop();
    }
    run_cpu(machine, Cpu { on, index, last: 0, occupied: false })
}
