//! The 8254 interval timer of a PC (Intel, 8254 data sheet), and what port 61h shows of it.
//!
//! Time is nanoseconds since the VM started, given with each call as `now`; a `now` before that of an
//! earlier call counts as that one. One CLK pulse is one tick of [`FREQUENCY`], and tick n ends
//! exactly at n / [`FREQUENCY`] seconds. What is written, and what becomes of a gate, takes effect at
//! the next CLK pulse, except where the data sheet says that it does at once. Nothing happens by
//! itself: an access works out what the pulses since the last one have done, however many they were.
//!
//! Counters 0 and 1 always count; the gate of counter 2 is bit 0 of port 61h. A count of 1, which the
//! data sheet forbids in modes 2 and 3, acts as 2 there.

mod access;
mod clock;
mod counter;
mod system;
#[cfg(test)]
mod tests;

pub use clock::FREQUENCY;

use counter::Counter;

/// What nobody drives reads as ones.
const FLOATING: u8 = 0xff;

const READ_BACK: u8 = 0b11;
/// These two bits of a read-back command are active low.
const READ_BACK_NO_COUNT: u8 = 1 << 5;
const READ_BACK_NO_STATUS: u8 = 1 << 4;

/// The state of an 8254.
#[derive(Clone, Debug)]
pub struct Pit {
    counters: [Counter; 3],
    /// Bits 3:0 of port 61h.
    system: u8,
}

impl Pit {
    /// A timer that nobody has programmed yet: nothing counts.
    pub const fn new() -> Pit {
        Pit { counters: [Counter::new(true), Counter::new(true), Counter::new(false)], system: 0 }
    }

    /// A read of register `register`: counter 0 to 2, or 3, the control word, which cannot be read
    /// (higher bits are ignored).
    pub fn read(&mut self, register: u8, now: u64) -> u8 {
        let tick = clock::tick(now);
        match self.counters.get_mut(usize::from(register & 3)) {
            Some(counter) => counter.read(tick),
            None => FLOATING,
        }
    }

    /// A write to register `register`: counter 0 to 2, or 3, the control word (higher bits are
    /// ignored).
    pub fn write(&mut self, register: u8, value: u8, now: u64) {
        let tick = clock::tick(now);
        match self.counters.get_mut(usize::from(register & 3)) {
            Some(counter) => counter.write(value, tick),
            None if value >> 6 == READ_BACK => self.read_back(value, tick),
            None => {
                if let Some(counter) = self.counters.get_mut(usize::from(value >> 6)) {
                    counter.control(value, tick);
                }
            }
        }
    }

    fn read_back(&mut self, value: u8, tick: u64) {
        for (counter, select) in self.counters.iter_mut().zip(1..) {
            if value >> select & 1 == 0 {
                continue;
            }
            counter.advance(tick);
            if value & READ_BACK_NO_COUNT == 0 {
                counter.latch_count();
            }
            if value & READ_BACK_NO_STATUS == 0 {
                counter.latch_status();
            }
        }
    }

    /// The OUT pin of counter `counter` (0 to 2; there are no others).
    pub fn output(&self, counter: usize, now: u64) -> bool {
        self.counters.get(counter).is_some_and(|counter| counter.at(clock::tick(now)).output())
    }

    /// When OUT of counter 0 next rises after `now`, if it does without another access.
    pub fn next_rise(&self, now: u64) -> Option<u64> {
        let [counter, ..] = &self.counters;
        let counter = counter.at(clock::tick(now));
        clock::time(counter.tick().checked_add(counter.ticks_to_rise()?)?)
    }

    /// Nanoseconds from one rise of OUT of counter 0 to the next, in a mode that repeats itself.
    pub fn period(&self) -> Option<u64> {
        let [counter, ..] = &self.counters;
        clock::time(counter.period()?)
    }

    /// How many times OUT of counter 0 has risen up to `now` since the last call.
    pub fn rises(&mut self, now: u64) -> u64 {
        let [counter, ..] = &mut self.counters;
        counter.advance(clock::tick(now));
        counter.take_rises()
    }
}

impl Default for Pit {
    fn default() -> Pit {
        Pit::new()
    }
}
