//! Cases of emulated instructions.

use super::{BOTH_FINISHED, EACH_VENDOR, forms};
use crate::cases::trial::{BOOT, Trial};
use crate::cases::watch::Want;
use crate::cases::{Case, Kind};
use crate::machine::Machine;

use Kind::Boots;
use Machine::{BochsSvm, BochsVmx, QemuTcg};

pub const CASES: &[Case] = &[
    Case {
        name: "emulated-forms",
        about: "instructions that are emulated leave what the CPU leaves, in every mode",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[forms("forms", "case=forms"), forms("faults", "case=forms-faults")],
            want: BOTH_FINISHED,
            limit: 300,
            ..BOOT
        }),
    },
    Case {
        name: "emulated-forms-but-virtual",
        about: "the same in every mode that the machine's CPU can leave for the hypervisor",
        on: &[BochsSvm],
        kind: Boots(Trial {
            vms: &[
                forms("forms", "case=forms without=virtual-8086,virtual-8086-pae"),
                forms("faults", "case=forms-faults without=virtual-8086,virtual-8086-pae"),
            ],
            want: BOTH_FINISHED,
            limit: 300,
            ..BOOT
        }),
    },
    Case {
        name: "emulated-forms-beyond-qemu",
        about: "the same where a segment ends in the middle of what they reach, and of MOVBE",
        on: &[BochsVmx],
        kind: Boots(Trial {
            vms: &[forms("limits", "case=forms-limits"), forms("movbe", "case=forms-movbe")],
            want: BOTH_FINISHED,
            limit: 300,
            ..BOOT
        }),
    },
    Case {
        name: "qemu-gets-forms-wrong",
        about: "QEMU checks no limits and takes MOVBE for another size; if not, let it run the case before",
        on: &[QemuTcg],
        kind: Boots(Trial {
            vms: &[forms("limits", "case=forms-limits"), forms("movbe", "case=forms-movbe")],
            want: &[Want::Shutdown(0, 1), Want::Shutdown(1, 1)],
            ..BOOT
        }),
    },
];
