//! Extended control registers. Writes of XCR0 that change nothing can be dropped: XSETBV always
//! exits, XGETBV never does.

pub use x86_64::registers::xcontrol::XCr0Flags;

use x86_64::registers::xcontrol;

use super::control::changes;
use crate::site::{Key, enabled};

/// Extended feature enable mask register.
#[derive(Debug)]
pub struct XCr0;

impl XCr0 {
    /// Reads the flags.
    #[inline]
    pub fn read() -> XCr0Flags {
        xcontrol::XCr0::read()
    }

    /// Reads the raw value.
    #[inline]
    pub fn read_raw() -> u64 {
        xcontrol::XCr0::read_raw()
    }

    /// Writes the flags and keeps the reserved bits.
    ///
    /// # Panics
    ///
    /// On combinations of flags that the architecture does not allow.
    ///
    /// # Safety
    ///
    /// The CPU supports the features.
    #[inline]
    pub unsafe fn write(flags: XCr0Flags) {
        if enabled::<{ Key::CrShadow as u32 }>() {
            let reserved = Self::read_raw() & !XCr0Flags::all().bits();
            if !changes(Self::read_raw(), reserved | flags.bits(), 0) {
                return;
            }
        }
        // SAFETY: the caller's promise.
        unsafe { xcontrol::XCr0::write(flags) }
    }

    /// Writes the raw value.
    ///
    /// # Safety
    ///
    /// The CPU supports the features; the reserved bits are the caller's business.
    #[inline]
    pub unsafe fn write_raw(value: u64) {
        if enabled::<{ Key::CrShadow as u32 }>() && !changes(Self::read_raw(), value, 0) {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { xcontrol::XCr0::write_raw(value) }
    }

    /// Changes the flags and keeps the reserved bits.
    ///
    /// # Panics
    ///
    /// As [`XCr0::write`].
    ///
    /// # Safety
    ///
    /// As [`XCr0::write`].
    #[inline]
    pub unsafe fn update<F: FnOnce(&mut XCr0Flags)>(f: F) {
        let mut flags = Self::read();
        f(&mut flags);
        // SAFETY: the caller's promise.
        unsafe { Self::write(flags) }
    }
}
