//! The execution policies as SVM intercepts.

use super::intercept::{Misc1, Misc2, Misc3};
use crate::vm::Policy;

/// What exits. Control and debug registers, and exceptions, are bit sets by number.
#[derive(Clone, Copy, Debug)]
pub struct Controls {
    /// Reads of control registers.
    pub cr_reads: u16,
    /// Writes of control registers.
    pub cr_writes: u16,
    /// Reads and writes of debug registers.
    pub drs: u16,
    /// Exceptions.
    pub exceptions: u32,
    /// Instructions and events.
    pub misc1: Misc1,
    /// More of them.
    pub misc2: Misc2,
    /// More of them.
    pub misc3: Misc3,
}

const CR0: u16 = 1 << 0;
const CR3: u16 = 1 << 3;
const CR4: u16 = 1 << 4;
const CR8: u16 = 1 << 8;

/// What exits under every policy. All instructions of SVM do: the guest takes its CPU for one without.
/// CR4 does as a whole, because SVM knows no bits that the hypervisor owns, but for what [`controls`]
/// says. CR8 does because the task priority is the virtual APIC's.
const BASE: Controls = Controls {
    cr_reads: CR8,
    cr_writes: CR4 | CR8,
    drs: 0,
    exceptions: Policy::EXCEPTIONS_ALWAYS,
    misc1: Misc1::INTR
        .union(Misc1::NMI)
        .union(Misc1::INIT)
        .union(Misc1::CR0_SELECTIVE)
        .union(Misc1::RDPMC)
        .union(Misc1::CPUID)
        .union(Misc1::INVD)
        .union(Misc1::HLT)
        .union(Misc1::INVLPGA)
        .union(Misc1::IO)
        .union(Misc1::MSR)
        .union(Misc1::TASK_SWITCH)
        .union(Misc1::SHUTDOWN),
    misc2: Misc2::VMRUN
        .union(Misc2::VMMCALL)
        .union(Misc2::VMLOAD)
        .union(Misc2::VMSAVE)
        .union(Misc2::STGI)
        .union(Misc2::CLGI)
        .union(Misc2::SKINIT)
        .union(Misc2::ICEBP)
        .union(Misc2::WBINVD)
        .union(Misc2::MONITOR)
        .union(Misc2::MWAIT)
        .union(Misc2::XSETBV)
        .union(Misc2::RDPRU),
    misc3: Misc3::MCOMMIT,
};

const TRAP_ALL: Controls = Controls {
    cr_reads: BASE.cr_reads | CR3,
    cr_writes: BASE.cr_writes | CR0 | CR3,
    drs: u16::MAX,
    exceptions: BASE.exceptions | Policy::EXCEPTIONS_TRAP_ALL,
    misc1: BASE.misc1.union(Misc1::INVLPG).union(Misc1::RDTSC).union(Misc1::PAUSE),
    misc2: BASE.misc2.union(Misc2::RDTSCP),
    misc3: BASE.misc3.union(Misc3::INVPCID),
};

/// What exits under a policy. `cr4_passes`: writes of CR4 need not.
pub const fn controls(policy: Policy, cr4_passes: bool) -> Controls {
    match policy {
        Policy::TrapAll => TRAP_ALL,
        Policy::HwAssist | Policy::Pv if cr4_passes => {
            Controls { cr_writes: BASE.cr_writes & !CR4, ..BASE }
        }
        Policy::HwAssist | Policy::Pv => BASE,
    }
}
