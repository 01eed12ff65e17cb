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
        let scaled = u128::from(ticks).wrapping_mul(NORMAL.into()).wrapping_add(self.rest.into());
        let whole = scaled.checked_div(weight.into()).unwrap_or(0);
        let rest = scaled.checked_rem(weight.into()).unwrap_or(0);
        let time = self.time.saturating_add(u64::try_from(whole).unwrap_or(u64::MAX));
        Virtual { time, rest: rest as u64 }
    }

    fn at_least(self, time: u64) -> Virtual {
        if self.time < time { Virtual { time, rest: 0 } } else { self }
    }
}

/// A vCPU, as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub id: u32,
    weight: u32,
    /// What it asks for at a time, in ticks.
    slice: u64,
    /// What is left of that.
    left: u64,
    /// What it has had, in virtual time: it may run when that has come.
    start: Virtual,
    /// The virtual time at which it must have had what it asks for.
    deadline: u64,
}

impl Member {
    /// A vCPU that has never run. The weight is brought into [`WEIGHTS`]; a slice is at least a tick.
    pub fn new(id: u32, weight: u32, slice: u64) -> Member {
        let weight = weight.clamp(*WEIGHTS.start(), *WEIGHTS.end());
        Member { id, weight, slice: slice.max(1), left: 0, start: Virtual::default(), deadline: 0 }
    }

    /// Ticks that it may run now.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn ask(&mut self, ticks: u64) {
        self.left = ticks.max(1);
        self.deadline = self.start.after(self.left, self.weight.into()).time;
    }
}

/// A member and the time that orders it; of two with the same, the one with the lower number is first.
#[derive(Debug)]
struct Entry {
    time: u64,
    member: Member,
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> core::cmp::Ordering {
        (self.time, self.member.id).cmp(&(other.time, other.member.id))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// Those that want to run on one CPU.
#[derive(Debug)]
pub struct Queue {
    time: Virtual,
    /// The weights of all, with that of the one that runs.
    weight: u64,
    /// Those that may start, by their deadlines.
    eligible: BinaryHeap<Reverse<Entry>>,
    /// The others, by when they may start.
    ahead: BinaryHeap<Reverse<Entry>>,
}

impl Queue {
    /// A queue for up to so many members.
    pub fn new(capacity: usize) -> Queue {
        Queue {
            time: Virtual::default(),
            weight: 0,
            eligible: BinaryHeap::with_capacity(capacity),
            ahead: BinaryHeap::with_capacity(capacity),
        }
    }

    /// Somebody new, or somebody who was away, wants to run. What it did not use while it was away is gone;
    /// what it had beyond its share, before it left, is not forgiven.
    pub fn join(&mut self, mut member: Member) {
        let slice = member.slice;
        let asks = if member.deadline == 0 { slice } else { slice.wrapping_div(WAKE) };
        member.start = member.start.at_least(self.time.time);
        member.ask(asks);
        self.weight = self.weight.saturating_add(member.weight.into());
        self.insert(member);
    }

    /// The next to run. It comes back by [`put_back`](Queue::put_back) or [`leave`](Queue::leave).
    pub fn pick(&mut self) -> Option<Member> {
        if self.eligible.is_empty()
            && let Some(Reverse(first)) = self.ahead.peek()
        {
            // Nobody waits for the time that is between.
            self.time = self.time.at_least(first.time);
        }
        while let Some(Reverse(first)) = self.ahead.peek()
            && first.time <= self.time.time
            && let Some(Reverse(Entry { member, .. })) = self.ahead.pop()
        {
            self.insert(member);
        }
        self.eligible.pop().map(|Reverse(entry)| entry.member)
    }

    /// The one that was picked has run so long and wants to go on.
    pub fn put_back(&mut self, mut member: Member, ticks: u64) {
        self.charge(&mut member, ticks);
        if member.left == 0 {
            member.ask(member.slice);
        }
        self.insert(member);
    }

    /// The one that was picked has run so long, and wants others to run: it is as if it had used its slice up.
    pub fn give_way(&mut self, mut member: Member, ticks: u64) {
        self.charge(&mut member, ticks);
        member.start = member.start.after(member.left, member.weight.into());
        member.ask(member.slice);
        self.insert(member);
    }

    /// The one that was picked has run so long, and does not want to for now.
    pub fn leave(&mut self, mut member: Member, ticks: u64) -> Member {
        self.charge(&mut member, ticks);
        self.weight = self.weight.saturating_sub(member.weight.into());
        member
    }

    /// Whether somebody waits.
    pub fn is_empty(&self) -> bool {
        self.eligible.is_empty() && self.ahead.is_empty()
    }

    fn charge(&mut self, member: &mut Member, ticks: u64) {
        self.time = self.time.after(ticks, self.weight);
        member.start = member.start.after(ticks, member.weight.into());
        member.left = member.left.saturating_sub(ticks);
    }

    fn insert(&mut self, member: Member) {
        if member.start.time <= self.time.time {
            self.eligible.push(Reverse(Entry { time: member.deadline, member }));
        } else {
            self.ahead.push(Reverse(Entry { time: member.start.time, member }));
        }
    }
}
