//! Cases of guests that do what no operating system does.

use hv_core::host::report::Cause;
use hv_core::vm::policy::Policy;

use super::{BOTH_FINISHED, EACH_VENDOR, EVERYWHERE, HOSTILE, NEWEST, PATTERN, neighbour, pc};
use crate::cases::trial::{BARE, BOOT, TestVm, Trial};
use crate::cases::watch::Want;
use crate::cases::{Case, Kind, checks};
use crate::machine::Machine;

use Kind::{Boots, Checks};
use Machine::{BochsSvm, BochsVmx, QemuTcg};

pub const CASES: &[Case] = &[
    Case {
        name: "hostile-ends",
        about: "guests that end badly end alone and are reported; one that behaves goes on",
        on: EVERYWHERE,
        kind: Checks(checks::hostile_ends),
    },
    Case {
        name: "hostile-ends-newest",
        about: "the same on a CPU model that has everything that Bochs emulates",
        on: &[BochsVmx],
        kind: Checks(checks::hostile_ends_newest),
    },
    Case {
        name: "hostile-calls-trap-all",
        about: "bad calls get the error that the specification names, under trap-all",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[TestVm { policy: Policy::TrapAll, ..HOSTILE }],
            want: &[Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "hostile-calls-hw-assist",
        about: "bad calls get the error that the specification names, under hw-assist",
        on: EVERYWHERE,
        kind: Boots(Trial { vms: &[HOSTILE], want: &[Want::Shutdown(0, 0)], ..BOOT }),
    },
    Case {
        name: "hostile-calls-pv",
        about: "bad calls get the error that the specification names, under pv",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[TestVm { policy: Policy::Pv, ..HOSTILE }],
            want: &[Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "hostile-calls-newest",
        about: "the same on a CPU model that has everything that Bochs emulates, and under pv",
        on: &[BochsVmx],
        kind: Boots(Trial {
            cpu_model: NEWEST,
            vms: &[TestVm { policy: Policy::Pv, ..HOSTILE }],
            want: &[Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "random-steps",
        about: "random instructions in every mode end as they do on a CPU, or reset their VM alone",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[
                TestVm { may_reset: true, ..pc("wild", "case=steps wild=1 seed=1 steps=1500") },
                PATTERN,
                TestVm { slice_us: 1000, ..neighbour("steps", "case=steps seed=2 steps=1500") },
            ],
            want: &[
                Want::Console(0, "@hostile steps 1500 in all"),
                Want::Shutdown(0, 0),
                Want::Shutdown(1, 0),
                Want::Console(2, "@hostile steps 1500 in all"),
                Want::Shutdown(2, 0),
            ],
            limit: 300,
            ..BOOT
        }),
    },
    Case {
        name: "hostile-runs-bare",
        about: "the hostile guest's cases and steps hold without the hypervisor, too",
        on: &[QemuTcg],
        kind: Boots(Trial {
            vms: &[HOSTILE],
            want: &[Want::Console(0, "@hostile pass"), Want::Shutdown(0, 0)],
            ..BARE
        }),
    },
    Case {
        name: "garbage-ports",
        about: "a guest that writes to every port of a PC goes on, and so does its neighbour",
        on: &[QemuTcg],
        kind: Boots(Trial {
            real_time: true,
            vms: &[PATTERN, pc("ports", "case=garbage-ports")],
            want: BOTH_FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "hostile-devices",
        about: "a guest that floods devices or writes garbage to all of them harms nobody but itself",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[
                PATTERN,
                pc("pit-by-8259", "case=pit-flood"),
                pc("pit-by-io-apic", "case=pit-flood-io-apic"),
                pc("pit-by-nmi", "case=pit-nmi-ends-hlt"),
                pc("msrs", "case=garbage-msrs"),
                pc("uart", "case=uart-flood"),
            ],
            want: &[
                Want::Shutdown(0, 0),
                Want::Shutdown(1, 0),
                Want::Shutdown(2, 0),
                Want::Shutdown(3, 0),
                Want::Shutdown(4, 0),
                Want::Shutdown(5, 0),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "hostile-table-in-apic",
        about: "without APIC virtualization, a page table in the local APIC's page has ones in it",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[TestVm { policy: Policy::TrapAll, line: "case=table-in-apic", ..HOSTILE }],
            want: &[Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "faults-of-the-emulator-are-there",
        about: "what an emulator is said to get wrong it does; if not, take the case off its list",
        on: &[BochsSvm, QemuTcg],
        kind: Checks(checks::faults_are_there),
    },
    Case {
        name: "reserved-bits-of-cr3-end-a-vm",
        about: "where the CPU lets a guest set them, they end the VM at its next entry",
        on: &[QemuTcg],
        kind: Boots(Trial {
            vms: &[TestVm { line: "case=cr3-reserved", ..HOSTILE }],
            want: &[Want::End(0, Cause::EntryFailure, "")],
            ..BOOT
        }),
    },
];
