//! The registers behind the data port.

use super::Rtc;
use super::format::Format;
use super::time::SECONDS;

const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const D: u8 = 0x0d;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;

/// Flags of register C, and the bits of register B that make interrupts of them.
pub(super) const PERIODIC: u8 = 1 << 6;
pub(super) const ALARM: u8 = 1 << 5;
pub(super) const UPDATE: u8 = 1 << 4;

const B_SET: u8 = 1 << 7;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;

const INTERRUPT: u8 = 1 << 7;

/// The battery is good.
const VALID: u8 = 1 << 7;

impl Rtc {
    /// A read of the data port: the register that the index port selects.
    pub fn read_data(&mut self, now: u64) -> u8 {
        self.settle(now);
        match self.index & 0x7f {
            A => {
                let near = self.updates() && self.divider.is_update_near(self.settled);
                self.divider.control() | if near { UPDATE_IN_PROGRESS } else { 0 }
            }
            B => self.b,
            C => {
                let flags = core::mem::take(&mut self.flags);
                flags | if flags & self.enabled() != 0 { INTERRUPT } else { 0 }
            }
            D => VALID,
            register => self.byte(register),
        }
    }

    /// A write to the data port.
    pub fn write_data(&mut self, value: u8, now: u64) {
        self.settle(now);
        match self.index & 0x7f {
            A => self.divider.set_control(value, self.settled),
            B => {
                // To begin with setting the clock disables the interrupt at the end of an update.
                let begins = value & !self.b & B_SET != 0;
                self.b = if begins { value & !UPDATE } else { value };
            }
            C | D => {}
            SECONDS => self.set_byte(SECONDS, value & 0x7f),
            register => self.set_byte(register, value),
        }
    }

    pub(super) fn format(&self) -> Format {
        Format { binary: self.b & B_BINARY != 0, hours_24: self.b & B_24_HOURS != 0 }
    }

    /// Whether time and date go on.
    pub(super) fn updates(&self) -> bool {
        self.divider.runs() && self.b & B_SET == 0
    }

    /// Flags that are interrupts.
    pub(super) fn enabled(&self) -> u8 {
        self.b & (PERIODIC | ALARM | UPDATE)
    }

    pub(super) fn byte(&self, register: u8) -> u8 {
        self.bytes.get(usize::from(register)).copied().unwrap_or(0)
    }

    pub(super) fn set_byte(&mut self, register: u8, value: u8) {
        if let Some(byte) = self.bytes.get_mut(usize::from(register)) {
            *byte = value;
        }
    }
}
