//! What a PC has beside ACPI to reset itself, and a port by which a test ends its VM.

use super::Effect;

/// The port of [`exit`]. It reads as if nobody were there.
pub const EXIT: u16 = 0xf4;

const SYS_RST: u8 = 1 << 1;
const RST_CPU: u8 = 1 << 2;
const FULL_RST: u8 = 1 << 3;

const INIT_NOW: u8 = 1 << 0;
const ALT_A20_GATE: u8 = 1 << 1;

/// A write to [`EXIT`]: a byte or more ends the VM with the value as its code, zero-extended.
pub fn exit(value: u32) -> Effect {
    Effect::Exit(value)
}

/// The reset control register (Intel, I/O Controller Hub data sheet, RST_CNT).
///
/// It is a byte, and takes no other accesses: those of four bytes one port below it are for PCI.
#[derive(Clone, Debug, Default)]
pub struct ResetControl {
    value: u8,
}

impl ResetControl {
    /// Its port.
    pub const PORT: u16 = 0xcf9;
    /// What resets the whole machine when it is written after a reset: SYS_RST and RST_CPU.
    pub const RESET_VALUE: u8 = SYS_RST | RST_CPU;

    /// The register after reset.
    pub const fn new() -> ResetControl {
        ResetControl { value: 0 }
    }

    /// A read of a byte.
    pub fn read(&self) -> u8 {
        self.value
    }

    /// A write of a byte. RST_CPU acts when it goes from 0 to 1, by the kind of reset that the same
    /// write sets. FULL_RST would keep the power off for some seconds as well, and makes no other
    /// difference.
    pub fn write(&mut self, value: u8) -> Effect {
        let rises = value & !self.value & RST_CPU != 0;
        self.value = value & (SYS_RST | RST_CPU | FULL_RST);
        match (rises, value & SYS_RST != 0) {
            (false, _) => Effect::None,
            (true, false) => Effect::Init,
            (true, true) => Effect::Reset,
        }
    }
}

/// System control port A, with the fast A20 gate (Intel, I/O Controller Hub data sheet, Fast A20 and
/// Init Register).
#[derive(Clone, Debug, Default)]
pub struct SystemControl {
    value: u8,
}

impl SystemControl {
    /// Its port: a byte.
    pub const PORT: u16 = 0x92;

    /// The register after reset: this source of the A20 gate is off. That of the keyboard controller
    /// is on then.
    pub const fn new() -> SystemControl {
        SystemControl { value: 0 }
    }

    /// A read of a byte.
    pub fn read(&self) -> u8 {
        self.value
    }

    /// Whether this source of the A20 gate is on.
    pub fn a20(&self) -> bool {
        self.value & ALT_A20_GATE != 0
    }

    /// A write of a byte. INIT_NOW acts when it goes from 0 to 1, and hides a change of the gate.
    pub fn write(&mut self, value: u8) -> Effect {
        let (rises, changes) = (value & !self.value, value ^ self.value);
        self.value = value & (INIT_NOW | ALT_A20_GATE);
        if rises & INIT_NOW != 0 {
            Effect::Init
        } else if changes & ALT_A20_GATE != 0 {
            Effect::A20(self.a20())
        } else {
            Effect::None
        }
    }
}
