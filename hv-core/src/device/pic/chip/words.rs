//! The words that the CPU writes to an 8259A, and what it reads.

use super::{Chip, ICW1_SINGLE, Next};

const ICW1: u8 = 1 << 4;
const ICW1_ICW4: u8 = 1 << 0;

const OCW3: u8 = 1 << 3;
const OCW3_SET_SPECIAL_MASK: u8 = 1 << 6;
const OCW3_SPECIAL_MASK: u8 = 1 << 5;
const OCW3_POLL: u8 = 1 << 2;
const OCW3_READ: u8 = 1 << 1;
const OCW3_READ_SERVICE: u8 = 1 << 0;

/// The slave mode address that ICW1 sets.
const SLAVE_ADDRESS: u8 = 7;

impl Chip {
    pub(in crate::device::pic) fn read_command(&mut self) -> u8 {
        match (self.poll, self.read_service) {
            (true, _) => self.answer_poll(),
            (_, true) => self.in_service,
            (_, false) => self.requests(),
        }
    }

    pub(in crate::device::pic) fn read_data(&mut self) -> u8 {
        if self.poll { self.answer_poll() } else { self.mask }
    }

    /// The read after a poll command is an acknowledgement.
    fn answer_poll(&mut self) -> u8 {
        self.poll = false;
        let line = self.begin_acknowledge();
        self.end_acknowledge(line);
        line.map_or(7, |line| 0x80 | line)
    }

    pub(in crate::device::pic) fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.initialize(value);
        } else if value & OCW3 != 0 {
            if value & OCW3_SET_SPECIAL_MASK != 0 {
                self.special_mask = value & OCW3_SPECIAL_MASK != 0;
            }
            if value & OCW3_READ != 0 {
                self.read_service = value & OCW3_READ_SERVICE != 0;
            }
            self.poll |= value & OCW3_POLL != 0;
        } else {
            self.command(value >> 5, value & 7);
        }
    }

    /// ICW1. The data sheet lists what it resets; that nothing is in service and nothing rotates is
    /// the "fully nested mode" which follows. The ELCR is not the chip's.
    fn initialize(&mut self, icw1: u8) {
        *self = Chip {
            lines: self.lines,
            elcr: self.elcr,
            next: Next::Vector,
            icw1,
            icw3: SLAVE_ADDRESS,
            ..Chip::new(self.role)
        };
    }

    pub(in crate::device::pic) fn write_data(&mut self, value: u8) {
        let cascade = self.icw1 & ICW1_SINGLE == 0;
        let mode = if self.icw1 & ICW1_ICW4 != 0 { Next::Mode } else { Next::Mask };
        match self.next {
            Next::PowerUp | Next::Mask => self.mask = value,
            Next::Vector => {
                self.icw2 = value;
                self.next = if cascade { Next::Cascade } else { mode };
            }
            Next::Cascade => {
                self.icw3 = value;
                self.next = mode;
            }
            Next::Mode => {
                self.icw4 = value;
                self.next = Next::Mask;
            }
        }
    }

    /// OCW2: R, SL and EOI, and a line.
    fn command(&mut self, command: u8, line: u8) {
        let rotate = command & 0b100 != 0;
        match command {
            0b000 | 0b100 => self.rotate = rotate,
            0b001 | 0b101 => {
                // In special mask mode what is masked is not ended by a command that names no line.
                let ends = if self.special_mask { !self.mask } else { 0xff };
                if let Some(line) = self.line_of(self.rank(self.in_service & ends)) {
                    self.end(line, rotate);
                }
            }
            0b011 | 0b111 => self.end(line, rotate),
            0b110 => self.lowest = line,
            _ => {}
        }
    }
}
