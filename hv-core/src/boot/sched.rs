//! The vCPUs of this CPU: the next that has something to do runs until it leaves, and what it then wants is
//! seen to.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::finish::Report;
use super::home::Instance;
use super::machine::Machine;
use crate::host::report::Cause;
use crate::hw::instructions::tsc;
use crate::hw::output;
use crate::hw::vendor::Vendor;
use crate::sched::Queue;
use crate::vm::exit::Leave;
use crate::vm::hardware::{Backend, Hardware};
use crate::vm::post::{Mail, Notice, Place, Then};
use crate::vm::run::run;
use crate::vm::{Features, Options, Vcpu};

/// One CPU's own.
pub struct Cpu<V: Vendor> {
    /// The virtualization extension, turned on.
    pub on: V::Cpu,
    /// The CPU's number.
    pub index: usize,
    /// The VM that ran last.
    pub last: Option<u8>,
}

/// The vCPUs of a CPU.
struct Vcpus<'a, V: Vendor> {
    cpu: &'a mut Cpu<V>,
    machine: &'static Machine<V>,
    mail: &'static Mail,
    index: u16,
    /// By their numbers. The one that runs, and those that have stopped, are not in their places.
    places: Vec<Option<Box<Instance<V>>>>,
    /// Those that want to run.
    queue: Queue,
    /// How many there are.
    count: usize,
}

/// Runs vCPUs until the last VM of the machine has ended.
pub fn schedule<V: Vendor>(cpu: &mut Cpu<V>, machine: &'static Machine<V>) {
    let (Some(mail), Some(arrivals)) =
        (machine.mails.get(cpu.index), machine.arrivals.get(cpu.index))
    else {
        return;
    };
    let all = arrivals.lock();
    let queue = Queue::new(all.iter().map(|vcpu| (vcpu.vcpu.vm.weight, vcpu.vcpu.vm.slice)));
    let places = all.iter().map(|_| None).collect();
    drop(all);
    let mut vcpus = Vcpus { machine, mail, index: cpu.index as u16, places, queue, count: 0, cpu };
    vcpus.arrive();
    while machine.vms.load(Ordering::Acquire) != 0 {
        vcpus.read_mail();
        vcpus.wake_due();
        let Some((slot, left)) = vcpus.queue.pick() else {
            vcpus.idle();
            continue;
        };
        let Some(vcpu) = vcpus.places.get_mut(slot).and_then(Option::take) else {
            // It has stopped.
            vcpus.queue.leave(slot, 0);
            continue;
        };
        let began = tsc();
        let (vcpu, leave) = vcpus.run(vcpu, began, left);
        let ran = tsc().saturating_sub(began);
        match leave {
            Leave::Yielded => vcpus.queue.give_way(slot, ran),
            Leave::Preempted | Leave::Mail => vcpus.queue.put_back(slot, ran),
            _ => vcpus.queue.leave(slot, ran),
        }
        vcpus.left(vcpu, leave);
    }
}

