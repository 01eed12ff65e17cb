//! What CPUs tell each other.

use core::array::from_fn;

use super::CPUS;
use super::member::ahead;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::sync::atomic::{AtomicI64, AtomicU64};

/// The bit of a CPU in a mask of CPUs.
#[inline]
pub(super) fn bit(cpu: usize) -> u64 {
    u32::try_from(cpu).ok().and_then(|cpu| 1_u64.checked_shl(cpu)).unwrap_or(0)
}

/// What one CPU tells the others. It writes it at its decisions; others read it only when they look for work.
#[derive(Debug)]
#[repr(align(64))]
struct Notice {
    time: AtomicU64,
    /// The weights of all who want to run; the greatest number while there is no such CPU.
    weight: AtomicU64,
    /// How far its virtual time comes while each of them has a slice.
    round: AtomicI64,
    /// The CPUs that somebody who waits here may go to.
    open: AtomicU64,
}

/// A CPU from which somebody can be taken.
pub(super) struct Slowest {
    pub cpu: usize,
    /// How far its virtual time is behind that of who looks.
    pub behind: i64,
    pub weight: u64,
    pub round: i64,
}

#[derive(Debug)]
#[repr(align(64))]
struct Word(AtomicU64);

/// What CPUs tell each other, without locks.
#[derive(Debug)]
pub struct Board {
    /// The CPUs on which nobody wants to run, and to which nobody was sent since. It is one word for all, as it is
    /// read at each decision; it is written when a CPU becomes idle or busy.
    idle: Word,
    /// Those of them that were called to look for work and have not looked since. One that somebody joins meanwhile
    /// still has to: who called it takes it for the one that helps.
    called: Word,
    /// The virtual time of the slowest CPU on which somebody waits, as who looked last has seen it.
    floor: Word,
    notices: [Notice; CPUS],
}

impl Board {
    /// For CPUs none of which has published.
    #[expect(clippy::new_without_default, reason = "a machine has one, made in one place")]
    pub fn new() -> Board {
        Board {
            idle: Word(AtomicU64::new(0)),
            called: Word(AtomicU64::new(0)),
            floor: Word(AtomicU64::new(0)),
            notices: from_fn(|_| Notice {
                time: AtomicU64::new(0),
                weight: AtomicU64::new(u64::MAX),
                round: AtomicI64::new(0),
                open: AtomicU64::new(0),
            }),
        }
    }

    /// Where somebody who wakes up, was on CPU `last` and may run on those of `affinity` has to join: there if that
    /// is idle, else where it is idle, else there, or, if it may not, where the least weight is. An idle CPU counts
    /// as busy from then on.
    pub fn place(&self, last: usize, affinity: u64) -> usize {
        let from = u32::try_from(last).unwrap_or(0);
        loop {
            let free = (self.idle.0.load(SeqCst) & affinity).rotate_right(from);
            if free == 0 {
                break;
            }
            let cpu = (free.trailing_zeros().wrapping_add(from) & 63) as usize;
            if self.claim(bit(cpu)) != 0 {
                return cpu;
            }
        }
        if bit(last) & affinity != 0 {
            return last;
        }
        let all = self.notices.iter().map(|notice| notice.weight.load(Relaxed)).enumerate();
        let may = all.filter(|&(cpu, _)| bit(cpu) & affinity != 0);
        may.min_by_key(|&(_, weight)| weight).map_or(last, |(cpu, _)| cpu)
    }

    /// A CPU that was seen idle is not; `false` if somebody was sent to it, or it was called, meanwhile.
    #[inline]
    pub fn resume(&self, cpu: usize) -> bool {
        self.claim(bit(cpu)) != 0
    }

    #[inline]
    fn claim(&self, cpus: u64) -> u64 {
        self.idle.0.fetch_and(!cpus, SeqCst) & cpus
    }

    pub(super) fn publish(
        &self,
        cpu: usize,
        time: u64,
        (weight, round): (u64, i64),
        open: u64,
        waiting: usize,
    ) -> u64 {
        let Some(notice) = self.notices.get(cpu) else { return 0 };
        notice.time.store(time, Relaxed);
        notice.weight.store(weight, Relaxed);
        notice.round.store(round, Relaxed);
        // Either this CPU sees that another has become idle, or that one sees that somebody waits here.
        notice.open.store(open, SeqCst);
        let idle = self.idle.0.load(SeqCst);
        if weight == 0 {
            self.idle.0.fetch_or(bit(cpu), SeqCst);
            return 0;
        }
        if idle & bit(cpu) != 0 {
            self.claim(bit(cpu));
        }
        if open & idle == 0 { 0 } else { self.call_for(waiting, open) }
    }

    /// Calls idle CPUs of these, at most so many.
    #[inline(never)]
    fn call_for(&self, most: usize, cpus: u64) -> u64 {
        let mut called = 0_u64;
        while (called.count_ones() as usize) < most {
            let free = self.idle.0.load(SeqCst) & cpus;
            if free == 0 {
                break;
            }
            called |= self.claim(free & free.wrapping_neg());
        }
        self.called.0.fetch_or(called, SeqCst);
        called
    }

    /// Whether `cpu` was called since this was asked last.
    pub(super) fn was_called(&self, cpu: usize) -> bool {
        self.called.0.load(SeqCst) & bit(cpu) != 0
            && self.called.0.fetch_and(!bit(cpu), SeqCst) & bit(cpu) != 0
    }

    /// Of the CPUs, without those that were `tried`, from which somebody can go to `cpu`, the one that is farthest
    /// behind `time`.
    pub(super) fn slowest(&self, cpu: usize, time: u64, tried: u64) -> Option<Slowest> {
        let open = self.notices.iter().enumerate().filter(|&(other, notice)| {
            bit(other) & tried == 0 && notice.open.load(SeqCst) & bit(cpu) != 0
        });
        let all = open.map(|(cpu, notice)| Slowest {
            cpu,
            behind: ahead(time, notice.time.load(Relaxed)),
            weight: notice.weight.load(Relaxed),
            round: notice.round.load(Relaxed),
        });
        all.max_by_key(|slowest| slowest.behind)
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor.0.load(Relaxed)
    }

    /// The slowest CPU is so far behind `time`.
    pub(super) fn set_floor(&self, time: u64, behind: i64) {
        self.floor.0.store(time.wrapping_sub(behind.cast_unsigned()), Relaxed);
    }
}
