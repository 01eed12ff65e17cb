//! The timer, in all its modes, at any ratio to the TSC.

use proptest::prelude::*;

use super::*;

const ONE_SHOT: u32 = 0x0_0040;
const PERIODIC: u32 = 0x2_0040;
const DEADLINE: u32 = 0x4_0040;
const MASKED: u32 = 0x1_0000;
/// Divide configuration: by 1.
const BY_1: u32 = 0xb;

fn armed(lvt: u32, count: u32, now: u64) -> VirtualApic<Box<ApicPage>> {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::LVT_TIMER, lvt, now);
    let _ = apic.mmio_write(offset::TIMER_DIVIDE, BY_1, now);
    assert_eq!(apic.mmio_write(offset::TIMER_INITIAL, count, now), Effect::Timer);
    apic
}

#[test]
fn one_shot_counts_down_and_fires_once() {
    let mut apic = armed(ONE_SHOT, 100, 1000);
    assert_eq!(apic.timer_due(), Some(1100));
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 1000), 100);
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 1099), 1);
    assert_eq!(apic.advance(1099), Effect::None);
    assert_eq!(apic.advance(1100), Effect::Posted(0x40));
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 1100), 0);
    assert_eq!(apic.mmio_read(offset::TIMER_INITIAL, 1100), 100);
    assert_eq!((apic.timer_due(), apic.advance(5000)), (None, Effect::None));
}

#[test]
fn periodic_keeps_its_grid_however_late_it_is_served() {
    let mut apic = armed(PERIODIC, 100, 1000);
    assert_eq!(apic.advance(1130), Effect::Posted(0x40));
    assert_eq!(apic.timer_due(), Some(1200));
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 1130), 70);
    assert_eq!(apic.advance(1200 + 100 * 1_000_000_000), Effect::Posted(0x40), "once");
    assert_eq!(apic.timer_due(), Some(1300 + 100 * 1_000_000_000));
}

#[test]
fn a_period_that_is_too_short_lasts_longer_while_it_interrupts() {
    let mut apic = armed(PERIODIC, 3, 1000);
    assert_eq!(apic.advance(1003), Effect::Posted(0x40));
    assert_eq!(apic.timer_due(), Some(1013), "the shortest period is 10");
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 1012), 1);
    let _ = apic.mmio_write(offset::LVT_TIMER, PERIODIC | MASKED, 1012);
    assert_eq!((apic.mmio_read(offset::TIMER_CURRENT, 1015), apic.timer_due()), (1, None));
}

#[test]
fn reading_does_not_take_the_interrupt_away() {
    let mut apic = armed(PERIODIC, 100, 0);
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 130), 70);
    assert_eq!(apic.timer_due(), Some(100));
    assert_eq!(apic.advance(130), Effect::Posted(0x40));
    let _ = apic.mmio_write(offset::LVT_TIMER, DEADLINE, 130);
    let _ = apic.write_deadline(200, 130);
    assert_eq!(apic.deadline(200), 0);
    assert_eq!(apic.advance(200), Effect::Posted(0x40));
}

#[test]
fn count_zero_stops() {
    let mut apic = armed(PERIODIC, 100, 0);
    let _ = apic.mmio_write(offset::TIMER_INITIAL, 0, 50);
    assert_eq!(apic.timer_due(), None);
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 60), 0);
    assert_eq!(apic.advance(1000), Effect::None);
}

#[test]
fn every_divider_divides() {
    for (code, divider) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
        let mut apic = xapic();
        let _ = apic.mmio_write(offset::LVT_TIMER, ONE_SHOT, 0);
        let _ = apic.mmio_write(offset::TIMER_DIVIDE, code, 0);
        let _ = apic.mmio_write(offset::TIMER_INITIAL, 10, 0);
        assert_eq!(apic.timer_due(), Some(10 * divider), "code {code}");
        assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 3 * divider), 7);
    }
}

