//! The loop: enter, decode, handle, count, until the vCPU must leave the CPU.

use super::exit::{Leave, Outcome};
use super::handle::inject;
use super::hardware::{Backend, Link};
use super::{Event, EventKind, Options, Vcpu};
use crate::host::report::Cause;
use crate::hypercall::{console, timer};
use pv_abi::area::CALL_SLOTS;

/// Runs the vCPU until it leaves.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, hardware: &mut impl Backend) -> Leave {
    let now = hardware.tsc();
    if let Err(leave) = attend(vcpu, hardware, now) {
        return leave;
    }
    let now = hardware.tsc();
    if vcpu.open {
        vcpu.open = false;
        count(vcpu, hardware, now);
    }
    let mut ticks = vcpu.due.saturating_sub(now);
    let leave = loop {
        if !hardware.enter(&mut vcpu.registers, ticks) {
            break Leave::ended(Cause::EntryFailure, 0, "");
        }
        vcpu.exited = hardware.tsc();
        match hardware.dispatch(vcpu) {
            Outcome::Advance => hardware.advance(),
            outcome => {
                if let Err(leave) = end(vcpu, hardware, outcome) {
                    break leave;
                }
            }
        }
        let mut now = hardware.tsc();
        ticks = match vcpu.due.checked_sub(now) {
            Some(ticks) => ticks,
            None => {
                if let Err(leave) = attend(vcpu, hardware, now) {
                    break leave;
                }
                now = hardware.tsc();
                vcpu.due.saturating_sub(now)
            }
        };
        count(vcpu, hardware, now);
    };
    // It is counted when the vCPU runs again, with the time until then.
    vcpu.open = true;
    leave
}

#[inline(never)]
fn end(vcpu: &mut Vcpu, hardware: &mut impl Backend, outcome: Outcome) -> Result<(), Leave> {
    match outcome {
        Outcome::Advance => hardware.advance(),
        Outcome::AdvanceBy(length) => hardware.advance_by(length),
        Outcome::AdvanceUncounted => {
            hardware.advance();
            hardware.set_counts((vcpu.info.vmreads, vcpu.info.vmwrites));
        }
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
        // The mask is for the compiler: a call's slot is below the table's size.
        let slot = vcpu.call.wrapping_sub(1) as usize & (CALL_SLOTS - 1);
        if let Some(counter) = info.calls.get_mut(slot) {
            counter.count = counter.count.wrapping_add(1);
            counter.ticks = counter.ticks.wrapping_add(ticks);
        }
        vcpu.call = 0;
    }
    (info.vmreads, info.vmwrites) = hardware.counts();
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
            Cause::TimeLimit,
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
    if vm.options.contains(Options::CHECK_ENTRIES) {
        // Every entry, so nothing is put off.
        vcpu.due = 0;
        if !hardware.check() {
            return Err(Leave::ended(Cause::EntryFailure, 0, ""));
        }
    }
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
