//! The vCPUs of this CPU: the next that has something to do runs until it leaves, and what it then wants is
//! seen to.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::sync::atomic::Ordering;

use spin::Mutex;

use super::finish::Report;
use super::home::{Instance, Unit};
use super::machine::Machine;
use super::sleep::waits;
use crate::host::report::Cause;
use crate::hw::extension;
use crate::hw::instructions::tsc;
use crate::hw::output;
use crate::hw::vendor::Visit;
use crate::sched::{Alarms, Queue};
use crate::vm::exit::Leave;
use crate::vm::hardware::Backend;
use crate::vm::post::{Mail, Notice, Place, Post, Then, lowest};
use crate::vm::run::run;
use crate::vm::{Options, Vcpu};

/// One CPU's own.
pub struct Cpu {
    /// The virtualization extension, turned on.
    pub on: extension::Cpu,
    /// The CPU's number.
    pub index: usize,
    /// The VM that ran last.
    pub last: Option<u8>,
}

/// What a CPU has done. Nobody else writes it or reads it, until the CPU says it at the end.
#[derive(Default)]
struct Account {
    /// Times that a vCPU ran until it left.
    turns: u64,
    /// vCPUs that were taken from other CPUs.
    taken: u64,
    /// TSC ticks of those turns, and those in which there was nothing to run.
    busy: u64,
    idle: u64,
}

/// The vCPUs of a CPU.
pub(super) struct Vcpus<'a> {
    pub(super) cpu: &'a mut Cpu,
    pub(super) machine: &'static Machine,
    pub(super) mail: &'static Mail,
    pub(super) index: u16,
    /// Those that want to run; other CPUs may take some.
    pub(super) queue: &'static Mutex<Queue<Instance>>,
    /// Those that sleep, by their numbers here.
    pub(super) places: Vec<Option<Unit>>,
    /// Numbers of places that are free.
    pub(super) free: Vec<u16>,
    /// When those that sleep are due by themselves.
    pub(super) alarms: Alarms,
    /// One of those that sleep may have written something that is not sent.
    pub(super) writes: bool,
    /// This is the only CPU, and so many vCPUs are there; 0 where there are others.
    pub(super) count: usize,
    /// There are other CPUs, to which vCPUs can move.
    pub(super) shares: bool,
    /// Whom the one that ran last would have run next.
    preferred: Option<&'static Post>,
    account: Account,
}

