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
use super::sleep::Resting;
use super::turn::{Here, Turn};
use crate::host::report::Cause;
use crate::hw::extension;
use crate::hw::instructions::tsc;
use crate::hw::output;
use crate::hw::vendor::Visit;
use crate::sched::{Alarms, Member, Queue};
use crate::vm::exit::Leave;
use crate::vm::hardware::Backend;
use crate::vm::post::{Mail, Notice, Place, Post, Then};
use crate::vm::{Options, Vcpu};

/// One CPU's own.
pub struct Cpu {
    /// The virtualization extension, turned on.
    pub on: extension::Cpu,
    /// The CPU's number.
    pub index: usize,
    /// The number of the VM that ran last, and one more; 0 for none.
    pub last: u16,
    /// The state of a vCPU is in this CPU.
    pub occupied: bool,
}

impl Cpu {
    /// Takes the state of a vCPU from this CPU, if it is there. `moves`: the vCPU may go to another.
    #[inline(never)]
    fn put_away(&mut self, machine: &Machine, instance: &mut Instance, moves: bool) {
        self.put_away_here(machine, instance, moves);
    }

    /// The same, with no call.
    #[inline(always)]
    pub(super) fn put_away_here(
        &mut self,
        machine: &Machine,
        instance: &mut Instance,
        moves: bool,
    ) {
        let Instance { vcpu, state, .. } = instance;
        self.occupied &= !state.is_loaded();
        machine.vendor.put_away(&mut self.on, state, vcpu, moves);
    }
}

/// What a CPU has done. Nobody else writes it or reads it, until the CPU says it at the end.
#[derive(Default)]
pub(super) struct Account {
    /// Times that a vCPU ran until it left.
    turns: u64,
    /// vCPUs that were taken from other CPUs.
    pub(super) taken: u64,
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
    /// The one of them whose state is still in the CPU; it has no other place.
    pub(super) resting: Option<Resting>,
    /// Who ran last, if it wants to go on: for how long it has run, and whether others go first. It is in no queue.
    pub(super) last: Option<(Unit, u64, bool)>,
    /// Who woke up when nobody wanted to run, and the ticks that it may. It is in no queue.
    pub(super) woken: Option<(Unit, u64)>,
    /// There are other CPUs, to which vCPUs can move.
    pub(super) shares: bool,
    /// What one that halts has to know of this.
    here: &'static Here,
    /// Others may want to run beside the one that runs.
    pub(super) others: bool,
    /// Whom the one that ran last would have run next.
    pub(super) preferred: Option<&'static Post>,
    pub(super) account: Account,
}

