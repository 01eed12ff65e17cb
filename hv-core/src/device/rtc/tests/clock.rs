//! Time and date.

use proptest::prelude::*;

use super::super::calendar::{Date, date, number};
use super::*;

const SET: u8 = 0x80;

#[test]
fn the_clock_starts_at_the_time_it_was_given_and_goes_on() {
    let mut rtc = Rtc::new(YEAR_2024 + 3_723, 0, 0);
    assert_eq!(clock(&mut rtc, 0), [0x20, 0x24, 1, 1, 2, 0x01, 0x02, 0x03]);
    assert_eq!(clock(&mut rtc, SECOND - 1)[7], 0x03);
    assert_eq!(clock(&mut rtc, SECOND)[7], 0x04);
    assert_eq!(clock(&mut rtc, 59 * DAY), [0x20, 0x24, 2, 0x29, 5, 0x01, 0x02, 0x03]);
    assert_eq!(clock(&mut rtc, 60 * DAY), [0x20, 0x24, 3, 1, 6, 0x01, 0x02, 0x03]);
    assert_eq!(clock(&mut rtc, 60 * DAY), clock(&mut rtc, 3 * DAY), "time does not run backwards");
}

#[test]
fn days_of_history_have_their_numbers() {
    for (epoch, expected) in [
        (0, [0x19, 0x70, 0x01, 0x01, 5, 0x00, 0x00, 0x00]),
        (951_782_399, [0x20, 0x00, 0x02, 0x28, 2, 0x23, 0x59, 0x59]),
        (951_782_400, [0x20, 0x00, 0x02, 0x29, 3, 0x00, 0x00, 0x00]),
        (1_234_567_890, [0x20, 0x09, 0x02, 0x13, 6, 0x23, 0x31, 0x30]),
        (2_147_483_648, [0x20, 0x38, 0x01, 0x19, 3, 0x03, 0x14, 0x08]),
        (4_107_542_400, [0x21, 0x00, 0x03, 0x01, 2, 0x00, 0x00, 0x00]),
    ] {
        assert_eq!(clock(&mut Rtc::new(epoch, 0, 0), 0), expected, "{epoch}");
    }
}

#[test]
fn the_calendar_agrees_with_a_walk_day_by_day() {
    let mut day = Date { year: 0, month: 1, day: 1 };
    let first = number(day);
    for count in 0..366 * 1200 {
        assert_eq!(number(day), first + count);
        assert_eq!(date(first + count), day);
        let leap = day.year.is_multiple_of(4)
            && (!day.year.is_multiple_of(100) || day.year.is_multiple_of(400));
        let length = match day.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day.day += 1;
        if day.day > length {
            (day.day, day.month) = (1, day.month + 1);
        }
        if day.month > 12 {
            (day.month, day.year) = (1, day.year + 1);
        }
    }
}

#[test]
fn hours_and_numbers_have_four_formats() {
    for (hour, formats) in [
        (0, [0x12, 0x0c, 0x00, 0x00]),
        (1, [0x01, 0x01, 0x01, 0x01]),
        (11, [0x11, 0x0b, 0x11, 0x0b]),
        (12, [0x92, 0x8c, 0x12, 0x0c]),
        (13, [0x81, 0x81, 0x13, 0x0d]),
        (23, [0x91, 0x8b, 0x23, 0x17]),
    ] {
        for (b, byte) in [0x00, 0x04, 0x02, 0x06].into_iter().zip(formats) {
            let mut rtc = Rtc::new(0, 0, 0);
            write(&mut rtc, B, SET | b, 0);
            // One hour before, by the format itself.
            let format = rtc.format();
            assert_eq!(format.encode_hour(hour), byte);
            assert_eq!(format.decode_hour(byte), hour);
            let before = format.encode_hour((hour + 23) % 24);
            let [year, fifty_nine] = [27, 59].map(|number| format.encode(number));
            set_clock(
                &mut rtc,
                [format.encode(20), year, 2, 1, 2, before, fifty_nine, fifty_nine],
                0,
            );
            write(&mut rtc, B, b, 0);
            let expected = [format.encode(20), year, 2, if hour == 0 { 2 } else { 1 }];
            let clock = clock(&mut rtc, SECOND);
            assert_eq!((&clock[..4], &clock[5..]), (&expected[..], &[byte, 0, 0][..]));
        }
    }
}

