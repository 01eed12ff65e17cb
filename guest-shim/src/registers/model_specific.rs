//! Model-specific registers. [`Msr`] knows the two whose writes have a replacement; the named
//! registers are the `x86_64` crate's, since they pass through or are written once.
//!
//! Their `MSR` constants have the `x86_64` crate's type, which is not [`Msr`] here.

pub use x86_64::registers::model_specific::{
    ApicBase, ApicBaseFlags, CetFlags, Efer, EferFlags, FsBase, GsBase, KernelGsBase, LStar, SCet,
    SFMask, Star, UCet,
};

use x86_64::registers::model_specific;

use crate::site::{Key, enabled};
use crate::{apic, timer};

/// The x2APIC's end-of-interrupt register.
const X2APIC_EOI: u32 = 0x80b;
/// IA32_TSC_DEADLINE.
const TSC_DEADLINE: u32 = 0x6e0;

/// A model-specific register.
#[derive(Debug)]
pub struct Msr(u32);

impl Msr {
    /// The register with this number.
    #[inline]
    pub const fn new(reg: u32) -> Msr {
        Msr(reg)
    }

    /// Reads the register.
    ///
    /// # Safety
    ///
    /// The register exists, and reading it has no effect that breaks memory safety.
    #[inline]
    pub unsafe fn read(&self) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { model_specific::Msr::new(self.0).read() }
    }

    /// Writes the register. An end of interrupt goes through [`apic::eoi`], a TSC deadline through
    /// [`timer::arm`].
    ///
    /// # Safety
    ///
    /// The register exists, takes the value, and writing it has no effect that breaks memory
    /// safety.
    #[inline]
    pub unsafe fn write(&mut self, value: u64) {
        // With a constant number, as is usual, nothing of this match is left.
        match self.0 {
            X2APIC_EOI if value == 0 && enabled::<{ Key::Eoi as u32 }>() => apic::eoi(),
            TSC_DEADLINE if enabled::<{ Key::Timer as u32 }>() => timer::arm(value),
            // SAFETY: the caller's promise.
            _ => unsafe { model_specific::Msr::new(self.0).write(value) },
        }
    }
}
