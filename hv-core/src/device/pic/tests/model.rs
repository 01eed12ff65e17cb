//! The pair against a model that keeps a list of lines in order of their priority and looks at each
//! of them.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Default)]
struct Line {
    high: bool,
    edge: bool,
    in_service: bool,
    masked: bool,
    level: bool,
    slave: bool,
}

struct Model {
    lines: [Line; 8],
    /// Most important first.
    order: Vec<usize>,
    base: u8,
    nested: bool,
    automatic: bool,
    rotate: bool,
    special_mask: bool,
}

impl Model {
    fn new(base: u8, slave_at: Option<usize>, icw4: u8) -> Model {
        let mut lines = [Line::default(); 8];
        if let Some(line) = slave_at {
            lines[line].slave = true;
        }
        Model {
            lines,
            order: (0..8).collect(),
            base,
            nested: icw4 & 0x10 != 0,
            automatic: icw4 & 0x02 != 0,
            rotate: false,
            special_mask: false,
        }
    }

    fn set(&mut self, line: usize, high: bool) {
        let state = &mut self.lines[line];
        state.edge = high && (state.edge || !state.high);
        state.high = high;
    }

    fn waiting(&self) -> Option<usize> {
        for &line in &self.order {
            let state = self.lines[line];
            let asks = (state.edge || state.high && state.level) && !state.masked;
            let inhibits = state.in_service && !(self.special_mask && state.masked);
            if asks && (!inhibits || self.nested && state.slave) {
                return Some(line);
            }
            if inhibits {
                return None;
            }
        }
        None
    }

    fn last(&mut self, line: usize) {
        while self.order[7] != line {
            self.order.rotate_left(1);
        }
    }

    fn end(&mut self, line: Option<usize>, rotate: bool) {
        if let Some(line) = line {
            self.lines[line].in_service = false;
            if rotate {
                self.last(line);
            }
        }
    }

    fn acknowledge(&mut self) -> Option<usize> {
        let line = self.waiting()?;
        self.lines[line].edge = false;
        self.lines[line].in_service = true;
        Some(line)
    }

    fn finish(&mut self, line: Option<usize>) {
        if self.automatic {
            self.end(line, self.rotate);
        }
    }

    fn command(&mut self, value: u8) {
        let line = usize::from(value & 7);
        let ended = (self.order.iter().copied()).find(|&line| {
            let state = self.lines[line];
            state.in_service && !(self.special_mask && state.masked)
        });
        match value & 0xf8 {
            0x00 => self.rotate = false,
            0x80 => self.rotate = true,
            0x20 => self.end(ended, false),
            0xa0 => self.end(ended, true),
            0x60 => self.end(Some(line), false),
            0xe0 => self.end(Some(line), true),
            0xc0 => self.last(line),
            0x48 => self.special_mask = false,
            0x68 => self.special_mask = true,
            _ => {}
        }
    }

