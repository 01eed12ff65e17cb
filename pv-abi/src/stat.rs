//! Arguments of the *stat* extension.

/// `phase` of `stat.mark`: the measured section begins.
pub const BEGIN: u64 = 0;
/// `phase` of `stat.mark`: it ends.
pub const END: u64 = 1;

/// What `stat.read` can read: `class << 32 | index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    /// Exits, by [`crate::exit::Reason`].
    ExitCount = 0,
    /// Ticks from exit to entry, by [`crate::exit::Reason`].
    ExitTicks = 1,
    /// Calls, by [`crate::area::call_slot`].
    CallCount = 2,
    /// Ticks of calls, by [`crate::area::call_slot`].
    CallTicks = 3,
    /// Index 0: VMREADs. Index 1: VMWRITEs.
    Vmcs = 4,
}

impl Class {
    /// The class with this number.
    pub const fn from_number(number: u32) -> Option<Class> {
        Some(match number {
            0 => Class::ExitCount,
            1 => Class::ExitTicks,
            2 => Class::CallCount,
            3 => Class::CallTicks,
            4 => Class::Vmcs,
            _ => return None,
        })
    }

    /// The selector of counter `index` of this class.
    pub const fn selector(self, index: u32) -> u64 {
        (self as u64) << 32 | index as u64
    }
}
