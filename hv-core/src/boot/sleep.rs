//! The vCPUs of a CPU that sleep: what wakes them, and when.

extern crate alloc;

use core::num::NonZeroU64;
use core::sync::atomic::Ordering;

use super::home::Unit;
use super::machine::Machine;
use super::sched::Vcpus;
use crate::host::report::Cause;
use crate::hw::instructions::tsc;
use crate::hw::output;
use crate::vm::post::{Mail, Place};
use crate::vm::{Features, Vcpu};

/// One that sleeps.
pub(super) struct Resting {
    pub(super) unit: Unit,
    /// Its number among them.
    slot: u16,
    /// The TSC at which it has something to do by itself.
    due: u64,
}

impl Vcpus<'_> {
    /// Takes the vCPUs that have come.
    #[inline(never)]
    pub(super) fn arrive(&mut self) {
        let Some(arrivals) = self.machine.arrivals.get(usize::from(self.index)) else { return };
        let arrived = core::mem::take(&mut *arrivals.lock());
        for unit in arrived {
            unit.payload.vcpu.attend();
            if unit.payload.vcpu.waits_for_startup {
                self.sleep(unit, tsc());
            } else {
                self.queue.lock().join(unit);
                self.others = true;
            }
        }
    }

    /// Sees to those that others have told something, and to those that have come.
    #[inline(never)]
    pub(super) fn take_mail(&mut self) {
        let (mail, now) = (self.mail, tsc());
        if mail.take(|slot| self.rouse(slot, now)) {
            self.arrive();
        }
    }

    /// Whether something is due at the TSC `now` for one of those that sleep, by itself.
    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.resting.as_ref().is_some_and(|resting| resting.due <= now)
            || self.alarms.first().is_some_and(|(due, _)| due <= now)
    }

    /// Wakes those for which it is.
    #[inline(never)]
    pub(super) fn wake_due(&mut self, now: u64) {
        if let Some(Resting { unit, slot, .. }) = self.resting.take_if(|resting| resting.due <= now)
        {
            self.wake(unit, slot, now);
        }
        while let Some((due, slot)) = self.alarms.first()
            && due <= now
        {
            self.rouse(slot, now);
        }
    }

    /// A vCPU that sleeps here may have something to do.
    #[inline(never)]
    fn rouse(&mut self, slot: u16, now: u64) {
        let place = self.places.get_mut(usize::from(slot));
        if let Some(Resting { unit, .. }) = self.resting.take_if(|resting| resting.slot == slot) {
            self.wake(unit, slot, now);
        } else if let Some(unit) = place.and_then(Option::take) {
            self.alarms.remove(slot);
            self.wake(unit, slot, now);
        }
    }

    /// A vCPU that slept may have something to do.
    fn wake(&mut self, mut unit: Unit, slot: u16, now: u64) {
        self.free.push(slot);
        let instance = &mut unit.payload;
        instance.vcpu.post.set_place(Place::Queued);
        if core::mem::take(&mut instance.deep) {
            instance.home.asleep.fetch_sub(1, Ordering::SeqCst);
        }
        let vcpu = &mut instance.vcpu;
        if vcpu.post.has_notices()
            && let Err(leave) = vcpu.take_post()
        {
            return self.left(unit, leave);
        }
        // What a VM has written is sent in time, whoever runs, and by one as well that waits to be started: what woke it
        // must not be due any more when it sleeps again.
        if now >= vcpu.send_at {
            send_output(vcpu);
        }
        if vcpu.waits_for_startup {
            match vcpu.startup.take() {
                Some(page) => {
                    self.put_away(&mut unit);
                    unit.payload.start_up(&self.machine.vendor, page);
                }
                None if now < vcpu.vm.time_limit => return self.sleep(unit, now),
                // It leaves before it is entered.
                None => vcpu.attend(),
            }
        } else if !wakes(vcpu, now) {
            return self.sleep(unit, now);
        }
        self.join(unit);
    }

    /// A vCPU has nothing to do at the TSC `now`.
    #[inline(never)]
    pub(super) fn sleep(&mut self, mut unit: Unit, now: u64) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len().wrapping_sub(1) as u16
        });
        let instance = &mut unit.payload;
        instance.halted_at = instance.halted_at.or(NonZeroU64::new(now));
        let (home, post) = (instance.home, instance.vcpu.post);
        instance.come_to(self.index);
        post.set_place(Place::Asleep { cpu: self.index, slot });
        if home.vm.features.contains(Features::VIRTUAL_INTERRUPTS) {
            instance.vcpu.apic.resume_software();
        }
        let due = wakes(instance.vcpu, now) && !instance.vcpu.waits_for_startup;
        let alarm = next(instance.vcpu, now);
        if !due && alarm == u64::MAX {
            instance.deep = true;
            let asleep = home.asleep.fetch_add(1, Ordering::SeqCst).saturating_add(1) as usize;
            let posts = home.vm.posts;
            let reachable = home.vm.ports.are_reachable();
            // One that has been left something is about to wake.
            if asleep == posts.len() && !reachable && !posts.iter().any(|post| post.waits()) {
                let message = match posts.len() {
                    1 => "the guest waits for an interrupt that nothing can raise",
                    _ => "every vCPU waits for an interrupt that nothing can raise",
                };
                self.free.push(slot);
                let leave = unit.payload.vcpu.ends(Cause::HaltedForEver, 0, message);
                return self.left(unit, leave);
            }
        }
        let send_at = instance.vcpu.send_at;
        self.writes |= send_at != u64::MAX;
        // Whoever wakes all that is due until now comes to an end, whatever this one has left undone.
        let due_at = alarm.min(send_at).max(now.saturating_add(1));
        let resting = Resting { unit, slot, due: due_at };
        if resting.unit.payload.state.is_loaded() {
            self.resting = Some(resting);
        } else {
            self.lay_down(resting);
        }
        // What came before it was known to sleep has brought no mail.
        if due || post.waits() {
            self.rouse(slot, now);
        }
    }

    /// One that sleeps has no state in this CPU.
    #[inline(never)]
    pub(super) fn lay_down(&mut self, Resting { unit, slot, due }: Resting) {
        if let Some(place) = self.places.get_mut(usize::from(slot)) {
            *place = Some(unit);
        }
        self.alarms.set(slot, due);
    }

    /// Halts this CPU until something is due for one of its vCPUs or it is told something. Returns the TSC.
    #[inline(never)]
    pub(super) fn idle(&mut self) -> u64 {
        if core::mem::take(&mut self.writes) {
            let resting = self.resting.iter_mut().map(|resting| &mut resting.unit);
            let asleep = self.places.iter_mut().flatten().chain(resting);
            asleep.for_each(|unit| send_output(unit.payload.vcpu));
        }
        let alarm = self.alarms.first().map_or(u64::MAX, |(due, _)| due);
        let resting = self.resting.as_ref().map_or(u64::MAX, |resting| resting.due);
        halt(self.machine, self.mail, alarm.min(resting))
    }
}