#[test]
fn set_holds_the_clock_while_it_is_written() {
    let mut rtc = Rtc::new(0, 0, 0);
    write(&mut rtc, B, SET | 0x02, SECOND / 4);
    // 30 February is there for a while.
    for (register, value) in [(7, 0x30), (8, 0x02)] {
        write(&mut rtc, register, value, 2 * SECOND);
    }
    assert_eq!(clock(&mut rtc, 5 * SECOND)[..4], [0x19, 0x70, 0x02, 0x30]);
    set_clock(&mut rtc, [0x20, 0x23, 0x12, 0x31, 1, 0x23, 0x59, 0x58], 9 * SECOND);
    assert_eq!(clock(&mut rtc, 100 * SECOND)[7], 0x58);
    assert_eq!(read(&mut rtc, A, 101 * SECOND - 1), 0x26, "no update, so none is announced");
    write(&mut rtc, B, 0x02, 101 * SECOND + SECOND / 2);
    assert_eq!(clock(&mut rtc, 102 * SECOND - 1)[7], 0x58);
    assert_eq!(clock(&mut rtc, 102 * SECOND)[7], 0x59, "the seconds still end where they did");
    let new_year = [0x20, 0x24, 0x01, 0x01, 2, 0x00, 0x00, 0x00];
    assert_eq!(clock(&mut rtc, 103 * SECOND), new_year);
}

#[test]
fn the_clock_is_written_without_set_as_well() {
    let mut rtc = Rtc::new(0, 0, 0);
    set_clock(&mut rtc, [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59], SECOND / 2);
    let written = clock(&mut rtc, SECOND - 1);
    assert_eq!(written, [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]);
    assert_eq!(clock(&mut rtc, SECOND), [0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00]);
    write(&mut rtc, 2, 0x30, SECOND);
    assert_eq!(clock(&mut rtc, 2 * SECOND)[5..], [0x00, 0x30, 0x01]);
}

#[test]
fn the_day_of_the_week_is_the_guest_s() {
    let mut rtc = Rtc::new(YEAR_2024, 0, 0);
    write(&mut rtc, 6, 7, 0);
    assert_eq!(read(&mut rtc, 6, DAY - 1), 7);
    assert_eq!(read(&mut rtc, 6, DAY), 1);
    assert_eq!(read(&mut rtc, 6, 15 * DAY), 1);
}

#[test]
fn leap_years_are_those_of_the_century() {
    for (century, year, expected) in [
        (0x19, 0x00, [3, 1]),
        (0x20, 0x00, [2, 0x29]),
        (0x20, 0x23, [3, 1]),
        (0x20, 0x24, [2, 0x29]),
    ] {
        let mut rtc = Rtc::new(0, 0, 0);
        set_clock(&mut rtc, [century, year, 0x02, 0x28, 1, 0x23, 0x59, 0x59], 0);
        assert_eq!(clock(&mut rtc, SECOND)[2..4], expected, "{century:x}{year:02x}");
    }
}

#[test]
fn the_century_is_memory_until_it_ends() {
    let mut rtc = Rtc::new(YEAR_2024, 0, 0);
    write(&mut rtc, 0x32, 0x99, 0);
    assert_eq!(clock(&mut rtc, 300 * DAY)[..2], [0x99, 0x24]);
    assert_eq!(clock(&mut rtc, 28_000 * DAY)[..2], [0x00, 0x00]);
    write(&mut rtc, 0x32, 0xff, 28_000 * DAY);
    assert_eq!(clock(&mut rtc, 28_300 * DAY)[..2], [0xff, 0x01]);
}

#[test]
fn uip_announces_an_update_244_microseconds_before() {
    let mut rtc = Rtc::new(0, 0, 0);
    let uip = |rtc: &mut Rtc, now| read(rtc, A, now) & 0x80 != 0;
    for second in [SECOND, 2 * SECOND, 77 * SECOND] {
        assert!(!uip(&mut rtc, second - 244_001));
        assert!(uip(&mut rtc, second - 244_000));
        assert!(uip(&mut rtc, second - 1));
        assert!(!uip(&mut rtc, second));
    }
}