#[test]
fn a_new_divider_changes_the_speed_of_what_is_left() {
    let mut apic = armed(ONE_SHOT, 100, 0);
    let _ = apic.mmio_write(offset::TIMER_DIVIDE, 1, 40);
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 40), 60);
    assert_eq!(apic.timer_due(), Some(40 + 60 * 4));
    let _ = apic.mmio_write(offset::TIMER_DIVIDE, 0, 160);
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 160), 30);
    assert_eq!(apic.timer_due(), Some(160 + 30 * 2));
}

#[test]
fn a_masked_timer_counts_in_silence() {
    let mut apic = armed(ONE_SHOT | MASKED, 100, 0);
    assert_eq!(apic.timer_due(), None);
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 30), 70);
    assert_eq!(apic.mmio_write(offset::LVT_TIMER, ONE_SHOT, 40), Effect::Timer);
    assert_eq!(apic.timer_due(), Some(100), "unmasked in time");
    let _ = apic.mmio_write(offset::LVT_TIMER, ONE_SHOT | MASKED, 50);
    let _ = apic.mmio_write(offset::LVT_TIMER, ONE_SHOT, 150);
    assert_eq!((apic.timer_due(), apic.deliverable()), (None, None), "too late: it is lost");
    let mut apic = armed(PERIODIC | MASKED, 100, 0);
    let _ = apic.mmio_write(offset::LVT_TIMER, PERIODIC, 250);
    assert_eq!(apic.timer_due(), Some(300));
}

#[test]
fn a_change_of_entry_does_not_lose_what_was_due() {
    let mut apic = armed(ONE_SHOT, 100, 0);
    assert_eq!(apic.mmio_write(offset::LVT_TIMER, MASKED, 100), Effect::Posted(0x40));
}

#[test]
fn one_shot_and_periodic_can_be_exchanged_while_counting() {
    let mut apic = armed(ONE_SHOT, 100, 0);
    let _ = apic.mmio_write(offset::LVT_TIMER, PERIODIC, 50);
    assert_eq!(apic.advance(100), Effect::Posted(0x40));
    assert_eq!(apic.timer_due(), Some(200));
    let _ = apic.mmio_write(offset::LVT_TIMER, ONE_SHOT, 150);
    let _ = apic.advance(200);
    assert_eq!(apic.timer_due(), None);
}

#[test]
fn the_deadline_fires_at_its_time_and_clears_itself() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::LVT_TIMER, DEADLINE, 0);
    assert_eq!(apic.msr_write(MSR_TSC_DEADLINE, 500, 100), Ok(Effect::Timer));
    assert_eq!(apic.msr_read(MSR_TSC_DEADLINE, 100), Ok(500));
    assert_eq!(apic.timer_due(), Some(500));
    assert_eq!(apic.advance(499), Effect::None);
    assert_eq!(apic.advance(500), Effect::Posted(0x40));
    assert_eq!(apic.msr_read(MSR_TSC_DEADLINE, 500), Ok(0));
    assert_eq!(apic.timer_due(), None);
}

#[test]
fn a_deadline_that_has_passed_fires_at_once() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::LVT_TIMER, DEADLINE, 0);
    assert_eq!(apic.write_deadline(99, 100), Effect::Posted(0x40));
    assert_eq!(apic.deadline(100), 0);
}

#[test]
fn deadline_zero_disarms() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::LVT_TIMER, DEADLINE, 0);
    let _ = apic.write_deadline(500, 0);
    assert_eq!(apic.write_deadline(0, 10), Effect::Timer);
    assert_eq!((apic.timer_due(), apic.advance(1000)), (None, Effect::None));
}

