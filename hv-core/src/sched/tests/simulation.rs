//! A machine with a simulated clock. Its CPUs do at their decisions what those of the hypervisor do, and its
//! vCPUs run until a slice or a burst of work is over. The benchmark uses it too.

use std::boxed::Box;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::vec;
use std::vec::Vec;

use super::{Board, CPUS, Member, Queue};

/// A slice in ticks.
pub const SLICE: u64 = 10_000;

/// A vCPU. It works for so many ticks at a time and then sleeps for so many.
#[derive(Clone, Copy, Debug)]
pub struct Vcpu {
    pub weight: u32,
    pub affinity: u64,
    pub work: u64,
    pub sleep: u64,
}

impl Vcpu {
    /// One that always wants to run.
    pub fn busy(weight: u32) -> Vcpu {
        Vcpu { weight, affinity: u64::MAX, work: u64::MAX, sleep: 0 }
    }
}

/// What became of a vCPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The ticks that it had.
    pub had: u64,
    /// The longest time that it waited for a CPU, and the longest until it ran after it woke up.
    pub waited: u64,
    pub woken: u64,
    since: u64,
    woke: bool,
    /// What is left of its burst of work.
    work: u64,
    last: usize,
    /// The CPU where it waits.
    waits: Option<usize>,
}

struct Cpu {
    queue: Queue<usize>,
    running: Option<(Box<Member<usize>>, u64)>,
    /// Who has halted and stays, and the ticks that it has had and is not yet charged for.
    resting: Option<(Box<Member<usize>>, u64)>,
    /// What the one that runs had before it last halted, likewise.
    before: u64,
    /// Who woke up where nobody wanted to run, and the ticks that it may.
    woken: Option<(Box<Member<usize>>, u64)>,
    /// Counts decisions, so that an event of an earlier one is known.
    decision: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wakes(usize),
    Decides(usize, u64),
}

pub struct Machine {
    pub now: u64,
    pub seen: Vec<Seen>,
    pub decisions: u64,
    pub moves: u64,
    board: Box<Board>,
    cpus: Vec<Cpu>,
    vcpus: Vec<Vcpu>,
    asleep: Vec<Option<Box<Member<usize>>>>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    random: u64,
}

impl Machine {
    /// All vCPUs wake up on CPU `first` of theirs, or where that is idle.
    pub fn new(cpus: usize, vcpus: &[Vcpu], first: impl Fn(usize) -> usize) -> Machine {
        let member = |(number, vcpu): (usize, &Vcpu)| {
            Some(Box::new(Member::new(number, vcpu.weight, SLICE, vcpu.affinity)))
        };
        let queue = |cpu| Queue::new(cpu, vcpus.len(), SLICE);
        let cpu = |cpu| Cpu {
            queue: queue(cpu),
            running: None,
            resting: None,
            before: 0,
            woken: None,
            decision: 0,
        };
        let mut machine = Machine {
            now: 0,
            seen: vec![Seen::default(); vcpus.len()],
            decisions: 0,
            moves: 0,
            board: Box::new(Board::new()),
            cpus: (0..cpus.min(CPUS)).map(cpu).collect(),
            vcpus: vcpus.to_vec(),
            asleep: vcpus.iter().enumerate().map(member).collect(),
            events: BinaryHeap::new(),
            number: 0,
            random: 1,
        };
        for cpu in 0..cpus {
            machine.decide(cpu);
        }
        for number in 0..vcpus.len() {
            machine.seen[number].last = first(number) % cpus;
            machine.at(0, Event::Wakes(number));
        }
        machine
    }

    /// Goes on until that time, and counts what vCPUs have from here on.
    pub fn run(&mut self, until: u64) {
        for seen in &mut self.seen {
            (seen.had, seen.waited, seen.woken) = (0, 0, 0);
        }
        while let Some(&Reverse((time, _, event))) = self.events.peek()
            && time <= until
        {
            if time > self.now {
                self.assert_busy();
            }
            self.now = time;
            self.events.pop();
            match event {
                Event::Wakes(number) => self.wake(number),
                Event::Decides(cpu, decision) if self.cpus[cpu].decision == decision => {
                    self.decide(cpu);
                }
                Event::Decides(..) => {}
            }
        }
        self.now = until;
        for cpu in 0..self.cpus.len() {
            self.decide(cpu);
        }
        for seen in self.seen.iter_mut().filter(|seen| seen.waits.is_some()) {
            seen.waited = seen.waited.max(until - seen.since);
        }
    }

    /// From their next burst on, vCPUs work and sleep like these.
    pub fn work(&mut self, vcpus: &[Vcpu]) {
        self.vcpus = vcpus.to_vec();
    }

