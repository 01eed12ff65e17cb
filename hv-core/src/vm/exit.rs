//! Why a guest left guest mode, decoded once, in words of no vendor.

use pv_abi::exit::Reason;

use super::Event;
use crate::host::report::Cause;

/// An access to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// Bytes: 1, 2 or 4.
    pub size: u8,
    /// IN or INS, otherwise OUT or OUTS.
    pub input: bool,
    /// INS or OUTS.
    pub string: bool,
    /// A string instruction with a repeat prefix.
    pub repeated: bool,
}

/// What an instruction does with a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrAccess {
    /// MOV to the control register from a general register.
    Write {
        /// 0, 3, 4 or 8.
        cr: u8,
        /// The general register's number.
        gpr: u8,
    },
    /// MOV from the control register. VT-x cannot intercept those of CR0 and CR4, and need not.
    Read {
        /// 0, 3, 4 or 8.
        cr: u8,
        /// The general register's number.
        gpr: u8,
    },
    /// CLTS.
    Clts,
    /// LMSW with this source.
    Lmsw(u16),
}

/// An access that the nested page table does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// The guest-physical address.
    pub gpa: u64,
    /// Read, write, fetch, as bits 0, 1, 2.
    pub access: u8,
    /// It came of a walk of the guest's page tables, not of the access itself.
    pub walk: bool,
}

/// An exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Exit {
    Cpuid,
    /// The hypercall instruction of this vendor.
    Hypercall,
    Rdmsr,
    Wrmsr,
    Port(PortAccess),
    Cr(CrAccess),
    NestedFault(NestedFault),
    Hlt,
    ExternalInterrupt,
    /// An NMI of the host.
    Nmi,
    InterruptWindow,
    NmiWindow,
    TimeSlice,
    /// An exception of the guest, with CR2 for a page fault and pending DR6 bits for #DB.
    Exception {
        event: Event,
        detail: u64,
    },
    /// With the address, where the CPU says it.
    Invlpg {
        linear: Option<u64>,
    },
    /// RDTSC, or RDTSCP.
    Rdtsc {
        with_aux: bool,
    },
    Pause,
    /// MONITOR or MWAIT.
    Mwait,
    Dr {
        number: u8,
        gpr: u8,
        read: bool,
    },
    /// An instruction that loads or stores a descriptor-table register.
    DescriptorTable,
    Xsetbv,
    Wbinvd,
    /// An access to the xAPIC page at this offset that the CPU does not virtualize; what it is, as for
    /// [`NestedFault`].
    ApicAccess {
        offset: u16,
        access: u8,
    },
    /// A write to the virtual-APIC page that software must complete.
    ApicWrite {
        offset: u16,
    },
    EoiInduced {
        vector: u8,
    },
    TaskSwitch,
    TripleFault,
    /// An instruction of the virtualization extensions.
    VirtInstruction,
    Rdpmc,
    Random,
    /// INIT, SIPI or SMI.
    Reset,
    Invpcid,
    SingleStep,
    NestedMisconfig {
        gpa: u64,
    },
    TprThreshold,
    /// The entry failed; the vendor's detail.
    EntryFailure,
    /// The instruction could not be fetched, or is not what the exit says.
    Undecoded,
    Other,
}

/// Why a vCPU stops running for now, or for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It waits for an interrupt.
    Halted,
    /// Its time is over.
    Preempted,
    /// It gives up the rest of its time.
    Yielded,
    /// The same, and it would have the vCPU with this number run.
    YieldedTo(u32),
    /// Something has come for the CPU: a vCPU that sleeps on it is woken.
    Mail,
    /// It was sent INIT.
    Init,
    /// Its VM starts again.
    Reset,
    /// Its VM stops, and another of its vCPUs says why.
    Stopped,
    /// Its VM is at its end, as [`Vcpu::ending`](super::Vcpu::ending) says.
    Ended,
}

/// Why a VM is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub cause: Cause,
    /// The exit code of a shutdown, or detail.
    pub code: u64,
    /// The guest-physical address concerned, or 0.
    pub address: u64,
    /// A text for the user.
    pub message: &'static str,
}

/// What is left to do after an exit has been handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The instruction is complete: go on behind it.
    Advance,
    /// Go on where the exit says: the event was not an instruction, or the instruction runs again.
    Resume,
    /// The instruction is complete and this long: go on behind it.
    AdvanceBy(u32),
    /// The instruction is complete and is not counted: a mark.
    AdvanceUncounted,
    /// The instruction raises an exception.
    Inject(Event),
    /// The instruction is complete; the vCPU then leaves.
    AdvanceAndLeave(Leave),
    /// The vCPU leaves as it stands.
    Leave(Leave),
}

