//! The machine's own clock, read once: the date at which the VMs' clocks start (Motorola, MC146818 data
//! sheet).

use x86_64::instructions::port::Port;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const PM: u8 = 1 << 7;
/// Reads of a register, each of about a microsecond, in which an update that is in progress ends.
const PATIENCE: u32 = 10_000;

fn register(index: u8) -> u8 {
    // SAFETY: the index and data ports of the clock, whose registers here change nothing when they are
    // read. Where there is no clock they read as ones.
    unsafe {
        Port::new(0x70).write(index);
        Port::new(0x71).read()
    }
}

/// Seconds from the start of 1970 to now; 0 if the machine has no clock that tells it. The clock is taken
/// to show UTC, in this century.
pub fn seconds_since_1970() -> u64 {
    let settled = (0..PATIENCE).any(|_| register(0xa) & UPDATE_IN_PROGRESS == 0);
    if !settled {
        return 0;
    }
    let status = register(0xb);
    let binary = |value: u8| match status & BINARY {
        0 => u64::from(value >> 4).wrapping_mul(10).wrapping_add(u64::from(value & 15)),
        _ => value.into(),
    };
    let [second, minute, day, month, year] = [0, 2, 7, 8, 9].map(|index| binary(register(index)));
    let hour = register(4);
    let hour = match status & HOURS_24 {
        0 => {
            let afternoon = if hour & PM != 0 { 12 } else { 0 };
            binary(hour & !PM).checked_rem(12).unwrap_or(0).wrapping_add(afternoon)
        }
        _ => binary(hour),
    };
    let date = (1..=31).contains(&day) && (1..=12).contains(&month) && year <= 99;
    if !date || hour > 23 || minute > 59 || second > 59 {
        return 0;
    }
    let days = days_since_1970(year.wrapping_add(2000), month, day);
    let hours = days.wrapping_mul(24).wrapping_add(hour);
    hours.wrapping_mul(60).wrapping_add(minute).wrapping_mul(60).wrapping_add(second)
}

/// Days from the start of 1970 to a date of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March: the leap day is the last.
    let (year, month) = match month {
        3.. => (year, month.wrapping_sub(3)),
        _ => (year.wrapping_sub(1), month.wrapping_add(9)),
    };
    let leap_days = (year / 4).wrapping_sub(year / 100).wrapping_add(year / 400);
    let month_days = month.wrapping_mul(153).wrapping_add(2) / 5;
    let all = year.wrapping_mul(365).wrapping_add(leap_days).wrapping_add(month_days);
    // From 1 March of year 0 to 1 January 1970.
    const TO_1970: u64 = 719_468;
    all.wrapping_add(day).wrapping_sub(1).wrapping_sub(TO_1970)
}
