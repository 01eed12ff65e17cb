//! Register C, the interrupt, and when it is due.

use super::*;

const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATE: u8 = 0x10;
const BIOS_B: u8 = 0x02;

/// The times of the next `count` interrupts after `now`, each of which is taken.
fn interrupts(rtc: &mut Rtc, mut now: u64, count: usize) -> Vec<u64> {
    read(rtc, C, now);
    let mut times = Vec::new();
    while times.len() < count {
        assert!(!rtc.interrupt(now));
        now = rtc.due(now).unwrap();
        assert!(!rtc.interrupt(now - 1) && rtc.interrupt(now));
        assert_eq!(rtc.due(now), None, "it is there");
        assert!(read(rtc, C, now) & 0x80 != 0);
        times.push(now);
    }
    times
}

fn enabled(interrupts: u8) -> Rtc {
    let mut rtc = Rtc::new(YEAR_2024, 0, 0);
    write(&mut rtc, B, BIOS_B | interrupts, 0);
    rtc
}

#[test]
fn nothing_is_due_while_no_interrupt_is_enabled() {
    let rtc = enabled(0);
    assert_eq!((rtc.due(0), rtc.interrupt(1000 * DAY)), (None, false));
}

#[test]
fn the_update_interrupt_comes_every_second() {
    let mut rtc = enabled(UPDATE);
    let start = 10 * SECOND + 5;
    let expected = [11, 12, 13].map(|second| second * SECOND);
    assert_eq!(interrupts(&mut rtc, start, 3), expected);
}

#[test]
fn periodic_interrupts_come_at_the_rate_of_register_a() {
    const SLOW: [u64; 15] = [256, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2];
    for base in [0x00, 0x10, 0x20] {
        for (select, slow) in (1..).zip(SLOW) {
            let fast = [32_768, 16_384].get(usize::from(select - 1u8));
            let rate = *fast.filter(|_| base != 0x20).unwrap_or(&slow);
            let mut rtc = enabled(PERIODIC);
            write(&mut rtc, A, base | select, 0);
            let times = interrupts(&mut rtc, 7 * SECOND, 5);
            let expected = (1..=5).map(|n| 7 * SECOND + (n * SECOND).div_ceil(rate));
            assert_eq!(times, expected.collect::<Vec<_>>(), "register A {:#x}", base | select);
        }
        let mut rtc = enabled(PERIODIC);
        write(&mut rtc, A, base, 0);
        assert_eq!((rtc.due(0), rtc.interrupt(DAY)), (None, false), "rate 0 is none");
    }
}

#[test]
fn periodic_interrupts_do_not_need_the_clock_but_the_divider() {
    let mut rtc = enabled(PERIODIC | UPDATE);
    write(&mut rtc, B, 0x80 | BIOS_B | PERIODIC, 0);
    write(&mut rtc, A, 0x2f, 0);
    assert_eq!(interrupts(&mut rtc, 0, 3), [1, 2, 3].map(|n| n * SECOND / 2));
    write(&mut rtc, A, 0x7f, 2 * SECOND);
    read(&mut rtc, C, 2 * SECOND);
    assert_eq!((rtc.due(2 * SECOND), rtc.interrupt(DAY)), (None, false));
    let release = 3 * SECOND + 123_456_789;
    write(&mut rtc, A, 0x26, release);
    let expected = [1, 2, 3, 4].map(|n: u64| release + (n * SECOND).div_ceil(1024));
    assert_eq!(interrupts(&mut rtc, release, 4), expected);
}

#[test]
fn no_update_interrupt_comes_while_the_clock_is_set_and_setting_disables_it() {
    let mut rtc = enabled(UPDATE | ALARM);
    write(&mut rtc, B, 0x80 | BIOS_B | UPDATE | ALARM, SECOND / 2);
    assert_eq!(read(&mut rtc, B, SECOND / 2), 0x80 | BIOS_B | ALARM);
    set_alarm(&mut rtc, 0xff, 0xff, 0xff);
    assert_eq!((rtc.due(SECOND), rtc.interrupt(DAY)), (None, false));
    assert_eq!(read(&mut rtc, C, DAY) & (UPDATE | ALARM), 0);
}

#[test]
fn flags_are_set_whether_or_not_they_interrupt_and_reading_clears_them() {
    let mut rtc = enabled(0);
    assert_eq!(read(&mut rtc, C, SECOND - 1), PERIODIC);
    assert_eq!(read(&mut rtc, C, SECOND), PERIODIC | UPDATE);
    assert_eq!(read(&mut rtc, C, SECOND), 0);
    set_alarm(&mut rtc, 0xc0, 0xc0, 0xc0);
    assert_eq!(read(&mut rtc, C, 2 * SECOND), PERIODIC | ALARM | UPDATE);
}

