//! One 8259A: requests, priorities, and acknowledgement.

mod words;

/// Which of the two chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Slave,
}

/// What a write at A0 = 1 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Vector,
    Cascade,
    Mode,
    /// The mask, and the chip has never been initialized.
    PowerUp,
    /// The mask.
    Mask,
}

const ICW1_LEVEL: u8 = 1 << 3;
const ICW1_INTERVAL_4: u8 = 1 << 2;
const ICW1_SINGLE: u8 = 1 << 1;

const ICW4_SPECIAL_NESTED: u8 = 1 << 4;
const ICW4_AUTO_EOI: u8 = 1 << 1;
const ICW4_8086: u8 = 1 << 0;

/// The rank of the first of no lines.
const NONE: u32 = 8;

#[derive(Clone, Debug)]
pub(super) struct Chip {
    /// Levels of the inputs.
    lines: u8,
    /// Lines that rose, are still high, and were not acknowledged.
    edges: u8,
    in_service: u8,
    mask: u8,
    elcr: u8,
    role: Role,
    next: Next,
    icw1: u8,
    icw2: u8,
    icw3: u8,
    icw4: u8,
    /// The line of the lowest priority; the one above it has the highest.
    lowest: u8,
    special_mask: bool,
    rotate: bool,
    poll: bool,
    read_service: bool,
    acknowledged: bool,
}

impl Chip {
    pub(super) const fn new(role: Role) -> Chip {
        Chip {
            lines: 0,
            edges: 0,
            in_service: 0,
            mask: 0,
            elcr: 0,
            role,
            next: Next::PowerUp,
            icw1: 0,
            icw2: 0,
            icw3: 0,
            icw4: 0,
            lowest: 7,
            special_mask: false,
            rotate: false,
            poll: false,
            read_service: false,
            acknowledged: false,
        }
    }

    pub(super) fn set_line(&mut self, line: u8, level: bool) {
        let bit = bit(line);
        if !level {
            self.lines &= !bit;
            self.edges &= !bit;
        } else {
            self.edges |= bit & !self.lines;
            self.lines |= bit;
        }
    }

    /// Whether a request on this line can reach the output.
    pub(super) fn listens(&self, line: u8) -> bool {
        matches!(self.next, Next::Mask) && self.mask & bit(line) == 0
    }

    pub(super) fn elcr(&self) -> u8 {
        self.elcr
    }

    pub(super) fn set_elcr(&mut self, value: u8) {
        self.elcr = match self.role {
            // Timer, keyboard and cascade are edge-triggered, whatever the ELCR is told ...
            Role::Master => value & 0xf8,
            // ... and so are the clock and the floating-point error.
            Role::Slave => value & 0xde,
        };
    }

    /// The interrupt request register.
    fn requests(&self) -> u8 {
        let level = if self.icw1 & ICW1_LEVEL != 0 { 0xff } else { self.elcr };
        self.edges | self.lines & level
    }

    /// How many lines have a higher priority than the first of `lines`.
    fn rank(&self, lines: u8) -> u32 {
        lines.rotate_right(u32::from(self.lowest).wrapping_add(1)).trailing_zeros()
    }

    fn line_of(&self, rank: u32) -> Option<u8> {
        let line = (rank as u8).wrapping_add(self.lowest).wrapping_add(1) & 7;
        (rank < NONE).then_some(line)
    }

    /// The line that asks for the CPU: the first of those that wait, unless one in service is as
    /// important.
    fn waiting(&self) -> Option<u8> {
        if !matches!(self.next, Next::Mask) {
            return None;
        }
        // In special mask mode what is masked does not hold back others.
        let holds_back = if self.special_mask { !self.mask } else { 0xff };
        let first = self.rank(self.requests() & !self.mask);
        let busy = self.rank(self.in_service & holds_back);
        let line = self.line_of(first);
        // In special fully nested mode a slave in service may ask again: for a line of its own
        // that is more important.
        let again = self.icw4 & ICW4_SPECIAL_NESTED != 0 && self.cascades(line);
        line.filter(|_| first < busy || first == busy && again)
    }

    pub(super) fn output(&self) -> bool {
        self.waiting().is_some()
    }

    /// Whether a slave gives the vector of `line`.
    pub(super) fn cascades(&self, line: Option<u8>) -> bool {
        let has_slaves = self.role == Role::Master && self.icw1 & ICW1_SINGLE == 0;
        let slaves = if has_slaves { self.icw3 } else { 0 };
        line.is_some_and(|line| slaves & bit(line) != 0)
    }

    /// Whether this chip is the slave that the master calls when it acknowledges `line`.
    pub(super) fn is_addressed(&self, line: Option<u8>) -> bool {
        line == Some(self.icw3 & 7)
    }

    /// The first INTA: the line that comes into service, or none if the request has gone.
    pub(super) fn begin_acknowledge(&mut self) -> Option<u8> {
        let line = self.waiting();
        if let Some(line) = line {
            self.edges &= !bit(line);
            self.in_service |= bit(line);
        }
        self.acknowledged = true;
        line
    }

    /// The end of the last INTA, which in automatic EOI mode is the end of the interrupt.
    pub(super) fn end_acknowledge(&mut self, line: Option<u8>) {
        if let Some(line) = line
            && self.icw4 & ICW4_AUTO_EOI != 0
        {
            self.end(line, self.rotate);
        }
    }

    /// Whether there was an acknowledgement since the last call.
    pub(super) fn take_acknowledged(&mut self) -> bool {
        core::mem::take(&mut self.acknowledged)
    }

    /// What the second INTA puts on the bus. In MCS-80 mode that is the low half of the address of
    /// a CALL, and an x86 CPU takes it as the vector.
    pub(super) fn vector(&self, line: Option<u8>) -> u8 {
        let line = line.unwrap_or(7);
        if self.icw4 & ICW4_8086 != 0 {
            self.icw2 & 0xf8 | line
        } else if self.icw1 & ICW1_INTERVAL_4 != 0 {
            self.icw1 & 0xe0 | line << 2
        } else {
            self.icw1 & 0xc0 | line << 3
        }
    }

    fn end(&mut self, line: u8, rotate: bool) {
        self.in_service &= !bit(line);
        if rotate {
            self.lowest = line;
        }
    }
}

fn bit(line: u8) -> u8 {
    1u8.wrapping_shl(line.into())
}
