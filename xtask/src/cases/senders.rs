//! What it costs to reach many vCPUs at once.

use anyhow::{Result, ensure};
use hv_core::vm::Policy;

use super::checks::small;
use super::list::EACH_VENDOR;
use super::{Case, Kind, Stage, outcome};
use crate::vmfile::{PolicyName, Vcpus, VmSpec};

use Kind::Checks;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "senders-exit-once",
        about: "with the shim a broadcast or a flush costs its sender one exit, for one other vCPU and for seven",
        on: EACH_VENDOR,
        kind: Checks(exit_once),
    },
    Case {
        name: "those-without-a-cpu-are-let-be",
        about: "a flush of a vCPU that waits for a CPU costs that vCPU no exit",
        on: EACH_VENDOR,
        kind: Checks(let_be),
    },
];

/// Operations.
const OPS: u64 = 50;
/// What may come beside the one exit, per operation: ends of slices.
const BESIDE: f64 = 0.2;

fn vm(vcpus: u32, line: &str) -> VmSpec {
    VmSpec { vcpus: Vcpus(vcpus), policy: PolicyName(Policy::Pv), ..small("vm", "bench", line) }
}

fn exit_once(stage: &Stage<'_>) -> Result<()> {
    let workloads = ["ipi-broadcast", "tlb-shootdown-1", "tlb-shootdown-64"];
    let line = format!("shim=pv ops={OPS} workload={}", workloads.join(","));
    for n in [2, 8] {
        // Each has a CPU for itself, so that nobody waits for one.
        let [vm] = outcome::run(stage, &n.to_string(), n, [vm(n, &line)])?;
        vm.finished("@bench done rows=3")?;
        for name in workloads {
            let row = vm.row(name)?;
            let per_op = row.counted()? as f64 / row.ops as f64;
            ensure!(
                (1.0..1.0 + BESIDE).contains(&per_op),
                "{per_op} exits of the sender for {name} with {n} vCPUs"
            );
        }
    }
    Ok(())
}

fn let_be(stage: &Stage<'_>) -> Result<()> {
    const FEW: u64 = 2_000;
    const MANY: u64 = 10_000;
    let run = |ops: u64| -> Result<u64> {
        let line = format!("shim=pv ops={ops} workload=tlb-shootdown-1");
        let [vm] = outcome::run(stage, &ops.to_string(), 1, [vm(4, &line)])?;
        Ok(vm.finished("@bench done rows=1")?.stat()?.total())
    };
    // Four vCPUs have one CPU, and those that wait for it look for work whenever they have it.
    let exits = run(MANY)?.saturating_sub(run(FEW)?) as f64 / (MANY - FEW) as f64;
    ensure!(
        (1.0..1.0 + BESIDE).contains(&exits),
        "{exits} exits of the whole VM for a flush of three vCPUs without a CPU"
    );
    Ok(())
}
