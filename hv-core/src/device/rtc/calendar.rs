//! Days of the Gregorian calendar, counted without walking through it. Years begin in March here, so
//! that a leap day is the last of its year.

use core::num::Wrapping as W;

/// One whole cycle of leap years, so that no intermediate number is negative.
const BEFORE: u64 = 400;
/// Its days.
const CYCLE: u64 = 146_097;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: u64,
    /// 1 to 12.
    pub(super) month: u64,
    /// 1 to 31.
    pub(super) day: u64,
}

/// The number of the day. Months and days that are too large run over into what follows, and 0 is
/// the one before 1.
pub(super) fn number(date: Date) -> u64 {
    // From March of the year before the one that the months lead to.
    let months = W(date.month) + W(9);
    let year = W(date.year) + W(BEFORE - 1) + W(months.0 / 12);
    let days = W(date.day) + days_before(months.0 % 12) - W(1);
    (year * W(365) + leap_days(year.0) + days).0
}

/// The day with this number.
pub(super) fn date(number: u64) -> Date {
    let (cycle, day) = (W(number / CYCLE), number % CYCLE);
    // Without the leap days every year has the same length.
    let leaped = W(day / 1460) - W(day / 36_524) + W(day / 146_096);
    let year = W((W(day) - leaped).0 / 365);
    let day = W(day) - (year * W(365) + leap_days(year.0));
    let month = (day * W(5) + W(2)).0 / 153;
    let day = day - days_before(month) + W(1);
    let next_year = W(u64::from(month >= 10));
    let year = cycle * W(400) + year + next_year - W(BEFORE);
    Date { year: year.0, month: (W(month) + W(3) - W(12) * next_year).0, day: day.0 }
}

/// Leap days of this many years.
fn leap_days(years: u64) -> W<u64> {
    W(years / 4) - W(years / 100) + W(years / 400)
}

/// Days of a year before a month, 0 being March: five months have 153 days.
fn days_before(month: u64) -> W<u64> {
    W((W(month) * W(153) + W(2)).0 / 5)
}
