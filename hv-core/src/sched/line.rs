//! Those that wait on a CPU, in the order in which they run.

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::BinaryHeap;
use core::cmp::Ordering;

use super::member::{Member, ahead};

/// A member behind the virtual time that orders it; of two with the same time, who came first is first.
#[derive(Debug)]
struct Entry<T> {
    time: u64,
    number: u64,
    member: Box<Member<T>>,
}

impl<T> Ord for Entry<T> {
    /// The greatest is the first.
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(test)]
        super::tests::COMPARISONS.set(super::tests::COMPARISONS.get() + 1);
        let time = ahead(other.time, self.time).cmp(&0);
        time.then_with(|| ahead(other.number, self.number).cmp(&0))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

type Heap<T> = BinaryHeap<Entry<T>>;
/// Whether one is to be taken.
type Fits<'a, T> = &'a dyn Fn(&Member<T>) -> bool;

/// Those that may start, by their deadlines, and the others, by when they may start.
#[derive(Debug)]
pub(super) struct Line<T> {
    eligible: Heap<T>,
    ahead: Heap<T>,
}

impl<T> Line<T> {
    pub fn new(capacity: usize) -> Line<T> {
        let heap = || BinaryHeap::with_capacity(capacity);
        Line { eligible: heap(), ahead: heap() }
    }

    pub fn len(&self) -> usize {
        self.eligible.len().saturating_add(self.ahead.len())
    }

    #[cfg(test)]
    pub fn capacity(&self) -> [usize; 2] {
        [self.eligible.capacity(), self.ahead.capacity()]
    }

    pub fn reserve(&mut self, more: usize) {
        self.eligible.reserve(more);
        self.ahead.reserve(more);
    }

    /// At virtual time `now`; `number` counts those that have come.
    pub fn insert(&mut self, member: Box<Member<T>>, now: u64, number: u64) {
        let eligible = ahead(member.start(), now) <= 0;
        let time = if eligible { member.deadline() } else { member.start() };
        let heap = if eligible { &mut self.eligible } else { &mut self.ahead };
        heap.push(Entry { time, number, member });
    }

    /// Lets those start whose time has come.
    pub fn advance(&mut self, now: u64) {
        while let Some(first) = self.ahead.peek()
            && ahead(first.time, now) <= 0
            && let Some(Entry { number, member, .. }) = self.ahead.pop()
        {
            self.insert(member, now, number);
        }
    }

    /// The first of both lines. If nobody may start, it is who may soonest.
    pub fn first_of(a: &mut Line<T>, b: &mut Line<T>) -> Option<Box<Member<T>>> {
        let eligible = Line::pop(&mut a.eligible, &mut b.eligible);
        eligible.or_else(|| Line::pop(&mut a.ahead, &mut b.ahead)).map(|entry| entry.member)
    }

    /// As [`first_of`](Line::first_of), if it comes before this member, which would be the last of those with its
    /// time.
    #[inline]
    pub fn before(
        a: &mut Line<T>,
        b: &mut Line<T>,
        member: &Member<T>,
        now: u64,
    ) -> Option<Box<Member<T>>> {
        let eligible = ahead(member.start(), now) <= 0;
        let others = !a.eligible.is_empty() || !b.eligible.is_empty();
        let (a, b, time) = match (eligible, others) {
            (true, false) => return None,
            (true, true) => (&mut a.eligible, &mut b.eligible, member.deadline()),
            (false, true) => return Line::pop(&mut a.eligible, &mut b.eligible).map(|e| e.member),
            (false, false) => (&mut a.ahead, &mut b.ahead, member.start()),
        };
        let first = a.peek().max(b.peek())?;
        if ahead(first.time, time) > 0 {
            return None;
        }
        Line::pop(a, b).map(|entry| entry.member)
    }

    fn pop(a: &mut Heap<T>, b: &mut Heap<T>) -> Option<Entry<T>> {
        if a.peek() > b.peek() { a.pop() } else { b.pop() }
    }

    /// The first that fits. It costs as much as there are members only if the very first does not.
    #[inline(never)]
    pub fn take(&mut self, fits: Fits<'_, T>) -> Option<Box<Member<T>>> {
        let entry = take(&mut self.eligible, fits).or_else(|| take(&mut self.ahead, fits));
        entry.map(|entry| entry.member)
    }

    /// All CPUs that one of them may run on.
    pub fn cpus(&self) -> u64 {
        let all = self.eligible.iter().chain(&self.ahead);
        all.fold(0, |cpus, entry| cpus | entry.member.affinity())
    }
}

#[inline(never)]
fn take<T>(heap: &mut Heap<T>, fits: Fits<'_, T>) -> Option<Entry<T>> {
    if fits(&heap.peek()?.member) {
        return heap.pop();
    }
    let mut all = core::mem::take(heap).into_vec();
    let fitting = all.iter().enumerate().filter(|(_, entry)| fits(&entry.member));
    let found = fitting.max_by(|(_, a), (_, b)| a.cmp(b)).map(|(at, _)| at);
    let found = found.map(|at| all.swap_remove(at));
    *heap = all.into();
    found
}
