//! The clock against a model of the chip: a divider that is stepped at 32.768 kHz, and counters of
//! seconds to centuries that carry into each other.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Model {
    /// Nanoseconds at which the divider started, and its steps since.
    start: u64,
    steps: u64,
    a: u8,
    b: u8,
    c: u8,
    /// Seconds, minutes, hours, day of the week, day, month, year.
    time: [u64; 7],
    alarm: [u8; 3],
}

impl Model {
    fn show(&self, number: u64) -> u8 {
        let number = number as u8;
        if self.b & 4 != 0 { number } else { ((number / 10) << 4) | (number % 10) }
    }

    fn show_hour(&self, hour: u64) -> u8 {
        match (self.b & 2 != 0, hour) {
            (true, _) => self.show(hour),
            (_, 0) => self.show(12),
            (_, 1..=12) => self.show(hour) | if hour == 12 { 0x80 } else { 0 },
            _ => self.show(hour - 12) | 0x80,
        }
    }

    fn bytes(&self) -> [u8; 8] {
        let [seconds, minutes, hours, weekday, day, month, year] = self.time;
        let [century, year, month, day, weekday, minutes, seconds] =
            [year / 100, year % 100, month, day, weekday, minutes, seconds].map(|n| self.show(n));
        [century, year, month, day, weekday, self.show_hour(hours), minutes, seconds]
    }

    fn update(&mut self) {
        let [seconds, minutes, hours, weekday, day, month, year] = &mut self.time;
        *seconds += 1;
        if *seconds == 60 {
            *seconds = 0;
            *minutes += 1;
        }
        if *minutes == 60 {
            *minutes = 0;
            *hours += 1;
        }
        if *hours == 24 {
            *hours = 0;
            *weekday = *weekday % 7 + 1;
            *day += 1;
        }
        let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let february = if leap { 29 } else { 28 };
        if *day > [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][*month as usize - 1] {
            *day = 1;
            *month += 1;
        }
        if *month == 13 {
            *month = 1;
            *year += 1;
        }
        self.c |= 0x10;
        let [.., hours, minutes, seconds] = self.bytes();
        let shown = [hours, minutes, seconds];
        if self.alarm.iter().zip(shown).all(|(&alarm, shown)| alarm >= 0xc0 || alarm == shown) {
            self.c |= 0x20;
        }
    }

    fn runs(&self) -> bool {
        self.a >> 4 <= 2
    }

    fn pass(&mut self, now: u64) {
        while self.runs() {
            let next = self.start + ((self.steps + 1) * SECOND).div_ceil(32_768);
            if next > now {
                break;
            }
            self.steps += 1;
            let tap = match self.a & 0xf {
                tap @ 1..=2 if self.a >> 4 == 2 => tap + 7,
                tap => tap,
            };
            if tap != 0 && self.steps.is_multiple_of(1 << (tap - 1)) {
                self.c |= 0x40;
            }
            if self.steps.is_multiple_of(32_768) && self.b & 0x80 == 0 {
                self.update();
            }
        }
    }

    fn interrupt(&self) -> bool {
        self.c & self.b & 0x70 != 0
    }

    fn is_update_near(&self, now: u64) -> bool {
        let end = self.start + (self.steps / 32_768 + 1) * SECOND;
        self.runs() && self.b & 0x80 == 0 && end - now <= 244_000
    }

    fn set_a(&mut self, value: u8, now: u64) {
        let stood = !self.runs();
        self.a = value;
        if stood && self.runs() {
            // As if it had run for half a second.
            (self.start, self.steps) = (now - SECOND / 2, 16_384);
        }
    }

