//! Measured sections: marks around, clock inside, the guest's own exit counters between.

use core::arch::asm;
use core::fmt;

use guest_kernel::{pv, timer};
use x86_64::stat;

use crate::table::Workload;

/// What a workload's sections add up to.
pub struct Meter {
    id: u64,
    ops: u64,
    ticks: u64,
    empty: u64,
    /// With an area only.
    exits: Option<Exits>,
}

/// Exits that the guest itself counted.
#[derive(Default)]
struct Exits {
    section: u64,
    /// Those of the same loop without the operation: where RDTSC exits, it is the clock's.
    empty: u64,
}

/// A row of the result.
pub struct Row {
    name: &'static str,
    meter: Meter,
}

/// Runs a workload.
pub fn row(workload: &Workload, ops: u64) -> Row {
    let mut meter = Meter {
        id: workload.id,
        ops: 0,
        ticks: 0,
        empty: 0,
        exits: pv::exits().map(|_| Exits::default()),
    };
    (workload.run)(&mut meter, ops);
    Row { name: workload.name, meter }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Meter { id, ops, ticks, empty, exits } = &self.meter;
        write!(f, "id={id} name={} ops={ops} ticks={ticks} empty={empty} exits=", self.name)?;
        match exits {
            Some(exits) => write!(f, "{} empty-exits={}", exits.section, exits.empty),
            None => f.write_str("-"),
        }
    }
}

impl Meter {
    /// One section: `ops` times `op`. Then, unmarked, the same loop without `op`.
    ///
    /// A workload may have many sections; they add up.
    #[inline]
    pub fn section(&mut self, ops: u64, op: impl FnMut()) {
        self.section_of(ops, ops, op);
    }

    /// As [`Meter::section`], for an `op` that counts as several operations.
    #[inline]
    pub fn section_of(&mut self, ops: u64, rounds: u64, op: impl FnMut()) {
        self.section_with_waits(ops, rounds, 0, op);
    }

    /// As [`Meter::section_of`], for an `op` that waits for deadlines `wait` ticks ahead in all. The
    /// waiting counts as part of the empty loop: what is left is what the operation takes longer
    /// than that. Arming goes on while it is waited, so its time is not in what is left.
    #[inline]
    pub fn section_with_waits(&mut self, ops: u64, rounds: u64, wait: u64, op: impl FnMut()) {
        let before = pv::exits();
        // Without Paravane there is nobody to mark for.
        let begin = stat::begin(self.id);
        let ticks = timed(rounds, op);
        let end = stat::end(self.id);
        let after = pv::exits();
        self.ops += ops;
        self.ticks += ticks;
        let before_empty = pv::exits();
        self.empty += timed(rounds, || ()) + rounds * wait;
        let after_empty = pv::exits();
        if let (Ok(begin), Ok(end), Some(exits)) = (begin, end, &mut self.exits) {
            exits.section += agreed(end.wrapping_sub(begin), difference(before, after));
            exits.empty += difference(before_empty, after_empty);
        }
    }

    /// What was measured otherwise, without marks: `ticks` for all of `ops`, `empty` of them not theirs.
    pub fn measured(&mut self, ops: u64, ticks: u64, empty: u64) {
        (self.ops, self.ticks, self.empty) =
            (self.ops + ops, self.ticks + ticks, self.empty + empty);
    }

    /// A section of one `op` that says afterwards how many operations it was: what it did in a fixed time.
    pub fn section_of_time(&mut self, op: impl FnOnce() -> u64) {
        let (mut op, mut done) = (Some(op), 0);
        self.section_of(0, 1, || done = op.take().map_or(0, |op| op()));
        self.ops += done;
    }
}

/// Exits between two readings of the area; without an area there are no readings.
fn difference(before: Option<u64>, after: Option<u64>) -> u64 {
    after.unwrap_or(0).wrapping_sub(before.unwrap_or(0))
}

/// The exits of a section: what the marks returned, if the area agrees, else what the area says,
/// which the host then finds to differ from the hypervisor's report.
///
/// The area is read outside the marks, so one time slice may end between a reading and its mark. A
/// mark that is counted as an exit shows twice.
fn agreed(marks: u64, area: u64) -> u64 {
    if area.wrapping_sub(marks) <= 1 { marks } else { area }
}

/// The TSC ticks that `rounds` of `op` take.
#[inline(always)]
fn timed(rounds: u64, mut op: impl FnMut()) -> u64 {
    let begin = timer::now();
    for _ in 0..rounds {
        op();
        // SAFETY: no instruction; it keeps the compiler from merging or dropping rounds.
        unsafe { asm!("", options(nostack, preserves_flags)) };
    }
    timer::now() - begin
}
