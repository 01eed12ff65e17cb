//! The alarm: which second of a day it is set to, and how far that is.

use super::Rtc;
use super::time::{DAY_SECONDS, HOURS, MINUTES, SECONDS};

/// The alarm's byte for each of them is the next one.
const SECONDS_ALARM: u8 = SECONDS + 1;
const MINUTES_ALARM: u8 = MINUTES + 1;
const HOURS_ALARM: u8 = HOURS + 1;

/// From this byte on any value will do.
const ANY: u8 = 0xc0;

/// The values that match: one, or all of them.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u64,
    last: u64,
}

impl Range {
    /// `None` if the byte matches nothing that the clock ever shows.
    fn new(byte: u8, value: u64, shown: u8, limit: u64) -> Option<Range> {
        if byte >= ANY {
            return Some(Range { first: 0, last: limit.saturating_sub(1) });
        }
        (shown == byte && value < limit).then_some(Range { first: value, last: value })
    }

    /// The first value that matches from `value` on.
    fn from(self, value: u64) -> Option<u64> {
        let value = value.max(self.first);
        (value <= self.last).then_some(value)
    }

    /// The first that matches after `value`.
    fn after(self, value: u64) -> Option<u64> {
        self.from(value.saturating_add(1))
    }

    fn contains(self, value: u64) -> bool {
        self.from(value) == Some(value)
    }
}

/// When the alarm matches: hours, minutes, seconds.
#[derive(Clone, Copy, Debug)]
struct Alarm([Range; 3]);

impl Alarm {
    /// The first second that matches from `second` of a day on; beyond the end of the day it is one
    /// of the next day.
    fn from(self, second: u64) -> u64 {
        let Alarm([hours, minutes, seconds]) = self;
        let [hour, minute, second] = [second / 3600, second / 60 % 60, second % 60];
        let at = |hour: u64, minute: u64, second: u64| {
            hour.wrapping_mul(60).wrapping_add(minute).wrapping_mul(60).wrapping_add(second)
        };
        if hours.contains(hour) {
            if minutes.contains(minute)
                && let Some(second) = seconds.from(second)
            {
                return at(hour, minute, second);
            }
            if let Some(minute) = minutes.after(minute) {
                return at(hour, minute, seconds.first);
            }
        }
        let hour = hours.after(hour).unwrap_or_else(|| hours.first.wrapping_add(24));
        at(hour, minutes.first, seconds.first)
    }
}

impl Rtc {
    fn alarm(&self) -> Option<Alarm> {
        let format = self.format();
        let range = |register, limit| {
            let byte = self.byte(register);
            let value = format.decode(byte);
            Range::new(byte, value, format.encode(value), limit)
        };
        let byte = self.byte(HOURS_ALARM);
        let hour = format.decode_hour(byte);
        let hours = Range::new(byte, hour, format.encode_hour(hour), 24)?;
        Some(Alarm([hours, range(MINUTES_ALARM, 60)?, range(SECONDS_ALARM, 60)?]))
    }

    /// How many updates after `now` the alarm matches: at least 1, and at most those of a day.
    pub(super) fn seconds_to_alarm(&self, now: u64) -> Option<u64> {
        let updated = self.divider.seconds(now).wrapping_sub(self.divider.seconds(self.settled));
        let next = self.moment().wrapping_add(updated).wrapping_add(1) % DAY_SECONDS;
        Some(self.alarm()?.from(next).wrapping_sub(next).wrapping_add(1))
    }
}
