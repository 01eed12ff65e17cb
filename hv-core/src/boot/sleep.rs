//! The vCPUs of a CPU that sleep: what wakes them, and when.

extern crate alloc;

use core::sync::atomic::Ordering;

use super::home::Unit;
use super::machine::Machine;
use super::sched::Vcpus;
use crate::host::report::Cause;
use crate::hw::instructions::tsc;
use crate::hw::output;
use crate::vm::exit::Leave;
use crate::vm::post::{Mail, Place};
use crate::vm::{Features, Vcpu};

impl Vcpus<'_> {
    /// Takes the vCPUs that have come.
    #[inline(never)]
    pub(super) fn arrive(&mut self) {
        let Some(arrivals) = self.machine.arrivals.get(usize::from(self.index)) else { return };
        let arrived = core::mem::take(&mut *arrivals.lock());
        for mut unit in arrived {
            self.count = self.count.saturating_add(1);
            unit.payload.vcpu.attend();
            if unit.payload.vcpu.waits_for_startup {
                self.sleep(unit);
            } else {
                self.queue.lock().join(unit);
            }
        }
    }

    /// Sees to those that others have told something, and to those that have come.
    #[inline(never)]
    pub(super) fn read_mail(&mut self) {
        if !self.mail.waits() {
            return;
        }
        let mail = self.mail;
        if mail.take(|slot| self.wake(slot)) {
            self.arrive();
        }
    }

    /// Wakes those for which something is due by themselves.
    #[inline(never)]
    pub(super) fn wake_due(&mut self) {
        for slot in 0..self.places.len() {
            if let Some(unit) = self.places.get_mut(slot).and_then(Option::as_mut)
                && wakes(&mut unit.payload.vcpu)
            {
                self.wake(slot as u16);
            }
        }
    }

    /// A vCPU that sleeps may have something to do.
    #[inline(never)]
    pub(super) fn wake(&mut self, slot: u16) {
        let place = self.places.get_mut(usize::from(slot));
        let Some(mut unit) = place.and_then(Option::take) else { return };
        self.free.push(slot);
        let instance = &mut unit.payload;
        instance.vcpu.post.set_place(Place::Queued);
        if core::mem::take(&mut instance.deep) {
            instance.home.asleep.fetch_sub(1, Ordering::SeqCst);
        }
        let vcpu = &mut instance.vcpu;
        if let Err(leave) = vcpu.take_post() {
            return self.left(unit, leave);
        }
        if vcpu.waits_for_startup {
            match vcpu.startup.take() {
                Some(page) => instance.start_up(&self.machine.vendor, page),
                None if tsc() < vcpu.vm.time_limit => return self.sleep(unit),
                None => {}
            }
        } else if !wakes(vcpu) {
            return self.sleep(unit);
        }
        unit.payload.vcpu.attend();
        self.join(unit);
    }

    /// A vCPU has nothing to do.
    #[inline(never)]
    pub(super) fn sleep(&mut self, mut unit: Unit) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len().wrapping_sub(1) as u16
        });
        let instance = &mut unit.payload;
        instance.halted_at.get_or_insert_with(tsc);
        let (home, post) = (instance.home, instance.vcpu.post);
        instance.come_to(self.index);
        post.set_place(Place::Asleep { cpu: self.index, slot });
        let due = !instance.vcpu.waits_for_startup && wakes(&mut instance.vcpu);
        if !due && next(&instance.vcpu, 0) == u64::MAX {
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
                return self.left(unit, Leave::ended(Cause::HaltedForEver, 0, message));
            }
        }
        if let Some(place) = self.places.get_mut(usize::from(slot)) {
            *place = Some(unit);
        }
        // What came before it was known to sleep has brought no mail.
        if due || post.waits() {
            self.wake(slot);
        }
    }

    /// The TSC at which the one that runs makes room: at the end of its slice if others wait, or when the
    /// first of those that sleep has something to do. `None` if there is neither.
    #[inline(never)]
    pub(super) fn yield_at(&self, slice_end: Option<u64>) -> Option<u64> {
        let now = tsc();
        let asleep = self.places.iter().flatten().map(|unit| &unit.payload.vcpu);
        let wakes = asleep.map(|vcpu| next(vcpu, now).min(vcpu.send_at));
        wakes.filter(|&at| at != u64::MAX).chain(slice_end).min()
    }

    /// Halts this CPU until something is due for one of its vCPUs or it is told something.
    #[inline(never)]
    pub(super) fn idle(&mut self) {
        let vcpus = self.places.iter_mut().flatten().map(|unit| &mut unit.payload.vcpu);
        halt(self.machine, self.mail, vcpus);
    }
}

/// When something is due for a vCPU that sleeps, by the host's TSC, which is `now`.
#[inline(never)]
fn next(vcpu: &Vcpu, now: u64) -> u64 {
    vcpu.timer_due(now).unwrap_or(u64::MAX).min(vcpu.vm.time_limit).min(vcpu.board_due)
}

/// Whether a vCPU that sleeps has something to do, its time limit included.
#[inline(never)]
fn wakes(vcpu: &mut Vcpu) -> bool {
    let delivers = vcpu.vm.features.contains(Features::VIRTUAL_INTERRUPTS);
    let now = tsc();
    let link = &mut output::Host { vm: vcpu.vm.number };
    // What a VM has written is sent in time, whoever runs.
    if now >= vcpu.send_at {
        vcpu.send_output(link);
    }
    vcpu.wakes(link, now, delivers) || now >= vcpu.vm.time_limit
}

/// Halts this CPU until something is due for these vCPUs, and sends what they have written before.
#[inline(never)]
fn halt<'a>(machine: &Machine, mail: &Mail, vcpus: impl Iterator<Item = &'a mut Vcpu>) {
    let now = tsc();
    let mut until = now.saturating_add(machine.tsc_hz / 10);
    let mut told = false;
    for vcpu in vcpus {
        vcpu.send_output(&mut output::Host { vm: vcpu.vm.number });
        until = until.min(next(vcpu, now));
        told |= vcpu.post.waits();
    }
    // Interrupts are off until the halt: what comes behind this look ends it.
    if until > tsc() && !mail.waits() && !told {
        machine.timer.halt_until(until);
    }
}

/// Waits with a halted vCPU that has its CPU for itself: what is in the CPU of it stays there. `false` if
/// nothing of its own is left that could end the halt, or the CPU is told something.
pub(super) fn waits(machine: &Machine, mail: &Mail, vcpu: &mut Vcpu) -> bool {
    let since = tsc();
    while !wakes(vcpu) {
        if next(vcpu, 0) == u64::MAX || mail.waits() {
            return false;
        }
        halt(machine, mail, core::iter::once(&mut *vcpu));
    }
    vcpu.halted_ticks = vcpu.halted_ticks.saturating_add(tsc().saturating_sub(since));
    true
}
