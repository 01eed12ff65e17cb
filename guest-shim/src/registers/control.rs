//! Control registers. Writes of CR0 and CR4 that change nothing can be dropped; CR2, CR3 and CR8
//! are the `x86_64` crate's.
//!
//! The shadow that a write is compared with is the CPU's own: under VT-x and AMD-V a read of CR0
//! and CR4 gives what the guest has written, and takes no exit under the policies that recommend
//! this. So it is right on every CPU and after every other way to change the registers (LMSW,
//! CLTS). A dropped write does not serialise.

pub use x86_64::registers::control::{
    Cr0Flags, Cr2, Cr3, Cr3Flags, Cr4Flags, Cr8, Efer, EferFlags, PriorityClass,
};

use crate::site::{Key, enabled};

/// CR0.ET, which reads as 1 whatever is written (SDM vol. 3, Control Registers).
const CR0_FIXED: u64 = 1 << 4;

/// Whether writing `new` over `current` changes anything but the bits of `fixed`.
pub(super) const fn changes(current: u64, new: u64, fixed: u64) -> bool {
    (current ^ new) & !fixed != 0
}

macro_rules! register {
    ($(#[$doc:meta])* $name:ident, $flags:ident, fixed $fixed:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $name {
            /// Reads the flags.
            #[inline]
            pub fn read() -> $flags {
                x86_64::registers::control::$name::read()
            }

            /// Reads the raw value.
            #[inline]
            pub fn read_raw() -> u64 {
                x86_64::registers::control::$name::read_raw()
            }

            /// Writes the flags and keeps the reserved bits.
            ///
            /// # Safety
            ///
            /// The register governs paging and protection, so a wrong value breaks memory safety.
            #[inline]
            pub unsafe fn write(flags: $flags) {
                let reserved = Self::read_raw() & !$flags::all().bits();
                // SAFETY: the caller's promise.
                unsafe { Self::write_raw(reserved | flags.bits()) }
            }

            /// Writes the raw value.
            ///
            /// # Safety
            ///
            /// As [`Self::write`]; the reserved bits are the caller's business too.
            #[inline]
            pub unsafe fn write_raw(value: u64) {
                if enabled::<{ Key::CrShadow as u32 }>()
                    && !changes(Self::read_raw(), value, $fixed)
                {
                    return;
                }
                // SAFETY: the caller's promise.
                unsafe { x86_64::registers::control::$name::write_raw(value) }
            }

            /// Changes the flags and keeps the reserved bits.
            ///
            /// # Safety
            ///
            /// As [`Self::write`].
            #[inline]
            pub unsafe fn update<F: FnOnce(&mut $flags)>(f: F) {
                let mut flags = Self::read();
                f(&mut flags);
                // SAFETY: the caller's promise.
                unsafe { Self::write(flags) }
            }
        }
    };
}

register! {
    /// CR0.
    Cr0, Cr0Flags, fixed CR0_FIXED
}
register! {
    /// CR4.
    Cr4, Cr4Flags, fixed 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_that_change_something_are_made() {
        assert!(!changes(0x8005_0033, 0x8005_0033, CR0_FIXED));
        assert!(!changes(0x8005_0033, 0x8005_0023, CR0_FIXED), "ET cannot be cleared");
        assert!(changes(0x8005_0033, 0x8004_0033, CR0_FIXED), "WP");
        assert!(changes(0x8005_0033, 1 << 32 | 0x8005_0033, CR0_FIXED), "must fault");
        assert!(changes(0x20, 0x30, 0), "CR4 has no such bit");
    }
}
