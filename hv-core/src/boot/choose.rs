//! Who runs next on this CPU, and where one runs that wakes up.

use super::home::{Instance, Unit};
use super::sched::Vcpus;
use crate::vm::post::{Post, lowest};

impl Vcpus<'_> {
    /// Who runs next and for how many ticks, where the one that ran last does not want to go on.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(Unit, u64)> {
        let Some(woken) = self.woken.take() else { return self.decide() };
        if self.shares {
            let idle = self.queue.lock().publish(&self.machine.board);
            self.call(idle);
        }
        Some(woken)
    }

    #[inline(never)]
    pub(super) fn settle_last(&mut self) {
        if let Some((unit, ran, gives_way)) = &mut self.last {
            let (ran, gives_way) = (core::mem::take(ran), core::mem::take(gives_way));
            self.queue.lock().settle(unit, ran, gives_way);
        }
    }

    /// The one that ran last has run so long and wants to go on, perhaps behind others: who runs next, and for how
    /// many ticks.
    #[inline]
    pub(super) fn turn(&mut self, mut unit: Unit, ran: u64, gives_way: bool) -> (Unit, u64) {
        let preferred = self.preferred.take();
        if let Some(post) = preferred {
            self.fetch(post);
        }
        let mut queue = self.queue.lock();
        queue.settle(&mut unit, ran, gives_way);
        if self.shares {
            drop(queue);
            self.help();
            queue = self.queue.lock();
        }
        let preferred = preferred.and_then(|post| queue.prefer(self.index.into(), &is(post)));
        let next = queue.turn(unit, preferred, |unit| {
            let moves = self.moves(unit);
            self.cpu.put_away_here(self.machine, &mut unit.payload, moves);
        });
        let idle = if self.shares { queue.publish(&self.machine.board) } else { 0 };
        self.others = self.shares || !queue.is_empty();
        drop(queue);
        self.call(idle);
        next
    }

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
            let idle = if self.shares { queue.publish(&self.machine.board) } else { 0 };
            self.others = self.shares || !queue.is_empty();
            drop(queue);
            self.call(idle);
            if picked.is_some() || !self.shares {
                return picked;
            }
        }
        None
    }

    /// Has idle CPUs, a bit for each, look for work.
    #[inline]
    fn call(&self, mut idle: u64) {
        while let Some(cpu) = lowest(&mut idle) {
            self.machine.call(cpu.into());
        }
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
    pub(super) fn join(&mut self, mut unit: Unit) {
        let here = usize::from(self.index);
        let cpu = match self.shares {
            true => self.machine.board.place(here, unit.affinity()),
            false => here,
        };
        if cpu == here && self.woken.is_none() {
            // Nobody else may want to run: then it need not go where others take it from.
            let begins = self.queue.lock().begin(&mut unit);
            if let Some(left) = begins {
                self.others = self.shares;
                self.woken = Some((unit, left));
                return;
            }
        }
        self.put_away(&mut unit);
        let queue = self.machine.queues.get(cpu).unwrap_or(self.queue);
        queue.lock().join(unit);
        if cpu == here {
            self.others = true;
        } else {
            self.machine.call(cpu);
        }
    }
}

/// Whether a vCPU is the one with this post.
fn is(post: &Post) -> impl Fn(&Instance) -> bool {
    move |instance| core::ptr::eq(instance.vcpu.post, post)
}
