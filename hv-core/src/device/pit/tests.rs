use std::vec::Vec;

use super::*;

mod access;
mod model;
mod modes;

const CONTROL: u8 = 3;

/// The first nanosecond after tick `tick`.
fn after(tick: u64) -> u64 {
    clock::time(tick).unwrap()
}

/// A timer whose counter 2 has this gate, and this control word and count at tick 0.
fn counter_2(gate: bool, control: u8, count: u16) -> Pit {
    let mut pit = Pit::new();
    pit.write_system_control(gate.into(), 0);
    pit.write(CONTROL, 0x80 | control, 0);
    write_count(&mut pit, count, 0);
    pit
}

/// Writes both bytes to counter 2 after tick `tick`.
fn write_count(pit: &mut Pit, count: u16, tick: u64) {
    for byte in count.to_le_bytes() {
        pit.write(2, byte, after(tick));
    }
}

fn count(pit: &mut Pit, counter: u8, now: u64) -> u16 {
    pit.write(CONTROL, counter << 6, now);
    u16::from_le_bytes([pit.read(counter, now), pit.read(counter, now)])
}

/// What counter 2 shows after each of these ticks.
fn trace(pit: &mut Pit, ticks: impl IntoIterator<Item = u64>) -> Vec<(bool, u16)> {
    ticks.into_iter().map(|tick| (pit.output(2, after(tick)), count(pit, 2, after(tick)))).collect()
}

const L: bool = false;
const H: bool = true;

#[test]
fn a_tick_ends_at_its_exact_time() {
    for tick in [0, 1, 2, 18, 1_193_181, 1_193_182, 1_193_183, 1 << 40, 21_000_000_000_000_000] {
        let time = clock::time(tick).unwrap();
        assert_eq!(clock::tick(time), tick);
        assert!(tick == 0 || clock::tick(time - 1) == tick - 1);
    }
    assert_eq!(clock::tick(3_600_000_000_000), 3600 * FREQUENCY, "an hour");
    assert_eq!(clock::time(u64::MAX), None);
}

#[test]
fn the_periodic_interrupt_of_a_pc_does_not_drift() {
    let mut pit = Pit::new();
    pit.write(CONTROL, 0x34, 0);
    pit.write(0, 0xa9, 0);
    pit.write(0, 0x04, 0);
    // Periods of 1193 ticks, the first of them after the one that loads the counter.
    let mut now = 0;
    for n in 1..=5000 {
        now = pit.next_rise(now).unwrap();
        assert_eq!(now, after(1 + n * 1193));
        assert_eq!(pit.rises(now), 1);
        assert_eq!(pit.rises(now), 0);
    }
    assert_eq!(pit.rises(now + 3_600_000_000_000), 3600 * FREQUENCY / 1193);
}

#[test]
fn the_shortest_period_over_the_longest_time_costs_nothing() {
    for (control, count) in [(0x14, 1), (0x14, 2), (0x16, 1), (0x16, 2), (0x17, 1)] {
        let mut pit = Pit::new();
        pit.write(CONTROL, control, 0);
        pit.write(0, count, 0);
        let ticks = clock::tick(u64::MAX);
        assert_eq!(pit.rises(u64::MAX), (ticks - 1) / 2);
        assert_eq!(pit.next_rise(u64::MAX), None, "not in this time");
    }
}

#[test]
fn rises_are_counted_also_when_a_write_makes_them() {
    let mut pit = Pit::new();
    assert_eq!((pit.rises(0), pit.next_rise(0)), (0, None));
    pit.write(CONTROL, 0x30, 0);
    assert!(!pit.output(0, 0));
    pit.write(CONTROL, 0x34, 0);
    assert_eq!((pit.rises(0), pit.output(0, 0)), (1, true));
}

#[test]
fn the_next_rise_is_the_first_moment_at_which_one_is_counted() {
    for control in [0x30, 0x34, 0x36, 0x38] {
        let mut pit = Pit::new();
        pit.write(CONTROL, control, 700);
        pit.write(0, 5, 700);
        pit.write(0, 0, 700);
        let due = pit.next_rise(700).unwrap();
        let mut early = pit.clone();
        assert_eq!((early.rises(due - 1), pit.rises(due)), (0, 1), "control word {control:#x}");
    }
}

#[test]
fn time_that_runs_backwards_stands_still() {
    let mut pit = counter_2(H, 0x34, 100);
    assert_eq!(count(&mut pit, 2, after(50)), 51);
    assert_eq!(count(&mut pit, 2, after(20)), 51);
    assert_eq!(count(&mut pit, 2, after(51)), 50);
}

#[test]
fn port_61_has_the_gate_the_output_and_the_refresh_bit() {
    let mut pit = Pit::new();
    assert_eq!(pit.read_system_control(0), 0x20);
    pit.write_system_control(0xff, 0);
    assert_eq!(pit.read_system_control(0), 0x2f, "the upper half is read-only");
    pit.write(CONTROL, 0xb0, 0);
    write_count(&mut pit, 40, 0);
    pit.write_system_control(0x01, 0);
    assert_eq!(pit.read_system_control(after(17)), 0x01);
    assert_eq!(pit.read_system_control(after(18)), 0x11);
    assert_eq!(pit.read_system_control(after(35)), 0x11);
    assert_eq!(pit.read_system_control(after(36)), 0x01);
    assert_eq!(pit.read_system_control(after(40)), 0x01);
    assert_eq!(pit.read_system_control(after(41)), 0x21);
    assert_eq!(after(18), 15_086, "nanoseconds between changes of the refresh bit");
}
