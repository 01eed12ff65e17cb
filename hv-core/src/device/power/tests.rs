use super::*;

const NOW: u64 = 12_345;
const MINUTE: u64 = 60_000_000_000;

fn fixed() -> FixedHardware {
    FixedHardware::new(TimerWidth::Bits24, 0)
}

/// Ticks by the definition, in numbers that do not overflow.
fn exact(now: u64) -> u128 {
    u128::from(now) * 3_579_545 / 1_000_000_000
}

#[test]
fn the_timer_reads_exactly_the_ticks_of_its_frequency() {
    let hardware = FixedHardware::new(TimerWidth::Bits32, 0);
    for now in [0, 1, 279, 280, 558, 559, 999_999_999, 1_000_000_000, 77 * MINUTE + 7, u64::MAX] {
        let ticks = exact(now);
        assert_eq!(hardware.read(0x608, 4, now), ticks as u32, "32 bits at {now}");
        assert_eq!(fixed().read(0x608, 4, now), ticks as u32 & 0x00ff_ffff, "24 bits at {now}");
    }
    assert_eq!(hardware.read(0x608, 4, 1_000_000_000), 3_579_545);
    assert_eq!(hardware.read(0x60a, 1, 1_000_000_000), 3_579_545 >> 16 & 0xff, "a byte of it");
}

#[test]
fn the_timer_is_not_written() {
    let mut hardware = fixed();
    assert_eq!(hardware.write(0x608, 4, 0, MINUTE), Effect::None);
    assert_eq!(hardware.read(0x608, 4, MINUTE), exact(MINUTE) as u32 & 0x00ff_ffff);
}

#[test]
fn the_carry_comes_with_each_change_of_the_highest_bit_and_stays_until_cleared() {
    for (width, bit) in [(TimerWidth::Bits24, 23), (TimerWidth::Bits32, 31)] {
        let mut hardware = FixedHardware::new(width, 0);
        let _ = hardware.write(0x602, 2, 1, 0);
        for change in 1..4u64 {
            let due = hardware.sci_due().unwrap();
            assert_eq!(exact(due), u128::from(change) << bit, "{width:?}");
            assert_eq!(exact(due - 1), (u128::from(change) << bit) - 1, "not a nanosecond early");
            assert!(!hardware.sci(due - 1) && hardware.sci(due));
            assert_eq!(hardware.read(0x600, 2, due), 1);
            assert_eq!(hardware.write(0x600, 2, 0xfffe, due), Effect::None, "not cleared by 0");
            assert!(hardware.sci(due + 5) && hardware.sci_due() == Some(due));
            assert_eq!(hardware.write(0x600, 1, 1, due + 5), Effect::Sci);
            assert_eq!((hardware.sci(due + 5), hardware.read(0x600, 2, due + 5)), (false, 0));
        }
    }
}

#[test]
fn a_carry_that_is_not_enabled_shows_and_interrupts_nobody() {
    let mut hardware = fixed();
    assert_eq!(hardware.sci_due(), None);
    assert_eq!((hardware.read(0x600, 2, MINUTE), hardware.sci(MINUTE)), (1, false));
    assert_eq!(hardware.write(0x602, 1, 1, MINUTE), Effect::Sci);
    assert!(hardware.sci(MINUTE) && hardware.sci_due().unwrap() < MINUTE);
    assert_eq!(hardware.write(0x602, 1, 0, MINUTE), Effect::Sci);
    assert!(!hardware.sci(MINUTE));
}

#[test]
fn a_reset_clears_the_carries_and_leaves_the_timer() {
    let hardware = FixedHardware::new(TimerWidth::Bits24, MINUTE);
    assert_eq!(hardware.read(0x600, 2, MINUTE), 0);
    assert_eq!(hardware.read(0x608, 4, MINUTE), exact(MINUTE) as u32 & 0x00ff_ffff);
}

#[test]
fn a_time_without_end_does_not_overflow() {
    let mut hardware = FixedHardware::new(TimerWidth::Bits32, u64::MAX);
    let _ = hardware.write(0x602, 1, 1, u64::MAX);
    assert_eq!(hardware.sci_due(), Some(u64::MAX), "later than time can say");
    assert!(!hardware.sci(u64::MAX));
}

#[test]
fn enables_of_events_that_exist_are_kept_and_their_status_is_clear() {
    let mut hardware = fixed();
    let _ = hardware.write(0x602, 2, 0xffff, NOW);
    assert_eq!(hardware.read(0x602, 2, NOW), 0x0721, "TMR, GBL, PWRBTN, SLPBTN, RTC");
    assert_eq!(hardware.read(0x600, 4, NOW), 0x0721_0000);
    assert_eq!(hardware.read(0x603, 1, NOW), 0x07);
    assert!(!hardware.sci(NOW));
}