#[test]
fn each_mode_ignores_the_registers_of_the_other() {
    let mut apic = armed(ONE_SHOT, 100, 0);
    let _ = apic.write_deadline(50, 0);
    assert_eq!((apic.deadline(0), apic.timer_due()), (0, Some(100)));
    let _ = apic.mmio_write(offset::LVT_TIMER, DEADLINE, 0);
    assert_eq!(apic.timer_due(), None, "the change of mode disarms");
    assert_eq!(apic.mmio_read(offset::TIMER_INITIAL, 0), 0);
    let _ = apic.mmio_write(offset::TIMER_INITIAL, 77, 0);
    assert_eq!(apic.timer_due(), None);
    assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, 0), 0);
    assert_eq!(apic.mmio_read(offset::TIMER_INITIAL, 0), 0);
    let _ = apic.write_deadline(50, 0);
    let _ = apic.mmio_write(offset::LVT_TIMER, ONE_SHOT, 0);
    assert_eq!((apic.timer_due(), apic.deadline(0)), (None, 0));
}

#[test]
fn a_timer_with_an_illegal_vector_notes_an_error() {
    let mut apic = armed(0x05, 100, 0);
    assert_eq!(apic.advance(100), Effect::None);
    let _ = apic.mmio_write(offset::ESR, 0, 100);
    assert_eq!(apic.mmio_read(offset::ESR, 100), 0x40);
}

#[test]
fn a_ratio_needs_two_numbers_that_are_not_zero() {
    assert!(TimerRatio::new(0, 1).is_none() && TimerRatio::new(1, 0).is_none());
    assert_eq!(TimerRatio::new(1, 1), Some(TimerRatio::ONE));
}

proptest! {
    /// At any ratio the count runs from the initial count to 0 without jumping up, is 0 exactly
    /// from the expiry on, and the expiry is the initial count's time rounded up to one tick.
    #[test]
    fn the_count_agrees_with_the_expiry(
        num in 1u32.., den in 1u32.., count in 1u32.., code in 0u32..16, start in 0..1u64 << 60,
        points in prop::collection::vec(0f64..1.2, 1..20),
    ) {
        let mut apic = apic_with(Config { timer: TimerRatio::new(num, den).unwrap(), ..config() });
        let _ = apic.mmio_write(offset::SVR, 0x1ff, 0);
        let _ = apic.mmio_write(offset::LVT_TIMER, ONE_SHOT, 0);
        let _ = apic.mmio_write(offset::TIMER_DIVIDE, code, 0);
        let log2 = (((code >> 1 & 4) | (code & 3)) + 1) % 8;
        let _ = apic.mmio_write(offset::TIMER_INITIAL, count, start);
        let exact = (u128::from(count) << log2) * u128::from(den);
        let due = apic.timer_due().unwrap();
        let ticks = u128::from(due - start);
        let rounded_up = ticks * u128::from(num) >= exact
            && (ticks - 1) * u128::from(num) < exact;
        prop_assert!(rounded_up || due == u64::MAX);
        prop_assert_eq!(apic.mmio_read(offset::TIMER_CURRENT, start), count);
        let mut points = points;
        points.sort_by(f64::total_cmp);
        let mut last = count;
        for point in points {
            let now = start.saturating_add(((due - start) as f64 * point) as u64);
            let current = apic.mmio_read(offset::TIMER_CURRENT, now);
            prop_assert!(current <= last);
            prop_assert_eq!(current == 0, now >= due);
            last = current;
        }
    }

    /// Whatever a guest does with the timer, at whatever time, the hypervisor survives.
    #[test]
    fn no_sequence_panics(
        ops in prop::collection::vec((0u8..6, any::<u64>(), any::<u64>()), 0..60),
        num in 1u32.., den in 1u32..,
    ) {
        let mut apic = apic_with(Config { timer: TimerRatio::new(num, den).unwrap(), ..config() });
        let _ = apic.mmio_write(offset::SVR, 0x1ff, 0);
        for (what, value, now) in ops {
            match what {
                0 => _ = apic.mmio_write(offset::LVT_TIMER, value as u32, now),
                1 => _ = apic.mmio_write(offset::TIMER_INITIAL, value as u32, now),
                2 => _ = apic.mmio_write(offset::TIMER_DIVIDE, value as u32, now),
                3 => _ = apic.write_deadline(value, now),
                4 => _ = apic.mmio_read(offset::TIMER_CURRENT, now),
                _ => _ = apic.advance(now),
            }
        }
    }
}
