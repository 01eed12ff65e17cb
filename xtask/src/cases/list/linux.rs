//! Cases of Debian's kernel.

use super::EACH_VENDOR;
use crate::cases::{Case, Kind, linux};
use crate::machine::Machine;

use Kind::Checks;
use Machine::QemuTcg;

pub const CASES: &[Case] = &[
    Case {
        name: "linux-boots-to-a-shell",
        about: "Debian's kernel as it is boots to a shell, which takes a command and powers off",
        on: EACH_VENDOR,
        kind: Checks(linux::boots_to_a_shell),
    },
    Case {
        name: "linux-keeps-time",
        about: "the kernel's clock goes like the battery-backed clock of a PC",
        on: EACH_VENDOR,
        kind: Checks(linux::keeps_time),
    },
    Case {
        name: "linux-boots-on-a-pc",
        about: "Debian's kernel boots on the devices of a PC, and complains of nothing that QEMU's PC is without",
        on: EACH_VENDOR,
        kind: Checks(linux::boots_on_a_pc),
    },
    Case {
        name: "linux-works-bare",
        about: "Debian's kernel and our first process do all workloads without the hypervisor",
        on: &[QemuTcg],
        kind: Checks(linux::works_bare),
    },
];