/// Runs vCPUs until the last VM of the machine has ended.
pub fn schedule(cpu: &mut Cpu, machine: &'static Machine) {
    let (Some(mail), Some(queue)) = (machine.mails.get(cpu.index), machine.queues.get(cpu.index))
    else {
        return;
    };
    let mut vcpus = Vcpus {
        machine,
        mail,
        index: cpu.index as u16,
        queue,
        places: Vec::with_capacity(vcpus_of(machine)),
        free: Vec::with_capacity(vcpus_of(machine)),
        alarms: Alarms::default(),
        writes: false,
        count: 0,
        shares: machine.online.load(Ordering::Acquire) > 1,
        preferred: None,
        account: Account::default(),
        cpu,
    };
    vcpus.arrive();
    while machine.vms.load(Ordering::Acquire) != 0 {
        vcpus.read_mail();
        vcpus.wake_due(tsc());
        let Some((mut unit, left)) = vcpus.decide() else {
            let since = tsc();
            vcpus.idle();
            vcpus.account.idle = vcpus.account.idle.wrapping_add(tsc().wrapping_sub(since));
            continue;
        };
        let began = tsc();
        if unit.payload.cleaning.is_some() {
            vcpus.clean(unit, began, left);
            continue;
        }
        let leave = vcpus.run(&mut unit.payload, began, left);
        let ran = tsc().saturating_sub(began);
        vcpus.account.turns = vcpus.account.turns.wrapping_add(1);
        vcpus.account.busy = vcpus.account.busy.wrapping_add(ran);
        match leave {
            Leave::Yielded | Leave::YieldedTo(_) | Leave::Preempted | Leave::Mail => {
                unit.payload.preempted_at = NonZeroU64::new(tsc());
                if let Leave::YieldedTo(number) = leave {
                    vcpus.preferred = unit.payload.vcpu.vm.posts.get(number as usize).copied();
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
    let Account { turns, taken, busy, idle } = vcpus.account;
    defmt::info!(
        "CPU {=u16}: {=u64} turns of vCPUs, {=u64} of which came from other CPUs; {=u64} ticks in them, {=u64} idle",
        vcpus.index,
        turns,
        taken,
        busy,
        idle
    );
}

/// How many vCPUs there are: all of them can come to one CPU, which takes no memory for it then.
fn vcpus_of(machine: &Machine) -> usize {
    machine.vcpus.load(Ordering::Acquire) as usize
}

impl Vcpus<'_> {
    /// Who runs next and for how many ticks; whoever is to move to this CPU has come then.
    #[inline(never)]
    fn decide(&mut self) -> Option<(Unit, u64)> {
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
            let mut idle = if self.shares { queue.publish(&self.machine.board) } else { 0 };
            drop(queue);
            while let Some(cpu) = lowest(&mut idle) {
                self.machine.call(cpu.into());
            }
            if picked.is_some() || !self.shares {
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
                Some(unit) => {
                    self.account.taken = self.account.taken.wrapping_add(1);
                    self.queue.lock().receive(unit);
                }
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
    pub(super) fn join(&mut self, unit: Unit) {
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
    fn run(&mut self, instance: &mut Instance, began: u64, left: u64) -> Leave {
        instance.come_to(self.index);
        if let Some(since) = instance.halted_at.take() {
            let waited = began.saturating_sub(since.get());
            instance.vcpu.halted_ticks = instance.vcpu.halted_ticks.saturating_add(waited);
        }
        if let Some(since) = instance.preempted_at.take() {
            let steal = &mut instance.vcpu.info.steal;
            steal.stolen = steal.stolen.wrapping_add(began.saturating_sub(since.get()));
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
        let turn = Turn { yield_at, alone: alone.then_some((machine, mail)) };
        let leave = self.visit(instance, turn);
        instance.vcpu.post.set_place(Place::Queued);
        leave.unwrap_or(Leave::ended(Cause::EntryFailure, 0, "the CPU refused the control block"))
    }

    /// Puts a vCPU on this CPU, with all of its state, for the time of `visit`.
    #[inline(never)]
    fn visit<T: Visit>(&mut self, instance: &mut Instance, visit: T) -> Option<T::Answer> {
        let Instance { vcpu, state, .. } = instance;
        self.machine.vendor.with_guest(&mut self.cpu.on, state, vcpu, visit)
    }

    /// Sees to a vCPU that does not run on, and is in no queue.
    #[inline(never)]
    pub(super) fn left(&mut self, mut unit: Unit, leave: Leave) {
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
                    if begins(instance.vcpu, leave) {
                        let report = self.visit(instance, Tell(leave)).flatten();
                        *home.report.lock() = report.map(Box::new);
                    }
                    let link = &mut output::Host { vm: home.vm.number };
                    instance.vcpu.tell_others(Notice::Stop, link);
                }
                match home.stop(self.machine, unit) {
                    Some(first) => self.join(first),
                    None => self.count = self.count.saturating_sub(1),
                }
            }
        }
    }
}

/// A turn of a vCPU: it runs until it leaves.
struct Turn {
    /// The TSC at which it makes room.
    yield_at: Option<u64>,
    /// It has its CPU for itself: there it may halt without leaving it.
    alone: Option<(&'static Machine, &'static Mail)>,
}

impl Visit for Turn {
    type Answer = Leave;

    fn visit(self, vcpu: &mut Vcpu, guest: &mut impl Backend) -> Leave {
        vcpu.contended = self.yield_at.is_some();
        vcpu.slice_end = self.yield_at.unwrap_or(u64::MAX);
        loop {
            vcpu.attend();
            vcpu.info.steal.preempted = 0;
            let leave = run(vcpu, guest);
            vcpu.info.steal.preempted = 1;
            match self.alone {
                Some((machine, mail)) if leave == Leave::Halted && waits(machine, mail, vcpu) => {
                    // The halt has used the timer of the CPU.
                    guest.serve_host();
                }
                _ => return leave,
            }
        }
    }
}

/// Makes the report of an end.
struct Tell(Leave);

impl Visit for Tell {
    type Answer = Option<Report>;

    fn visit(self, vcpu: &mut Vcpu, guest: &mut impl Backend) -> Option<Report> {
        Report::of(self.0, vcpu, guest)
    }
}

/// Whether a vCPU is the one with this post.
fn is(post: &Post) -> impl Fn(&Instance) -> bool {
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
