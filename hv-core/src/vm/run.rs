//! The loop: enter, decode, handle, count, until the vCPU must leave the CPU.

use super::exit::{Exit, Leave, Outcome};
use super::handle::{handle, inject};
use super::hardware::{Backend, Link};
use super::vcpu::{EVENTS, Halt};
use super::{Event, Options, Vcpu, profile};
use crate::host::report::Cause;
use crate::hypercall::{console, timer};
use pv_abi::exit::Reason;

/// What an exit leaves to be done before the next entry.
#[derive(Debug)]
pub enum Left {
    /// All: it has not been looked at.
    All,
    /// It has been handled, and ends like this.
    Outcome(Outcome),
    /// The instruction is complete; something is due.
    Attend,
    /// The instruction is complete; the vCPU leaves.
    Leave(Leave),
    /// Nothing of an exit, which has been counted; everything is to be looked at.
    Look,
}

/// What the world switch passes on at each exit.
///
/// The guest's RBP and R12 to R15 are then still in the CPU: what runs here may use the others of
/// [`Registers`](super::Registers), and leaves whatever may report them to [`run`].
pub struct Frame<'a, B> {
    /// The vCPU.
    pub vcpu: &'a mut Vcpu,
    /// Its backend.
    pub hardware: &'a mut B,
    /// What is left when the switch returns.
    pub left: &'a mut Left,
}

/// Answers an exit of a frequent kind as far as the next entry: `true`. Where more is to be done, it
/// says so in `left`.
///
/// The backend calls it with a constant reason, so that the compiler makes a straight path of it.
#[inline(always)]
pub fn answer<B: Backend>(frame: &mut Frame<'_, B>, exit: Exit) -> bool {
    match handle(frame.vcpu, frame.hardware, exit) {
        Outcome::Advance => {
            let call = core::mem::take(&mut frame.vcpu.call);
            finish(frame.vcpu, frame.hardware, &mut frame.left, exit.reason(), call)
        }
        Outcome::AdvanceAndLeave(leave) => leave_behind(frame.hardware, frame.left, leave),
        outcome => {
            *frame.left = Left::Outcome(outcome);
            false
        }
    }
}

/// Completes the instruction, behind which the vCPU leaves: `false`.
#[inline(always)]
pub fn leave_behind(hardware: &mut impl Backend, left: &mut Left, leave: Leave) -> bool {
    *left = match hardware.advance_plainly() {
        true => Left::Leave(leave),
        false => Left::Outcome(Outcome::AdvanceAndLeave(leave)),
    };
    false
}

/// Completes the instruction, counts the exit, and says whether the guest may go on.
#[inline(always)]
pub fn finish(
    vcpu: &mut Vcpu,
    hardware: &mut impl Backend,
    left: &mut &mut Left,
    reason: Reason,
    call: u32,
) -> bool {
    let advanced = hardware.advance_plainly();
    let (now, due) = (hardware.tsc(), vcpu.due);
    if !advanced || due < now {
        return finish_late(vcpu, hardware, left, reason, call, advanced);
    }
    count(vcpu, hardware, reason, call, now);
    set_slice(due, now, hardware, left)
}

#[inline(always)]
fn set_slice(due: u64, now: u64, hardware: &mut impl Backend, left: &mut Left) -> bool {
    let set = hardware.set_slice(due, now);
    if !set {
        *left = Left::Look;
    }
    set
}

/// As [`finish`], where something is due: an interrupt that can be delivered is, and the guest goes on.
#[inline(never)]
fn finish_late(
    vcpu: &mut Vcpu,
    hardware: &mut impl Backend,
    left: &mut &mut Left,
    reason: Reason,
    call: u32,
    advanced: bool,
) -> bool {
    if advanced && vcpu.due == EVENTS {
        let now = events(vcpu, hardware);
        let due = vcpu.due;
        if now <= due {
            count(vcpu, hardware, reason, call, now);
            return set_slice(due, now, hardware, left);
        }
    }
    vcpu.reason = reason;
    vcpu.call = call;
    **left = if advanced { Left::Attend } else { Left::Outcome(Outcome::Advance) };
    false
}

