//! The three execution policies, by name.

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