#[test]
fn a_flag_that_is_set_interrupts_as_soon_as_it_is_enabled() {
    let mut rtc = enabled(0);
    assert!(!rtc.interrupt(SECOND));
    write(&mut rtc, B, BIOS_B | UPDATE, SECOND + 1);
    assert!(rtc.interrupt(SECOND + 1));
    write(&mut rtc, B, BIOS_B, SECOND + 1);
    assert!(!rtc.interrupt(SECOND + 1));
    write(&mut rtc, B, BIOS_B | UPDATE, SECOND + 1);
    assert_eq!(read(&mut rtc, C, SECOND + 1), 0x80 | PERIODIC | UPDATE);
    assert!(!rtc.interrupt(2 * SECOND - 1));
}

#[test]
fn an_interrupt_stays_until_register_c_is_read() {
    let mut rtc = enabled(UPDATE);
    for now in [SECOND, SECOND + 1, DAY] {
        assert!(rtc.interrupt(now));
        read(&mut rtc, B, now);
    }
    read(&mut rtc, C, DAY);
    assert!(!rtc.interrupt(DAY));
}

#[test]
fn the_alarm_comes_once_a_day_or_as_often_as_its_bytes_do_not_care() {
    const ANY: u8 = 0xc0;
    for ([hours, minutes, seconds], expected) in [
        ([0x01, 0x02, 0x03], [3723, 3723 + 86_400, 3723 + 2 * 86_400]),
        ([ANY, 0x02, 0x03], [123, 3723, 2 * 3600 + 123]),
        ([ANY, ANY, 0x03], [3, 63, 123]),
        ([0xff, 0xee, 0xdd], [1, 2, 3]),
        ([0x23, ANY, 0x59], [82_859, 82_919, 82_979]),
        ([0x00, 0x00, ANY], [1, 2, 3]),
        ([ANY, 0x59, ANY], [3540, 3541, 3542]),
        ([0x00, 0x00, 0x00], [86_400, 2 * 86_400, 3 * 86_400]),
    ] {
        let mut rtc = enabled(ALARM);
        set_alarm(&mut rtc, hours, minutes, seconds);
        let expected = expected.map(|second| second * SECOND);
        assert_eq!(interrupts(&mut rtc, 0, 3), expected, "{hours:x}:{minutes:x}:{seconds:x}");
    }
}

#[test]
fn the_alarm_has_the_format_of_the_clock() {
    for (b, bytes, expected) in [
        (0x00, [0x91, 0x30, 0x15], Some(84_615)),
        (0x00, [0x12, 0x00, 0x15], Some(15)),
        (0x04, [0x8c, 30, 15], Some(45_015)),
        (0x06, [23, 30, 15], Some(84_615)),
        (0x02, [0x24, 0x30, 0x15], None),
        (0x02, [0x01, 0x60, 0x15], None),
        (0x02, [0x01, 0x30, 0x1f], None),
        (0x00, [0x13, 0x30, 0x15], None),
        (0x06, [23, 30, 60], None),
    ] {
        let mut rtc = enabled(0);
        write(&mut rtc, B, b | ALARM, 0);
        let format = rtc.format();
        let midnight = format.encode_hour(0);
        set_clock(&mut rtc, [format.encode(20), 0, 1, 1, 1, midnight, 0, 0], 0);
        let [hours, minutes, seconds] = bytes;
        set_alarm(&mut rtc, hours, minutes, seconds);
        assert_eq!(rtc.due(0), expected.map(|second: u64| second * SECOND), "{b:x} {bytes:x?}");
        assert_eq!(rtc.interrupt(2 * DAY), expected.is_some());
    }
}

#[test]
fn an_alarm_that_has_passed_since_anybody_looked_is_noticed() {
    for days in [1, 2, 10_000] {
        let mut rtc = enabled(ALARM);
        set_alarm(&mut rtc, 0x12, 0x00, 0x00);
        assert!(!rtc.interrupt(43_200 * SECOND - 1));
        assert!(rtc.interrupt(days * DAY));
        assert_eq!(read(&mut rtc, C, days * DAY), 0x80 | PERIODIC | ALARM | UPDATE);
        assert!(!rtc.interrupt(days * DAY + 43_200 * SECOND - 1));
        assert!(rtc.interrupt(days * DAY + 43_200 * SECOND));
    }
}

#[test]
fn the_earliest_of_those_that_are_enabled_is_due() {
    let mut rtc = enabled(PERIODIC | ALARM | UPDATE);
    write(&mut rtc, A, 0x2f, 0);
    set_alarm(&mut rtc, 0xff, 0xff, 0x02);
    assert_eq!(rtc.due(0), Some(SECOND / 2));
    write(&mut rtc, B, BIOS_B | ALARM | UPDATE, 0);
    assert_eq!(rtc.due(0), Some(SECOND));
    write(&mut rtc, B, BIOS_B | ALARM, 0);
    assert_eq!(rtc.due(0), Some(2 * SECOND));
    assert_eq!(rtc.due(u64::MAX), None);
    read(&mut rtc, C, 7 * SECOND);
    assert_eq!(rtc.due(3 * SECOND), Some(62 * SECOND), "time does not run backwards");
}