/// Runs the vCPU until it leaves.
#[inline]
pub fn run(vcpu: &mut Vcpu, hardware: &mut impl Backend) -> Leave {
    vcpu.post.end_wait();
    let now = hardware.tsc();
    let mut now = match come_back(vcpu, hardware, now) {
        Ok(now) => now,
        Err(leave) => {
            console::drain(vcpu, hardware);
            return leave;
        }
    };
    if vcpu.open {
        vcpu.open = false;
        count_last(vcpu, hardware, now);
    }
    let leave = loop {
        let set = hardware.set_slice(vcpu.slice_due.max(now), now);
        let mut left = if set { Left::All } else { Left::Look };
        if set && !hardware.enter(vcpu, &mut left) {
            break vcpu.ends(Cause::EntryFailure, 0, "");
        }
        let ended = match &left {
            Left::Look => {
                let looked = hardware.tsc();
                now = match attend(vcpu, hardware, looked) {
                    Ok(now) => now,
                    Err(leave) => {
                        console::drain(vcpu, hardware);
                        return leave;
                    }
                };
                continue;
            }
            Left::Attend => {
                profile::count(vcpu, hardware, None);
                Ok(())
            }
            &Left::Leave(leave) => {
                profile::count(vcpu, hardware, None);
                break leave;
            }
            Left::All => {
                let exit = hardware.exit(vcpu);
                let outcome = handle(vcpu, hardware, exit);
                profile::count(vcpu, hardware, Some(&exit));
                end(vcpu, hardware, &outcome)
            }
            Left::Outcome(outcome) => {
                profile::count(vcpu, hardware, None);
                end(vcpu, hardware, outcome)
            }
        };
        if let Err(leave) = ended {
            break leave;
        }
        now = hardware.tsc();
        if now >= vcpu.due {
            now = if vcpu.due == EVENTS {
                events(vcpu, hardware)
            } else {
                match attend(vcpu, hardware, now) {
                    Ok(now) => now,
                    Err(leave) => break leave,
                }
            };
        }
        count_last(vcpu, hardware, now);
    };
    // Nothing that the guest has written is lost, or waits for as long as the vCPU does.
    console::drain(vcpu, hardware);
    // It is counted when the vCPU runs again, with the time until then; what it read and wrote is
    // kept now, because the control block leaves the CPU.
    vcpu.open = true;
    (vcpu.info.vmreads, vcpu.info.vmwrites) = hardware.counts();
    leave
}