#[test]
fn the_divider_s_reset_stops_the_clock_until_half_a_second_after_its_release() {
    for reset in [0x30, 0x40, 0x50, 0x60, 0x70] {
        let mut rtc = Rtc::new(0, 0, 0);
        write(&mut rtc, A, reset | 6, 10 * SECOND + 1);
        assert_eq!(clock(&mut rtc, 20 * SECOND - 1)[7], 0x10);
        assert_eq!(read(&mut rtc, A, 20 * SECOND - 1), reset | 6, "no update is near");
        write(&mut rtc, A, 0x26, 20 * SECOND + 700_000_000);
        let update = 21 * SECOND + 200_000_000;
        assert_eq!(read(&mut rtc, A, update - 1), 0xa6);
        assert_eq!(clock(&mut rtc, update - 1)[7], 0x10);
        assert_eq!(clock(&mut rtc, update)[7], 0x11);
        assert_eq!(clock(&mut rtc, update + SECOND)[7], 0x12);
    }
}

#[test]
fn a_change_between_time_bases_does_not_move_the_seconds() {
    let mut rtc = Rtc::new(0, 0, 0);
    for base in [0x00, 0x10, 0x20] {
        write(&mut rtc, A, base, SECOND / 3);
        assert_eq!(clock(&mut rtc, SECOND / 2)[7], 0);
    }
    assert_eq!(clock(&mut rtc, SECOND)[7], 1);
}

proptest! {
    /// Whatever the bytes of the clock are, they are read back as they were written, and the next
    /// update makes a time of them.
    #[test]
    fn an_update_makes_a_time_of_any_bytes(
        bytes in any::<[u8; 8]>(), b in 0u8..4, seconds in 1u64..1 << 33,
    ) {
        let mut rtc = Rtc::new(0, 0, 0);
        write(&mut rtc, B, b << 1, 0);
        set_clock(&mut rtc, bytes, 0);
        let mut kept = bytes;
        kept[7] &= 0x7f;
        prop_assert_eq!(clock(&mut rtc, SECOND - 1), kept);
        let format = rtc.format();
        let clock = clock(&mut rtc, seconds * SECOND);
        let [_, year, month, day, weekday, _, minutes, seconds] = clock.map(|byte| format.decode(byte));
        prop_assert!(year < 100 && (1..=12).contains(&month) && (1..=31).contains(&day));
        prop_assert!((1..=7).contains(&weekday) && minutes < 60 && seconds < 60);
        let hour = format.decode_hour(clock[5]);
        prop_assert!(hour < 24 && format.encode_hour(hour) == clock[5]);
    }

    /// Going there in one step or in many is the same.
    #[test]
    fn steps_add_up(
        epoch in 0u64..1 << 34, b in 0u8..4, steps in prop::collection::vec(0u64..1 << 40, 1..20),
    ) {
        let mut one = Rtc::new(epoch, 0, 0);
        write(&mut one, B, b << 1, 0);
        let format = one.format();
        // The format changed, so the clock is set anew.
        set_clock(&mut one, [20, 24, 2, 28, 4, 0, 0, 0].map(|number| format.encode(number)), 0);
        write(&mut one, 4, format.encode_hour(9), 0);
        let mut many = one.clone();
        let mut now = 0;
        for step in steps {
            now += step * 1000;
            clock(&mut many, now);
        }
        prop_assert_eq!(clock(&mut one, now), clock(&mut many, now));
        prop_assert_eq!(read(&mut one, C, now), read(&mut many, C, now));
    }
}

#[test]
fn the_clock_of_the_host_is_read_as_it_shows_itself() {
    for b in [0x02, 0x00, 0x06, 0x04] {
        let moment = YEAR_2024 + 13 * 3600 + 59;
        let mut rtc = Rtc::new(0, 0, 0);
        write(&mut rtc, B, b, 0);
        rtc.start_at(moment);
        assert_eq!(read_out(|index| read(&mut rtc, index, 0)), Some(moment), "register B {b:#x}");
    }
    assert_eq!(read_out(|_| 0xff), None, "no clock");
    assert_eq!(read_out(|_| 0), None, "month 0");
}

#[test]
fn a_reset_turns_interrupts_off_and_leaves_the_date() {
    let mut rtc = Rtc::new(YEAR_2024, 0, 0);
    write(&mut rtc, 0x40, 0x5a, 0);
    write(&mut rtc, B, 0x72, 0);
    rtc.reset(3 * SECOND);
    assert_eq!(read(&mut rtc, B, 3 * SECOND), 0x02);
    assert!(!rtc.interrupt(9 * SECOND));
    assert_eq!(read(&mut rtc, C, 3 * SECOND), 0);
    assert_eq!((read(&mut rtc, 0, 3 * SECOND), read(&mut rtc, 0x40, 3 * SECOND)), (3, 0x5a));
}
