//! The execution policies as SVM intercepts.

use super::intercept::{Misc1, Misc2, Misc3};
use crate::vm::{Features, Policy};

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
    /// So many PAUSEs, none farther than [`PAUSE_FILTER_THRESHOLD`] from the one before, do not exit.
    pub pause_filter: u16,
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
    pause_filter: 0,
};

const TRAP_ALL: Controls = Controls {
    cr_reads: BASE.cr_reads | CR3,
    cr_writes: BASE.cr_writes | CR0 | CR3,
    drs: u16::MAX,
    exceptions: BASE.exceptions | Policy::EXCEPTIONS_TRAP_ALL,
    misc1: BASE.misc1.union(Misc1::INVLPG).union(Misc1::RDTSC).union(Misc1::PAUSE),
    misc2: BASE.misc2.union(Misc2::RDTSCP),
    misc3: BASE.misc3.union(Misc3::INVPCID),
    ..BASE
};

/// A loop of PAUSEs exits at this one: it takes longer than whoever runs has a lock, and no more than it costs to
/// let another run.
const PAUSE_FILTER: u16 = 256;
/// PAUSEs that are no farther apart belong to one loop, in ticks. A CPU that does not know it counts all.
pub const PAUSE_FILTER_THRESHOLD: u16 = 128;

/// What exits under a policy in a VM with these features. `cr4_passes`: writes of CR4 need not.
pub fn controls(policy: Policy, features: Features, cr4_passes: bool) -> Controls {
    if policy == Policy::TrapAll {
        return TRAP_ALL;
    }
    let mut controls = BASE;
    if cr4_passes {
        controls.cr_writes &= !CR4;
    }
    if features.contains(Features::PAUSE_LOOP_EXITING) {
        controls.misc1 |= Misc1::PAUSE;
        controls.pause_filter = PAUSE_FILTER;
    }
    controls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_of_pauses_exits_where_that_is_a_feature_and_each_pause_under_trap_all() {
        let all = Features::all();
        for (policy, features, exits, filter) in [
            (Policy::HwAssist, all, true, PAUSE_FILTER),
            (Policy::Pv, all, true, PAUSE_FILTER),
            (Policy::HwAssist, all - Features::PAUSE_LOOP_EXITING, false, 0),
            (Policy::TrapAll, all, true, 0),
        ] {
            let controls = controls(policy, features, false);
            let found = (controls.misc1.contains(Misc1::PAUSE), controls.pause_filter);
            assert_eq!(found, (exits, filter), "{policy:?} {features:?}");
        }
    }

    #[test]
    fn writes_of_cr4_pass_where_they_can() {
        let writes = |policy, passes| controls(policy, Features::empty(), passes).cr_writes & CR4;
        assert_eq!([writes(Policy::HwAssist, true), writes(Policy::HwAssist, false)], [0, CR4]);
        assert_eq!(writes(Policy::TrapAll, true), CR4);
    }
}
