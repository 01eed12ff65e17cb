//! A counter against a model that takes one CLK pulse after the other.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, Default)]
struct Model {
    mode: u8,
    bcd: bool,
    bytes: u8,
    low: Option<u8>,
    register: Option<u16>,
    element: u16,
    /// In mode 3, pulses left in the half wave.
    half: u32,
    gate: bool,
    trigger: bool,
    pending: bool,
    held: bool,
    running: bool,
    expired: bool,
    null: bool,
    out: bool,
    rises: u64,
}

impl Model {
    fn drive(&mut self, out: bool) {
        self.rises += u64::from(out && !self.out);
        self.out = out;
    }

    fn decrement(&mut self) {
        if !self.bcd {
            self.element = self.element.wrapping_sub(1);
            return;
        }
        for digit in 0..4 {
            if self.element >> (4 * digit) & 0xf != 0 {
                self.element -= 1 << (4 * digit);
                return;
            }
            self.element |= 9 << (4 * digit);
        }
    }

    fn control(&mut self, control: u8) {
        let mode = control >> 1 & 7;
        let mode = if mode > 5 { mode - 4 } else { mode };
        let (element, gate, rises, out) = (self.element, self.gate, self.rises, self.out);
        let (bytes, bcd) = (control >> 4, control & 1 != 0);
        *self =
            Model { mode, bcd, bytes, element, gate, rises, out, null: true, ..Model::default() };
        self.drive(mode != 0);
    }

    fn write(&mut self, value: u8) {
        let count = match (self.bytes, self.low.take()) {
            (1, _) => value.into(),
            (2, _) => u16::from(value) << 8,
            (_, Some(low)) => u16::from(value) << 8 | u16::from(low),
            (_, None) => {
                self.low = Some(value);
                if self.mode == 0 {
                    self.held = true;
                    self.drive(false);
                }
                return;
            }
        };
        let first = self.register.is_none();
        self.register = Some(count);
        self.null = true;
        self.held = false;
        match self.mode {
            0 => {
                self.drive(false);
                self.pending = true;
            }
            4 => self.pending = true,
            2 | 3 if first => self.pending = true,
            _ => {}
        }
    }

    fn set_gate(&mut self, level: bool) {
        if level && !self.gate && self.register.is_some() && matches!(self.mode, 1 | 2 | 3 | 5) {
            self.trigger = true;
        }
        if !level && matches!(self.mode, 2 | 3) {
            self.drive(true);
        }
        self.gate = level;
    }

    fn load(&mut self) {
        let mut count = self.register.unwrap();
        if count == 1 && matches!(self.mode, 2 | 3) {
            count = 2;
        }
        self.element = count;
        self.null = false;
        self.running = true;
        self.expired = false;
        if self.mode == 3 {
            // How long the half wave is: down to 0 by two, and one more if odd and high.
            let odd = count & 1;
            self.element &= !1;
            let kept = self.element;
            self.half = u32::from(odd == 1 && self.out);
            loop {
                self.decrement();
                self.decrement();
                self.half += 1;
                if self.element == 0 {
                    break;
                }
            }
            self.element = kept;
        }
    }

    fn pulse(&mut self) {
        if matches!(self.mode, 4 | 5) {
            self.drive(true);
        }
        if self.trigger || self.pending {
            self.trigger = false;
            self.pending = false;
            self.load();
            if self.mode == 1 {
                self.drive(false);
            }
            return;
        }
        let gated = matches!(self.mode, 0 | 2 | 3 | 4);
        if !self.running || self.held || gated && !self.gate {
            return;
        }
        match self.mode {
            2 if self.element == 1 => {
                self.load();
                self.drive(true);
            }
            2 => {
                self.decrement();
                self.out = self.element != 1;
            }
            3 => {
                self.half -= 1;
                if self.half == 0 {
                    self.drive(!self.out);
                    self.load();
                } else {
                    self.decrement();
                    self.decrement();
                }
            }
            _ => {
                self.decrement();
                if self.element == 0 && !self.expired {
                    self.expired = true;
                    self.drive(self.mode < 4);
                }
            }
        }
    }

    fn to_rise(&self) -> Option<u64> {
        let mut model = self.clone();
        (1..150_000).find(|_| {
            model.pulse();
            model.rises != self.rises
        })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Control(u8),
    Write(u8),
    Gate(bool),
    Pass(u64),
    NextRise,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let small = prop_oneof![3 => 0u8..8, 1 => any::<u8>()];
    let step = prop_oneof![
        2 => (0x10u8..0x40).prop_map(Step::Control),
        8 => small.prop_map(Step::Write),
        4 => any::<bool>().prop_map(Step::Gate),
        8 => (0u64..12).prop_map(Step::Pass),
        2 => (0u64..3000).prop_map(Step::Pass),
        1 => (60_000u64..140_000).prop_map(Step::Pass),
        2 => Just(Step::NextRise),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_counter_agrees_with_one_that_is_stepped_tick_by_tick(
        first in 0x10u8..0x40, gate in any::<bool>(), steps in steps(),
    ) {
        let mut counter = Counter::new(gate);
        let mut model = Model { gate, out: true, ..Model::default() };
        let mut tick = 0;
        for step in [Step::Control(first)].into_iter().chain(steps) {
            match step {
                Step::Control(value) => {
                    counter.control(value, tick);
                    model.control(value);
                }
                Step::Write(value) => {
                    counter.write(value, tick);
                    model.write(value);
                }
                Step::Gate(level) => {
                    counter.set_gate(level, tick);
                    model.set_gate(level);
                }
                Step::Pass(ticks) => {
                    tick += ticks;
                    counter.advance(tick);
                    (0..ticks).for_each(|_| model.pulse());
                }
                Step::NextRise => {
                    prop_assert_eq!(counter.ticks_to_rise(), model.to_rise());
                }
            }
            prop_assert_eq!(counter.output(), model.out);
            prop_assert_eq!(counter.is_null(), model.null);
            prop_assert_eq!(counter.clone().take_rises(), model.rises);
            if model.running {
                prop_assert_eq!(counter.count(), model.element);
            }
        }
    }

    /// Whatever a guest does at whatever time, an access is answered, and the next rise that is
    /// foretold is where one is counted.
    #[test]
    fn every_rise_that_is_foretold_comes(
        steps in prop::collection::vec((0u8..6, any::<u8>(), 0..1u64 << 40), 0..60),
    ) {
        let mut pit = Pit::new();
        let mut now = 0u64;
        for (what, value, time) in steps {
            now += time;
            match what {
                0..4 => pit.write(what, value, now),
                4 => _ = pit.read(value, now),
                _ => pit.write_system_control(value, now),
            }
            pit.rises(now);
            if let Some(due) = pit.next_rise(now) {
                prop_assert!(due > now);
                prop_assert_eq!(pit.clone().rises(due - 1), 0);
                prop_assert_eq!(pit.clone().rises(due), 1);
            } else {
                prop_assert_eq!(pit.clone().rises(now + (1 << 40)), 0);
            }
        }
    }
}