#[test]
fn acpi_mode_is_always_on() {
    let mut hardware = fixed();
    assert_eq!(hardware.read(0x604, 2, NOW), 1);
    assert_eq!(hardware.write(0x604, 2, 0x1406, NOW), Effect::None);
    assert_eq!(hardware.read(0x604, 2, NOW), 0x1403, "GBL_RLS is only written");
    assert_eq!(hardware.read(0x604, 4, NOW), 0x1403, "reserved behind it");
}

#[test]
fn sleep_enable_with_the_type_of_s5_turns_the_machine_off() {
    let off = u32::from(S5) << 10 | 1 << 13;
    assert_eq!(fixed().write(0x604, 2, off, NOW), Effect::PowerOff);
    assert_eq!(fixed().write(0x605, 1, off >> 8, NOW), Effect::PowerOff, "by its upper byte");
    assert_eq!(fixed().write(0x602, 4, off << 16 | 1, NOW), Effect::PowerOff, "with the enables");
    assert_eq!(fixed().write(0x604, 2, off & !(1 << 13), NOW), Effect::None);
    assert_eq!(fixed().write(0x604, 1, 0x20, NOW), Effect::None, "the lower byte");
    for other in (0..8).filter(|&kind| kind != u32::from(S5)) {
        let mut hardware = fixed();
        assert_eq!(hardware.write(0x604, 2, other << 10 | 1 << 13, NOW), Effect::None);
        assert_eq!(hardware.read(0x604, 2, NOW), other << 10 | 1, "SLP_EN is only written");
    }
}

#[test]
fn accesses_across_the_ends_of_the_block_touch_nothing_else() {
    let mut hardware = fixed();
    assert_eq!(hardware.read(0x60a, 4, MINUTE) >> 16, 0);
    assert_eq!(hardware.read(0x5fe, 4, MINUTE), 0x0001_0000, "status");
    assert_eq!(hardware.write(0xffff, 4, u32::MAX, MINUTE), Effect::None);
    assert_eq!(hardware.read(0x600, 4, MINUTE), 1);
}

#[test]
fn reduced_hardware_is_turned_off_by_its_sleep_control() {
    let off = u32::from(S5) << 2 | 1 << 5;
    let mut hardware = ReducedHardware::new();
    assert_eq!(hardware.write(0x60c, 1, off,), Effect::PowerOff);
    for other in (0..8).filter(|&kind| kind != u32::from(S5)) {
        assert_eq!(hardware.write(0x60c, 1, other << 2 | 1 << 5), Effect::None);
        assert_eq!(hardware.read(0x60c, 1), other << 2, "SLP_EN is only written");
    }
    assert_eq!(hardware.write(0x60c, 1, off & !(1 << 5)), Effect::None);
}

#[test]
fn reduced_hardware_never_wakes_and_resets_by_one_value() {
    let mut hardware = ReducedHardware::new();
    assert_eq!(hardware.write(0x60d, 1, 0xff), Effect::None);
    assert_eq!(hardware.read(0x60d, 2), 0);
    for value in 0..=0xff {
        let expected = if value == 1 { Effect::Reset } else { Effect::None };
        assert_eq!(hardware.write(0x60e, 1, value), expected, "{value:#x}");
    }
}

#[test]
fn reset_control_acts_when_its_cpu_bit_rises() {
    for (kind, effect) in
        [(0x0, Effect::Init), (0x2, Effect::Reset), (0x8, Effect::Init), (0xa, Effect::Reset)]
    {
        let mut control = ResetControl::new();
        assert_eq!(control.write(kind), Effect::None, "only the kind");
        assert_eq!(control.write(kind | 4), effect, "{kind:#x}");
        assert_eq!(control.write(kind | 4), Effect::None, "it has to fall first");
        assert_eq!(control.read(), kind | 4);
        assert_eq!(control.write(kind), Effect::None);
        assert_eq!(control.write(kind | 4), effect);
    }
    let mut control = ResetControl::new();
    assert_eq!(control.write(0x06), Effect::Reset, "at once");
    assert_eq!(control.write(0xf1), Effect::None);
    assert_eq!(control.read(), 0, "reserved bits");
}

#[test]
fn system_control_switches_the_gate_and_initializes_on_a_rising_bit() {
    let mut control = SystemControl::new();
    assert!(!control.a20());
    assert_eq!(control.write(0x02), Effect::A20(true));
    assert_eq!(control.write(0xfe), Effect::None, "as it was");
    assert_eq!((control.read(), control.a20()), (0x02, true));
    assert_eq!(control.write(0x00), Effect::A20(false));
    assert_eq!(control.write(0x03), Effect::Init);
    assert!(control.a20(), "switched as well");
    assert_eq!(control.write(0x03), Effect::None);
    assert_eq!(control.write(0x02), Effect::None);
    assert_eq!(control.write(0x03), Effect::Init);
}

#[test]
fn the_exit_port_passes_its_value_on() {
    assert_eq!(exit(0), Effect::Exit(0));
    assert_eq!(exit(0xdead_beef), Effect::Exit(0xdead_beef));
}
