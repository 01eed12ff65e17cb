//! The cases of memory that VMs share, as data.

use super::list::{EVERYWHERE, HOSTILE};
use super::trial::{BOOT, TestVm, Trial};
use super::watch::Want;
use super::{Case, Kind};

use Kind::Boots;

/// A VM of the hostile guest that may share with another one.
const fn sharing(
    name: &'static str,
    line: &'static str,
    links: &'static [&'static str],
    vcpus: u32,
    cpus: u64,
) -> TestVm {
    let memory = 16 << 20;
    TestVm { name, line, vcpus, cpus, memory, slice_us: 1000, links, may_share: true, ..HOSTILE }
}

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "share-revoke",
        about: "no write of a VM lands in a page after another VM has taken it back, whoever revokes",
        on: EVERYWHERE,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[
                sharing("grantor", "case=share-grantor peer=1", &["grantee"], 2, 0b11),
                sharing("grantee", "case=share-grantee peer=0", &[], 2, 0b11),
            ],
            want: &[
                Want::Console(0, "@hostile pass share-grantor"),
                Want::Shutdown(0, 0),
                Want::Console(1, "@hostile pass share-grantee"),
                Want::Shutdown(1, 0),
            ],
            limit: 240,
            ..BOOT
        }),
    },
    Case {
        name: "share-reset",
        about: "a VM that is reset finds its memory zero, though another VM writes to it until then",
        on: EVERYWHERE,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[
                TestVm {
                    may_reset: true,
                    ..sharing("resets", "case=share-reset peer=1", &["survivor"], 2, 0b01)
                },
                sharing("survivor", "case=share-survivor peer=0", &[], 2, 0b10),
            ],
            want: &[
                Want::Console(0, "@hostile pass share-reset"),
                Want::Shutdown(0, 0),
                Want::Console(1, "@hostile pass share-survivor"),
                Want::Shutdown(1, 0),
            ],
            limit: 240,
            ..BOOT
        }),
    },
    Case {
        name: "share-calls",
        about: "wrong calls are refused in VMs that may share, with and without somebody to share with",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[
                sharing("linked", "case=share-calls", &["other"], 1, 0),
                sharing("other", "case=share-calls", &[], 1, 0),
                sharing("alone", "case=share-calls", &[], 1, 0),
            ],
            want: &[
                Want::Console(0, "@hostile pass share-calls"),
                Want::Shutdown(0, 0),
                Want::Console(1, "@hostile pass share-calls"),
                Want::Shutdown(1, 0),
                Want::Console(2, "@hostile pass share-calls"),
                Want::Shutdown(2, 0),
            ],
            ..BOOT
        }),
    },
];