/// When something is due for a vCPU that sleeps, by the host's TSC, which is `now`.
#[inline]
pub(super) fn next(vcpu: &Vcpu, now: u64) -> u64 {
    vcpu.timer_due(now).unwrap_or(u64::MAX).min(vcpu.vm.time_limit).min(vcpu.board_due)
}

/// Whether a vCPU that sleeps has something to do at the TSC `now`, its time limit included.
#[inline(never)]
fn wakes(vcpu: &mut Vcpu, now: u64) -> bool {
    wakes_at_once(vcpu, now)
}

/// The same, with no call: it is on the way from a halt to the guest.
#[inline(always)]
pub(super) fn wakes_at_once(vcpu: &mut Vcpu, now: u64) -> bool {
    let link = &mut output::Host { vm: vcpu.vm.number };
    let wakes = vcpu.wakes(link, now) || now >= vcpu.vm.time_limit;
    if wakes {
        vcpu.look_at_events();
    }
    wakes
}

/// Sends what a vCPU that sleeps has written.
#[inline(never)]
pub(super) fn send_output(vcpu: &mut Vcpu) {
    if vcpu.send_at != u64::MAX {
        vcpu.send_output(&mut output::Host { vm: vcpu.vm.number });
        // It would still exit when that was due.
        vcpu.attend();
    }
}

/// Halts this CPU until something is due at the TSC `due`, or it is told something. Returns the TSC.
#[inline]
pub(super) fn halt(machine: &Machine, mail: &Mail, due: u64) -> u64 {
    let now = tsc();
    // Interrupts are off until the halt: what comes behind this look ends it.
    if mail.waits() {
        return now;
    }
    machine.timer.halt_until(due.min(now.saturating_add(machine.tsc_hz / 10)), now)
}
