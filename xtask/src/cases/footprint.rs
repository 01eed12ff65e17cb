//! What memory a VM takes beside its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hv_core::vm::policy::Policy;

use super::outcome::Seen;
use super::{Case, Kind, Stage};
use crate::machine::Machine;
use crate::vmfile::{Memory, PolicyName, Vcpus, VmSpec};

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "vms-take-little-memory",
    about: "with 1, 4 and 64 vCPUs a VM takes no more memory beside its own than it may",
    on: &[Machine::BochsVmx, Machine::BochsSvm],
    kind: Kind::Checks(footprint),
}];

/// What a VM may take in bytes, pages and heap, and what more for each vCPU.
const VM: u64 = 64 << 10;
const VCPU: u64 = 16 << 10;

/// Of VMs with so many vCPUs. Each says in the log what it took when it was made.
const VCPUS: [u32; 3] = [1, 4, 64];

fn footprint(stage: &Stage<'_>) -> Result<()> {
    let vm = |vcpus: u32| VmSpec {
        name: format!("with-{vcpus}"),
        command_line: "workload=cpuid".into(),
        memory: Memory(16 << 20),
        policy: PolicyName(Policy::HwAssist),
        vcpus: Vcpus(vcpus),
        ..VmSpec::guest("bench")
    };
    let plan = stage.lab.plan.with_vms(VCPUS.map(vm).into())?;
    let boot = plan.boot(stage.hardware(&plan.vms), &stage.folder, Duration::from_secs(120))?;
    let log = Seen::sound(&boot)?.log;
    let mut wrong = Vec::new();
    for (vm, vcpus) in VCPUS.into_iter().enumerate() {
        let [pages, heap] = taken(&log, vm)?;
        let may = VM + VCPU * u64::from(vcpus);
        if pages == 0 || pages + heap > may {
            wrong.push(format!(
                "with {vcpus} vCPUs a VM takes {pages} bytes of pages and {heap} of the heap, and may take {may}"
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What this VM took: bytes of pages, and of the heap.
fn taken(log: &str, vm: usize) -> Result<[u64; 2]> {
    let begin = format!("VM {vm} takes ");
    let said = log.lines().find_map(|line| Some(line.split_once(&begin)?.1));
    let said = said.with_context(|| format!("VM {vm} does not say what it takes:\n{log}"))?;
    let mut numbers = said.split(' ').filter_map(|word| word.parse().ok());
    let pages = numbers.next().context("no number of pages")?;
    Ok([pages, numbers.next().context("no number of the heap")?])
}
