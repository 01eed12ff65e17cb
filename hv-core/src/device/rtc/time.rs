//! Time and date: the bytes of the clock, and what a number of updates makes of them.
//!
//! They are kept as the guest wrote them until the next update. So a guest may write one after the
//! other, with a date in between that does not exist, and reads back what it wrote.

use super::calendar::{self, Date};
use super::{Rtc, registers};

pub(super) const SECONDS: u8 = 0;
pub(super) const MINUTES: u8 = 2;
pub(super) const HOURS: u8 = 4;
const WEEKDAY: u8 = 6;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const CENTURY: u8 = 0x32;

pub(super) const DAY_SECONDS: u64 = 86_400;

/// What some time has brought.
pub(super) struct Passed {
    /// Flags of register C.
    pub(super) flags: u8,
    /// Updates of time and date.
    pub(super) seconds: u64,
}

/// Seconds from the start of 1970 that a chip tells which has these registers, with the century where PCs
/// have it; `None` if they tell no date of this century.
pub fn read_out(mut register: impl FnMut(u8) -> u8) -> Option<u64> {
    let mut rtc = Rtc::new(0, 0, 0);
    let start = rtc.moment();
    rtc.b = register(0x0b);
    for index in [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR] {
        rtc.set_byte(index, register(index));
    }
    // Not every machine has the byte of the century.
    rtc.set_byte(CENTURY, rtc.format().encode(20));
    let seconds = rtc.moment().checked_sub(start)?;
    // A date that is one comes out as it went in.
    let mut again = Rtc { b: rtc.b, ..Rtc::new(0, 0, 0) };
    again.start_at(seconds);
    [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY]
        .into_iter()
        .all(|index| again.byte(index) == rtc.byte(index))
        .then_some(seconds)
}

impl Rtc {
    /// Sets the clock, in the format of a new one.
    pub(super) fn start_at(&mut self, epoch_seconds: u64) {
        // 1 January 1970 was a Thursday, and Sunday is 1.
        for (register, value) in [(WEEKDAY, 5), (DAY, 1), (MONTH, 1), (YEAR, 70), (CENTURY, 19)] {
            let byte = self.format().encode(value);
            self.set_byte(register, byte);
        }
        self.update(epoch_seconds);
    }

    /// Seconds of the clock, from a point that does not matter, at midnight of some day.
    pub(super) fn moment(&self) -> u64 {
        let number = |register| self.format().decode(self.byte(register));
        let year = number(CENTURY).wrapping_mul(100).wrapping_add(number(YEAR));
        let day = calendar::number(Date { year, month: number(MONTH), day: number(DAY) });
        let hours = self.format().decode_hour(self.byte(HOURS));
        [(day, DAY_SECONDS), (hours, 3600), (number(MINUTES), 60), (number(SECONDS), 1)]
            .into_iter()
            .fold(0, |sum, (count, seconds)| count.wrapping_mul(seconds).wrapping_add(sum))
    }

    /// This many updates.
    fn update(&mut self, seconds: u64) {
        let format = self.format();
        let before = self.moment();
        let after = before.wrapping_add(seconds);
        let days = (after / DAY_SECONDS).wrapping_sub(before / DAY_SECONDS);
        let weekday = (days % 7).wrapping_add(format.decode(self.byte(WEEKDAY))).wrapping_add(6);
        let date = calendar::date(after / DAY_SECONDS);
        for (register, value) in [
            (SECONDS, after % 60),
            (MINUTES, after / 60 % 60),
            (WEEKDAY, (weekday % 7).wrapping_add(1)),
            (DAY, date.day),
            (MONTH, date.month),
            (YEAR, date.year % 100),
        ] {
            self.set_byte(register, format.encode(value));
        }
        self.set_byte(HOURS, format.encode_hour(after / 3600 % 24));
        // To the chip it is memory: it is touched only if the century is another one.
        if date.year / 100 != format.decode(self.byte(CENTURY)) {
            self.set_byte(CENTURY, format.encode(date.year / 100 % 100));
        }
    }

    /// What happens up to `now`.
    pub(super) fn passed(&self, now: u64) -> Passed {
        let (from, to) = (self.settled, now.max(self.settled));
        let ticked = self.divider.ticks(from) != self.divider.ticks(to);
        let mut flags = if ticked { registers::PERIODIC } else { 0 };
        let seconds = if self.updates() {
            self.divider.seconds(to).wrapping_sub(self.divider.seconds(from))
        } else {
            0
        };
        if seconds != 0 {
            flags |= registers::UPDATE;
            if self.seconds_to_alarm(from).is_some_and(|alarm| alarm <= seconds) {
                flags |= registers::ALARM;
            }
        }
        Passed { flags, seconds }
    }

    /// Brings everything up to `now`.
    pub(super) fn settle(&mut self, now: u64) {
        let passed = self.passed(now);
        self.flags |= passed.flags;
        if passed.seconds != 0 {
            self.update(passed.seconds);
        }
        self.settled = now.max(self.settled);
    }
}