    fn bits(&self, what: impl Fn(&Line) -> bool) -> u8 {
        (0..8).filter(|&line| what(&self.lines[line])).map(|line| 1 << line).sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Line(u8, bool),
    Take,
    Command(bool, u8),
    Mask(bool, u8),
    Elcr(bool, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let commands = prop::sample::select(&[0u8, 0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xe0][..]);
    let step = prop_oneof![
        8 => (0u8..16, any::<bool>()).prop_map(|(irq, level)| Step::Line(irq, level)),
        6 => Just(Step::Take),
        6 => (any::<bool>(), commands, 0u8..8).prop_map(|(s, c, l)| Step::Command(s, c | l)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(s, on)| {
            Step::Command(s, if on { 0x68 } else { 0x48 })
        }),
        2 => (any::<bool>(), any::<u8>()).prop_map(|(s, m)| Step::Mask(s, m & 0xf3)),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(s, m)| Step::Elcr(s, m)),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn the_pair_agrees_with_a_list_of_lines(
        steps in steps(),
        icw4 in (0u8..4, 0u8..4).prop_map(|(m, s)| {
            [m, s].map(|bits| 0x01 | bits << 1 & 0x02 | bits << 3 & 0x10)
        }),
    ) {
        let mut pics = Pics::new();
        initialize(&mut pics, MasterCommand, MasterData, [0x11, 0x20, 0x04, icw4[0]]);
        initialize(&mut pics, SlaveCommand, SlaveData, [0x11, 0x28, 0x02, icw4[1]]);
        let mut master = Model::new(0x20, Some(2), icw4[0]);
        let mut slave = Model::new(0x28, None, icw4[1]);
        for step in steps {
            match step {
                Step::Line(irq, level) => {
                    pics.set_line(irq, level);
                    match irq {
                        2 => {}
                        0..8 => master.set(irq.into(), level),
                        _ => slave.set(usize::from(irq) - 8, level),
                    }
                }
                Step::Take => {
                    let line = master.acknowledge();
                    let mut vector = master.base + line.unwrap_or(7) as u8;
                    if line == Some(2) {
                        let line = slave.acknowledge();
                        slave.finish(line);
                        vector = slave.base + line.unwrap_or(7) as u8;
                        master.set(2, false);
                    }
                    master.finish(line);
                    prop_assert_eq!(pics.acknowledge(), vector);
                }
                Step::Command(to_slave, value) => {
                    pics.write(if to_slave { SlaveCommand } else { MasterCommand }, value);
                    if to_slave { slave.command(value) } else { master.command(value) }
                }
                Step::Mask(to_slave, mask) => {
                    pics.write(if to_slave { SlaveData } else { MasterData }, mask);
                    let chip = if to_slave { &mut slave } else { &mut master };
                    (0..8).for_each(|line| chip.lines[line].masked = mask >> line & 1 != 0);
                }
                Step::Elcr(to_slave, value) => {
                    pics.write(if to_slave { SlaveElcr } else { MasterElcr }, value);
                    let (chip, edge) =
                        if to_slave { (&mut slave, &[0, 5][..]) } else { (&mut master, &[0, 1, 2][..]) };
                    for line in 0..8 {
                        chip.lines[line].level = value >> line & 1 != 0 && !edge.contains(&line);
                    }
                }
            }
            let asks = slave.waiting().is_some();
            master.set(2, asks);
            prop_assert_eq!(pics.output(), master.waiting().is_some());
            let in_service = [&master, &slave].map(|chip| chip.bits(|line| line.in_service));
            let requests = [&master, &slave]
                .map(|chip| chip.bits(|line| line.edge || line.level && line.high));
            prop_assert_eq!(isr(&mut pics), in_service);
            prop_assert_eq!(irr(&mut pics), requests);
        }
    }

    /// Whatever a guest writes and reads, an acknowledgement that was asked for gives an answer,
    /// and the same bytes initialize the chips again.
    #[test]
    fn every_state_can_be_initialized(
        steps in prop::collection::vec((0u8..8, any::<u8>()), 0..100),
    ) {
        const REGISTERS: [Register; 6] =
            [MasterCommand, MasterData, SlaveCommand, SlaveData, MasterElcr, SlaveElcr];
        let mut pics = Pics::new();
        for (what, value) in steps {
            match what {
                0..6 => pics.write(REGISTERS[usize::from(what)], value),
                6 => pics.set_line(value & 0x1f, value & 0x80 != 0),
                _ => _ = pics.read(REGISTERS[usize::from(value) % 6]),
            }
            if pics.output() {
                pics.acknowledge();
            }
        }
        (0..16).for_each(|irq| pics.set_line(irq, false));
        initialize(&mut pics, MasterCommand, MasterData, [0x11, 0x20, 0x04, 0x01]);
        initialize(&mut pics, SlaveCommand, SlaveData, [0x11, 0x28, 0x02, 0x01]);
        prop_assert!(!pics.output());
        raise(&mut pics, 14);
        raise(&mut pics, 7);
        prop_assert_eq!(take_all(&mut pics), [0x2e]);
    }
}
