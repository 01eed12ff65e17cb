//! Those that want to run on one CPU.

extern crate alloc;

use alloc::boxed::Box;

use super::board::bit;
use super::line::Line;
use super::member::{Member, scaled};

/// Those that want to run on one CPU, without the one that runs.
#[derive(Debug)]
pub struct Queue<T> {
    pub(super) cpu: usize,
    /// Virtual time: what all have had on average, by their weights, with the one that runs.
    pub(super) time: u64,
    /// The part of a tick of it that is not yet one, in units of the weight.
    rest: i64,
    /// What is missing to the time that all CPUs share.
    pub(super) shift: u64,
    /// The weights of all, with that of the one that runs.
    pub(super) weight: u64,
    /// How many they are.
    pub(super) members: u64,
    /// Those that must stay here.
    staying: Line<T>,
    /// Those that may run on another CPU.
    pub(super) movable: Line<T>,
    /// The other CPUs that one of these may run on, and perhaps more.
    pub(super) open: u64,
    /// Nobody was here when the last one came.
    pub(super) fresh: bool,
    /// It was called to take somebody, and nobody was found yet.
    pub(super) called: bool,
    /// The slice that rounds are made of.
    pub(super) slice: u64,
    /// The time at which to look at the others next.
    pub(super) look_at: u64,
    /// How far who comes from another CPU may be behind.
    pub(super) spread: i64,
    /// How many have come.
    number: u64,
}

impl<T> Queue<T> {
    /// The queue of this CPU for so many members. All CPUs have the same `slice` in ticks: that of most members.
    pub fn new(cpu: usize, capacity: usize, slice: u64) -> Queue<T> {
        Queue {
            cpu,
            time: 0,
            rest: 0,
            shift: 0,
            weight: 0,
            members: 0,
            staying: Line::new(capacity),
            movable: Line::new(capacity),
            open: 0,
            fresh: true,
            called: false,
            slice,
            look_at: 0,
            spread: 0,
            number: 0,
        }
    }

