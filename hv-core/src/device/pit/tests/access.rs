//! Counts and status, byte by byte.

use super::*;

fn status(pit: &mut Pit, counter: u8, now: u64) -> u8 {
    pit.write(CONTROL, 0xe0 | 2 << counter, now);
    pit.read(counter, now)
}

#[test]
fn a_single_byte_leaves_the_other_one_zero() {
    let mut pit = counter_2(H, 0x30, 0xffff);
    pit.write(CONTROL, 0x90, 0);
    pit.write(2, 0x12, 0);
    assert_eq!((pit.read(2, after(1)), pit.read(2, after(2))), (0x12, 0x11));
    pit.write(CONTROL, 0xa0, after(2));
    pit.write(2, 0x12, after(2));
    assert_eq!((pit.read(2, after(3)), pit.read(2, after(4))), (0x12, 0x11));
    pit.write(CONTROL, 0x80, after(4));
    assert_eq!(
        (pit.read(2, after(9)), pit.read(2, after(9))),
        (0x11, 0x11),
        "and latches one byte"
    );
}

#[test]
fn an_unlatched_count_is_read_as_it_runs() {
    let mut pit = counter_2(H, 0x34, 0x0200);
    assert_eq!((pit.read(2, after(1)), pit.read(2, after(2))), (0x00, 0x01), "torn");
    assert_eq!((pit.read(2, after(2)), pit.read(2, after(2))), (0xff, 0x01));
}

#[test]
fn reads_and_writes_of_two_bytes_may_alternate() {
    let mut pit = counter_2(H, 0x34, 0x1234);
    assert_eq!(pit.read(2, after(1)), 0x34);
    pit.write(2, 0x78, after(1));
    assert_eq!(pit.read(2, after(1)), 0x12);
    pit.write(2, 0x56, after(1));
    assert_eq!(count(&mut pit, 2, after(1 + 0x1234)), 0x5678);
}

#[test]
fn a_latched_count_stays_until_it_is_read() {
    let mut pit = counter_2(H, 0x34, 1000);
    pit.write(CONTROL, 0x80, after(1));
    pit.write(CONTROL, 0x80, after(100));
    let bytes = [pit.read(2, after(200)), pit.read(2, after(300))];
    assert_eq!(u16::from_le_bytes(bytes), 1000, "the first latch command counts");
    assert_eq!(count(&mut pit, 2, after(301)), 700);
}

#[test]
fn a_new_control_word_drops_latches_and_half_transfers() {
    let mut pit = counter_2(H, 0x34, 1000);
    pit.write(CONTROL, 0xc8, after(1));
    pit.write(2, 0x11, after(1));
    pit.write(CONTROL, 0xb0, after(1));
    write_count(&mut pit, 0x2345, 1);
    assert_eq!((pit.read(2, after(2)), pit.read(2, after(2))), (0x45, 0x23));
}

#[test]
fn the_read_back_command_latches_what_it_selects() {
    let mut pit = Pit::new();
    for (counter, count) in [(0, 100), (1, 200), (2, 300u16)] {
        pit.write(CONTROL, counter << 6 | 0x34, 0);
        count.to_le_bytes().iter().for_each(|&byte| pit.write(counter, byte, 0));
    }
    pit.write_system_control(1, 0);
    pit.write(CONTROL, 0xd0 | 0b0110, after(11)); // counts of counters 0 and 1
    pit.write(CONTROL, 0xc0 | 0b1000, after(21)); // count and status of counter 2
    let mut read = |counter| pit.read(counter, after(51));
    assert_eq!([read(0), read(0), read(0), read(0)], [90, 0, 50, 0], "latched, then running");
    assert_eq!([read(1), read(1), read(1), read(1)], [190, 0, 150, 0]);
    assert_eq!([read(2), read(2), read(2)], [0xb4, (280u16 & 0xff) as u8, 1], "the status first");
    assert_eq!([read(2), read(2)], [250, 0]);
}

#[test]
fn a_status_latched_twice_is_the_first_one() {
    let mut pit = counter_2(H, 0x30, 3);
    pit.write(CONTROL, 0xe8, after(1));
    pit.write(CONTROL, 0xe8, after(5));
    assert_eq!(pit.read(2, after(5)), 0x30);
    assert_eq!(status(&mut pit, 2, after(5)), 0xb0);
}

#[test]
fn the_status_has_the_control_word_as_it_was_written() {
    let mut pit = Pit::new();
    for control in (0x10..0x40).filter(|control| control >> 4 != 0) {
        pit.write(CONTROL, 0x40 | control, 0);
        assert_eq!(status(&mut pit, 1, 0) & 0x3f, control);
    }
}

#[test]
fn null_count_is_set_until_the_count_is_loaded() {
    const NULL: u8 = 0x40;
    let mut pit = counter_2(H, 0x34, 10);
    assert_eq!(status(&mut pit, 2, after(0)) & NULL, NULL);
    assert_eq!(status(&mut pit, 2, after(1)) & NULL, 0);
    pit.write(2, 20, after(1));
    assert_eq!(status(&mut pit, 2, after(1)) & NULL, 0, "one byte of two");
    pit.write(2, 0, after(1));
    assert_eq!(status(&mut pit, 2, after(10)) & NULL, NULL);
    assert_eq!(status(&mut pit, 2, after(11)) & NULL, 0, "the end of the period");
    pit.write(CONTROL, 0xb2, after(11));
    assert_eq!(status(&mut pit, 2, after(99)) & NULL, NULL);
    write_count(&mut pit, 5, 99);
    assert_eq!(status(&mut pit, 2, after(200)) & NULL, NULL, "mode 1 waits for its trigger");
    pit.write_system_control(0, after(200));
    pit.write_system_control(1, after(200));
    assert_eq!(status(&mut pit, 2, after(201)) & NULL, 0);
}

#[test]
fn what_does_not_exist_reads_as_ones_and_registers_have_two_address_lines() {
    let mut pit = counter_2(H, 0x34, 0x1234);
    assert_eq!(pit.read(CONTROL, 0), 0xff);
    assert_eq!(pit.read(2 | 4, after(1)), 0x34);
    assert!(!pit.output(3, 0));
}
