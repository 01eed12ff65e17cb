//! A 16550 UART as the guest sees it (National Semiconductor, PC16550D data sheet).
//!
//! The wire is the caller: it takes each byte at once, and gives bytes when it has them. Three
//! things follow that differ from a chip on a slow line:
//!
//! - the transmitter is always empty: THRE and TEMT are set, whatever the guest has just written;
//! - the character time-out of the receiver's FIFO is over at once: bytes below the trigger level
//!   show as "character timeout" in the IIR as soon as they are there;
//! - divisor and line format are kept for the guest to read and have no effect.
//!
//! The modem lines say that the other side is there and ready, and never change outside loopback.

#[cfg(test)]
mod tests;

/// Bytes that the receiver's FIFO holds.
pub const FIFO: usize = 16;

const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMITTER: u8 = 1 << 1;
const IER_LINE: u8 = 1 << 2;
const IER_MODEM: u8 = 1 << 3;

const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVER: u8 = 1 << 1;

const LCR_BREAK: u8 = 1 << 6;
const LCR_DIVISOR: u8 = 1 << 7;

const MCR_LOOPBACK: u8 = 1 << 4;

const LSR_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_BREAK: u8 = 1 << 4;
const LSR_EMPTY: u8 = 1 << 5 | 1 << 6;
const LSR_FIFO_ERROR: u8 = 1 << 7;
/// The bits whose interrupt is "receiver line status"; reading the LSR clears them.
const LSR_ERRORS: u8 = 0x1e;

/// CTS, DSR and DCD: the host is always there.
const MSR_LINES: u8 = 0xb0;
const MSR_TRAILING_RING: u8 = 1 << 2;

/// What pends, in falling priority: the value of IIR bits 3:0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Cause {
    LineStatus = 0b0110,
    Received = 0b0100,
    Timeout = 0b1100,
    Transmitter = 0b0010,
    Modem = 0b0000,
    None = 0b0001,
}

/// The state of a 16550.
#[derive(Clone, Debug)]
pub struct Uart {
    fifo: [u8; FIFO],
    head: usize,
    count: usize,
    ier: u8,
    fifo_control: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    divisor: u16,
    errors: u8,
    /// Bits 3:0 of the MSR: what changed since it was read.
    modem_changes: u8,
    /// The transmitter became empty, and nobody has looked since.
    transmitter_pending: bool,
}

impl Uart {
    /// A UART after master reset.
    pub const fn new() -> Uart {
        Uart {
            fifo: [0; FIFO],
            head: 0,
            count: 0,
            ier: 0,
            fifo_control: 0,
            lcr: 0,
            mcr: 0,
            scr: 0,
            divisor: 0,
            errors: 0,
            modem_changes: 0,
            transmitter_pending: false,
        }
    }

    /// A read of register `register` (0 to 7; higher bits are ignored).
    pub fn read(&mut self, register: u8) -> u8 {
        let divisor = self.lcr & LCR_DIVISOR != 0;
        let [low, high] = self.divisor.to_le_bytes();
        match register & 7 {
            0 if divisor => low,
            1 if divisor => high,
            0 => self.pop(),
            1 => self.ier,
            2 => self.identify(),
            3 => self.lcr,
            4 => self.mcr,
            5 => self.take_line_status(),
            6 => {
                let status = self.modem_lines() | self.modem_changes;
                self.modem_changes = 0;
                status
            }
            _ => self.scr,
        }
    }

    /// A write to register `register` (0 to 7; higher bits are ignored). Returns the byte that goes
    /// out on the line, if one does.
    pub fn write(&mut self, register: u8, value: u8) -> Option<u8> {
        let divisor = self.lcr & LCR_DIVISOR != 0;
        let [low, high] = self.divisor.to_le_bytes();
        match register & 7 {
            0 if divisor => self.divisor = u16::from_le_bytes([value, high]),
            1 if divisor => self.divisor = u16::from_le_bytes([low, value]),
            0 => return self.transmit(value),
            1 => {
                // Enabling the transmitter's interrupt while the transmitter is empty raises it.
                self.transmitter_pending |= value & !self.ier & IER_TRANSMITTER != 0;
                self.ier = value & 0x0f;
            }
            2 => self.control_fifo(value),
            3 => self.set_line(value),
            4 => self.set_modem(value & 0x1f),
            7 => self.scr = value,
            // LSR and MSR: the data sheet keeps writing to them for factory tests.
            _ => {}
        }
        None
    }

    /// As [`Uart::write`] to register 0: what a guest writes more often than anything else.
    #[inline(always)]
    pub fn write_data(&mut self, value: u8) -> Option<u8> {
        if self.lcr & LCR_DIVISOR | self.mcr & MCR_LOOPBACK != 0 {
            return self.write(0, value);
        }
        self.transmitter_pending = true;
        Some(value)
    }

