//! Cases of VMs that share a machine: time, and what one could leave behind for the next.

use hv_core::host::report::Cause;
use hv_core::vm::policy::Policy;

use super::{APIC_PAGE, BOTH_FINISHED, EACH_VENDOR, EVERYWHERE, HOSTILE, named, neighbour};
use crate::cases::trial::{BOOT, TestVm, Trial, VM};
use crate::cases::watch::Want;
use crate::cases::{Case, Kind, checks};

use Kind::{Boots, Checks};

pub const CASES: &[Case] = &[
    Case {
        name: "two-cpus-run-vms",
        about: "the second CPU is started, and each of two CPUs runs two VMs in turn",
        on: EACH_VENDOR,
        kind: Checks(checks::two_cpus),
    },
    Case {
        name: "a-flood-is-preempted",
        about: "a guest that floods hypercalls is preempted like one that never exits",
        on: EVERYWHERE,
        kind: Checks(checks::flood_is_preempted),
    },
    Case {
        name: "weights-share-the-cpu",
        about: "a VM of eight times the weight has eight ninths of the CPU beside another",
        on: EACH_VENDOR,
        kind: Checks(checks::weights_count),
    },
    Case {
        name: "a-halted-vm-gets-the-cpu-back",
        about: "a VM whose timer is due takes the CPU from one that never exits by itself",
        on: EACH_VENDOR,
        kind: Checks(checks::halted_gets_the_cpu_back),
    },
    Case {
        name: "a-preempted-idle-loop-wakes-up",
        about: "a guest that leaves the CPU between STI and HLT wakes up when its timer fires",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            real_time: true,
            vms: &[
                TestVm {
                    slice_us: 100,
                    ..named("sleeper", "shim=native workload=idle-wake ops=300")
                },
                TestVm { slice_us: 100, ..named("busy", "shim=native workload=cpuid ops=50000") },
            ],
            want: &[
                Want::Console(0, "@bench done rows=1"),
                Want::Shutdown(0, 0),
                Want::Shutdown(1, 0),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "xcr0-shrinks-beside-a-neighbour",
        about: "vector registers keep their values when their component leaves XCR0",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[
                neighbour("first", "case=xcr0-shrinks tag=1"),
                neighbour("second", "case=xcr0-shrinks tag=2"),
            ],
            want: BOTH_FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "xmm-beside-a-neighbour",
        about: "VMs on one CPU have vector registers of their own, whether they use XSAVE or not",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[
                neighbour("first", "case=xmm-without-xsave tag=1"),
                neighbour("second", "case=xmm-without-xsave tag=2"),
                neighbour("third", "case=xmm-with-xsave tag=3"),
            ],
            want: &[Want::Shutdown(0, 0), Want::Shutdown(1, 0), Want::Shutdown(2, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "registers-beside-a-neighbour",
        about: "VMs on one CPU have MSRs and debug registers of their own, those that stay in the CPU as well",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[
                neighbour("first", "case=registers tag=1"),
                neighbour("second", "case=registers tag=2"),
                neighbour("third", "case=registers tag=3"),
            ],
            want: &[Want::Shutdown(0, 0), Want::Shutdown(1, 0), Want::Shutdown(2, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "apic-page-beside-a-neighbour",
        about: "the local APIC's page carries nothing from one VM in x2APIC mode to another",
        on: APIC_PAGE,
        kind: Boots(Trial {
            vms: &[
                neighbour("first", "case=apic-page tag=1"),
                neighbour("second", "case=apic-page tag=2"),
            ],
            want: BOTH_FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "apic-page-without-a-page",
        about: "without APIC virtualization, there is nothing in that page in x2APIC mode",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { policy: Policy::TrapAll, line: "case=apic-page", ..HOSTILE }],
            want: &[
                Want::Console(0, "@hostile apic-page reads 0xffffffffffffffff"),
                Want::Shutdown(0, 0),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "vm-that-runs-too-long-is-ended",
        about: "a VM ends when its time is over, and its report says so",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { time_limit_ms: 1, ..VM }],
            want: &[Want::End(0, Cause::TimeLimit, "")],
            ..BOOT
        }),
    },
];
