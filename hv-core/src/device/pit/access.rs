//! How the CPU writes counts and reads them, byte by byte (8254 data sheet, Write Operations and
//! Read Operations).

use super::counter::{Counter, Mode, Radix};

const LOW: u8 = 1;
const HIGH: u8 = 2;

/// Mode 3, both bytes: what a PC uses counter 0 with.
const DEFAULT_CONTROL: u8 = 0x36;

/// The control word, and which byte comes next.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Bits 5:0 of the control word.
    control: u8,
    /// The first byte of two that were to be written.
    written: Option<u8>,
    /// The next read is of the second byte.
    second: bool,
    /// The latched count, and how many bytes of it were not read yet.
    count: Option<(u16, u8)>,
    status: Option<u8>,
}

impl Access {
    pub(super) const fn new() -> Access {
        Access { control: DEFAULT_CONTROL, written: None, second: false, count: None, status: None }
    }

    pub(super) fn mode(&self) -> Mode {
        match self.control >> 1 & 7 {
            0 => Mode::Terminal,
            1 => Mode::OneShot,
            2 | 6 => Mode::Rate,
            3 | 7 => Mode::Square,
            4 => Mode::SoftwareStrobe,
            _ => Mode::HardwareStrobe,
        }
    }

    pub(super) fn radix(&self) -> Radix {
        if self.control & 1 != 0 { Radix::Decimal } else { Radix::Binary }
    }

    /// Which bytes are transferred: [`LOW`], [`HIGH`] or both.
    fn bytes(&self) -> u8 {
        self.control >> 4 & 3
    }

    /// Takes the byte of `count` that is to be read.
    fn next_byte(&mut self, count: u16) -> u8 {
        let [low, high] = count.to_le_bytes();
        match self.bytes() {
            LOW => low,
            HIGH => high,
            _ => {
                self.second = !self.second;
                if self.second { low } else { high }
            }
        }
    }
}

impl Counter {
    /// A control word for this counter.
    pub(super) fn control(&mut self, value: u8, tick: u64) {
        self.advance(tick);
        if value >> 4 & 3 == 0 {
            self.latch_count();
            return;
        }
        self.access = Access { control: value & 0x3f, ..Access::new() };
        self.reset();
    }

    pub(super) fn write(&mut self, value: u8, tick: u64) {
        self.advance(tick);
        match (self.access.bytes(), self.access.written.take()) {
            (LOW, _) => self.set_count(u16::from_le_bytes([value, 0])),
            (HIGH, _) => self.set_count(u16::from_le_bytes([0, value])),
            (_, Some(low)) => self.set_count(u16::from_le_bytes([low, value])),
            (_, None) => {
                self.access.written = Some(value);
                self.begin_count();
            }
        }
    }

    /// The status first, then the latched count, then the count as it runs.
    pub(super) fn read(&mut self, tick: u64) -> u8 {
        self.advance(tick);
        if let Some(status) = self.access.status.take() {
            return status;
        }
        let Some((count, left)) = self.access.count else {
            return self.access.next_byte(self.count());
        };
        self.access.count = (left > 1).then_some((count, 1));
        self.access.next_byte(count)
    }

    /// Keeps the count for reading, unless one is kept already.
    pub(super) fn latch_count(&mut self) {
        let bytes = if matches!(self.access.bytes(), LOW | HIGH) { 1 } else { 2 };
        let count = self.count();
        self.access.count.get_or_insert((count, bytes));
    }

    /// Keeps the status for reading, unless one is kept already.
    pub(super) fn latch_status(&mut self) {
        let out = if self.output() { 1 << 7 } else { 0 };
        let null = if self.is_null() { 1 << 6 } else { 0 };
        let status = out | null | self.access.control;
        self.access.status.get_or_insert(status);
    }
}
