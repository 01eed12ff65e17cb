//! The cases of memory that VMs share, as data.

use hv_core::host::report::Cause;

use super::list::{EACH_VENDOR, EVERYWHERE, HOSTILE, PATTERN};
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

/// One takes back what the other uses.
const fn revoke(vcpus: u32, cpus: [u64; 2]) -> [TestVm; 2] {
    [
        sharing("grantor", "case=share-grantor peer=1", &["grantee"], vcpus, cpus[0]),
        sharing("grantee", "case=share-grantee peer=0", &[], vcpus, cpus[1]),
    ]
}

/// One is reset while the other uses what it has of it.
const fn reset() -> [TestVm; 2] {
    let resets = sharing("resets", "case=share-reset peer=1", &["survivor"], 1, 0b01);
    let survivor = sharing("survivor", "case=share-survivor peer=0", &[], 1, 0b10);
    [TestVm { may_reset: true, ..resets }, survivor]
}

/// The second leaves guest mode so seldom by itself that a page it still reached would be seen to change.
const fn slow([first, second]: [TestVm; 2]) -> [TestVm; 2] {
    [first, TestVm { slice_us: 400_000, ..second }]
}

const REVOKE: &[TestVm] = &revoke(2, [0, 0]);
/// Several vCPUs on a CPU make no progress under Bochs' AMD-V, whose guests do not leave for an interrupt while
/// they have them disabled.
const REVOKE_ALONE: &[TestVm] = &slow(revoke(1, [0b01, 0b10]));
const RESET: &[TestVm] = &slow(reset());

/// VMs that end in several ways while the first takes back what they have of it; one is reset before.
const TENANTS: &[TestVm] = &[
    sharing("owner", "case=share-owner", &["resets", "shuts-down", "faults"], 1, 0b001),
    TestVm { may_reset: true, ..tenant("resets", "case=share-tenant way=reset") },
    tenant("shuts-down", "case=share-tenant way=shutdown"),
    tenant("faults", "case=share-tenant way=triple-fault"),
];

/// Its vCPUs have a CPU each, so that one uses a page while the other ends the VM.
const fn tenant(name: &'static str, line: &'static str) -> TestVm {
    sharing(name, line, &[], 2, 0b110)
}

/// Two VMs that are reset at the same time, again and again, and end at last, a third where they meet, and one that
/// has nothing to do with them, on these CPUs.
const fn meeting(vcpus: u32, [left, right, keeper, pattern]: [u64; 4]) -> [TestVm; 4] {
    let (one, other) = ("case=share-both keeper=2 peer=1", "case=share-both keeper=2 peer=0");
    [
        TestVm { may_reset: true, ..sharing("left", one, &["right"], vcpus, left) },
        TestVm { may_reset: true, ..sharing("right", other, &[], vcpus, right) },
        sharing("keeper", "case=share-keeper", &["left", "right"], 1, keeper),
        TestVm {
            line: "case=pattern tag=9 turns=50",
            memory: 10 << 20,
            slice_us: 1000,
            cpus: pattern,
            ..PATTERN
        },
    ]
}

const MEETING: &[TestVm] = &meeting(2, [0; 4]);
const MEETING_ALONE: &[TestVm] = &meeting(1, [0b0001, 0b0010, 0b0100, 0b1000]);

const REVOKED: &[Want] = &[
    Want::Console(0, "@hostile pass share-grantor"),
    Want::Shutdown(0, 0),
    Want::Console(1, "@hostile pass share-grantee"),
    Want::Shutdown(1, 0),
];
const MET: &[Want] = &[
    Want::Console(0, "@hostile pass share-both"),
    Want::Shutdown(0, 0),
    Want::Console(1, "@hostile pass share-both"),
    Want::Shutdown(1, 0),
    Want::Console(2, "@hostile pass share-keeper"),
    Want::Shutdown(2, 0),
    Want::Shutdown(3, 0),
];
const IS_RESET: &[Want] = &[
    Want::Console(0, "@hostile share-reset start 4"),
    Want::Console(0, "@hostile pass share-reset"),
    Want::Shutdown(0, 0),
    Want::Console(1, "@hostile pass share-survivor"),
    Want::Shutdown(1, 0),
];

/// Two VMs on two CPUs.
const fn pair(vms: &'static [TestVm], want: &'static [Want]) -> Kind {
    Boots(Trial { cpus: 2, vms, want, limit: 240, ..BOOT })
}

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "share-revoke",
        about: "no write of a VM lands in a page after another VM has taken it back, whoever revokes",
        on: EACH_VENDOR,
        kind: pair(REVOKE, REVOKED),
    },
    Case {
        name: "share-revoke-alone",
        about: "the same with one vCPU each, which leaves guest mode for nothing else",
        on: EVERYWHERE,
        kind: pair(REVOKE_ALONE, REVOKED),
    },
    Case {
        name: "share-reset",
        about: "a VM that is reset finds its memory zero, though another VM writes to it until then",
        on: EVERYWHERE,
        kind: pair(RESET, IS_RESET),
    },
    Case {
        name: "share-tenant-ends",
        about: "a page can be taken back from a VM that is reset or ends meanwhile, and the VM does not reach it after that",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            cpus: 3,
            vms: TENANTS,
            want: &[
                Want::Console(0, "@hostile pass share-owner"),
                Want::Shutdown(0, 0),
                Want::Console(1, "@hostile pass share-tenant"),
                Want::Shutdown(1, 0),
                Want::Console(2, "@hostile pass share-tenant"),
                Want::Shutdown(2, 0),
                Want::End(3, Cause::TripleFault, ""),
            ],
            limit: 240,
            ..BOOT
        }),
    },
    Case {
        name: "share-both-end",
        about: "two VMs that offer, map and revoke each other's pages are reset at the same time, and end so, and all goes on",
        on: EACH_VENDOR,
        kind: pair(MEETING, MET),
    },
    Case {
        name: "share-both-end-alone",
        about: "the same with one vCPU each, on CPUs of their own, which are reset at the same moment",
        on: EVERYWHERE,
        kind: Boots(Trial { cpus: 4, vms: MEETING_ALONE, want: MET, limit: 240, ..BOOT }),
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