impl<V: Vendor> Vcpus<'_, V> {
    /// Takes the vCPUs that have come.
    fn arrive(&mut self) {
        let Some(arrivals) = self.machine.arrivals.get(usize::from(self.index)) else { return };
        let arrived = core::mem::take(&mut *arrivals.lock());
        for mut vcpu in arrived {
            self.count = self.count.saturating_add(1);
            let slot = usize::from(vcpu.slot);
            vcpu.vcpu.attend();
            if vcpu.vcpu.waits_for_startup {
                self.sleep(vcpu);
            } else {
                self.place(slot, vcpu);
                self.queue.join(slot);
            }
        }
    }

    fn place(&mut self, slot: usize, vcpu: Box<Instance<V>>) {
        if let Some(place) = self.places.get_mut(slot) {
            *place = Some(vcpu);
        }
    }

    /// Sees to those that others have told something, and to those that have come.
    fn read_mail(&mut self) {
        if !self.mail.waits() {
            return;
        }
        let mail = self.mail;
        if mail.take(|slot| self.wake(slot.into())) {
            self.arrive();
        }
    }

    /// Wakes those for which something is due by themselves.
    fn wake_due(&mut self) {
        for slot in 0..self.places.len() {
            if let Some(vcpu) = self.places.get_mut(slot).and_then(Option::as_mut)
                && vcpu.asleep
                && wakes(&mut vcpu.vcpu)
            {
                self.wake(slot);
            }
        }
    }

    /// A vCPU that sleeps may have something to do.
    fn wake(&mut self, slot: usize) {
        let Some(place) = self.places.get_mut(slot) else { return };
        let Some(mut vcpu) = place.take_if(|vcpu| vcpu.asleep) else { return };
        vcpu.asleep = false;
        vcpu.vcpu.post.set_place(Place::Queued);
        if core::mem::take(&mut vcpu.deep) {
            vcpu.home.asleep.fetch_sub(1, Ordering::SeqCst);
        }
        if let Err(leave) = vcpu.vcpu.take_post() {
            return self.left(vcpu, leave);
        }
        if vcpu.vcpu.waits_for_startup {
            match vcpu.vcpu.startup.take() {
                Some(page) => vcpu.start_up(&self.machine.vendor, page),
                None if tsc() < vcpu.vcpu.vm.time_limit => return self.sleep(vcpu),
                None => {}
            }
        } else if !wakes(&mut vcpu.vcpu) {
            return self.sleep(vcpu);
        }
        vcpu.vcpu.attend();
        self.place(slot, vcpu);
        self.queue.join(slot);
    }

    /// A vCPU has nothing to do.
    fn sleep(&mut self, mut vcpu: Box<Instance<V>>) {
        vcpu.asleep = true;
        vcpu.vcpu.cpu = self.index;
        vcpu.halted_at.get_or_insert_with(tsc);
        let (slot, home, post) = (vcpu.slot, vcpu.home, vcpu.vcpu.post);
        post.set_place(Place::Asleep { cpu: self.index, slot });
        if next(&vcpu.vcpu, 0) == u64::MAX {
            vcpu.deep = true;
            let asleep = home.asleep.fetch_add(1, Ordering::SeqCst).saturating_add(1) as usize;
            let posts = home.vm.posts;
            // One that has been left something is about to wake.
            if asleep == posts.len() && !posts.iter().any(|post| post.waits()) {
                let message = match posts.len() {
                    1 => "the guest waits for an interrupt that nothing can raise",
                    _ => "every vCPU waits for an interrupt that nothing can raise",
                };
                return self.left(vcpu, Leave::ended(Cause::HaltedForEver, 0, message));
            }
        }
        self.place(slot.into(), vcpu);
        // What came before it was known to sleep has brought no mail.
        if post.waits() {
            self.wake(slot.into());
        }
    }

    /// Runs a vCPU until it leaves.
    fn run(
        &mut self,
        mut vcpu: Box<Instance<V>>,
        began: u64,
        left: u64,
    ) -> (Box<Instance<V>>, Leave) {
        if let Some(since) = vcpu.halted_at.take() {
            let waited = began.saturating_sub(since);
            vcpu.vcpu.halted_ticks = vcpu.vcpu.halted_ticks.saturating_add(waited);
        }
        if let Some(since) = vcpu.preempted_at.take() {
            let steal = &mut vcpu.vcpu.info.steal;
            steal.stolen = steal.stolen.wrapping_add(began.saturating_sub(since));
        }
        let number = vcpu.vcpu.vm.number;
        if self.cpu.last.replace(number) != Some(number) {
            self.machine.speculation.at_switch();
        }
        let slice_end = (!self.queue.is_empty()).then(|| began.saturating_add(left));
        let yield_at = self.yield_at(slice_end);
        let (machine, mail, alone) = (self.machine, self.mail, self.count == 1);
        vcpu.vcpu.cpu = self.index;
        vcpu.vcpu.post.set_place(Place::Running(self.index));
        let leave = with_guest(self.cpu, machine, &mut vcpu, |vcpu, guest| {
            vcpu.contended = yield_at.is_some();
            vcpu.slice_end = yield_at.unwrap_or(u64::MAX);
            loop {
                vcpu.attend();
                vcpu.info.steal.preempted = 0;
                let leave = run(vcpu, guest);
                vcpu.info.steal.preempted = 1;
                if leave != Leave::Halted || !alone || !waits(machine, mail, vcpu) {
                    break leave;
                }
                // The halt has used the timer of the CPU.
                guest.serve_host();
            }
        });
        vcpu.vcpu.post.set_place(Place::Queued);
        let refused = Leave::ended(Cause::EntryFailure, 0, "the CPU refused the control block");
        (vcpu, leave.unwrap_or(refused))
    }

    /// Sees to a vCPU that does not run on.
    fn left(&mut self, mut vcpu: Box<Instance<V>>, leave: Leave) {
        match leave {
            Leave::Halted => self.sleep(vcpu),
            Leave::Preempted | Leave::Yielded | Leave::Mail => {
                vcpu.preempted_at = Some(tsc());
                self.place(vcpu.slot.into(), vcpu);
            }
            Leave::Init => {
                vcpu.init();
                match vcpu.vcpu.startup.take() {
                    Some(page) => {
                        let slot = usize::from(vcpu.slot);
                        vcpu.start_up(&self.machine.vendor, page);
                        self.place(slot, vcpu);
                        self.queue.join(slot);
                    }
                    None => self.sleep(vcpu),
                }
            }
            Leave::Stopped | Leave::Reset | Leave::Ended { .. } => {
                if leave != Leave::Stopped {
                    if begins(&vcpu.vcpu, leave) {
                        let report =
                            with_guest(self.cpu, self.machine, &mut vcpu, |vcpu, guest| {
                                Report::of(leave, vcpu, guest)
                            });
                        *vcpu.home.report.lock() = report.flatten().map(Box::new);
                    }
                    let link = &mut output::Host { vm: vcpu.vcpu.vm.number };
                    vcpu.vcpu.tell_others(Notice::Stop, link);
                }
                self.count = self.count.saturating_sub(1);
                vcpu.home.stop(self.machine, vcpu);
            }
        }
    }

    /// The TSC at which the one that runs makes room: at the end of its slice if others wait, or when the
    /// first of those that sleep has something to do. `None` if there is neither.
    fn yield_at(&self, slice_end: Option<u64>) -> Option<u64> {
        let now = tsc();
        let asleep = self.places.iter().flatten().filter(|vcpu| vcpu.asleep);
        let wakes = asleep.map(|vcpu| next(&vcpu.vcpu, now).min(vcpu.vcpu.send_at));
        wakes.filter(|&at| at != u64::MAX).chain(slice_end).min()
    }

    /// Halts this CPU until something is due for one of its vCPUs or it is told something.
    fn idle(&mut self) {
        let vcpus = self.places.iter_mut().flatten().map(|vcpu| &mut vcpu.vcpu);
        halt(self.machine, self.mail, vcpus);
    }
}

