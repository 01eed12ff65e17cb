//! Which controls may be set: SDM vol. 3, "Reserved Controls and Default Settings".

use core::fmt;
use core::marker::PhantomData;

use super::super::controls::Controls;
use crate::hw::bits::report;

/// Which values a set of controls may have: the low half of a capability MSR has the bits that
/// must be 1, the high half those that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed<C> {
    must: u32,
    may: u32,
    set: PhantomData<C>,
}

/// Controls that the CPU does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingControls {
    /// The manual's name of the set.
    pub set: &'static str,
    /// The bits that are missing.
    pub bits: u32,
    /// The name of the lowest.
    pub first: &'static str,
}

impl fmt::Display for MissingControls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingControls { set, bits, first } = self;
        write!(
            f,
            "the CPU lacks {first} (bits {bits:#x} of the {set}), which cannot be done without"
        )
    }
}

impl<C: Controls> Allowed<C> {
    /// From a capability MSR.
    pub const fn from_msr(value: u64) -> Self {
        Allowed { must: value as u32, may: (value >> 32) as u32, set: PhantomData }
    }

    /// The value to write: what every policy asks for, `required`, what there is of `wanted`, and what
    /// the CPU insists on.
    ///
    /// # Errors
    ///
    /// What is missing, but for `wanted`.
    pub fn adjust(&self, required: C, wanted: C) -> Result<C, MissingControls> {
        let required = required.union(C::ALWAYS);
        let missing = required.bits() & !self.may;
        if missing != 0 {
            return Err(MissingControls {
                set: C::NAME,
                bits: missing,
                first: C::name_of(missing),
            });
        }
        let value = (required.bits() | wanted.bits()) & self.may | self.must;
        Ok(C::from_bits_retain(value))
    }

    /// Whether each of these controls can be set.
    pub fn can(&self, controls: C) -> bool {
        controls.bits() & !self.may == 0
    }

    /// The bits of `value` that the CPU or every policy wants otherwise: they are 0, or they are 1 and
    /// the CPU or this version does not know them.
    pub fn wrong(&self, value: u32) -> u32 {
        let must = self.must | C::ALWAYS.bits();
        let may = self.may & C::all().bits() | self.must;
        must & !value | value & !may
    }

    pub(super) fn report(self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        report(C::NAME, C::from_bits_retain(self.may))
    }
}
