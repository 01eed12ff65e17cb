//! Which vCPU runs next on a CPU.
//!
//! *Earliest eligible virtual deadline first* (I. Stoica, H. Abdel-Wahab, 1995), with the virtual time of
//! WF²Q+ (J. Bennett, H. Zhang, 1997). Virtual time passes for everybody at the rate at which each would
//! be served if all were at once, by their weights. A vCPU asks for slices. Each may start when virtual
//! time has come to what the vCPU has had, and has to be over when virtual time has come to that and the
//! slice. Of those that may start, the one with the earliest deadline runs. So none is ahead of its share
//! by more than a slice, and none is behind by more than the longest slice of all.
//!
//! Everything here is pure; times are ticks of the TSC. A queue allocates when it is made and not again.

extern crate alloc;

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

#[cfg(test)]
mod tests;

/// The weight of a vCPU whose description does not give one. Virtual time for it passes as fast as it runs.
pub const NORMAL: u32 = 256;

/// The weights that there are. With the smallest, virtual time runs over after 50 years of running alone.
pub const WEIGHTS: core::ops::RangeInclusive<u32> = 16..=4096;

/// What a vCPU asks for when it wakes up is so much shorter than a slice, so that it is over, and the vCPU
/// has reacted, so much sooner.
const WAKE: u64 = 8;

/// Virtual time, and the part of a tick of it that is not yet one, in units of the weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Virtual {
    time: u64,
    rest: u64,
}

impl Virtual {
    /// What it is when somebody, or all together, with this weight have run for so long.
    fn after(self, ticks: u64, weight: u64) -> Virtual {
        let scaled = ticks.saturating_mul(NORMAL.into()).saturating_add(self.rest);
        let whole = scaled.checked_div(weight).unwrap_or(0);
        let rest = scaled.checked_rem(weight).unwrap_or(0);
        Virtual { time: self.time.saturating_add(whole), rest }
    }

    fn at_least(self, time: u64) -> Virtual {
        if self.time < time { Virtual { time, rest: 0 } } else { self }
    }
}

/// A vCPU, as the scheduler sees it.
#[derive(Clone, Debug)]
struct Member {
    weight: u64,
    /// What it asks for at a time, in ticks.
    slice: u64,
    /// What is left of that.
    left: u64,
    /// What it has had, in virtual time: it may run when that has come.
    start: Virtual,
    /// The virtual time at which it must have had what it asks for; 0 if it never asked.
    deadline: u64,
}

impl Member {
    fn ask(&mut self, ticks: u64) {
        self.left = ticks.max(1);
        self.deadline = self.start.after(self.left, self.weight).time;
    }
}

/// The number of a member, behind the time that orders it: of two with the same time the lower one is first.
type Entry = Reverse<(u64, usize)>;

/// Those that want to run on one CPU. They are known by numbers from 0 on; what is asked of a number that
/// is nobody's does nothing.
#[derive(Debug)]
pub struct Queue {
    members: Vec<Member>,
    /// Virtual time.
    time: Virtual,
    /// The weights of all, with that of the one that runs.
    weight: u64,
    /// Those that may start, by their deadlines.
    eligible: BinaryHeap<Entry>,
    /// The others, by when they may start.
    ahead: BinaryHeap<Entry>,
}

impl Queue {
    /// A queue for members with these weights, which are brought into [`WEIGHTS`], and slices of so many ticks,
    /// at least one. None of them wants to run yet.
    pub fn new(members: impl Iterator<Item = (u32, u64)>) -> Queue {
        let member = |(weight, slice): (u32, u64)| Member {
            weight: weight.clamp(*WEIGHTS.start(), *WEIGHTS.end()).into(),
            slice: slice.max(1),
            left: 0,
            start: Virtual::default(),
            deadline: 0,
        };
        let members: Vec<Member> = members.map(member).collect();
        let capacity = members.len();
        Queue {
            members,
            time: Virtual::default(),
            weight: 0,
            eligible: BinaryHeap::with_capacity(capacity),
            ahead: BinaryHeap::with_capacity(capacity),
        }
    }

    /// Somebody who is not in the queue wants to run. Of its share, what it did not use while it was away is gone
    /// but for a slice; what it had beyond it, before it left, is not forgiven.
    pub fn join(&mut self, number: usize) {
        let Some(member) = self.members.get_mut(number) else { return };
        let slice = member.slice;
        let kept = Virtual::default().after(slice, member.weight).time;
        member.start = member.start.at_least(self.time.time.saturating_sub(kept));
        member.ask(if member.deadline == 0 { slice } else { slice.wrapping_div(WAKE) });
        self.weight = self.weight.saturating_add(member.weight);
        self.insert(number);
    }

    /// The next to run, and the ticks that it may. It is out of the queue until [`put_back`](Queue::put_back),
    /// [`give_way`](Queue::give_way) or [`leave`](Queue::leave).
    pub fn pick(&mut self) -> Option<(usize, u64)> {
        if self.eligible.is_empty() {
            // Nobody waits for the time that is between.
            let Reverse((first, _)) = *self.ahead.peek()?;
            self.time = self.time.at_least(first);
        }
        while let Some(&Reverse((start, number))) = self.ahead.peek()
            && start <= self.time.time
        {
            self.ahead.pop();
            self.insert(number);
        }
        let Reverse((_, number)) = self.eligible.pop()?;
        Some((number, self.members.get(number)?.left))
    }

    /// The one that was picked has run so long and wants to go on.
    pub fn put_back(&mut self, number: usize, ticks: u64) {
        if let Some(member) = self.charge(number, ticks)
            && member.left == 0
        {
            member.ask(member.slice);
        }
        self.insert(number);
    }

    /// The one that was picked has run so long, and wants others to run: it is as if it had used its slice up.
    pub fn give_way(&mut self, number: usize, ticks: u64) {
        if let Some(member) = self.charge(number, ticks) {
            member.start = member.start.after(member.left, member.weight);
            member.ask(member.slice);
        }
        self.insert(number);
    }

    /// The one that was picked has run so long, and does not want to for now.
    pub fn leave(&mut self, number: usize, ticks: u64) {
        let weight = self.charge(number, ticks).map_or(0, |member| member.weight);
        self.weight = self.weight.saturating_sub(weight);
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.eligible.is_empty() && self.ahead.is_empty()
    }

    fn charge(&mut self, number: usize, ticks: u64) -> Option<&mut Member> {
        self.time = self.time.after(ticks, self.weight);
        let member = self.members.get_mut(number)?;
        member.start = member.start.after(ticks, member.weight);
        member.left = member.left.saturating_sub(ticks);
        Some(member)
    }

    fn insert(&mut self, number: usize) {
        let Some(member) = self.members.get(number) else { return };
        let (queue, time) = if member.start.time <= self.time.time {
            (&mut self.eligible, member.deadline)
        } else {
            (&mut self.ahead, member.start.time)
        };
        queue.push(Reverse((time, number)));
    }
}
