//! The cases of VMs that are linked, as data, and what an event costs.

use anyhow::{Result, ensure};
use hv_core::host::report::Cause;
use hv_core::vm::Policy;

use super::list::{EACH_VENDOR, HOSTILE, PATTERN};
use super::trial::{BOOT, TestVm, Trial};
use super::watch::Want;
use super::{Case, Kind, Stage, outcome};
use crate::vmfile::{CommandLine, Memory, Vcpus, VmSpec};

use Kind::{Boots, Checks};

/// A VM of the hostile guest with so many vCPUs that may reach others.
const fn hostile(
    name: &'static str,
    line: &'static str,
    vcpus: u32,
    links: &'static [&'static str],
) -> TestVm {
    TestVm { name, line, vcpus, links, memory: 16 << 20, slice_us: 1000, ..HOSTILE }
}

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "event-calls",
        about: "wrong calls of events are refused, and right ones of many vCPUs in two VMs harm nobody",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[
                hostile("left", "case=event-storm", 3, &["right"]),
                hostile("right", "case=event-storm", 3, &[]),
                hostile("calls", "case=event-calls", 2, &["other"]),
                hostile("other", "case=event-calls", 1, &[]),
                TestVm { line: "case=pattern tag=9 turns=3", ..PATTERN },
            ],
            want: &[
                Want::Console(0, "@hostile pass event-storm"),
                Want::Shutdown(0, 0),
                Want::Console(1, "@hostile pass event-storm"),
                Want::Shutdown(1, 0),
                Want::Console(2, "@hostile pass event-calls"),
                Want::Shutdown(2, 0),
                Want::Console(3, "@hostile pass event-calls"),
                Want::Shutdown(3, 0),
                Want::Shutdown(4, 0),
            ],
            limit: 240,
            ..BOOT
        }),
    },
    Case {
        name: "event-peer-resets",
        about: "a reset closes a VM's ports, its peers hear of it, and it can be reached again",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[
                hostile("stays", "case=event-outlives-resets", 1, &["resets"]),
                TestVm { may_reset: true, ..hostile("resets", "case=event-resets", 1, &[]) },
            ],
            want: &[
                Want::Console(0, "@hostile the other VM was reset"),
                Want::Console(0, "@hostile pass event-outlives-resets"),
                Want::Shutdown(0, 0),
                Want::Console(1, "@hostile pass event-resets"),
                Want::Shutdown(1, 0),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "event-peer-ends",
        about: "a VM that waits for another is ended when that has, and not before",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[
                hostile("waits", "case=event-alone", 1, &["ends"]),
                hostile("ends", "case=event-calls", 1, &[]),
            ],
            want: &[
                Want::Console(1, "@hostile pass event-calls"),
                Want::Shutdown(1, 0),
                Want::End(0, Cause::HaltedForEver, "nothing can raise"),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "link-of-one-side-is-refused",
        about: "a description with a link that the other VM does not have is refused by name",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            desc: |desc| desc.links = 0b10,
            want: &[Want::Refuses("a link to VM 1")],
            limit: 60,
            ..BOOT
        }),
    },
    Case {
        name: "event-costs",
        about: "a question to another VM and its answer take two exits, one of each; that to another vCPU takes one of the asker",
        on: EACH_VENDOR,
        kind: Checks(costs),
    },
];

/// What the ends of a section, the end of a slice and the first and last event may take in all of a run.
pub(super) const SLACK: u64 = 20;
pub(super) const OPS: u64 = 1000;

/// A VM with these workloads of the benchmark guest.
pub(super) fn vm(name: &str, workload: &str) -> VmSpec {
    VmSpec {
        name: name.to_owned(),
        command_line: CommandLine(format!("shim=pv workload={workload} ops={OPS}")),
        memory: Memory(16 << 20),
        policy: crate::vmfile::PolicyName(Policy::Pv),
        ..VmSpec::guest("bench")
    }
}

/// Two VMs, on one CPU and on two, ask and answer by `event.send` with flag 0, and so do two vCPUs of one VM, whose first one's
/// exits are counted.
fn costs(stage: &Stage<'_>) -> Result<()> {
    for cpus in [1, 2] {
        let asks = VmSpec { links: vec!["answers".to_owned()], ..vm("asks", "vm-message") };
        let vms = [asks, vm("answers", "vm-message")];
        let [asks, answers] = outcome::run(stage, &format!("vms-on-{cpus}"), cpus, vms)?;
        let [asks, answers] = [asks.row("vm-message")?, answers.row("vm-message")?];
        ensure!(asks.ops == OPS && answers.ops == OPS, "{} and {} done", asks.ops, answers.ops);
        let [asks, answers] = [asks.counted()?, answers.counted()?];
        ensure!(
            (2 * OPS..=2 * OPS + SLACK).contains(&(asks + answers)),
            "{cpus} CPUs: {asks} exits of the one that asks and {answers} of the other"
        );
    }
    let two = VmSpec { vcpus: Vcpus(2), ..vm("two", "event-ping-pong") };
    let [two] = outcome::run(stage, "vcpus", 1, [two])?;
    let row = two.row("event-ping-pong")?;
    let (ops, exits) = (row.ops, row.counted()?);
    ensure!(
        ops == OPS && (OPS..=OPS + SLACK).contains(&exits),
        "{exits} exits of {ops} operations"
    );
    Ok(())
}
