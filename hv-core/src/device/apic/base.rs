//! IA32_APIC_BASE and the modes it switches between (SDM vol. 3, x2APIC State Transitions).

use core::ops::Deref;

use super::page::offset::{ID, LDR};
use super::{ApicPage, Effect, GeneralProtection, VirtualApic, icr};

pub(super) const BOOTSTRAP: u64 = 1 << 8;
const EXTENDED: u64 = 1 << 10;
pub(super) const ENABLE: u64 = 1 << 11;

/// How the guest reaches its APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all: as if the CPU had none.
    Disabled,
    /// By memory at [`VirtualApic::base_address`].
    XApic,
    /// By MSRs.
    X2Apic,
}

impl Mode {
    /// The mode with this number; disabled for what is none.
    pub const fn from_number(number: u8) -> Mode {
        match number {
            1 => Mode::XApic,
            2 => Mode::X2Apic,
            _ => Mode::Disabled,
        }
    }

    fn of(base: u64) -> Option<Mode> {
        match (base & ENABLE != 0, base & EXTENDED != 0) {
            (false, false) => Some(Mode::Disabled),
            (true, false) => Some(Mode::XApic),
            (true, true) => Some(Mode::X2Apic),
            (false, true) => None,
        }
    }
}

impl<P: Deref<Target = ApicPage>> VirtualApic<P> {
    /// The mode that IA32_APIC_BASE asks for.
    #[inline]
    pub fn mode(&self) -> Mode {
        Mode::of(self.base).unwrap_or(Mode::Disabled)
    }

    /// Guest-physical address of the page of registers, in xAPIC mode.
    pub fn base_address(&self) -> u64 {
        self.base & !0xfff
    }

    /// The value of IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE. Disabling the APIC loses its state: when it is enabled again it is as
    /// after power-up, with the same ID.
    ///
    /// # Errors
    ///
    /// A reserved bit, the combination of bits that is no mode, or a change of mode that is not
    /// allowed: from x2APIC to xAPIC, and from disabled to x2APIC.
    pub fn write_base(&mut self, value: u64) -> Result<Effect, GeneralProtection> {
        let beyond = u64::MAX.checked_shl(self.config.physical_bits.into()).unwrap_or(0);
        if value & (beyond | 0xff | 1 << 9) != 0 {
            return Err(GeneralProtection);
        }
        let old = self.mode();
        let new = Mode::of(value).ok_or(GeneralProtection)?;
        match (old, new) {
            (Mode::X2Apic, Mode::XApic) | (Mode::Disabled, Mode::X2Apic) => {
                return Err(GeneralProtection);
            }
            _ => {}
        }
        let changed = old != new || (self.base ^ value) & !0xfff != 0;
        self.base = value;
        match (old, new) {
            (Mode::XApic | Mode::X2Apic, Mode::Disabled) => self.init(),
            // In x2APIC mode the ICR's upper half has another place, where it is still 0: the SDM
            // does not keep it.
            (Mode::XApic, Mode::X2Apic) => self.show_id(),
            _ => {}
        }
        Ok(if changed { Effect::Mode } else { Effect::None })
    }

    /// Writes the ID as the mode shows it, and in x2APIC mode the logical ID that follows from it.
    pub(super) fn show_id(&self) {
        let id = self.config.id;
        if self.mode() == Mode::X2Apic {
            self.page.set(ID, id);
            self.page.set(LDR, icr::x2apic_logical_id(id));
        } else {
            self.page.set(ID, id.wrapping_shl(24));
        }
    }
}
