//! The loop: enter, decode, handle, count, until the vCPU must leave the CPU.

use super::exit::{Leave, Outcome};
use super::handle::{handle, inject};
use super::hardware::{Backend, Link};
use super::{Event, EventKind, Vcpu};
use crate::hypercall::{console, timer};
use pv_abi::exit::Reason;

/// Runs the vCPU until it leaves.
pub fn run(vcpu: &mut Vcpu, hardware: &mut impl Backend) -> Leave {
    let now = hardware.tsc();
    if let Err(leave) = attend(vcpu, hardware, now) {
        return leave;
    }
    let mut now = hardware.tsc();
    if vcpu.open {
        count(vcpu, hardware, now);
    }
    loop {
        hardware.enter(&mut vcpu.registers, vcpu.due.saturating_sub(now));
        vcpu.exited = hardware.tsc();
        let exit = hardware.exit();
        vcpu.reason = exit.reason();
        match handle(vcpu, hardware, exit) {
            Outcome::Advance => hardware.advance(),
            outcome => {
                if let Err(leave) = end(vcpu, hardware, outcome) {
                    vcpu.open = true;
                    return leave;
                }
            }
        }
        now = hardware.tsc();
        if now >= vcpu.due {
            if let Err(leave) = attend(vcpu, hardware, now) {
                vcpu.open = true;
                return leave;
            }
            now = hardware.tsc();
        }
        count(vcpu, hardware, now);
    }
}

#[inline(never)]
fn end(vcpu: &mut Vcpu, hardware: &mut impl Backend, outcome: Outcome) -> Result<(), Leave> {
    match outcome {
        Outcome::Advance => hardware.advance(),
        Outcome::Resume => {}
        Outcome::Inject(event) => inject(vcpu, hardware, event)?,
        Outcome::AdvanceAndLeave(leave) => {
            hardware.advance();
            return Err(leave);
        }
        Outcome::Leave(leave) => return Err(leave),
    }
    Ok(())
}

/// Counts the exit that has been handled: how often, and the ticks from exit to entry.
#[inline(always)]
fn count(vcpu: &mut Vcpu, hardware: &mut impl Backend, now: u64) {
    let ticks = now.wrapping_sub(vcpu.exited);
    let info = &mut *vcpu.info;
    if let Some(counter) = info.exits.get_mut(vcpu.reason as usize) {
        counter.count = counter.count.wrapping_add(1);
        counter.ticks = counter.ticks.wrapping_add(ticks);
    }
    if vcpu.call != 0 {
        if let Some(counter) = info.calls.get_mut(vcpu.call.wrapping_sub(1) as usize) {
            counter.count = counter.count.wrapping_add(1);
            counter.ticks = counter.ticks.wrapping_add(ticks);
        }
        vcpu.call = 0;
    }
    let (reads, writes) = hardware.take_counts();
    if vcpu.reason != Reason::Mark {
        info.vmreads = info.vmreads.wrapping_add(reads);
        info.vmwrites = info.vmwrites.wrapping_add(writes);
    }
    vcpu.open = false;
}

/// The longest that a guest runs without a look at it, in microseconds. It bounds the value of the
/// time-slice timer.
const HORIZON_US: u64 = 500_000;

/// Everything that may be due before an entry, and when the next thing is.
#[inline(never)]
fn attend(vcpu: &mut Vcpu, hardware: &mut impl Backend, now: u64) -> Result<(), Leave> {
    let vm = vcpu.vm;
    if now >= vm.time_limit {
        return Err(Leave::ended(
            crate::host::report::Cause::TimeLimit,
            0,
            "the VM ran longer than its description allows",
        ));
    }
    if vcpu.contended && now >= vcpu.slice_end {
        return Err(Leave::Preempted);
    }
    console::drain(vcpu, hardware);
    if now >= vcpu.send_at {
        vcpu.send_output(hardware);
    }
    vcpu.settle_eoi();
    expire_timer(vcpu, now);
    hardware.sync_translations(&vm.generation);
    interrupts(vcpu, hardware);

    let mut due = now.saturating_add(vm.ticks(HORIZON_US)).min(vm.time_limit).min(vcpu.send_at);
    if let Some(timer) = vcpu.timer_due() {
        due = due.min(timer);
    }
    if vcpu.contended {
        due = due.min(vcpu.slice_end);
    }
    vcpu.due = due;
    Ok(())
}

fn expire_timer(vcpu: &mut Vcpu, now: u64) {
    let now = now.wrapping_add(vcpu.tsc_offset);
    if vcpu.apic.timer_due().is_some_and(|due| due <= now) {
        timer::expire(vcpu, now);
    }
}

/// Delivers an NMI or an interrupt, or asks for an exit when that becomes possible.
fn interrupts(vcpu: &mut Vcpu, hardware: &mut impl Backend) {
    let mut busy = hardware.pending_event().is_some();
    if vcpu.nmi && !busy && hardware.nmi_allowed() {
        vcpu.nmi = false;
        hardware.inject(Event::nmi());
        busy = true;
    }
    let mut window = false;
    if let Some(event) = vcpu.delayed {
        let nmi = event.kind == EventKind::Nmi;
        if !busy && if nmi { hardware.nmi_allowed() } else { hardware.interruptible() } {
            vcpu.delayed = None;
            hardware.inject(event);
            busy = true;
        } else {
            window = true;
        }
    }
    if hardware.delivers_interrupts() {
        hardware.set_interrupt_status(vcpu.apic.rvi(), vcpu.apic.svi());
    } else if let Some(vector) = vcpu.apic.deliverable() {
        if !busy && hardware.interruptible() {
            vcpu.apic.acknowledge(vector);
            hardware.inject(Event::interrupt(vector));
            if vcpu.apic.eoi_may_wait(vector) {
                vcpu.offer_eoi(vector);
            }
            window |= vcpu.apic.deliverable().is_some();
        } else {
            window = true;
        }
    }
    hardware.request_window(window, vcpu.nmi);
}

impl Vcpu {
    /// The host's TSC at which the timer must be looked at.
    pub fn timer_due(&self) -> Option<u64> {
        // A guest TSC from before the host's zero was reached long ago.
        self.apic.timer_due().map(|guest| guest.saturating_sub_signed(self.tsc_offset as i64))
    }

    /// Sends what waits in the outbox.
    pub fn send_output(&mut self, link: &mut impl Link) {
        self.outbox.flush(link);
        self.send_at = u64::MAX;
    }

    /// Whether a halted vCPU has something to wake up for at the host's TSC `now`; `virtual_delivery`
    /// if the CPU delivers interrupts itself.
    pub fn wakes(&mut self, now: u64, virtual_delivery: bool) -> bool {
        self.settle_eoi();
        expire_timer(self, now);
        if virtual_delivery {
            self.apic.resume_software();
        }
        self.nmi || self.apic.deliverable().is_some()
    }
}
