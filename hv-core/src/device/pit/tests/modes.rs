//! The waveforms of the data sheet's figures, and what it says about gates and new counts.

use super::*;

const MODE_0: u8 = 0x30;
const MODE_1: u8 = 0x32;
const MODE_2: u8 = 0x34;
const MODE_3: u8 = 0x36;
const MODE_4: u8 = 0x38;
const MODE_5: u8 = 0x3a;

fn gate(pit: &mut Pit, level: bool, tick: u64) {
    pit.write_system_control(level.into(), after(tick));
}

#[test]
fn mode_0_rises_one_tick_after_the_count_and_goes_on_counting() {
    let mut pit = counter_2(H, MODE_0, 4);
    assert!(!pit.output(2, 0));
    let expected = [(L, 4), (L, 3), (L, 2), (L, 1), (H, 0), (H, 0xffff), (H, 0xfffe)];
    assert_eq!(trace(&mut pit, 1..=7), expected);
    assert_eq!(trace(&mut pit, [0x1_0005, 0x1_0006]), [(H, 0), (H, 0xffff)]);
}

#[test]
fn mode_0_stands_still_without_its_gate() {
    let mut pit = counter_2(H, MODE_0, 3);
    assert_eq!(trace(&mut pit, 1..=2), [(L, 3), (L, 2)]);
    gate(&mut pit, L, 2);
    assert_eq!(trace(&mut pit, [3, 90]), [(L, 2), (L, 2)]);
    gate(&mut pit, H, 90);
    assert_eq!(trace(&mut pit, 91..=92), [(L, 1), (H, 0)]);
    // A count that is written meanwhile is loaded all the same.
    let mut pit = counter_2(L, MODE_0, 3);
    assert_eq!(trace(&mut pit, 1..=2), [(L, 3), (L, 3)]);
    gate(&mut pit, H, 2);
    assert_eq!(trace(&mut pit, 3..=5), [(L, 2), (L, 1), (H, 0)]);
}

#[test]
fn mode_0_takes_a_new_count_at_once_and_stops_between_its_bytes() {
    let mut pit = counter_2(H, MODE_0, 3);
    assert_eq!(trace(&mut pit, 1..=4)[3], (H, 0));
    pit.write(2, 5, after(4));
    assert!(!pit.output(2, after(4)), "no clock pulse is needed");
    let stopped = trace(&mut pit, [4, 9, 70_000]);
    assert_eq!(stopped, [(L, 0); 3], "and nothing counts");
    pit.write(2, 0, after(70_000));
    assert_eq!(trace(&mut pit, 70_001..=70_003), [(L, 5), (L, 4), (L, 3)]);
    let mut pit = counter_2(H, 0x10, 0);
    pit.write(2, 2, after(3));
    assert_eq!([4, 5, 6].map(|tick| pit.output(2, after(tick))), [L, L, H]);
}

#[test]
fn mode_1_is_low_for_the_count_after_each_trigger() {
    let mut pit = counter_2(L, MODE_1, 3);
    assert_eq!([0, 1, 50].map(|tick| pit.output(2, after(tick))), [H; 3]);
    gate(&mut pit, H, 50);
    assert!(pit.output(2, after(50)));
    let expected = [(L, 3), (L, 2), (L, 1), (H, 0), (H, 0xffff)];
    assert_eq!(trace(&mut pit, 51..=55), expected);
    gate(&mut pit, L, 55);
    gate(&mut pit, H, 55);
    assert_eq!(trace(&mut pit, 56..=57), [(L, 3), (L, 2)]);
    gate(&mut pit, L, 57);
    assert_eq!(trace(&mut pit, [58]), [(L, 1)], "its level does not matter");
    gate(&mut pit, H, 58);
    assert_eq!(trace(&mut pit, 59..=62), [(L, 3), (L, 2), (L, 1), (H, 0)], "triggered again");
}

#[test]
fn mode_1_uses_a_new_count_from_the_next_trigger_on() {
    let mut pit = counter_2(L, MODE_1, 2);
    gate(&mut pit, H, 0);
    assert_eq!(trace(&mut pit, [1]), [(L, 2)]);
    write_count(&mut pit, 4, 1);
    assert_eq!(trace(&mut pit, 2..=4), [(L, 1), (H, 0), (H, 0xffff)]);
    gate(&mut pit, L, 4);
    gate(&mut pit, H, 4);
    assert_eq!(trace(&mut pit, 5..=6), [(L, 4), (L, 3)]);
}

#[test]
fn a_trigger_before_the_count_is_written_does_nothing() {
    for mode in [MODE_1, MODE_5] {
        let mut pit = Pit::new();
        pit.write(CONTROL, 0x80 | mode, 0);
        gate(&mut pit, H, 0);
        write_count(&mut pit, 3, 1);
        assert_eq!([2, 5, 100].map(|tick| pit.output(2, after(tick))), [H; 3]);
    }
}

