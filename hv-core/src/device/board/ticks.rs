//! Ticks of a timer that come faster than a vCPU can be told of them, because it was not on a CPU.
//!
//! A kernel that counts ticks would lose time for each that is dropped. So they are owed, and come one by
//! one, at a multiple of the timer's rate, until it has caught up.

/// How many are owed at most: what is beyond is lost, as after a long stop of the whole machine.
const MOST: u64 = 1_000;

/// How many times faster than the timer those that are owed come.
const HASTE: u64 = 4;

/// Ticks on their way from a timer to its line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    owed: u64,
    /// Until then the line stays high for the last one, and the next has to wait.
    until: u64,
}

impl Ticks {
    /// The timer has ticked `count` times up to `now`, every `period` nanoseconds if it goes on. Whether
    /// the line is to have an edge.
    ///
    /// If the line is not `heard` by anybody, it has the edge that a controller may remember, and
    /// no others later.
    pub fn tick(&mut self, count: u64, period: Option<u64>, heard: bool, now: u64) -> bool {
        self.owed = self.owed.saturating_add(count).min(if heard { MOST } else { count.min(1) });
        if self.owed == 0 || now < self.until {
            return false;
        }
        self.owed = self.owed.saturating_sub(1);
        self.until = now.saturating_add(period.unwrap_or(0).wrapping_div(HASTE));
        true
    }

    /// Whether the line is still high at `now` for the last tick.
    pub fn holds(&self, now: u64) -> bool {
        now < self.until
    }

    /// When the next tick that is owed can come.
    pub fn due(&self) -> Option<u64> {
        (self.owed > 0).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Option<u64> = Some(1_000);

    #[test]
    fn a_timer_that_is_on_time_has_each_tick_at_its_time() {
        let mut ticks = Ticks::default();
        for now in (0..10_000).step_by(1_000) {
            assert!(ticks.tick(1, PERIOD, true, now));
            assert_eq!(ticks.due(), None);
            assert!(ticks.holds(now + 249) && !ticks.holds(now + 250));
            assert!(!ticks.tick(0, PERIOD, true, now + 500));
        }
    }

    #[test]
    fn ticks_that_were_missed_come_four_times_as_fast_and_none_is_lost() {
        let mut ticks = Ticks::default();
        let (mut now, mut last, mut came) = (50_000, 0, 0);
        while now < 100_000 {
            let count = now / 1_000 - last / 1_000;
            last = now;
            came += u64::from(ticks.tick(count, PERIOD, true, now));
            now = ticks.due().unwrap_or(u64::MAX).min((now / 1_000 + 1) * 1_000);
            assert!(now > last, "what is due is ahead");
        }
        assert_eq!(came, 99);
        assert_eq!(ticks.due(), None, "it has caught up");
    }

    #[test]
    fn a_long_stop_is_forgotten() {
        let mut ticks = Ticks::default();
        assert!(ticks.tick(1_000_000, PERIOD, true, 0));
        let mut rest = 0;
        while let Some(now) = ticks.due() {
            assert!(ticks.tick(0, PERIOD, true, now));
            rest += 1;
        }
        assert_eq!(rest, MOST - 1);
    }

    #[test]
    fn what_nobody_hears_is_one_edge() {
        let mut ticks = Ticks::default();
        assert!(ticks.tick(7, PERIOD, false, 9_000));
        assert_eq!(ticks.due(), None);
        assert!(!ticks.tick(0, PERIOD, true, 10_000), "heard too late");
    }
}
