//! The vCPUs of this CPU: the next that has something to do runs until it leaves, and what it then wants is
//! seen to.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use spin::Mutex;

use super::finish::Report;
use super::home::{Instance, Unit};
use super::machine::Machine;
use super::sleep::waits;
use crate::host::report::Cause;
use crate::hw::instructions::tsc;
use crate::hw::output;
use crate::hw::vendor::Vendor;
use crate::sched::Queue;
use crate::vm::exit::Leave;
use crate::vm::hardware::{Backend, Hardware};
use crate::vm::post::{Mail, Notice, Place, Post, Then, lowest};
use crate::vm::run::run;
use crate::vm::{Options, Vcpu};

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
pub(super) struct Vcpus<'a, V: Vendor> {
    pub(super) cpu: &'a mut Cpu<V>,
    pub(super) machine: &'static Machine<V>,
    pub(super) mail: &'static Mail,
    pub(super) index: u16,
    /// Those that want to run; other CPUs may take some.
    pub(super) queue: &'static Mutex<Queue<Instance<V>>>,
    /// Those that sleep, by their numbers here.
    pub(super) places: Vec<Option<Unit<V>>>,
    /// Numbers of places that are free.
    pub(super) free: Vec<u16>,
    /// This is the only CPU, and so many vCPUs are there; 0 where there are others.
    pub(super) count: usize,
    /// There are other CPUs, to which vCPUs can move.
    pub(super) shares: bool,
    /// Whom the one that ran last would have run next.
    preferred: Option<&'static Post>,
}

/// Runs vCPUs until the last VM of the machine has ended.
pub fn schedule<V: Vendor>(cpu: &mut Cpu<V>, machine: &'static Machine<V>) {
    let (Some(mail), Some(queue)) = (machine.mails.get(cpu.index), machine.queues.get(cpu.index))
    else {
        return;
    };
    let mut vcpus = Vcpus {
        machine,
        mail,
        index: cpu.index as u16,
        queue,
        places: Vec::new(),
        free: Vec::new(),
        count: 0,
        shares: machine.online.load(Ordering::Acquire) > 1,
        preferred: None,
        cpu,
    };
    vcpus.arrive();
    while machine.vms.load(Ordering::Acquire) != 0 {
        vcpus.read_mail();
        vcpus.wake_due();
        let Some((mut unit, left)) = vcpus.decide() else {
            vcpus.idle();
            continue;
        };
        let began = tsc();
        let leave = vcpus.run(&mut unit.payload, began, left);
        let ran = tsc().saturating_sub(began);
        match leave {
            Leave::Yielded | Leave::YieldedTo(_) | Leave::Preempted | Leave::Mail => {
                unit.payload.preempted_at = Some(tsc());
                if let Leave::YieldedTo(number) = leave {
                    vcpus.preferred = unit.payload.vcpu.vm.posts.get(number as usize);
                }
                let mut queue = queue.lock();
                match leave {
                    Leave::Yielded | Leave::YieldedTo(_) => queue.give_way(unit, ran),
                    _ => queue.put_back(unit, ran),
                }
            }
            leave => {
                queue.lock().leave(&mut unit, ran);
                vcpus.left(unit, leave);
            }
        }
    }
}

