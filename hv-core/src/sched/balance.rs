//! How a CPU helps others.

extern crate alloc;

use alloc::boxed::Box;

use super::board::{Board, bit};
use super::member::{Member, ahead};
use super::queue::Queue;
use super::{NORMAL, SPREAD};

impl<T> Queue<T> {
    /// Somebody comes from the queue of another CPU. What it had there, and what it still was to have, stays.
    #[inline(never)]
    pub fn receive(&mut self, mut member: Box<Member<T>>) {
        if self.weight == 0 {
            // Here it goes on from where it was there.
            (self.fresh, self.look_at) = (false, self.time);
            self.shift = member.start().wrapping_sub(self.time);
        }
        let behind = member.virtual_slice().saturating_add(self.spread.cast_unsigned());
        member.enter(self.time, self.shift, behind);
        self.count(&member);
        self.insert(member);
    }

    /// Somebody who waits and may run on this other CPU goes there, to [`receive`](Queue::receive): the first in
    /// turn of those.
    #[inline(never)]
    pub fn take_movable(&mut self, cpu: usize) -> Option<Box<Member<T>>> {
        let Some(mut member) = self.movable.take(&|member| member.affinity() & bit(cpu) != 0)
        else {
            self.open = self.movable.cpus() & !bit(self.cpu);
            return None;
        };
        self.discount(&mut member);
        Some(member)
    }

    /// As [`prefer`](Queue::prefer), for who goes to this other CPU, to [`receive`](Queue::receive).
    #[inline(never)]
    pub fn take_preferred(
        &mut self,
        cpu: usize,
        is: &dyn Fn(&T) -> bool,
    ) -> Option<Box<Member<T>>> {
        let (mut member, _) = self.prefer(cpu, is)?;
        self.discount(&mut member);
        Some(member)
    }

    /// Tells the others how this CPU stands, after each decision. Returns the idle CPUs, a bit for each, that now
    /// have to look for work here: they count as busy until they publish.
    #[inline(never)]
    pub fn publish(&mut self, board: &Board) -> u64 {
        let waiting = self.movable.len();
        if waiting == 0 {
            self.open = 0;
        }
        // Nobody could have helped a CPU on which nobody waits, so it is not owed what it is behind.
        // Nor is one on which nobody wanted to run.
        let slack = if self.fresh { Some(0) } else { (waiting == 0).then(|| spread(self.round())) };
        if let Some(slack) = slack {
            let behind = ahead(board.floor(), self.shared()).saturating_sub(slack);
            self.shift = self.shift.wrapping_add(behind.max(0).cast_unsigned());
        }
        self.fresh = self.weight == 0;
        board.publish(self.cpu, self.shared(), (self.weight, self.round()), self.open, waiting)
    }

    /// The CPU from which to take somebody, if there is one; not one of those that were `tried`, a bit for each, and
    /// had nobody. It looks at the others once in a round, and again after somebody was found, and whenever nobody
    /// wants to run here. A CPU that was called and on which somebody wants to run by now takes who it was called for
    /// all the same, and [calls](Queue::publish) another in its turn: nobody else knows that it cannot help.
    #[inline(never)]
    pub fn look(&mut self, board: &Board, tried: u64) -> Option<usize> {
        if tried == 0 {
            self.called = board.was_called(self.cpu);
        }
        let idle = self.weight == 0 || self.called;
        self.seek(board, tried, idle)
    }

    /// The one that was picked halts, and stays: others see this CPU idle until it [resumes](Board::resume). `false` if
    /// somebody waits, here or where this CPU can take them from.
    #[inline(never)]
    pub fn rests(&mut self, board: &Board) -> bool {
        if !self.is_empty() {
            return false;
        }
        // What it is behind then is no debt.
        self.fresh = true;
        board.publish(self.cpu, self.shared(), (0, 0), 0, 0);
        // Who waits elsewhere from now on finds this CPU idle.
        let stays = self.seek(board, 0, true).is_none();
        if !stays {
            board.resume(self.cpu);
        }
        stays
    }

    fn seek(&mut self, board: &Board, tried: u64, idle: bool) -> Option<usize> {
        if !idle && tried == 0 && ahead(self.time, self.look_at) < 0 {
            return None;
        }
        self.look_at = self.time.wrapping_add(self.round().cast_unsigned());
        let slowest = board.slowest(self.cpu, self.shared(), tried)?;
        let own = if self.open == 0 { i64::MIN } else { 0 };
        board.set_floor(self.shared(), slowest.behind.max(own));
        // What is more is no debt.
        self.spread = spread(slowest.round);
        let beyond = slowest.behind.saturating_sub(self.spread).max(0);
        self.shift = self.shift.wrapping_sub(beyond.cast_unsigned());
        let helps = slowest.behind > slowest.round && slowest.weight > self.weight;
        if helps {
            self.look_at = self.time;
        }
        (idle || helps).then_some(slowest.cpu)
    }

    /// How far virtual time comes while each has a slice.
    fn round(&self) -> i64 {
        let ticks = self.slice.saturating_mul(self.members).saturating_mul(NORMAL.into());
        i64::try_from(ticks.checked_div(self.weight).unwrap_or(0)).unwrap_or(i64::MAX)
    }

    /// Virtual time by that of all CPUs.
    fn shared(&self) -> u64 {
        self.time.wrapping_add(self.shift)
    }
}

/// How far CPUs may be apart if one has such a round.
fn spread(round: i64) -> i64 {
    round.saturating_mul(SPREAD)
}
