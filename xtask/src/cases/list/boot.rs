//! Cases of how the hypervisor is loaded, and guests are.

use super::{EACH_VENDOR, EVERYWHERE, FINISHED, SHORT, SHORT_PV};
use crate::cases::trial::{BARE, BOOT, Trial, VM};
use crate::cases::{Case, Kind, protocols};
use crate::machine::{BootPath, Machine};

use Kind::{Boots, Checks};
use Machine::QemuTcg;

pub const CASES: &[Case] = &[
    Case {
        name: "bench-runs-bare",
        about: "the benchmark guest runs without a hypervisor, all workloads",
        on: &[QemuTcg],
        kind: Boots(Trial { vms: &[VM], want: FINISHED, ..BARE }),
    },
    Case {
        name: "boots-by-iso-bios",
        about: "GRUB loads the hypervisor from the ISO on BIOS, and a guest runs",
        on: EVERYWHERE,
        kind: Boots(Trial {
            boot: Some(BootPath::Iso),
            real_time: true,
            vms: &[SHORT],
            want: FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "boots-by-iso-uefi",
        about: "GRUB loads the hypervisor from the ISO on UEFI, which leaves VMX unlocked",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            boot: Some(BootPath::Uefi),
            real_time: true,
            vms: &[SHORT],
            want: FINISHED,
            limit: 180,
            ..BOOT
        }),
    },
    Case {
        name: "boots-by-pvh",
        about: "QEMU loads the ELF file itself, and a guest runs",
        on: &[QemuTcg, Machine::QemuKvm],
        kind: Boots(Trial {
            boot: Some(BootPath::Pvh),
            real_time: true,
            vms: &[SHORT_PV],
            want: FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "boots-linux32",
        about: "a bzImage is entered by the 32-bit boot protocol, with all that it promises",
        on: EACH_VENDOR,
        kind: Checks(protocols::linux_32),
    },
    Case {
        name: "boots-linux64",
        about: "a bzImage is entered by the 64-bit boot protocol, with all that it promises",
        on: EACH_VENDOR,
        kind: Checks(protocols::linux_64),
    },
    Case {
        name: "boots-multiboot",
        about: "ELF32, ELF64 and other files are started as the Multiboot Specification says",
        on: EACH_VENDOR,
        kind: Checks(protocols::multiboot),
    },
    Case {
        name: "boots-multiboot2",
        about: "ELF32 and ELF64 files are started as the Multiboot2 Specification says",
        on: EACH_VENDOR,
        kind: Checks(protocols::multiboot2),
    },
    Case {
        name: "boots-a-pvh-guest",
        about: "an ELF file with a PVH note is started as Xen's document says",
        on: EACH_VENDOR,
        kind: Checks(protocols::pvh),
    },
    Case {
        name: "boots-rom",
        about: "a ROM starts at the reset vector, in the state after reset",
        on: EACH_VENDOR,
        kind: Checks(protocols::rom),
    },
    Case {
        name: "boots-with-ram-above-4-gib",
        about: "the hypervisor boots on a machine with RAM above 4 GiB",
        on: &[QemuTcg],
        kind: Boots(Trial { memory_mib: Some(6 << 10), vms: &[SHORT], want: FINISHED, ..BOOT }),
    },
];