/// The VM of this vCPU stops if it did not already: whether `leave` is the first to say why.
fn begins(vcpu: &Vcpu, leave: Leave) -> bool {
    let may_reset = vcpu.vm.options.contains(Options::MAY_RESET);
    let then = match leave {
        Leave::Reset => Then::Reset,
        // The board of a PC answers the shutdown of its CPU by a reset.
        Leave::Ended { cause: Cause::TripleFault, .. } if may_reset => Then::Reset,
        _ => Then::End,
    };
    vcpu.vm.stop.begin(then) && then == Then::End
}

/// When something is due for a vCPU that sleeps, by the host's TSC, which is `now`.
fn next(vcpu: &Vcpu, now: u64) -> u64 {
    vcpu.timer_due(now).unwrap_or(u64::MAX).min(vcpu.vm.time_limit).min(vcpu.board_due)
}

/// Whether a vCPU that sleeps has something to do, its time limit included.
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
fn halt<'a, V: Vendor>(
    machine: &Machine<V>,
    mail: &Mail,
    vcpus: impl Iterator<Item = &'a mut Vcpu>,
) {
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
fn waits<V: Vendor>(machine: &Machine<V>, mail: &Mail, vcpu: &mut Vcpu) -> bool {
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

/// Puts a vCPU on this CPU, with all of its state, for the time of `f`.
fn with_guest<V: Vendor, T>(
    cpu: &mut Cpu<V>,
    machine: &'static Machine<V>,
    vcpu: &mut Instance<V>,
    f: impl FnOnce(&mut Vcpu, &mut V::Guest<'_>) -> T,
) -> Option<T> {
    let Instance { vcpu, state, live, .. } = vcpu;
    machine.vendor.with_guest(&mut cpu.on, state, |guest| {
        // What setting up costs is no exit's.
        guest.set_counts((vcpu.info.vmreads, vcpu.info.vmwrites));
        live.load(vcpu.xcr0, vcpu.xcr0_may, machine.rdtscp);
        let result = f(vcpu, guest);
        vcpu.xcr0 = live.save(vcpu.xcr0_may, machine.rdtscp);
        result
    })
}
