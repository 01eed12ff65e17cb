//! The three execution policies, by name.

use super::feature::Features;

/// How a VM is run: what exits and what the guest is told to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Policy {
    /// A CPU that helps little: every exit that VT-x and AMD-V can both intercept is requested;
    /// nested paging stays on.
    TrapAll = 0,
    /// The hardware at its best; only what must exit does.
    HwAssist = 1,
    /// As [`Policy::HwAssist`], and the guest is told to use the shim.
    Pv = 2,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Policy; 3] = [Policy::TrapAll, Policy::HwAssist, Policy::Pv];

    /// Exceptions that exit under every policy, by vector. A guest can make the delivery of #DB and #AC
    /// raise them again without end, and inside of that loop the CPU takes no interrupt. A machine check
    /// is the host's.
    pub const EXCEPTIONS_ALWAYS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

    /// Exceptions that exit under `trap-all` as well: #DE, #UD, #NM, #NP, #SS, #GP, #PF, #MF, #XM.
    pub const EXCEPTIONS_TRAP_ALL: u32 =
        1 << 0 | 1 << 6 | 1 << 7 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 16 | 1 << 19;

    /// The features of the CPU that the policy uses when they are there.
    pub const fn features(self) -> Features {
        match self {
            Policy::TrapAll => Features::all()
                .difference(Features::MSR_BITMAP)
                .difference(Features::IO_BITMAP)
                .difference(Features::APIC_REGISTERS)
                .difference(Features::VIRTUAL_INTERRUPTS)
                .difference(Features::PAUSE_LOOP_EXITING),
            Policy::HwAssist | Policy::Pv => Features::all(),
        }
    }

    /// The name that users type.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::TrapAll => "trap-all",
            Policy::HwAssist => "hw-assist",
            Policy::Pv => "pv",
        }
    }

    /// The policy with this number in a packed description.
    pub const fn from_number(number: u32) -> Option<Policy> {
        Some(match number {
            0 => Policy::TrapAll,
            1 => Policy::HwAssist,
            2 => Policy::Pv,
            _ => return None,
        })
    }
}
