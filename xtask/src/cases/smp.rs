//! The cases of several vCPUs, as data.

use hv_core::host::report::Cause;
use hv_core::vm::Policy;

use super::list::{EACH_VENDOR, EVERYWHERE, HOSTILE, PATTERN};
use super::trial::{BARE, BOOT, TestVm, Trial, VM};
use super::watch::Want;
use super::{Case, Kind, checks, linux};
use crate::machine::Machine;

use Kind::{Boots, Checks};
use Machine::{BochsVmx, QemuTcg};

/// Every workload for several CPUs, briefly.
const BRIEF: &str = "shim=native workload=ipi-ping-pong,ipi-wake,ipi-broadcast,tlb-shootdown-1,\
     tlb-shootdown-8,tlb-shootdown-64,lock-spin,lock-ticket,fork-join,fork-join-spin ops=5";
/// By calls, and one that has no native way.
const BRIEF_PV: &str = "shim=pv workload=ipi-ping-pong,ipi-wake,ipi-broadcast,tlb-shootdown-1,\
     tlb-shootdown-8,tlb-shootdown-64,lock-spin,lock-ticket,lock-pv,fork-join,fork-join-spin ops=5";
const ALL_DONE: &[Want] = &[Want::Console(0, "@bench done rows=10"), Want::Shutdown(0, 0)];

/// A VM of the hostile guest with three vCPUs.
const fn hostile(name: &'static str, line: &'static str) -> TestVm {
    TestVm { name, line, vcpus: 3, memory: 16 << 20, slice_us: 1000, ..HOSTILE }
}

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "linux-runs-on-four-vcpus",
        about: "Debian's kernel has four vCPUs on two CPUs, and no complaint under load",
        on: &[BochsVmx, QemuTcg],
        kind: Checks(linux::runs_on_four_vcpus),
    },
    Case {
        name: "two-linux-and-a-reference",
        about: "two VMs with Debian's kernel and one with the benchmark guest run side by side",
        on: &[QemuTcg],
        kind: Checks(linux::runs_beside_another),
    },
    Case {
        name: "smp-workloads",
        about: "four vCPUs on two CPUs send each other interrupts, flush, lock, fork and join",
        on: EVERYWHERE,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[TestVm { vcpus: 4, line: BRIEF, slice_us: 1000, ..VM }],
            want: ALL_DONE,
            limit: 240,
            ..BOOT
        }),
    },
    Case {
        name: "smp-workloads-on-one-cpu",
        about: "the same with three vCPUs that take turns",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { vcpus: 3, line: BRIEF, slice_us: 1000, ..VM }],
            want: ALL_DONE,
            limit: 240,
            ..BOOT
        }),
    },
    Case {
        name: "hostile-smp",
        about: "vCPUs that storm, stop and start each other harm no neighbour",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[
                TestVm { line: "case=pattern tag=9 turns=20", ..PATTERN },
                hostile("storm", "case=ipi-storm"),
                hostile("nowhere", "case=sipi-nowhere"),
                hostile("fault", "case=triple-fault-on-one-cpu"),
            ],
            want: &[
                Want::Shutdown(0, 0),
                Want::Console(1, "@hostile pass ipi-storm"),
                Want::Shutdown(1, 0),
                Want::Console(2, "@hostile pass sipi-nowhere"),
                Want::Shutdown(2, 0),
                Want::End(3, Cause::TripleFault, ""),
            ],
            limit: 240,
            ..BOOT
        }),
    },
    Case {
        name: "smp-workloads-pv",
        about: "four vCPUs on two CPUs do so by calls, and one lock lets its CPU go",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[TestVm { vcpus: 4, line: BRIEF_PV, policy: Policy::Pv, slice_us: 1000, ..VM }],
            want: &[Want::Console(0, "@bench done rows=11"), Want::Shutdown(0, 0)],
            limit: 240,
            ..BOOT
        }),
    },
    Case {
        name: "smp-calls",
        about: "wrong calls between vCPUs are refused, and right ones at the same time come to an end",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[hostile("calls", "case=smp-calls"), hostile("storm", "case=smp-call-storm")],
            want: &[
                Want::Console(0, "@hostile pass smp-calls"),
                Want::Shutdown(0, 0),
                Want::Console(1, "@hostile pass smp-call-storm"),
                Want::Shutdown(1, 0),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "smp-vm-resets",
        about: "a triple fault of one vCPU resets a VM of three that may be reset, and they start again",
        on: EACH_VENDOR,
        kind: Checks(checks::vcpus_reset),
    },
    Case {
        name: "smp-runs-bare",
        about: "the benchmark guest uses the four CPUs of a machine without a hypervisor, all workloads",
        on: &[QemuTcg],
        kind: Boots(Trial {
            cpus: 4,
            vms: &[TestVm {
                line: "workload=ipi-ping-pong,ipi-wake,ipi-broadcast,tlb-shootdown-1,tlb-shootdown-8,\
                       tlb-shootdown-64,lock-spin,lock-ticket,fork-join,fork-join-spin",
                ..VM
            }],
            want: &[Want::Console(0, "@bench done rows=10"), Want::Shutdown(0, 0)],
            ..BARE
        }),
    },
    Case {
        name: "hostile-smp-runs-bare",
        about: "the hostile guest's cases hold on four CPUs without the hypervisor, those for several among them",
        on: &[QemuTcg],
        kind: Boots(Trial {
            cpus: 4,
            vms: &[HOSTILE],
            want: &[
                Want::Console(0, "@hostile pass ipi-storm"),
                Want::Console(0, "@hostile pass sipi-nowhere"),
                Want::Shutdown(0, 0),
            ],
            ..BARE
        }),
    },
];
