//! What hardware-reduced ACPI has instead of the fixed hardware (ACPI specification,
//! Hardware-Reduced ACPI, Sleep Control and Status Registers), and its reset register.

use core::ops::RangeInclusive;

use super::{Effect, read_bytes, sleep, write_bytes};

const CONTROL: u16 = 0x60c;
const STATUS: u16 = 0x60d;
const RESET: u16 = 0x60e;

/// SLP_TYP. SLP_EN is only written.
const SLEEP_TYPE: u8 = 0x1c;

/// The registers of hardware-reduced ACPI.
#[derive(Clone, Debug, Default)]
pub struct ReducedHardware {
    control: u8,
}

impl ReducedHardware {
    /// All of its ports.
    pub const PORTS: RangeInclusive<u16> = CONTROL..=RESET;
    /// The sleep control register: a byte.
    pub const SLEEP_CONTROL: u16 = CONTROL;
    /// The sleep status register: a byte. As there is no sleep, WAK_STS is never set.
    pub const SLEEP_STATUS: u16 = STATUS;
    /// The reset register: a byte, only written.
    pub const RESET: u16 = RESET;
    /// What resets the machine when it is written there.
    pub const RESET_VALUE: u8 = 0x01;

    /// The registers after reset.
    pub const fn new() -> ReducedHardware {
        ReducedHardware { control: 0 }
    }

    /// A read of `size` bytes at `port`.
    pub fn read(&self, port: u16, size: u8) -> u32 {
        read_bytes(port, size, |port| if port == CONTROL { self.control } else { 0 })
    }

    /// A write of `size` bytes at `port`.
    pub fn write(&mut self, port: u16, size: u8, value: u32) -> Effect {
        write_bytes(port, size, value, |port, value| match (port, value) {
            (CONTROL, _) => {
                self.control = value & SLEEP_TYPE;
                sleep(value)
            }
            (RESET, ReducedHardware::RESET_VALUE) => Effect::Reset,
            _ => Effect::None,
        })
    }
}
