//! Cases of features: of the CPU, and of a VM.

use hv_core::host::report::Cause;
use hv_core::vm::desc::Options;

use super::{EACH_VENDOR, EVERYWHERE, FINISHED, HOSTILE, NEWEST, SHORT_PV};
use crate::cases::trial::{BOOT, TestVm, Trial, VM};
use crate::cases::watch::Want;
use crate::cases::{Case, Kind, checks};
use crate::machine::Machine;

use Kind::{Boots, Checks};
use Machine::BochsVmx;

pub const CASES: &[Case] = &[
    Case {
        name: "entries-are-sound",
        about: "every VM entry passes the software checker",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[TestVm { check_entries: true, line: "shim=native ops=5", ..VM }],
            want: FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "runs-without-each-feature",
        about: "each optional feature of the CPU can be taken away",
        on: EVERYWHERE,
        kind: Checks(checks::without_each_feature),
    },
    Case {
        name: "bench-runs-on-the-newest-cpu",
        about: "a guest runs on a CPU model that has everything that Bochs emulates",
        on: &[BochsVmx],
        kind: Boots(Trial { cpu_model: NEWEST, vms: &[SHORT_PV], want: FINISHED, ..BOOT }),
    },
    Case {
        name: "resets-are-complete",
        about: "a VM that resets itself finds itself as at its first start, under each policy",
        on: EACH_VENDOR,
        kind: Checks(checks::resets_are_complete),
    },
    Case {
        name: "runs-without-a-uart",
        about: "a VM without UART has the console's calls",
        on: EACH_VENDOR,
        kind: Boots(Trial { vms: &[TestVm { uart: false, ..SHORT_PV }], want: FINISHED, ..BOOT }),
    },
    Case {
        name: "runs-without-the-abi",
        about: "a VM that is offered no hypercalls runs like on a PC, and cannot tell its exit code",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { line: "workload=cpuid,timer-tick", ..VM }],
            desc: |desc| desc.options &= !Options::ABI.bits(),
            want: &[Want::Console(0, "@bench done"), Want::End(0, Cause::HaltedForEver, "")],
            ..BOOT
        }),
    },
    Case {
        name: "calls-without-the-abi",
        about: "in a VM that is offered no hypercalls the instruction is undefined",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { line: "case=call-not-offered", ..HOSTILE }],
            desc: |desc| desc.options &= !Options::ABI.bits(),
            want: &[Want::Console(0, "@hostile pass"), Want::End(0, Cause::HaltedForEver, "")],
            ..BOOT
        }),
    },
    Case {
        name: "runs-with-nothing-to-talk-to",
        about: "a VM without UART and hypercalls runs to its end",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { uart: false, line: "workload=cpuid,timer-tick", ..VM }],
            desc: |desc| desc.options &= !Options::ABI.bits(),
            want: &[Want::End(0, Cause::HaltedForEver, "")],
            ..BOOT
        }),
    },
];
