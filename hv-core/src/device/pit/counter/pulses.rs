//! What a number of CLK pulses does, however large it is (8254 data sheet, Mode Definitions).

use super::{Counter, Mode, digits::span};

impl Counter {
    /// CLK pulses up to the end of `tick`.
    pub(in crate::device::pit) fn advance(&mut self, tick: u64) {
        let mut pulses = tick.saturating_sub(self.tick);
        if pulses == 0 {
            return;
        }
        self.tick = tick;
        if self.access.mode().is_strobe() {
            // A strobe lasts for one pulse, whatever else that one does.
            self.set_output(true);
        }
        if self.load {
            self.load = false;
            self.loaded = true;
            self.reload();
            if self.access.mode() == Mode::OneShot {
                self.set_output(false);
            }
            pulses = pulses.wrapping_sub(1);
        }
        if self.is_counting() {
            self.count_down(pulses);
        }
    }

    fn reload(&mut self) {
        let minimum = if self.access.mode().is_periodic() { 2 } else { 1 };
        self.start = match self.register {
            Some(1) => minimum,
            count => count.unwrap_or(0),
        };
        self.done = 0;
        self.null = false;
    }

    /// Pulses from a load to 0.
    fn span(&self) -> u64 {
        span(self.start, self.access.radix())
    }

    /// Pulses of the half wave in mode 3; the higher half is the longer one.
    fn half(&self) -> u64 {
        if self.out { self.span().div_ceil(2) } else { self.span().wrapping_div(2) }
    }

    fn count_down(&mut self, pulses: u64) {
        match self.access.mode() {
            Mode::Terminal | Mode::OneShot => {
                if self.pass_zero(pulses) {
                    self.set_output(true);
                }
            }
            Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                if self.pass_zero(pulses) {
                    self.set_output(false);
                    self.set_output(self.done != self.span());
                }
            }
            Mode::Rate => self.count_rate(pulses),
            Mode::Square => self.count_square(pulses),
        }
    }

    /// Counts, and tells whether 0 was reached for the first time since the load.
    fn pass_zero(&mut self, pulses: u64) -> bool {
        let before = self.done;
        self.done = before.saturating_add(pulses);
        before < self.span() && self.done >= self.span()
    }

    fn count_rate(&mut self, pulses: u64) {
        let left = self.span().saturating_sub(self.done);
        if let Some(over) = pulses.checked_sub(left) {
            self.reload();
            // After one reload all periods are the same.
            let periods = over.checked_div(self.span()).unwrap_or(0);
            self.done = over.checked_rem(self.span()).unwrap_or(0);
            self.rises = self.rises.wrapping_add(periods).wrapping_add(1);
        } else {
            self.done = self.done.wrapping_add(pulses);
        }
        self.out = self.done != self.span().wrapping_sub(1);
    }

    fn count_square(&mut self, pulses: u64) {
        let left = self.half().saturating_sub(self.done);
        let Some(over) = pulses.checked_sub(left) else {
            self.done = self.done.wrapping_add(pulses);
            return;
        };
        self.reload();
        self.set_output(!self.out);
        let periods = over.checked_div(self.span()).unwrap_or(0);
        self.rises = self.rises.wrapping_add(periods);
        self.done = over.checked_rem(self.span()).unwrap_or(0);
        if let Some(over) = self.done.checked_sub(self.half()) {
            self.set_output(!self.out);
            self.done = over;
        }
    }

    /// Pulses from one rise of OUT to the next, in a mode that repeats itself.
    pub(in crate::device::pit) fn period(&self) -> Option<u64> {
        (self.loaded && self.access.mode().is_periodic()).then(|| self.span())
    }

    /// How many pulses from now OUT rises, if nobody interferes.
    pub(in crate::device::pit) fn ticks_to_rise(&self) -> Option<u64> {
        // A pulse that loads is like no other, so one is tried.
        let next = self.at(self.tick.checked_add(1)?);
        if next.rises != self.rises {
            return Some(1);
        }
        next.pulses_to_rise()?.checked_add(1)
    }

    /// The same if no load is due.
    fn pulses_to_rise(&self) -> Option<u64> {
        let mode = self.access.mode();
        if mode.is_strobe() && !self.out {
            return Some(1);
        }
        if !self.is_counting() {
            return None;
        }
        let left = self.span().saturating_sub(self.done);
        match mode {
            Mode::Terminal | Mode::OneShot => (!self.out).then_some(left),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                (left != 0).then(|| left.wrapping_add(1))
            }
            Mode::Rate => Some(left),
            Mode::Square => {
                let left = self.half().saturating_sub(self.done);
                if !self.out {
                    return Some(left);
                }
                let mut low = self.clone();
                low.count_square(left);
                left.checked_add(low.half())
            }
        }
    }
}
