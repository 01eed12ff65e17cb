//! Cases of what the hypervisor refuses, and of how it ends when it cannot go on.

use super::{EACH_VENDOR, SHORT_LIMIT};
use crate::cases::trial::{BOOT, Trial};
use crate::cases::watch::Want;
use crate::cases::{Case, Kind, checks};
use crate::machine::Machine;

use Kind::{Boots, Checks};
use Machine::{BochsVmx, QemuTcg};

pub const CASES: &[Case] = &[
    Case {
        name: "refuses-no-extension-on-intel",
        about: "a CPU of Intel's without VMX is refused, and what is missing is named",
        on: &[BochsVmx],
        kind: Boots(Trial {
            cpu_model: Some("p4_prescott_celeron_336"),
            want: &[Want::Refuses("neither VMX nor SVM")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "refuses-no-extension-on-amd",
        about: "a CPU of AMD's without SVM is refused, and what is missing is named",
        on: &[QemuTcg],
        kind: Boots(Trial {
            cpu_model: Some("max,-svm"),
            want: &[Want::Log("Paravane"), Want::Refuses("neither VMX nor SVM")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "refuses-no-ept",
        about: "a CPU with VMX and without EPT is refused, and EPT is named",
        on: &[BochsVmx],
        kind: Boots(Trial {
            cpu_model: Some("bx_generic"),
            want: &[Want::Refuses("EPT")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "refuses-no-nested-paging",
        about: "a CPU with SVM and without nested paging is refused, and nested paging is named",
        on: &[QemuTcg],
        kind: Boots(Trial {
            cpu_model: Some("max,-npt"),
            want: &[Want::Refuses("nested paging")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "a-crash-is-reported",
        about: "an exception in the hypervisor is reported with registers and backtrace",
        on: EACH_VENDOR,
        kind: Checks(checks::crash_is_reported),
    },
    Case {
        name: "bundle-missing-is-refused",
        about: "a boot without a module is refused, and the module is named",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            bundle: |_| None,
            want: &[Want::Refuses("no boot module")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "bundle-truncated-is-refused",
        about: "a module that is cut off is refused",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            bundle: |mut bytes| {
                bytes.truncate(bytes.len() / 2);
                Some(bytes)
            },
            want: &[Want::Refuses("cut off")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "bundle-damaged-is-refused",
        about: "a module with one flipped bit is refused",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            bundle: |mut bytes| {
                bytes.last_mut().into_iter().for_each(|byte| *byte ^= 1);
                Some(bytes)
            },
            want: &[Want::Refuses("checksum")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "description-malformed-is-refused",
        about: "a VM description that this version cannot run is refused by name",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            desc: |desc| desc.vcpus = 65,
            want: &[Want::Refuses("vCPUs")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
];