    /// No CPU is idle while somebody waits who may run there.
    fn assert_busy(&self) {
        let idle = self.cpus.iter().enumerate().filter(|(_, cpu)| cpu.running.is_none());
        let idle = idle.fold(0, |idle, (cpu, _)| idle | 1 << cpu);
        if idle == 0 {
            return;
        }
        for (number, vcpu) in self.vcpus.iter().enumerate() {
            let waits = self.seen[number].waits;
            assert!(
                waits.is_none() || vcpu.affinity & idle == 0,
                "{number} waits, idle: {idle:#x}"
            );
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    fn wake(&mut self, number: usize) {
        if let Some(cpu) = self.rests_on(number) {
            if self.board.resume(cpu) {
                return self.resume(cpu);
            }
            self.lie_down(cpu);
        }
        let Some(mut member) = self.asleep[number].take() else { return };
        let cpu = self.board.place(self.seen[number].last, member.affinity());
        match self.cpus[cpu].queue.begin(&mut member) {
            Some(left) => self.cpus[cpu].woken = Some((member, left)),
            None => self.cpus[cpu].queue.join(member),
        }
        let seen = &mut self.seen[number];
        (seen.waits, seen.since, seen.woke) = (Some(cpu), self.now, true);
        seen.work = self.vcpus[number].work;
        self.decide(cpu);
    }

    fn rests_on(&self, number: usize) -> Option<usize> {
        let rests = |cpu: &Cpu| cpu.resting.as_ref().is_some_and(|(m, _)| m.payload == number);
        self.cpus.iter().position(rests)
    }

    /// The one that has halted there and stayed goes on.
    fn resume(&mut self, cpu: usize) {
        let Some((member, before)) = self.cpus[cpu].resting.take() else { return };
        let seen = &mut self.seen[member.payload];
        seen.work = self.vcpus[member.payload].work;
        let ticks = seen.work.min(SLICE - before);
        let of = &mut self.cpus[cpu];
        (of.running, of.before) = (Some((member, self.now)), before);
        of.decision += 1;
        let decision = of.decision;
        self.at(self.now + ticks, Event::Decides(cpu, decision));
    }

    /// The one that has halted there and stayed makes room.
    fn lie_down(&mut self, cpu: usize) {
        let Some((mut member, ran)) = self.cpus[cpu].resting.take() else { return };
        self.board.resume(cpu);
        self.cpus[cpu].queue.leave(&mut member, ran);
        let number = member.payload;
        self.asleep[number] = Some(member);
    }

    /// The one that runs there has, until now; it, if it wants to go on.
    fn stop(&mut self, cpu: usize) -> Option<Box<Member<usize>>> {
        let (mut member, began) = self.cpus[cpu].running.take()?;
        let (number, ran) = (member.payload, self.now - began);
        let seen = &mut self.seen[number];
        seen.had += ran;
        seen.work = seen.work.saturating_sub(ran);
        let over = seen.work == 0;
        let ran = ran + core::mem::take(&mut self.cpus[cpu].before);
        let queue = &mut self.cpus[cpu].queue;
        if over {
            if ran < SLICE && queue.rests(&self.board) {
                self.cpus[cpu].resting = Some((member, ran));
            } else {
                queue.leave(&mut member, ran);
                self.asleep[number] = Some(member);
            }
            self.at(self.now + self.vcpus[number].sleep, Event::Wakes(number));
            return None;
        }
        let seen = &mut self.seen[number];
        (seen.waits, seen.since) = (Some(cpu), self.now);
        queue.settle(&mut member, ran, false);
        Some(member)
    }

    fn pull(&mut self, cpu: usize) -> bool {
        let mut tried = 0;
        while let Some(from) = self.cpus[cpu].queue.look(&self.board, tried) {
            if let Some(member) = self.cpus[from].queue.take_movable(cpu) {
                self.seen[member.payload].waits = Some(cpu);
                self.cpus[cpu].queue.receive(member);
                self.moves += 1;
                return true;
            }
            tried |= 1 << from;
        }
        false
    }

    fn decide(&mut self, cpu: usize) {
        self.decisions += 1;
        self.lie_down(cpu);
        let mut last = self.stop(cpu);
        if self.cpus[cpu].resting.is_some() {
            return;
        }
        self.pull(cpu);
        let (member, left) = loop {
            let of = &mut self.cpus[cpu];
            let picked = match last.take() {
                Some(last) => Some(of.queue.turn(last, None, |_| {})),
                None => of.woken.take().or_else(|| of.queue.pick()),
            };
            let mut called = of.queue.publish(&self.board);
            while called != 0 {
                let other = called.trailing_zeros() as usize;
                called &= called - 1;
                self.cpus[other].decision += 1;
                self.at(self.now, Event::Decides(other, self.cpus[other].decision));
            }
            match picked {
                Some(picked) => break picked,
                None if self.pull(cpu) => {}
                None => return,
            }
        };
        let seen = &mut self.seen[member.payload];
        assert!(self.vcpus[member.payload].affinity & 1 << cpu != 0, "it may not run here");
        let waited = self.now - seen.since;
        seen.waited = seen.waited.max(waited);
        if core::mem::take(&mut seen.woke) {
            seen.woken = seen.woken.max(waited);
        }
        (seen.last, seen.waits) = (cpu, None);
        // An exit comes a little late.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let ticks = (left + (self.random >> 33) % (SLICE / 64)).min(seen.work);
        self.cpus[cpu].running = Some((member, self.now));
        self.cpus[cpu].decision += 1;
        self.at(self.now + ticks, Event::Decides(cpu, self.cpus[cpu].decision));
    }
}
