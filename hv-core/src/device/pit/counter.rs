//! One counter of an 8254: what counts and gates do at once (8254 data sheet, Mode Definitions). What
//! CLK pulses do is in `pulses`, which bytes the CPU writes and reads in `access`.

mod digits;
mod pulses;

pub(super) use digits::Radix;

use super::access::Access;

/// What the mode bits of a control word say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// 0: interrupt on terminal count.
    Terminal,
    /// 1: hardware retriggerable one-shot.
    OneShot,
    /// 2: rate generator.
    Rate,
    /// 3: square wave.
    Square,
    /// 4: software triggered strobe.
    SoftwareStrobe,
    /// 5: hardware triggered strobe.
    HardwareStrobe,
}

impl Mode {
    fn is_periodic(self) -> bool {
        matches!(self, Mode::Rate | Mode::Square)
    }

    /// Whether a rising gate loads the counter.
    fn is_triggered(self) -> bool {
        !matches!(self, Mode::Terminal | Mode::SoftwareStrobe)
    }

    /// Whether the counter stands still while the gate is low.
    fn is_gated(self) -> bool {
        !matches!(self, Mode::OneShot | Mode::HardwareStrobe)
    }

    fn is_strobe(self) -> bool {
        matches!(self, Mode::SoftwareStrobe | Mode::HardwareStrobe)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Counter {
    pub(super) access: Access,
    /// The tick that everything here has come to.
    tick: u64,
    gate: bool,
    out: bool,
    /// How often OUT rose since somebody asked.
    rises: u64,
    /// The count register, once it is complete.
    register: Option<u16>,
    /// The count register has not come into the counting element yet.
    null: bool,
    /// The next pulse loads the counting element.
    load: bool,
    /// In mode 0 the first byte of two stops the counter until the second.
    held: bool,
    /// The counting element was loaded with `start`, and `done` pulses have counted since; in mode
    /// 3, those of the half wave.
    loaded: bool,
    start: u16,
    done: u64,
}

impl Counter {
    pub(super) const fn new(gate: bool) -> Counter {
        Counter {
            access: Access::new(),
            tick: 0,
            gate,
            out: true,
            rises: 0,
            register: None,
            null: true,
            load: false,
            held: false,
            loaded: false,
            start: 0,
            done: 0,
        }
    }

    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    pub(super) fn output(&self) -> bool {
        self.out
    }

    pub(super) fn is_null(&self) -> bool {
        self.null
    }

    pub(super) fn take_rises(&mut self) -> u64 {
        core::mem::take(&mut self.rises)
    }

    /// The counter as it will be at `tick` if nobody interferes.
    pub(super) fn at(&self, tick: u64) -> Counter {
        let mut counter = self.clone();
        counter.advance(tick);
        counter
    }

    /// The value of the counting element.
    pub(super) fn count(&self) -> u16 {
        let radix = self.access.radix();
        match self.access.mode() {
            Mode::Square => radix.subtract(self.start & !1, self.done.wrapping_mul(2)),
            _ => radix.subtract(self.start, self.done),
        }
    }

    fn set_output(&mut self, level: bool) {
        self.rises = self.rises.wrapping_add((level && !self.out).into());
        self.out = level;
    }

    /// A control word stops the counter and sets OUT at once.
    pub(super) fn reset(&mut self) {
        self.register = None;
        self.null = true;
        self.load = false;
        self.held = false;
        self.loaded = false;
        self.set_output(self.access.mode() != Mode::Terminal);
    }

    /// The first byte of two was written.
    pub(super) fn begin_count(&mut self) {
        if self.access.mode() == Mode::Terminal {
            self.held = true;
            self.set_output(false);
        }
    }

    /// A count was written completely.
    pub(super) fn set_count(&mut self, count: u16) {
        let mode = self.access.mode();
        let first = self.register.replace(count).is_none();
        self.null = true;
        self.held = false;
        match mode {
            Mode::Terminal => {
                self.set_output(false);
                self.load = true;
            }
            Mode::SoftwareStrobe => self.load = true,
            Mode::Rate | Mode::Square => self.load |= first,
            Mode::OneShot | Mode::HardwareStrobe => {}
        }
    }

    pub(super) fn set_gate(&mut self, level: bool, tick: u64) {
        self.advance(tick);
        let mode = self.access.mode();
        if level && !self.gate {
            self.load |= mode.is_triggered() && self.register.is_some();
        } else if !level && mode.is_periodic() {
            self.set_output(true);
        }
        self.gate = level;
    }

    fn is_counting(&self) -> bool {
        self.loaded && !self.held && (self.gate || !self.access.mode().is_gated())
    }
}