    /// Makes room for so many more members than wait.
    pub fn reserve(&mut self, more: usize) {
        self.staying.reserve(more);
        self.movable.reserve(more);
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> [[usize; 2]; 2] {
        [self.staying.capacity(), self.movable.capacity()]
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.staying.len().saturating_add(self.movable.len())
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.staying.is_empty() && self.movable.is_empty()
    }

    /// Somebody wants to run, for the first time or because it woke up. Of its share, what it did not use while it
    /// was away is gone but for a slice; what it had beyond it, before it left, is not forgiven.
    #[inline(never)]
    pub fn join(&mut self, mut member: Box<Member<T>>) {
        self.fresh |= self.weight == 0;
        let kept = member.wake();
        member.enter(self.time, self.shift, if self.weight == 0 { 0 } else { kept });
        self.count(&member);
        self.insert(member);
    }

    /// The next to run, and the ticks that it may. It still counts here until [`put_back`](Queue::put_back) or
    /// [`leave`](Queue::leave), or until [`settle`](Queue::settle) and [`turn`](Queue::turn) say who follows.
    #[inline(never)]
    pub fn pick(&mut self) -> Option<(Box<Member<T>>, u64)> {
        let member = Line::first_of(&mut self.staying, &mut self.movable, self.time)?;
        let left = member.left();
        Some((member, left))
    }

    /// As [`pick`](Queue::pick), but it is this one, whosever turn it is; `None` if it does not wait here, may not run
    /// on this CPU, or is ahead of its share by more than a slice.
    #[inline(never)]
    pub fn prefer(&mut self, cpu: usize, is: &dyn Fn(&T) -> bool) -> Option<(Box<Member<T>>, u64)> {
        let time = self.time;
        let fits = |member: &Member<T>| {
            is(&member.payload)
                && member.affinity() & bit(cpu) != 0
                && member.may_be_preferred(time)
        };
        let member = self.staying.take(&fits).or_else(|| self.movable.take(&fits))?;
        let left = member.left();
        Some((member, left))
    }

    /// As [`join`](Queue::join) where nobody else wants to run, and [`pick`](Queue::pick) at once: the ticks that it
    /// may. `None`, and nothing done, if somebody does.
    #[inline]
    pub fn begin(&mut self, member: &mut Member<T>) -> Option<u64> {
        if self.members != 0 {
            return None;
        }
        self.fresh = true;
        member.begin();
        member.enter(self.time, self.shift, 0);
        (self.weight, self.members) = (member.weight(), 1);
        self.pass(member.beyond(self.time));
        Some(member.left())
    }

    /// The one that was picked has run so long and wants to go on; if it `gives_way`, it is as if it had used its
    /// slice up. [`turn`](Queue::turn) says who goes on.
    #[inline]
    pub fn settle(&mut self, member: &mut Member<T>, ticks: u64, gives_way: bool) {
        let ticks = if gives_way { ticks.max(member.left()) } else { ticks };
        self.charge(member, ticks);
        if member.left() == 0 {
            member.ask();
        }
    }

    /// Who runs next, and the ticks that it may: whom [`prefer`](Queue::prefer) found, or the first in turn, which may
    /// be the one that has run. If it is another, `put_away` sees that one before it can be taken.
    #[inline]
    pub fn turn(
        &mut self,
        mut member: Box<Member<T>>,
        preferred: Option<(Box<Member<T>>, u64)>,
        put_away: impl FnOnce(&mut Member<T>),
    ) -> (Box<Member<T>>, u64) {
        let next = preferred.or_else(|| self.first_before(&member));
        match next {
            Some(next) => {
                put_away(&mut member);
                self.insert(member);
                next
            }
            None => {
                let left = member.left();
                (member, left)
            }
        }
    }

    #[inline]
    fn first_before(&mut self, member: &Member<T>) -> Option<(Box<Member<T>>, u64)> {
        let next = Line::before(&mut self.staying, &mut self.movable, member, self.time)?;
        let left = next.left();
        Some((next, left))
    }

    /// The one that was picked has run so long and wants to go on.
    #[inline(never)]
    pub fn put_back(&mut self, mut member: Box<Member<T>>, ticks: u64) {
        self.settle(&mut member, ticks, false);
        self.insert(member);
    }

    /// The same, where it wants others to run: it is as if it had used its slice up.
    #[cfg(test)]
    pub fn give_way(&mut self, mut member: Box<Member<T>>, ticks: u64) {
        self.settle(&mut member, ticks, true);
        self.insert(member);
    }

    /// The one that was picked has run so long, and does not want to for now.
    #[inline(never)]
    pub fn leave(&mut self, member: &mut Member<T>, ticks: u64) {
        self.charge(member, ticks);
        self.discount(member);
    }

    fn charge(&mut self, member: &mut Member<T>, ticks: u64) {
        member.ran(ticks);
        self.pass(scaled(ticks).cast_signed());
    }

    #[inline(never)]
    pub(super) fn count(&mut self, member: &Member<T>) {
        self.weight = self.weight.saturating_add(member.weight());
        self.members = self.members.saturating_add(1);
        self.pass(member.beyond(self.time));
    }

    #[inline(never)]
    pub(super) fn discount(&mut self, member: &mut Member<T>) {
        self.weight = self.weight.saturating_sub(member.weight());
        self.members = self.members.saturating_sub(1);
        self.pass(member.beyond(self.time).saturating_neg());
        member.exit(self.time, self.shift);
    }

    /// All together have had so much more, in units of the weight.
    #[inline]
    fn pass(&mut self, had: i64) {
        let (sum, weight) = (self.rest.saturating_add(had), self.weight);
        let (whole, rest) = match u64::try_from(sum) {
            Ok(sum) => (sum.checked_div(weight), sum.checked_rem(weight)),
            Err(_) => back(sum, weight),
        };
        self.rest = rest.unwrap_or(0).cast_signed();
        self.time = self.time.wrapping_add(whole.unwrap_or(0));
    }

    #[inline]
    pub(super) fn insert(&mut self, mut member: Box<Member<T>>) {
        self.number = self.number.wrapping_add(1);
        member.number = self.number;
        let elsewhere = member.affinity() & !bit(self.cpu);
        self.open |= elsewhere;
        let line = if elsewhere == 0 { &mut self.staying } else { &mut self.movable };
        line.insert(member, self.time);
    }
}

/// How far a negative sum goes, rounded down, and the rest, which is less than the weight and not negative.
#[cold]
fn back(sum: i64, weight: u64) -> (Option<u64>, Option<u64>) {
    let weight = weight.cast_signed();
    let (whole, rest) = (sum.checked_div_euclid(weight), sum.checked_rem_euclid(weight));
    (whole.map(i64::cast_unsigned), rest.map(i64::cast_unsigned))
}