#[test]
fn mode_2_is_low_for_the_last_tick_of_each_period() {
    let mut pit = counter_2(H, MODE_2, 3);
    let period = [(H, 3), (H, 2), (L, 1)];
    assert_eq!(trace(&mut pit, 1..=6), [period, period].concat());
    assert_eq!(trace(&mut pit, 3_000_001..=3_000_003), period);
    let mut pit = counter_2(H, MODE_2, 0);
    assert_eq!(trace(&mut pit, [1, 2, 65_536, 65_537]), [(H, 0), (H, 0xffff), (L, 1), (H, 0)]);
}

#[test]
fn mode_2_is_synchronized_by_its_gate() {
    let mut pit = counter_2(H, MODE_2, 3);
    assert_eq!(trace(&mut pit, 1..=3)[2], (L, 1));
    gate(&mut pit, L, 3);
    assert!(pit.output(2, after(3)), "high at once");
    assert_eq!(trace(&mut pit, [4, 100]), [(H, 1), (H, 1)]);
    gate(&mut pit, H, 100);
    assert_eq!(trace(&mut pit, 101..=104), [(H, 3), (H, 2), (L, 1), (H, 3)]);
    // The first count is loaded without the gate, but does not run.
    let mut pit = counter_2(L, MODE_2, 3);
    assert_eq!(trace(&mut pit, [1, 9]), [(H, 3), (H, 3)]);
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_the_period_or_at_a_trigger() {
    let mut pit = counter_2(H, MODE_2, 4);
    assert_eq!(trace(&mut pit, 1..=2), [(H, 4), (H, 3)]);
    write_count(&mut pit, 5, 2);
    let expected = [(H, 2), (L, 1), (H, 5), (H, 4), (H, 3), (H, 2), (L, 1), (H, 5)];
    assert_eq!(trace(&mut pit, 3..=10), expected);
    write_count(&mut pit, 3, 10);
    gate(&mut pit, L, 11);
    gate(&mut pit, H, 11);
    assert_eq!(trace(&mut pit, 12..=14), [(H, 3), (H, 2), (L, 1)]);
}

#[test]
fn mode_3_is_a_square_wave() {
    let mut pit = counter_2(H, MODE_3, 4);
    let period = [(H, 4), (H, 2), (L, 4), (L, 2)];
    assert_eq!(trace(&mut pit, 1..=8), [period, period].concat());
    assert_eq!(trace(&mut pit, 4_000_001..=4_000_004), period);
    let mut pit = counter_2(H, MODE_3, 5);
    let period = [(H, 4), (H, 2), (H, 0), (L, 4), (L, 2)];
    assert_eq!(trace(&mut pit, 1..=10), [period, period].concat());
    let mut pit = counter_2(H, MODE_3, 0);
    let expected = [(H, 0), (H, 0xfffe), (H, 2), (L, 0), (L, 2), (H, 0)];
    assert_eq!(trace(&mut pit, [1, 2, 32_768, 32_769, 65_536, 65_537]), expected);
}

#[test]
fn mode_3_is_synchronized_by_its_gate() {
    let mut pit = counter_2(H, MODE_3, 4);
    assert_eq!(trace(&mut pit, 1..=3)[2], (L, 4));
    gate(&mut pit, L, 3);
    assert!(pit.output(2, after(3)), "high at once");
    assert!(pit.output(2, after(50)));
    gate(&mut pit, H, 50);
    assert_eq!(trace(&mut pit, 51..=55), [(H, 4), (H, 2), (L, 4), (L, 2), (H, 4)]);
}

#[test]
fn mode_3_takes_a_new_count_at_the_end_of_the_half_wave_or_at_a_trigger() {
    let mut pit = counter_2(H, MODE_3, 4);
    write_count(&mut pit, 6, 1);
    let expected = [(H, 2), (L, 6), (L, 4), (L, 2), (H, 6), (H, 4), (H, 2), (L, 6)];
    assert_eq!(trace(&mut pit, 2..=9), expected);
    write_count(&mut pit, 4, 9);
    gate(&mut pit, L, 9);
    gate(&mut pit, H, 9);
    assert_eq!(trace(&mut pit, 10..=12), [(H, 4), (H, 2), (L, 4)]);
}

#[test]
fn a_count_of_one_acts_as_two_where_it_is_forbidden_and_as_one_elsewhere() {
    let mut pit = counter_2(H, MODE_2, 1);
    assert_eq!(trace(&mut pit, 1..=4), [(H, 2), (L, 1), (H, 2), (L, 1)]);
    let mut pit = counter_2(H, MODE_3, 1);
    assert_eq!(trace(&mut pit, 1..=4), [(H, 2), (L, 2), (H, 2), (L, 2)]);
    let mut pit = counter_2(H, MODE_0, 1);
    assert_eq!(trace(&mut pit, 1..=3), [(L, 1), (H, 0), (H, 0xffff)]);
    let mut pit = counter_2(H, MODE_4, 1);
    assert_eq!(trace(&mut pit, 1..=3), [(H, 1), (L, 0), (H, 0xffff)]);
    for (mode, out) in [(MODE_1, [L, H, H]), (MODE_5, [H, L, H])] {
        let mut pit = counter_2(L, mode, 1);
        gate(&mut pit, H, 0);
        assert_eq!([1, 2, 3].map(|tick| pit.output(2, after(tick))), out);
    }
}

#[test]
fn mode_4_strobes_once_one_tick_after_the_count() {
    let mut pit = counter_2(H, MODE_4, 3);
    let expected = [(H, 3), (H, 2), (H, 1), (L, 0), (H, 0xffff), (H, 0xfffe)];
    assert_eq!(trace(&mut pit, 1..=6), expected);
    assert_eq!(trace(&mut pit, 0x1_0003..=0x1_0005), [(H, 1), (H, 0), (H, 0xffff)], "not again");
}

#[test]
fn mode_4_stands_still_without_its_gate_but_a_strobe_ends() {
    let mut pit = counter_2(L, MODE_4, 3);
    assert_eq!(trace(&mut pit, [1, 60]), [(H, 3), (H, 3)]);
    gate(&mut pit, H, 60);
    assert_eq!(trace(&mut pit, 61..=63), [(H, 2), (H, 1), (L, 0)]);
    gate(&mut pit, L, 63);
    assert_eq!(trace(&mut pit, 63..=64), [(L, 0), (H, 0)]);
}

#[test]
fn mode_4_takes_a_new_count_at_once_when_it_is_complete() {
    let mut pit = counter_2(H, MODE_4, 4);
    assert_eq!(trace(&mut pit, 1..=2), [(H, 4), (H, 3)]);
    pit.write(2, 2, after(2));
    assert_eq!(trace(&mut pit, [3]), [(H, 2)], "the first byte changes nothing");
    pit.write(2, 0, after(3));
    assert_eq!(trace(&mut pit, 4..=7), [(H, 2), (H, 1), (L, 0), (H, 0xffff)]);
}

#[test]
fn mode_5_strobes_after_each_trigger() {
    let mut pit = counter_2(L, MODE_5, 3);
    gate(&mut pit, H, 10);
    let expected = [(H, 3), (H, 2), (H, 1), (L, 0), (H, 0xffff)];
    assert_eq!(trace(&mut pit, 11..=15), expected);
    write_count(&mut pit, 2, 15);
    assert_eq!(trace(&mut pit, [16]), [(H, 0xfffe)], "a count alone does nothing");
    gate(&mut pit, L, 16);
    gate(&mut pit, H, 17);
    gate(&mut pit, L, 18);
    assert_eq!(trace(&mut pit, 18..=19), [(H, 2), (H, 1)], "the gate's level does not matter");
    gate(&mut pit, H, 19);
    assert_eq!(trace(&mut pit, 20..=23), [(H, 2), (H, 1), (L, 0), (H, 0xffff)]);
}

#[test]
fn counting_in_bcd_has_four_decimal_digits() {
    let mut pit = counter_2(H, MODE_0 | 1, 0x1000);
    assert_eq!(
        trace(&mut pit, [1, 2, 12, 1000, 1001]),
        [(L, 0x1000), (L, 0x0999), (L, 0x0989), (L, 0x0001), (H, 0x0000),]
    );
    assert_eq!(trace(&mut pit, [1002]), [(H, 0x9999)]);
    let mut pit = counter_2(H, MODE_2 | 1, 0);
    assert_eq!(trace(&mut pit, [1, 2, 10_000, 10_001]), [(H, 0), (H, 0x9999), (L, 1), (H, 0),]);
    let mut pit = counter_2(H, MODE_3 | 1, 0x11);
    assert_eq!(trace(&mut pit, 1..=3), [(H, 0x10), (H, 0x08), (H, 0x06)]);
    assert_eq!(trace(&mut pit, [6, 7, 11, 12]), [(H, 0), (L, 0x10), (L, 2), (H, 0x10)]);
}

#[test]
fn a_digit_above_nine_counts_down_like_the_others() {
    let mut pit = counter_2(H, MODE_0 | 1, 0x1f);
    assert_eq!(
        trace(&mut pit, [1, 2, 16, 17, 25, 26]),
        [(L, 0x1f), (L, 0x1e), (L, 0x10), (L, 0x09), (L, 0x01), (H, 0x00),]
    );
}
