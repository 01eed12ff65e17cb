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
    /// The only one: two take turns at no more cost than a look at each other.
    only: Option<Box<Member<T>>>,
    eligible: Heap<T>,
    ahead: Heap<T>,
}

/// Whose turn is sooner: who may start before who may not, and then by time.
type Rank = (bool, u64, u64);

fn is_sooner(a: Rank, b: Rank) -> bool {
    let by_time = ahead(a.1, b.1).cmp(&0).then_with(|| ahead(a.2, b.2).cmp(&0));
    a.0.cmp(&b.0).then(by_time).is_lt()
}

impl<T> Line<T> {
    pub fn new(capacity: usize) -> Line<T> {
        let heap = || BinaryHeap::with_capacity(capacity);
        Line { only: None, eligible: heap(), ahead: heap() }
    }

    pub fn len(&self) -> usize {
        let many = self.eligible.len().saturating_add(self.ahead.len());
        many.saturating_add(self.only.is_some().into())
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.only.is_none() && self.eligible.is_empty() && self.ahead.is_empty()
    }

    #[cfg(test)]
    pub fn capacity(&self) -> [usize; 2] {
        [self.eligible.capacity(), self.ahead.capacity()]
    }

    pub fn reserve(&mut self, more: usize) {
        self.eligible.reserve(more);
        self.ahead.reserve(more);
    }

    /// At virtual time `now`.
    #[inline]
    pub fn insert(&mut self, member: Box<Member<T>>, now: u64) {
        if self.is_empty() {
            self.only = Some(member);
        } else {
            self.insert_among(member, now);
        }
    }

    #[inline(never)]
    fn insert_among(&mut self, member: Box<Member<T>>, now: u64) {
        if let Some(only) = self.only.take() {
            self.place(only, now);
        }
        self.place(member, now);
    }

    fn place(&mut self, member: Box<Member<T>>, now: u64) {
        let (behind, time, number) = rank(&member, now);
        let heap = if behind { &mut self.ahead } else { &mut self.eligible };
        heap.push(Entry { time, number, member });
    }

    /// Lets those start whose time has come.
    #[inline(never)]
    fn advance(&mut self, now: u64) {
        while let Some(first) = self.ahead.peek()
            && ahead(first.time, now) <= 0
            && let Some(Entry { member, .. }) = self.ahead.pop()
        {
            self.place(member, now);
        }
    }

    /// That of the first.
    fn rank(&self, now: u64) -> Option<Rank> {
        if let Some(only) = &self.only {
            return Some(rank(only, now));
        }
        let eligible = self.eligible.peek().map(|entry| (false, entry.time, entry.number));
        eligible.or_else(|| self.ahead.peek().map(|entry| (true, entry.time, entry.number)))
    }

    fn pop(&mut self) -> Option<Box<Member<T>>> {
        if let Some(only) = self.only.take() {
            return Some(only);
        }
        let entry = self.eligible.pop().or_else(|| self.ahead.pop());
        entry.map(|entry| entry.member)
    }

    /// The first of both lines. If nobody may start, it is who may soonest.
    #[inline]
    pub fn first_of(a: &mut Line<T>, b: &mut Line<T>, now: u64) -> Option<Box<Member<T>>> {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return None,
            (false, true) if a.only.is_some() => return a.pop(),
            (true, false) if b.only.is_some() => return b.pop(),
            _ => {}
        }
        let (line, _) = Line::sooner(a, b, now)?;
        line.pop()
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
        let line = match (a.is_empty(), b.is_empty()) {
            (true, true) => return None,
            (false, true) if a.only.is_some() => a,
            (true, false) if b.only.is_some() => b,
            _ => return Line::before_of_many(a, b, member, now),
        };
        let first = line.only.as_ref()?;
        let comes = match (first.may_start(now), member.may_start(now)) {
            (true, true) => ahead(first.deadline(), member.deadline()) <= 0,
            (false, false) => ahead(first.start(), member.start()) <= 0,
            (first, _) => first,
        };
        if comes { line.pop() } else { None }
    }

    #[inline(never)]
    fn before_of_many(
        a: &mut Line<T>,
        b: &mut Line<T>,
        member: &Member<T>,
        now: u64,
    ) -> Option<Box<Member<T>>> {
        let (line, first) = Line::sooner(a, b, now)?;
        let (behind, time, _) = rank(member, now);
        // Of two with the same time the first is who waits.
        if is_sooner((behind, time, first.2), first) { None } else { line.pop() }
    }

    /// The line whose first is the first of both, and the rank of that.
    #[inline(never)]
    fn sooner<'a>(
        a: &'a mut Line<T>,
        b: &'a mut Line<T>,
        now: u64,
    ) -> Option<(&'a mut Line<T>, Rank)> {
        a.advance(now);
        b.advance(now);
        match (a.rank(now), b.rank(now)) {
            (Some(first), Some(second)) if is_sooner(second, first) => Some((b, second)),
            (Some(first), _) => Some((a, first)),
            (None, Some(second)) => Some((b, second)),
            (None, None) => None,
        }
    }

    /// The first that fits. It costs as much as there are members only if the very first does not.
    #[inline(never)]
    pub fn take(&mut self, fits: Fits<'_, T>) -> Option<Box<Member<T>>> {
        if let Some(only) = &self.only {
            return if fits(only) { self.pop() } else { None };
        }
        let entry = take(&mut self.eligible, fits).or_else(|| take(&mut self.ahead, fits));
        entry.map(|entry| entry.member)
    }

    /// All CPUs that one of them may run on.
    pub fn cpus(&self) -> u64 {
        let all = self.eligible.iter().chain(&self.ahead).map(|entry| &entry.member);
        all.chain(&self.only).fold(0, |cpus, member| cpus | member.affinity())
    }
}

/// Where a member stands, of those with the same time by its number.
fn rank<T>(member: &Member<T>, now: u64) -> Rank {
    match member.may_start(now) {
        true => (false, member.deadline(), member.number),
        false => (true, member.start(), member.number),
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