    fn set_b(&mut self, value: u8) {
        let begins = value & !self.b & 0x80 != 0;
        self.b = if begins { value & !0x10 } else { value };
    }
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    A(u8),
    /// The interrupts and the bit SET.
    B(u8),
    Flags,
    Alarm([u8; 3]),
    Time(u8, [u64; 7]),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || prop_oneof![Just(0xffu8), 0u8..=0x99];
    let time = (
        55u64..60,
        57u64..60,
        prop::sample::select(&[0u64, 11, 12, 23][..]),
        1u64..8,
        prop::sample::select(&[1u64, 28][..]),
        1u64..13,
        1899u64..2105,
    );
    let step = prop_oneof![
        4 => (0..SECOND / 100).prop_map(Step::Pass),
        4 => (0..3 * SECOND).prop_map(Step::Pass),
        2 => (0u8..0x80).prop_map(Step::A),
        2 => (0x20u8..0x30).prop_map(Step::A),
        3 => any::<u8>().prop_map(Step::B),
        3 => (0u8..8).prop_map(|bits| Step::B(bits << 4)),
        3 => Just(Step::Flags),
        2 => [number(), number(), number()].prop_map(Step::Alarm),
        2 => number().prop_map(|seconds| Step::Alarm([0xff, 0xff, seconds])),
        2 => (0u8..4, time).prop_map(|(b, (s, m, h, w, d, mo, y))| {
            Step::Time(b << 1, [s, m, h, w, d, mo, y])
        }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_clock_agrees_with_one_that_is_stepped(steps in steps()) {
        let mut now = 0;
        let mut rtc = Rtc::new(YEAR_2024, 0, 0);
        let mut model = Model {
            start: 0,
            steps: 0,
            a: 0x26,
            b: 0x02,
            c: 0,
            time: [0, 0, 0, 2, 1, 1, 2024],
            alarm: [0; 3],
        };
        for step in steps {
            match step {
                Step::Pass(time) => {
                    now += time;
                    model.pass(now);
                }
                // A chain that is released needs half a second before it.
                Step::A(_) if now < SECOND => {}
                Step::A(value) => {
                    write(&mut rtc, A, value, now);
                    model.set_a(value, now);
                }
                Step::B(value) => {
                    let value = value & 0xf0 | model.b & 0x06;
                    write(&mut rtc, B, value, now);
                    model.set_b(value);
                }
                Step::Flags => {
                    let irq = if model.interrupt() { 0x80 } else { 0 };
                    prop_assert_eq!(read(&mut rtc, C, now), model.c | irq);
                    model.c = 0;
                }
                Step::Alarm([hours, minutes, seconds]) => {
                    for (register, value) in [(5, hours), (3, minutes), (1, seconds)] {
                        write(&mut rtc, register, value, now);
                    }
                    model.alarm = [hours, minutes, seconds];
                }
                Step::Time(format, time) => {
                    let b = model.b & 0xf0 | format;
                    write(&mut rtc, B, b, now);
                    model.set_b(b);
                    model.time = time;
                    set_clock(&mut rtc, model.bytes(), now);
                }
            }
            prop_assert_eq!(rtc.interrupt(now), model.interrupt());
            if let Some(due) = rtc.due(now) {
                prop_assert!(due > now && !model.interrupt());
                if due < now + 2 * SECOND {
                    let mut model = model.clone();
                    model.pass(due - 1);
                    prop_assert!(!model.interrupt());
                    model.pass(due);
                    prop_assert!(model.interrupt());
                }
            } else if !model.interrupt() {
                let mut model = model.clone();
                model.pass(now + 2 * SECOND);
                prop_assert!(!model.interrupt());
            }
            // Looking at the time does not disturb it, so half of the steps do not look.
            if now % 2 == 0 {
                prop_assert_eq!(clock(&mut rtc, now), model.bytes());
                let near = if model.is_update_near(now) { 0x80 } else { 0 };
                prop_assert_eq!(read(&mut rtc, A, now), model.a | near);
                prop_assert_eq!(read(&mut rtc, B, now), model.b);
            }
        }
    }

    /// Whatever a guest does at whatever time, an interrupt that is foretold comes.
    #[test]
    fn every_interrupt_that_is_foretold_comes(
        steps in prop::collection::vec((0u8..4, any::<u8>(), any::<u8>(), any::<u64>()), 0..60),
        epoch in any::<u64>(),
    ) {
        let mut rtc = Rtc::new(epoch, epoch, epoch);
        let mut now = 0u64;
        for (what, register, value, time) in steps {
            now = now.saturating_add(time >> (value & 63));
            match what {
                0 => write(&mut rtc, register, value, now),
                1 => write(&mut rtc, register % 14, value, now),
                2 => _ = read(&mut rtc, register, now),
                _ => _ = read(&mut rtc, C, now),
            }
            if let Some(due) = rtc.due(now) {
                prop_assert!(due > now);
                prop_assert!(!rtc.interrupt(due - 1) && rtc.interrupt(due));
            }
        }
    }
}
