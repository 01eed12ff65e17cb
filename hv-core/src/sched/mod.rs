//! Which vCPU runs next, and on which CPU.
//!
//! On each CPU it is *earliest eligible virtual deadline first* (I. Stoica, H. Abdel-Wahab, 1995). Virtual time is
//! what those that want to run have had on average, by their weights. A vCPU asks for slices. Each may start when
//! virtual time has come to what the vCPU has had, and has to be over when virtual time has come to that and the
//! slice. Of those that may start, the one with the earliest deadline runs. So, among the same vCPUs, none is ahead
//! of its share by more than a slice, and none is behind by more than the longest slice of all.
//!
//! Between CPUs it is *distributed weighted round-robin* (T. Li, D. Baumberger, S. Hahn, PPoPP 2009), with virtual
//! times in place of numbers of rounds. A round is the time in which each vCPU of a CPU has a slice. A CPU that is
//! more than a round ahead of the slowest takes somebody who waits there, if more weight is there than here; one on
//! which nobody wants to run takes somebody at once. Who moves takes along what it has had. What CPUs are apart by
//! more than [`SPREAD`] rounds they are for want of vCPUs that may move, and it is forgotten.
//!
//! A vCPU that always wants to run and may run everywhere is off its share by some slices of its own and some
//! rounds, however long it runs. None waits longer than two slices take at its share, and `SPREAD + 1` rounds. One
//! that wakes up and has used less than its share comes before those that run all the time, and has an eighth of a
//! slice in an eighth of the time that a slice takes at its share. A decision costs O(log n), taken over many; a look
//! at the other CPUs costs O(CPUs), and there is one in a round and one for each vCPU that moves.
//!
//! Whom another one wakes gets to a queue when the turn of the one that runs there has lasted a 64th of a slice, or is
//! over: who tells another one something again and again would be stopped each time otherwise. That is not seen here.
//!
//! One that gives way to another by name has that one [preferred](Queue::prefer), on this CPU, unless it is ahead of
//! its share by a slice already: so it is ahead by two at most, and others have theirs all the same.
//!
//! Everything here is pure; times are ticks of the TSC. A queue allocates when it is made and not again.
//!
//! # A decision of a CPU
//!
//! It charges who ran, joins who woke up, [looks](Queue::look) and moves who is to move, [picks](Queue::pick),
//! [publishes](Queue::publish), and calls those that it is told to. If it picked nobody, the others see it idle from
//! then on, and it has to look once more before it halts. A queue is changed under its own lock, and nobody holds
//! two: who is taken from one is received by the other when the first is free. A CPU whose only vCPU runs still
//! comes to a decision in each slice, as it could not help the others otherwise.
//!
//! One that has a CPU for itself may halt there: the others see that CPU idle from [then](Queue::rests) until it
//! [resumes](Board::resume). What it has had is charged when it leaves, and it leaves before that is more than a slice:
//! who comes from another CPU meanwhile comes to a time that knows nothing of it.

mod alarms;
mod balance;
mod board;
mod line;
mod member;
mod queue;

#[cfg(test)]
mod tests;

pub use alarms::Alarms;
pub use board::Board;
pub use member::Member;
pub use queue::Queue;

/// The weight of a vCPU whose description does not give one. Virtual time for it passes as fast as it runs.
pub const NORMAL: u32 = 256;

/// The weights that there are.
pub const WEIGHTS: core::ops::RangeInclusive<u32> = 16..=4096;

/// The most CPUs that there are: one for each bit of an affinity. A checker of all orders can do with as many as it
/// runs.
pub const CPUS: usize = if cfg!(loom) { 3 } else { 64 };

/// The affinity of a vCPU that may run on every CPU.
pub const ANYWHERE: u64 = u64::MAX;

/// CPUs are at most so many rounds apart. With fewer, vCPUs that sleep often disturb the shares of others; with more,
/// the others wait longer for one that comes from a slow CPU.
pub const SPREAD: i64 = 4;