impl<V: Vendor> Vcpus<'_, V> {
    /// Who runs next and for how many ticks; whoever is to move to this CPU has come then.
    #[inline(never)]
    fn decide(&mut self) -> Option<(Unit<V>, u64)> {
        let preferred = self.preferred.take();
        if let Some(post) = preferred {
            self.fetch(post);
        }
        // The first time nobody is found the others see this CPU idle, and only then it looks for the last time.
        for _ in 0..2 {
            self.help();
            let mut queue = self.queue.lock();
            let picked = preferred
                .and_then(|post| queue.prefer(self.index.into(), &is(post)))
                .or_else(|| queue.pick());
            let mut idle = queue.publish(&self.machine.board);
            drop(queue);
            while let Some(cpu) = lowest(&mut idle) {
                self.machine.call(cpu.into());
            }
            if picked.is_some() {
                return picked;
            }
        }
        None
    }

    /// Takes this one, if it waits for another CPU and may come.
    #[inline(never)]
    fn fetch(&mut self, post: &Post) {
        let Some(from) = post.waits_for().filter(|&cpu| cpu != usize::from(self.index)) else {
            return;
        };
        let other = self.machine.queues.get(from);
        let found =
            other.and_then(|other| other.lock().take_preferred(self.index.into(), &is(post)));
        if let Some(unit) = found {
            self.queue.lock().receive(unit);
        }
    }

    /// Takes those that are to move to this CPU.
    #[inline(never)]
    fn help(&mut self) {
        let mut tried = 0;
        while let Some(from) = self.look(tried) {
            let other = self.machine.queues.get(from);
            match other.and_then(|other| other.lock().take_movable(self.index.into())) {
                Some(unit) => self.queue.lock().receive(unit),
                None => tried |= 1u64.checked_shl(from as u32).unwrap_or(0),
            }
        }
    }

    /// The CPU from which one is to be taken. The lock of the queue is free again when the other's is taken.
    fn look(&self, tried: u64) -> Option<usize> {
        if self.shares { self.queue.lock().look(&self.machine.board, tried) } else { None }
    }

    /// A vCPU wants to run: here, or where nobody does.
    #[inline(never)]
    pub(super) fn join(&mut self, unit: Unit<V>) {
        let here = usize::from(self.index);
        let cpu = match self.shares {
            true => self.machine.board.place(here, unit.affinity()),
            false => here,
        };
        let queue = self.machine.queues.get(cpu).unwrap_or(self.queue);
        queue.lock().join(unit);
        if cpu != here {
            self.machine.call(cpu);
        }
    }

    /// Runs a vCPU until it leaves.
    #[inline(never)]
    fn run(&mut self, instance: &mut Instance<V>, began: u64, left: u64) -> Leave {
        instance.come_to(self.index);
        if let Some(since) = instance.halted_at.take() {
            let waited = began.saturating_sub(since);
            instance.vcpu.halted_ticks = instance.vcpu.halted_ticks.saturating_add(waited);
        }
        if let Some(since) = instance.preempted_at.take() {
            let steal = &mut instance.vcpu.info.steal;
            steal.stolen = steal.stolen.wrapping_add(began.saturating_sub(since));
        }
        let number = instance.vcpu.vm.number;
        if self.cpu.last.replace(number) != Some(number) {
            self.machine.speculation.at_switch();
        }
        // One that runs alone looks once a slice for others that it could help.
        let others = self.shares || !self.queue.lock().is_empty();
        let yield_at = self.yield_at(others.then(|| began.saturating_add(left)));
        let (machine, mail) = (self.machine, self.mail);
        let alone = !self.shares && self.count == 1;
        instance.vcpu.post.set_place(Place::Running(self.index));
        let leave = with_guest(self.cpu, machine, instance, |vcpu, guest| {
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
        instance.vcpu.post.set_place(Place::Queued);
        leave.unwrap_or(Leave::ended(Cause::EntryFailure, 0, "the CPU refused the control block"))
    }

    /// Sees to a vCPU that does not run on, and is in no queue.
    #[inline(never)]
    pub(super) fn left(&mut self, mut unit: Unit<V>, leave: Leave) {
        match leave {
            Leave::Halted => self.sleep(unit),
            Leave::Preempted | Leave::Yielded | Leave::YieldedTo(_) | Leave::Mail => {
                self.join(unit)
            }
            Leave::Init => {
                unit.payload.init();
                match unit.payload.vcpu.startup.take() {
                    Some(page) => {
                        unit.payload.start_up(&self.machine.vendor, page);
                        self.join(unit);
                    }
                    None => self.sleep(unit),
                }
            }
            Leave::Stopped | Leave::Reset | Leave::Ended { .. } => {
                let instance = &mut unit.payload;
                let home = instance.home;
                if leave != Leave::Stopped {
                    if begins(&instance.vcpu, leave) {
                        let report = with_guest(self.cpu, self.machine, instance, |vcpu, guest| {
                            Report::of(leave, vcpu, guest)
                        });
                        *home.report.lock() = report.flatten().map(Box::new);
                    }
                    let link = &mut output::Host { vm: home.vm.number };
                    instance.vcpu.tell_others(Notice::Stop, link);
                }
                self.count = self.count.saturating_sub(1);
                home.stop(self.machine, unit);
            }
        }
    }
}

/// Whether a vCPU is the one with this post.
fn is<V: Vendor>(post: &Post) -> impl Fn(&Instance<V>) -> bool {
    move |instance| core::ptr::eq(instance.vcpu.post, post)
}

/// The VM of this vCPU stops if it did not already: whether `leave` is the first to say why.
#[inline(never)]
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

/// Puts a vCPU on this CPU, with all of its state, for the time of `f`.
#[inline(never)]
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