impl Outcome {
    /// #UD.
    pub const UNDEFINED: Outcome = Outcome::Inject(Event::exception(6, 0));
    /// #GP(0).
    pub const PROTECTION: Outcome = Outcome::Inject(Event::exception(13, 0));
}

impl Exit {
    /// The exit, where its reason says all there is to say of it.
    pub const fn plain(reason: Reason) -> Exit {
        match reason {
            Reason::Hlt => Exit::Hlt,
            Reason::ExternalInterrupt => Exit::ExternalInterrupt,
            Reason::Nmi => Exit::Nmi,
            Reason::InterruptWindow => Exit::InterruptWindow,
            Reason::NmiWindow => Exit::NmiWindow,
            Reason::TimeSlice => Exit::TimeSlice,
            Reason::Rdtsc => Exit::Rdtsc { with_aux: false },
            Reason::Pause => Exit::Pause,
            Reason::Mwait => Exit::Mwait,
            Reason::DescriptorTable => Exit::DescriptorTable,
            Reason::Xsetbv => Exit::Xsetbv,
            Reason::Wbinvd => Exit::Wbinvd,
            Reason::TaskSwitch => Exit::TaskSwitch,
            Reason::TripleFault => Exit::TripleFault,
            Reason::VirtInstruction => Exit::VirtInstruction,
            Reason::Rdpmc => Exit::Rdpmc,
            Reason::Random => Exit::Random,
            Reason::Reset => Exit::Reset,
            Reason::Invpcid => Exit::Invpcid,
            Reason::SingleStep => Exit::SingleStep,
            Reason::TprThreshold => Exit::TprThreshold,
            Reason::EntryFailure => Exit::EntryFailure,
            _ => Exit::Other,
        }
    }

    /// The counter in which the exit is counted.
    pub const fn reason(&self) -> Reason {
        match self {
            Exit::Cpuid => Reason::Cpuid,
            Exit::Hypercall => Reason::Hypercall,
            Exit::Rdmsr => Reason::MsrRead,
            Exit::Wrmsr => Reason::MsrWrite,
            Exit::Port(PortAccess { input: true, .. }) => Reason::PortIn,
            Exit::Port(_) => Reason::PortOut,
            Exit::Cr(CrAccess::Read { .. }) => Reason::CrRead,
            Exit::Cr(_) => Reason::CrWrite,
            Exit::NestedFault(_) => Reason::NestedPageFault,
            Exit::Hlt => Reason::Hlt,
            Exit::ExternalInterrupt => Reason::ExternalInterrupt,
            Exit::Nmi => Reason::Nmi,
            Exit::InterruptWindow => Reason::InterruptWindow,
            Exit::NmiWindow => Reason::NmiWindow,
            Exit::TimeSlice => Reason::TimeSlice,
            Exit::Exception { .. } => Reason::Exception,
            Exit::Invlpg { .. } => Reason::Invlpg,
            Exit::Rdtsc { .. } => Reason::Rdtsc,
            Exit::Pause => Reason::Pause,
            Exit::Mwait => Reason::Mwait,
            Exit::Dr { .. } => Reason::DrAccess,
            Exit::DescriptorTable => Reason::DescriptorTable,
            Exit::Xsetbv => Reason::Xsetbv,
            Exit::Wbinvd => Reason::Wbinvd,
            Exit::ApicAccess { .. } => Reason::ApicAccess,
            Exit::ApicWrite { .. } => Reason::ApicWrite,
            Exit::EoiInduced { .. } => Reason::EoiInduced,
            Exit::TaskSwitch => Reason::TaskSwitch,
            Exit::TripleFault => Reason::TripleFault,
            Exit::VirtInstruction => Reason::VirtInstruction,
            Exit::Rdpmc => Reason::Rdpmc,
            Exit::Random => Reason::Random,
            Exit::Reset => Reason::Reset,
            Exit::Invpcid => Reason::Invpcid,
            Exit::SingleStep => Reason::SingleStep,
            Exit::NestedMisconfig { .. } => Reason::NestedMisconfig,
            Exit::TprThreshold => Reason::TprThreshold,
            Exit::EntryFailure => Reason::EntryFailure,
            Exit::Undecoded | Exit::Other => Reason::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_exit_has_the_reason_that_it_was_made_from() {
        let detailed = |reason: &Reason| Exit::plain(*reason) == Exit::Other;
        for &reason in Reason::ALL.iter().filter(|reason| !detailed(reason)) {
            assert_eq!(Exit::plain(reason).reason(), reason);
        }
        for reason in [Reason::Hlt, Reason::Reset, Reason::TimeSlice, Reason::VirtInstruction] {
            assert!(!detailed(&reason), "{reason:?}");
        }
        for reason in [Reason::PortIn, Reason::CrWrite, Reason::Exception, Reason::Invlpg] {
            assert!(detailed(&reason), "{reason:?}");
        }
    }
}
