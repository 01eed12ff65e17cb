//! A PC's keyboard controller with nothing plugged in (Intel, 8042 Universal Peripheral Interface;
//! IBM, Personal System/2 Hardware Interface Technical Reference, Keyboard and Auxiliary Device
//! Controller).
//!
//! It takes every command at once, so its input buffer is always empty. A byte for a device that is
//! not there comes back at once as the answer "resend" with the time-out bit set, which takes the
//! chip some milliseconds.

use super::power::Effect;

#[cfg(test)]
mod tests;

/// The port of the output buffer, and of what is written to devices or follows a command.
pub const DATA: u16 = 0x60;
/// The port of status and commands.
pub const COMMAND: u16 = 0x64;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
/// The keylock is open.
const STATUS_UNLOCKED: u8 = 1 << 4;
const STATUS_AUX: u8 = 1 << 5;
const STATUS_TIMEOUT: u8 = 1 << 6;

const MODE_INTERRUPT: u8 = 1 << 0;
const MODE_AUX_INTERRUPT: u8 = 1 << 1;
const MODE_SYSTEM: u8 = 1 << 2;
const MODE_DISABLED: u8 = 1 << 4;
const MODE_AUX_DISABLED: u8 = 1 << 5;
/// Translation is bit 6; bits 7 and 3 are reserved.
const MODE_WRITABLE: u8 = 0x77;

/// The line that keeps the CPU out of reset.
const PORT_RUN: u8 = 1 << 0;
const PORT_A20: u8 = 1 << 1;
const PORT_OUTPUT_FULL: u8 = 1 << 4;
const PORT_AUX_FULL: u8 = 1 << 5;
/// Clock and data lines, which are idle.
const PORT_LINES: u8 = 0xcc;

/// The input port: the keylock is open.
const INPUT_PORT: u8 = 0x80;

const SELF_TEST_PASSED: u8 = 0x55;
const INTERFACE_SOUND: u8 = 0x00;
const RESEND: u8 = 0xfe;

/// Where the next byte at [`DATA`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Keyboard,
    Mode,
    OutputPort,
    KeyboardOutput,
    AuxOutput,
    Aux,
}

/// The state of a keyboard controller.
#[derive(Clone, Debug)]
pub struct Keyboard {
    /// The output buffer.
    output: u8,
    /// What status says of it: full, from the auxiliary device, time-out.
    output_status: u8,
    /// The command byte.
    mode: u8,
    a20: bool,
    next: Next,
    /// The last write was to [`COMMAND`].
    command: bool,
}

impl Keyboard {
    /// A controller after power-up: interrupts off, both interfaces off, and the A20 gate on, because
    /// a port of this chip is high after reset.
    pub const fn new() -> Keyboard {
        Keyboard {
            output: 0,
            output_status: 0,
            mode: MODE_DISABLED | MODE_AUX_DISABLED,
            a20: true,
            next: Next::Keyboard,
            command: false,
        }
    }

    /// A read at [`COMMAND`].
    pub fn status(&self) -> u8 {
        let command = if self.command { STATUS_COMMAND } else { 0 };
        // The command byte has this flag at the same place.
        STATUS_UNLOCKED | command | self.mode & STATUS_SYSTEM | self.output_status
    }

    /// A read at [`DATA`]: an empty buffer shows its last byte again.
    pub fn read(&mut self) -> u8 {
        self.output_status &= !STATUS_OUTPUT_FULL;
        self.output
    }

    /// IRQ 1: the output buffer is full.
    pub fn interrupt(&self) -> bool {
        self.full() == STATUS_OUTPUT_FULL && self.mode & MODE_INTERRUPT != 0
    }

    /// IRQ 12: the output buffer is full, by the auxiliary device.
    pub fn aux_interrupt(&self) -> bool {
        self.full() == STATUS_OUTPUT_FULL | STATUS_AUX && self.mode & MODE_AUX_INTERRUPT != 0
    }

    /// Whether this source of the A20 gate is on.
    pub fn a20(&self) -> bool {
        self.a20
    }

    /// A write at [`COMMAND`].
    pub fn command(&mut self, command: u8) -> Effect {
        self.command = true;
        self.next = Next::Keyboard;
        match command {
            0x20 => self.put(self.mode, 0),
            0x60 => self.next = Next::Mode,
            0xa7 => self.mode |= MODE_AUX_DISABLED,
            0xa8 => self.mode &= !MODE_AUX_DISABLED,
            0xaa => {
                self.mode |= MODE_SYSTEM;
                self.put(SELF_TEST_PASSED, 0);
            }
            0xa9 | 0xab => self.put(INTERFACE_SOUND, 0),
            0xad => self.mode |= MODE_DISABLED,
            0xae => self.mode &= !MODE_DISABLED,
            0xc0 => self.put(INPUT_PORT, 0),
            0xd0 => self.put(self.output_port(), 0),
            0xd1 => self.next = Next::OutputPort,
            0xd2 => self.next = Next::KeyboardOutput,
            0xd3 => self.next = Next::AuxOutput,
            0xd4 => self.next = Next::Aux,
            // Pulses those lines of the output port low whose bits are 0. A pulse on the A20 gate is
            // over before anybody looks.
            0xf0..=0xff if command & PORT_RUN == 0 => return Effect::Init,
            _ => {}
        }
        Effect::None
    }

    /// A write at [`DATA`].
    pub fn write(&mut self, value: u8) -> Effect {
        self.command = false;
        match core::mem::replace(&mut self.next, Next::Keyboard) {
            // Sending to a device turns its interface on.
            Next::Keyboard => {
                self.mode &= !MODE_DISABLED;
                self.put(RESEND, STATUS_TIMEOUT);
            }
            Next::Aux => {
                self.mode &= !MODE_AUX_DISABLED;
                self.put(RESEND, STATUS_TIMEOUT | STATUS_AUX);
            }
            Next::Mode => self.mode = value & MODE_WRITABLE,
            Next::OutputPort => return self.write_output_port(value),
            Next::KeyboardOutput => self.put(value, 0),
            Next::AuxOutput => self.put(value, STATUS_AUX),
        }
        Effect::None
    }

    fn full(&self) -> u8 {
        self.output_status & (STATUS_OUTPUT_FULL | STATUS_AUX)
    }

    /// Fills the output buffer. What nobody has read is gone.
    fn put(&mut self, value: u8, status: u8) {
        self.output = value;
        self.output_status = STATUS_OUTPUT_FULL | status;
    }

    fn output_port(&self) -> u8 {
        let full = match (self.interrupt(), self.aux_interrupt()) {
            (true, _) => PORT_OUTPUT_FULL,
            (_, true) => PORT_AUX_FULL,
            _ => 0,
        };
        PORT_LINES | PORT_RUN | full | if self.a20 { PORT_A20 } else { 0 }
    }

    fn write_output_port(&mut self, value: u8) -> Effect {
        let a20 = value & PORT_A20 != 0;
        let before = core::mem::replace(&mut self.a20, a20);
        if value & PORT_RUN == 0 {
            Effect::Init
        } else if before != a20 {
            Effect::A20(a20)
        } else {
            Effect::None
        }
    }
}

impl Default for Keyboard {
    fn default() -> Keyboard {
        Keyboard::new()
    }
}