/// Runs vCPUs until the last VM of the machine has ended.
pub fn schedule(cpu: &mut Cpu, machine: &'static Machine) {
    let (Some(mail), Some(queue)) = (machine.mails.get(cpu.index), machine.queues.get(cpu.index))
    else {
        return;
    };
    let index = cpu.index as u16;
    let shares = machine.online.load(Ordering::Acquire) > 1;
    let mut vcpus = Vcpus {
        here: Box::leak(Box::new(Here { machine, mail, queue, index, shares })),
        machine,
        mail,
        index,
        queue,
        places: Vec::with_capacity(vcpus_of(machine)),
        free: Vec::with_capacity(vcpus_of(machine)),
        alarms: Alarms::default(),
        writes: false,
        resting: None,
        last: None,
        woken: None,
        others: false,
        shares,
        preferred: None,
        account: Account::default(),
        cpu,
    };
    vcpus.arrive();
    let mut now = tsc();
    while machine.vms.load(Ordering::Acquire) != 0 {
        if vcpus.mail.waits() || vcpus.is_due(now) {
            // Those that wake up come to a queue that knows what the one that ran last has had.
            vcpus.settle_last();
            vcpus.take_mail();
            vcpus.wake_due(now);
        }
        let next = match vcpus.last.take() {
            Some((unit, ran, gives_way)) => Some(vcpus.turn(unit, ran, gives_way)),
            None => vcpus.next(),
        };
        let began = now;
        let Some((mut unit, left)) = next else {
            now = vcpus.idle();
            vcpus.account.idle = vcpus.account.idle.wrapping_add(now.wrapping_sub(began));
            continue;
        };
        if unit.payload.cleaning.is_some() {
            vcpus.clean(unit, began, left);
            now = tsc();
            continue;
        }
        let (leave, halted) = vcpus.run(&mut unit.payload, began, left);
        now = tsc();
        let ran = now.saturating_sub(began).saturating_sub(halted);
        vcpus.account.turns = vcpus.account.turns.wrapping_add(1);
        vcpus.account.busy = vcpus.account.busy.wrapping_add(ran);
        vcpus.account.idle = vcpus.account.idle.wrapping_add(halted);
        match leave {
            Leave::Yielded | Leave::YieldedTo(_) | Leave::Preempted | Leave::Mail => {
                unit.payload.preempted_at = NonZeroU64::new(now);
                if let Leave::YieldedTo(number) = leave {
                    vcpus.preferred = unit.payload.vcpu.vm.posts.get(number as usize).copied();
                }
                let gives_way = matches!(leave, Leave::Yielded | Leave::YieldedTo(_));
                vcpus.last = Some((unit, ran, gives_way));
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
    /// A vCPU goes where others may take it from, or leaves: its state does not stay here.
    #[inline]
    pub(super) fn put_away(&mut self, unit: &mut Member<Instance>) {
        let moves = self.moves(unit);
        self.cpu.put_away(self.machine, &mut unit.payload, moves);
    }

    /// Whether it may go to another CPU.
    #[inline]
    pub(super) fn moves(&self, unit: &Member<Instance>) -> bool {
        self.shares && unit.affinity() & !(1 << (self.index & 63)) != 0
    }

    /// The state of a vCPU is to come to this CPU, if it is not there.
    #[inline]
    fn make_way(&mut self, instance: &Instance) {
        if !instance.state.is_loaded() {
            if self.cpu.occupied {
                self.make_room();
            }
            self.cpu.occupied = true;
        }
    }

    /// That of whoever has it here goes.
    #[inline(never)]
    fn make_room(&mut self) {
        if let Some(mut resting) = self.resting.take() {
            self.cpu.put_away(self.machine, &mut resting.unit.payload, false);
            self.lay_down(resting);
        }
        let last = self.last.as_mut().map(|(unit, ..)| unit);
        let woken = self.woken.as_mut().map(|(unit, _)| unit);
        for unit in [last, woken].into_iter().flatten() {
            self.cpu.put_away(self.machine, &mut unit.payload, false);
        }
    }

    /// Runs a vCPU until it leaves; and for how long it has halted meanwhile.
    #[inline]
    fn run(&mut self, instance: &mut Instance, began: u64, left: u64) -> (Leave, u64) {
        instance.come_to(self.index);
        if let Some(since) = instance.halted_at.take() {
            let waited = began.saturating_sub(since.get());
            instance.vcpu.halted_ticks = instance.vcpu.halted_ticks.saturating_add(waited);
        }
        if let Some(since) = instance.preempted_at.take() {
            let steal = &mut instance.vcpu.info.steal;
            steal.stolen = steal.stolen.wrapping_add(began.saturating_sub(since.get()));
        }
        let number = u16::from(instance.vcpu.vm.number).wrapping_add(1);
        if self.cpu.last != number {
            self.cpu.last = number;
            self.machine.speculation.at_switch();
        }
        // Whoever rested here may have an alarm from now on.
        self.make_way(instance);
        // One that runs alone looks once a slice for others that it could help.
        let until = self.alarms.first().map_or(u64::MAX, |(due, _)| due);
        let yield_at = if self.others { until.min(began.saturating_add(left)) } else { until };
        instance.vcpu.post.set_place(Place::Running(self.index));
        if self.mail.waits() {
            // Who woke up has told another one here, for which no interrupt comes.
            instance.vcpu.attend();
        }
        let turn = Turn { yield_at, began, until, here: self.here };
        let leave = self.visit(instance, turn);
        instance.vcpu.post.set_place(Place::Queued);
        leave.unwrap_or_else(|| {
            let message = "the CPU refused the control block";
            (instance.vcpu.ends(Cause::EntryFailure, 0, message), 0)
        })
    }

    /// Puts a vCPU on this CPU, with all of its state, and does `visit`; [way was made](Vcpus::make_way) for it.
    #[inline]
    fn visit<T: Visit>(&mut self, instance: &mut Instance, visit: T) -> Option<T::Answer> {
        let Instance { vcpu, state, .. } = instance;
        self.machine.vendor.with_guest(&mut self.cpu.on, state, vcpu, visit)
    }

    /// Sees to a vCPU that does not run on, and is in no queue.
    #[inline(never)]
    pub(super) fn left(&mut self, mut unit: Unit, leave: Leave) {
        match leave {
            Leave::Halted => self.sleep(unit, tsc()),
            Leave::Preempted | Leave::Yielded | Leave::YieldedTo(_) | Leave::Mail => {
                self.join(unit)
            }
            Leave::Init => {
                self.put_away(&mut unit);
                unit.payload.init();
                match unit.payload.vcpu.startup.take() {
                    Some(page) => {
                        unit.payload.start_up(&self.machine.vendor, page);
                        self.join(unit);
                    }
                    None => self.sleep(unit, tsc()),
                }
            }
            Leave::Stopped | Leave::Reset | Leave::Ended => {
                let instance = &mut unit.payload;
                let home = instance.home;
                if leave != Leave::Stopped {
                    if begins(instance.vcpu, leave) {
                        self.make_way(instance);
                        let report = self.visit(instance, Tell).flatten();
                        *home.report.lock() = report.map(Box::new);
                    }
                    let link = &mut output::Host { vm: home.vm.number };
                    instance.vcpu.tell_others(Notice::Stop, link);
                }
                // The CPU of the last one goes on with it.
                self.cpu.put_away(self.machine, &mut unit.payload, true);
                if let Some(first) = home.stop(self.machine, unit) {
                    self.join(first);
                }
            }
        }
    }
}

/// Makes the report of an end.
struct Tell;

impl Visit for Tell {
    type Answer = Option<Report>;

    fn visit(self, vcpu: &mut Vcpu, guest: &mut impl Backend) -> Option<Report> {
        Report::of(vcpu, guest)
    }
}

/// The VM of this vCPU stops if it did not already: whether `leave` is the first to say why.
#[inline(never)]
fn begins(vcpu: &Vcpu, leave: Leave) -> bool {
    let cause = vcpu.ending.map(|ending| ending.cause);
    let may_reset = vcpu.vm.options.contains(Options::MAY_RESET);
    let then = match leave {
        Leave::Reset => Then::Reset,
        // The board of a PC answers the shutdown of its CPU by a reset.
        Leave::Ended if may_reset && cause == Some(Cause::TripleFault) => Then::Reset,
        _ => Then::End,
    };
    vcpu.vm.stop.begin(then) && then == Then::End
}