#[inline(never)]
fn end(vcpu: &mut Vcpu, hardware: &mut impl Backend, outcome: &Outcome) -> Result<(), Leave> {
    match *outcome {
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

fn count_last(vcpu: &mut Vcpu, hardware: &mut impl Backend, now: u64) {
    let (reason, call) = (vcpu.reason, core::mem::take(&mut vcpu.call));
    count(vcpu, hardware, reason, call, now);
}

/// Counts an exit that has been handled: how often, and the ticks from exit to entry; `call` is the
/// slot of a call, plus one, or 0.
#[inline(always)]
fn count(vcpu: &mut Vcpu, hardware: &mut impl Backend, reason: Reason, call: u32, now: u64) {
    let ticks = now.wrapping_sub(vcpu.exited);
    let info = &mut *vcpu.info;
    if let Some(counter) = info.exits.get_mut(reason as usize) {
        counter.count = counter.count.wrapping_add(1);
        counter.ticks = counter.ticks.wrapping_add(ticks);
    }
    if call != 0
        && let Some(counter) = info.calls.get_mut(call.wrapping_sub(1) as usize)
    {
        counter.count = counter.count.wrapping_add(1);
        counter.ticks = counter.ticks.wrapping_add(ticks);
    }
    (info.vmreads, info.vmwrites) = hardware.counts();
    info.entered = now.wrapping_add(vcpu.tsc_offset);
}

/// What may be due before the first entry since the vCPU left the CPU. Its control block is as it was, so only what
/// others have left or what is due makes work. Returns the TSC when all is done.
#[inline(always)]
fn come_back(vcpu: &mut Vcpu, hardware: &mut impl Backend, now: u64) -> Result<u64, Leave> {
    // What is left from here on finds that the vCPU runs, and comes with an interrupt.
    let due = now >= vcpu.due;
    if due && vcpu.due != EVENTS || vcpu.post.has_notices() {
        return attend(vcpu, hardware, now);
    }
    hardware.sync_translations(&vcpu.vm.generation);
    vcpu.settle_flush(hardware);
    if !due {
        return Ok(now);
    }
    Ok(events(vcpu, hardware))
}

/// Everything that may be due before an entry, and when the next thing is. Returns the TSC when all is done.
#[inline(never)]
fn attend(vcpu: &mut Vcpu, hardware: &mut impl Backend, now: u64) -> Result<u64, Leave> {
    let vm = vcpu.vm;
    if now >= vm.time_limit {
        return Err(vcpu.ends(
            Cause::TimeLimit,
            0,
            "the VM ran longer than its description allows",
        ));
    }
    if vcpu.post.has_notices() {
        // It may leave before what it takes is looked at.
        vcpu.attend();
        vcpu.take_post()?;
    }
    if now >= vcpu.slice_end {
        return Err(Leave::Preempted);
    }
    if now >= vcpu.makes_way_at() {
        return Err(Leave::Mail);
    }
    console::drain(vcpu, hardware);
    if now >= vcpu.send_at {
        vcpu.send_output(hardware);
    }
    expire_timer(vcpu, now);
    let settles = now >= vcpu.board_due;
    if settles {
        vcpu.settle_board(hardware, now);
    }
    hardware.sync_translations(&vm.generation);
    vcpu.settle_flush(hardware);
    vcpu.renew_horizon(now);
    let done = events(vcpu, hardware);
    if settles {
        // However long that took: with a timer that is faster the guest would execute nothing.
        vcpu.spare_board_after(done);
        vcpu.renew_horizon(done);
        vcpu.follow_timer(done);
    }
    // Every entry, or every exit: nothing is put off.
    if vm.options.intersects(Options::CHECK_ENTRIES | Options::PROFILE) {
        vcpu.attend();
        if vm.options.contains(Options::CHECK_ENTRIES) && !hardware.check() {
            return Err(vcpu.ends(Cause::EntryFailure, 0, ""));
        }
    }
    Ok(done)
}

/// What is left of [`attend`] where nothing has happened but that an interrupt came, or that its
/// priority or the timer changed. Returns the TSC when it is done.
#[inline(never)]
fn events(vcpu: &mut Vcpu, hardware: &mut impl Backend) -> u64 {
    vcpu.settle_eoi();
    vcpu.due = u64::MAX;
    interrupts(vcpu, hardware);
    let now = hardware.tsc();
    vcpu.follow_timer(now);
    now
}

#[inline]
fn expire_timer(vcpu: &mut Vcpu, now: u64) {
    let now = now.wrapping_add(vcpu.tsc_offset);
    match vcpu.apic.timer_due() {
        Some(due) if due <= now => timer::expire(vcpu, now),
        Some(_) => {}
        // The guest may have masked its LVT entry, or left TSC-deadline mode.
        None => vcpu.stop_following(),
    }
}

/// Delivers an NMI or an interrupt, or asks for an exit when that becomes possible.
#[inline(always)]
fn interrupts(vcpu: &mut Vcpu, hardware: &mut impl Backend) {
    let mut busy = hardware.pending_event().is_some();
    if vcpu.nmi && !busy && hardware.nmi_allowed() {
        vcpu.nmi = false;
        hardware.inject(Event::nmi());
        busy = true;
    }
    let mut window = false;
    if let Some(event) = vcpu.delayed {
        if !busy && hardware.interruptible() {
            vcpu.delayed = None;
            hardware.inject(event);
            busy = true;
        } else {
            window = true;
        }
    }
    if vcpu.extint_waits() {
        if !busy && hardware.interruptible() {
            hardware.inject(Event::interrupt(vcpu.acknowledge_extint()));
            busy = true;
        } else {
            window = true;
        }
    }
    if hardware.delivers_interrupts() {
        if core::mem::take(&mut vcpu.levels_changed) {
            hardware.set_eoi_exits(vcpu.apic.level_vectors());
        }
        if vcpu.apic.take_changed() {
            hardware.set_interrupt_status(vcpu.apic.rvi(), vcpu.apic.svi());
        }
    } else if let Some(vector) = vcpu.apic.deliverable() {
        if !busy && hardware.interruptible() {
            vcpu.apic.acknowledge(vector);
            hardware.inject(Event::interrupt(vector));
            if vcpu.offers_eoi && vcpu.apic.eoi_may_wait(vector) {
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
    /// `now` is the host's TSC; what is due already is due now.
    pub fn timer_due(&self, now: u64) -> Option<u64> {
        let guest_now = now.wrapping_add(self.tsc_offset);
        let ahead = |due: u64| now.saturating_add(due.saturating_sub(guest_now));
        self.apic.timer_due().map(ahead)
    }

    /// Sends what waits in the outbox.
    pub fn send_output(&mut self, link: &mut dyn Link) {
        self.vm.outbox.lock().flush(link);
        self.send_at = u64::MAX;
    }

    /// Whether a halted vCPU has something to wake up for at the host's TSC `now`. Where the CPU delivers interrupts
    /// itself, [`resume_software`](crate::device::apic::VirtualApic::resume_software) is called once before.
    #[inline(always)]
    pub fn wakes(&mut self, link: &mut dyn Link, now: u64) -> bool {
        if self.post.waits() {
            return true;
        }
        if self.waits_for_startup {
            return false;
        }
        self.settle_eoi();
        expire_timer(self, now);
        if now >= self.board_due {
            self.settle_board(link, now);
            // When the board is due again, the vCPU has to exit.
            self.attend();
        }
        if self.halt != Halt::Interrupt {
            if self.halt == Halt::Nmi {
                return self.nmi;
            }
            if self.has_event() {
                return true;
            }
        }
        self.nmi
            || self.delayed.is_some()
            || self.extint_waits()
            || self.apic.deliverable().is_some()
    }
}

#[cfg(test)]
mod tests;
