//! Cases of what things cost: exits, instructions, accesses of control structures, memory.

use super::EACH_VENDOR;
use crate::cases::{Case, Kind, checks};
use crate::machine::Machine;

use Kind::{Checks, Reads};
use Machine::{BochsSvm, BochsVmx, QemuTcg};

pub const CASES: &[Case] = &[
    Case {
        name: "compare-is-repeatable",
        about: "two comparisons give the same exits and ticks, to the digit",
        on: EACH_VENDOR,
        kind: Checks(checks::repeatable),
    },
    Case {
        name: "costs-are-within-limits",
        about: "no operation costs more exits, instructions, VMREADs or VMWRITEs than its limit",
        on: &[BochsVmx, BochsSvm, QemuTcg],
        kind: Checks(checks::limits),
    },
    Case {
        name: "vendors-exit-alike",
        about: "an operation exits equally often on VT-x and AMD-V, but for a vendor's own features",
        on: &[BochsSvm],
        kind: Checks(checks::vendors_exit_alike),
    },
    Case {
        name: "image-size",
        about: "the hypervisor takes at most 512 KiB of memory",
        on: &[],
        kind: Reads(checks::image_size),
    },
];
