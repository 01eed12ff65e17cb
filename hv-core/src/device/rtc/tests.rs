use std::vec::Vec;

use super::*;

mod clock;
mod interrupts;
mod model;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
const YEAR_2024: u64 = 1_704_067_200;

const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const D: u8 = 0x0d;

fn read(rtc: &mut Rtc, register: u8, now: u64) -> u8 {
    rtc.write_index(register);
    rtc.read_data(now)
}

fn write(rtc: &mut Rtc, register: u8, value: u8, now: u64) {
    rtc.write_index(register);
    rtc.write_data(value, now);
}

/// Century, year, month, day, day of the week, hours, minutes, seconds.
fn clock(rtc: &mut Rtc, now: u64) -> [u8; 8] {
    [0x32, 9, 8, 7, 6, 4, 2, 0].map(|register| read(rtc, register, now))
}

/// Writes them in this order, as they are.
fn set_clock(rtc: &mut Rtc, bytes: [u8; 8], now: u64) {
    for (register, value) in [0x32, 9, 8, 7, 6, 4, 2, 0].into_iter().zip(bytes) {
        write(rtc, register, value, now);
    }
}

fn set_alarm(rtc: &mut Rtc, hours: u8, minutes: u8, seconds: u8) {
    for (register, value) in [(5, hours), (3, minutes), (1, seconds)] {
        write(rtc, register, value, 0);
    }
}

#[test]
fn the_index_port_keeps_the_bit_that_disables_nmis() {
    let mut rtc = Rtc::new(0, 0, 0);
    assert!(!rtc.nmi_disabled());
    rtc.write_index(0x80 | D);
    assert!(rtc.nmi_disabled());
    assert_eq!((rtc.read_index(), rtc.read_data(0)), (0x8d, 0x80), "it is not part of the number");
    rtc.write_index(D);
    assert!(!rtc.nmi_disabled());
}

#[test]
fn registers_are_as_a_bios_leaves_them() {
    let mut rtc = Rtc::new(0, 0, 0);
    assert_eq!([A, B, C, D].map(|register| read(&mut rtc, register, 0)), [0x26, 0x02, 0, 0x80]);
    assert_eq!(read(&mut rtc, 0x14, 0) & 0xc3, 0x02, "a coprocessor, no diskettes");
}

#[test]
fn memory_tells_the_size_of_the_machine_s_memory() {
    const MIB: u64 = 1 << 20;
    for (below, above, base, extended, above_16, above_4g) in [
        (0x80000, 0, 512, 0, 0, 0),
        (MIB, 0, 640, 0, 0, 0),
        (16 * MIB, 0, 640, 15 * 1024, 0, 0),
        (64 * MIB, 0, 640, 63 * 1024, 48 * 16, 0),
        (65 * MIB, 0, 640, 0xffff, 49 * 16, 0),
        (3072 * MIB, 1024 * MIB, 640, 0xffff, 3056 * 16, 1024 * 16),
        (4096 * MIB, u64::MAX, 640, 0xffff, 4080 * 16, 0xff_ffff),
        (u64::MAX, 0x1234_5678 << 16, 640, 0xffff, 0xffff, 0xff_ffff),
        (0, 0x12_3456 << 16, 0, 0, 0, 0x12_3456),
    ] {
        let mut rtc = Rtc::new(YEAR_2024, below, above);
        let mut number = |registers: &[u8]| {
            registers
                .iter()
                .rev()
                .fold(0u32, |sum, &register| sum << 8 | u32::from(read(&mut rtc, register, 0)))
        };
        assert_eq!(number(&[0x15, 0x16]), base);
        assert_eq!(number(&[0x17, 0x18]), extended);
        assert_eq!(number(&[0x30, 0x31]), extended);
        assert_eq!(number(&[0x34, 0x35]), above_16);
        assert_eq!(number(&[0x5b, 0x5c, 0x5d]), above_4g);
        let checked: Vec<u8> = (0x10..=0x2d).collect();
        let sum: u32 = checked.iter().map(|&register| number(&[register])).sum();
        assert_eq!(number(&[0x2f, 0x2e]), sum & 0xffff);
    }
}

#[test]
fn memory_keeps_what_is_written_and_registers_c_and_d_do_not() {
    let mut rtc = Rtc::new(YEAR_2024, 0, 0);
    let memory = || (0x0e..0x80).filter(|&register| register != 0x32);
    memory().for_each(|register| write(&mut rtc, register, !register, 0));
    for register in memory() {
        assert_eq!(read(&mut rtc, register | 0x80, 1000 * DAY), !register);
    }
    write(&mut rtc, C, 0xff, 0);
    write(&mut rtc, D, 0x00, 0);
    assert_eq!((read(&mut rtc, C, 0) & 0x0f, read(&mut rtc, D, 0)), (0, 0x80));
    write(&mut rtc, A, 0xff, 0);
    assert_eq!(read(&mut rtc, A, 0), 0x7f, "UIP is read-only");
    write(&mut rtc, 0, 0xd5, 0);
    assert_eq!(read(&mut rtc, 0, 0), 0x55, "and so is the seconds' high bit");
}

#[test]
fn daylight_saving_and_square_wave_are_bits_without_effect() {
    // 2:00 on the last Sunday of April is where the chip would go on with 3:00.
    let mut rtc = Rtc::new(0, 0, 0);
    set_clock(&mut rtc, [0x20, 0x24, 0x04, 0x28, 0x01, 0x01, 0x59, 0x59], 0);
    write(&mut rtc, B, 0x0b, 0);
    assert_eq!(read(&mut rtc, B, 0), 0x0b);
    assert_eq!(clock(&mut rtc, SECOND)[5..], [0x02, 0x00, 0x00]);
    assert!(!rtc.interrupt(SECOND));
}
