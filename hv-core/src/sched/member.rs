//! A vCPU, as the scheduler sees it.

use core::num::NonZeroU64;

use super::{NORMAL, WEIGHTS};

/// What a vCPU asks for when it wakes up is so much shorter than a slice, so that it is over, and the vCPU
/// has reacted, so much sooner.
pub(super) const WAKE: u64 = 8;

/// A virtual time, and the part of a tick of it that is not yet one, in units of the weight.
#[derive(Clone, Copy, Debug, Default)]
struct Virtual {
    time: u64,
    rest: u64,
}

impl Virtual {
    /// What it is when somebody with this weight has run for so long.
    fn after(self, ticks: u64, weight: NonZeroU64) -> Virtual {
        // The rest is less than the weight.
        let scaled = scaled(ticks).wrapping_add(self.rest);
        let (whole, rest) = (scaled / weight, scaled % weight);
        Virtual { time: self.time.wrapping_add(whole), rest }
    }
}

/// So many ticks in units of the weight: so many years of them that it does not overflow.
pub(super) fn scaled(ticks: u64) -> u64 {
    ticks.min(1 << 48).wrapping_mul(NORMAL as u64)
}

/// How far `a` is ahead of `b`. Virtual times wrap around.
pub(super) fn ahead(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b).cast_signed()
}

/// A vCPU with what the scheduler knows of it. It is boxed once, and its box goes from CPU to CPU.
#[derive(Debug)]
pub struct Member<T> {
    /// The vCPU.
    pub payload: T,
    affinity: u64,
    weight: NonZeroU64,
    /// Counts those that have come where it waits.
    pub(super) number: u64,
    /// What it asks for at a time, in ticks.
    slice: u64,
    /// What is left of that.
    left: u64,
    /// What it has had: it may run when virtual time has come to that. In a queue this is by the time of the
    /// queue, elsewhere by the time that all CPUs share.
    start: Virtual,
    /// How far that was ahead of its CPU when it left.
    lead: i64,
    /// It has been in a queue.
    known: bool,
}

impl<T> Member<T> {
    /// One that has not run, with a weight, which is brought into [`WEIGHTS`], a slice of so many ticks, at least
    /// one, and the CPUs that it may run on, a bit for each.
    pub fn new(payload: T, weight: u32, slice: u64, affinity: u64) -> Member<T> {
        Member {
            payload,
            affinity,
            weight: NonZeroU64::new(weight.clamp(*WEIGHTS.start(), *WEIGHTS.end()).into())
                .unwrap_or(NonZeroU64::MIN),
            number: 0,
            slice: slice.max(1),
            left: 0,
            start: Virtual::default(),
            lead: 0,
            known: false,
        }
    }

    /// The CPUs that it may run on, a bit for each.
    pub fn affinity(&self) -> u64 {
        self.affinity
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight.get()
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn start(&self) -> u64 {
        self.start.time
    }

    /// Whether it has had no more than its share at this time.
    pub(super) fn may_start(&self, time: u64) -> bool {
        ahead(self.start.time, time) <= 0
    }

    /// The virtual time at which it must have had what it asks for.
    pub(super) fn deadline(&self) -> u64 {
        self.start.after(self.left, self.weight).time
    }

    /// What it has had beyond this time, in units of the weight.
    pub(super) fn beyond(&self, time: u64) -> i64 {
        let whole = ahead(self.start.time, time).saturating_mul(self.weight.get().cast_signed());
        whole.saturating_add(self.start.rest.cast_signed())
    }

    pub(super) fn ran(&mut self, ticks: u64) {
        self.start = self.start.after(ticks, self.weight);
        self.left = self.left.saturating_sub(ticks);
    }

    pub(super) fn ask(&mut self) {
        self.left = self.slice;
    }

    /// How much of its share it may have kept when it wakes up, in virtual time, and what it then asks for.
    pub(super) fn wake(&mut self) -> u64 {
        if self.begin() { self.virtual_slice() } else { 0 }
    }

    /// What it asks for when it wakes up; whether it has been in a queue.
    pub(super) fn begin(&mut self) -> bool {
        let asks = if self.known { self.slice.wrapping_div(WAKE).max(1) } else { self.slice };
        self.left = asks;
        core::mem::replace(&mut self.known, true)
    }

    /// How far virtual time comes for it in a slice.
    pub(super) fn virtual_slice(&self) -> u64 {
        Virtual::default().after(self.slice, self.weight).time
    }

    /// Whether it may run at this time although others come first: it is not ahead by more than a slice.
    pub(super) fn may_be_preferred(&self, time: u64) -> bool {
        ahead(self.start.time, time) <= self.virtual_slice().cast_signed()
    }

    /// It goes into a queue whose time, of which `shift` is missing to that of all, is `time`: at most so far
    /// behind that, and no farther ahead than when it left.
    pub(super) fn enter(&mut self, time: u64, shift: u64, behind: u64) {
        let lag = ahead(time.wrapping_add(shift), self.start.time);
        let most = i64::try_from(behind).unwrap_or(i64::MAX);
        let lag = lag.clamp(self.lead.saturating_neg(), most);
        self.start.time = time.wrapping_sub(lag.cast_unsigned());
    }

    /// The reverse.
    pub(super) fn exit(&mut self, time: u64, shift: u64) {
        self.lead = ahead(self.start.time, time).max(0);
        self.start.time = self.start.time.wrapping_add(shift);
    }
}