    /// Bytes arrive on the line. Returns how many were taken; the rest did not fit and is the
    /// caller's to offer again, so that nothing overruns. In loopback the receiver hears nothing
    /// from outside and takes none.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        bytes.iter().take(self.receive_room()).map(|&byte| self.push(byte)).count()
    }

    /// How many bytes from outside the receiver has room for.
    pub fn receive_room(&self) -> usize {
        if self.mcr & MCR_LOOPBACK != 0 { 0 } else { self.capacity().saturating_sub(self.count) }
    }

    /// Whether the receiver has room, and the guest waits for its interrupt instead of looking.
    pub fn listens(&self) -> bool {
        self.ier & IER_RECEIVED != 0 && self.receive_room() > 0
    }

    /// Whether the interrupt output is active. As in a PC, OUT2 (MCR bit 3) gates it, which
    /// loopback takes away as well.
    pub fn interrupt(&self) -> bool {
        self.mcr & (MCR_LOOPBACK | 1 << 3) == 1 << 3 && self.cause() != Cause::None
    }

    fn fifo_enabled(&self) -> bool {
        self.fifo_control & FCR_ENABLE != 0
    }

    fn capacity(&self) -> usize {
        if self.fifo_enabled() { FIFO } else { 1 }
    }

    fn trigger(&self) -> usize {
        match (self.fifo_enabled(), self.fifo_control >> 6) {
            (false, _) | (true, 0) => 1,
            (true, 1) => 4,
            (true, 2) => 8,
            (true, _) => 14,
        }
    }

    fn push(&mut self, byte: u8) {
        if self.count >= self.capacity() {
            // The FIFO keeps what it has; without it the new byte replaces the old one.
            self.errors |= LSR_OVERRUN;
            if self.fifo_enabled() {
                return;
            }
            self.count = 0;
        }
        let slot = self.head.wrapping_add(self.count) % FIFO;
        if let Some(slot) = self.fifo.get_mut(slot) {
            *slot = byte;
        }
        self.count = self.count.saturating_add(1);
    }

    fn pop(&mut self) -> u8 {
        let byte = self.fifo.get(self.head).copied().unwrap_or(0);
        if self.count != 0 {
            self.head = self.head.wrapping_add(1) % FIFO;
            self.count = self.count.saturating_sub(1);
        }
        byte
    }

    fn transmit(&mut self, byte: u8) -> Option<u8> {
        // The byte is gone at once, so the transmitter is empty again.
        self.transmitter_pending = true;
        if self.mcr & MCR_LOOPBACK == 0 {
            return Some(byte);
        }
        self.push(byte);
        None
    }

    fn control_fifo(&mut self, value: u8) {
        // The other bits are taken only together with the enable bit, and changing that one empties
        // the FIFOs.
        let switched = (value ^ self.fifo_control) & FCR_ENABLE != 0;
        if switched || value & FCR_ENABLE != 0 && value & FCR_CLEAR_RECEIVER != 0 {
            self.count = 0;
        }
        self.fifo_control = if value & FCR_ENABLE != 0 { value & 0xc9 } else { 0 };
    }

    fn set_line(&mut self, value: u8) {
        let break_begins = value & !self.lcr & LCR_BREAK != 0;
        self.lcr = value;
        if break_begins && self.mcr & MCR_LOOPBACK != 0 {
            self.push(0);
            self.errors |= LSR_BREAK;
        }
    }

    /// CTS, DSR, RI and DCD; in loopback they are RTS, DTR, OUT1 and OUT2.
    fn modem_lines(&self) -> u8 {
        if self.mcr & MCR_LOOPBACK == 0 {
            return MSR_LINES;
        }
        (self.mcr & 0b10) << 3 | (self.mcr & 0b01) << 5 | (self.mcr & 0b1100) << 4
    }

    fn set_modem(&mut self, value: u8) {
        let before = self.modem_lines();
        self.mcr = value;
        let after = self.modem_lines();
        // RI counts only when it ends.
        let ring_ended = (before & !after) >> 4 & MSR_TRAILING_RING;
        self.modem_changes |= (before ^ after) >> 4 & !MSR_TRAILING_RING | ring_ended;
    }

    fn take_line_status(&mut self) -> u8 {
        let fifo_error =
            if self.fifo_enabled() && self.errors & LSR_BREAK != 0 { LSR_FIFO_ERROR } else { 0 };
        let ready = if self.count != 0 { LSR_READY } else { 0 };
        let status = LSR_EMPTY | ready | self.errors | fifo_error;
        self.errors = 0;
        status
    }

    fn cause(&self) -> Cause {
        let on = |bit| self.ier & bit != 0;
        if on(IER_LINE) && self.errors & LSR_ERRORS != 0 {
            Cause::LineStatus
        } else if on(IER_RECEIVED) && self.count >= self.trigger() {
            Cause::Received
        } else if on(IER_RECEIVED) && self.count != 0 {
            Cause::Timeout
        } else if on(IER_TRANSMITTER) && self.transmitter_pending {
            Cause::Transmitter
        } else if on(IER_MODEM) && self.modem_changes != 0 {
            Cause::Modem
        } else {
            Cause::None
        }
    }

    fn identify(&mut self) -> u8 {
        let cause = self.cause();
        if cause == Cause::Transmitter {
            self.transmitter_pending = false;
        }
        cause as u8 | if self.fifo_enabled() { 0xc0 } else { 0 }
    }
}

impl Default for Uart {
    fn default() -> Uart {
        Uart::new()
    }
}
