//! Why the hypervisor cannot run on this CPU, in words that help.

use core::fmt;

use super::MissingControls;

/// Why the hypervisor cannot run on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Firmware locked VMX off.
    LockedOff,
    /// No secondary processor-based controls.
    NoSecondaryControls,
    /// No EPT.
    NoEpt,
    /// EPT structures cannot be write-back.
    NoEptWriteBack,
    /// EPT has no page walk of length 4.
    NoEptWalk4,
    /// INVEPT, or its single-context type, is missing.
    NoInvept,
    /// No unrestricted guest.
    NoUnrestrictedGuest,
    /// No VMX-preemption timer.
    NoPreemptionTimer,
    /// A control is missing that every VM needs.
    Controls(MissingControls),
}

impl From<MissingControls> for Refusal {
    fn from(missing: MissingControls) -> Refusal {
        Refusal::Controls(missing)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OTHER_CPU: &str =
            "use an Intel CPU of 2013 (Haswell) or later, or an emulated model of one";
        let what = match self {
            Refusal::LockedOff => {
                return write!(
                    f,
                    "firmware locked VMX off (IA32_FEATURE_CONTROL): turn on Intel Virtualization Technology (VT-x) in the firmware's setup and switch the machine off and on"
                );
            }
            Refusal::Controls(missing) => return write!(f, "{missing}: {OTHER_CPU}"),
            Refusal::NoSecondaryControls => "secondary processor-based controls, and so no EPT",
            Refusal::NoEpt => "extended page tables (EPT)",
            Refusal::NoEptWriteBack => "write-back EPT structures",
            Refusal::NoEptWalk4 => "EPT page walks of length 4",
            Refusal::NoInvept => "INVEPT of one EPT",
            Refusal::NoUnrestrictedGuest => "\"unrestricted guest\"",
            Refusal::NoPreemptionTimer => "VMX-preemption timer",
        };
        write!(f, "the CPU has no {what}: {OTHER_CPU}")
    }
}
