//! What every vCPU of a VM saves by its own area.

use anyhow::{Result, ensure};
use hv_core::vm::Policy;

use super::checks::small;
use super::list::EVERYWHERE;
use super::{Case, Kind, Stage, outcome};
use crate::machine::Machine;
use crate::vmfile::{FeatureName, PolicyName, Vcpus, VmSpec, features};

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "every-vcpu-uses-its-area",
    about: "each of four vCPUs reads the clock, moves deadlines, halts and ends interrupts with no more exits than the first, again when it was started anew, and the clock does not go back between them",
    on: EVERYWHERE,
    kind: Kind::Checks(each_its_own),
}];

const VCPUS: u32 = 4;
/// Times that a vCPU starts.
const LIVES: u32 = 2;
/// Times of each deed.
const TIMES: u64 = 100;
/// What the ends of time slices may take in all the times of a deed.
const SLACK: u64 = 60;

/// Interrupts that QEMU delivers twice in all the times of a deed, as vCPUs take turns: the second time the flag has been
/// used (`qemu-delivers-an-interrupt-twice`).
const TWICE: u64 = 3;

/// What the guest does, and how many calls each time takes, writes to registers of the local APIC without APIC
/// virtualization, and further exits: the timer's, and that for an interrupt that waits.
const DEEDS: &[(&str, u64, u64, u64)] = &[
    ("clock", 0, 0, 0),
    ("later", 0, 0, 0),
    ("tick", 1, 0, 1),
    ("self-ipi", 0, 1, 0),
    ("halt", 1, 0, 0),
];

fn each_its_own(stage: &Stage<'_>) -> Result<()> {
    // Emulated by QEMU, an interrupt that is ended by the flag often comes twice where there are several CPUs.
    let (cpus, twice) = if stage.machine == Machine::QemuTcg { (1, TWICE) } else { (VCPUS, 0) };
    let vm = VmSpec {
        vcpus: Vcpus(VCPUS),
        policy: PolicyName(Policy::Pv),
        // A CPU that ends interrupts by itself has no use for the flag.
        without: vec![FeatureName(features("apicv")?)],
        ..small("vm", "hostile", "shim=pv case=areas")
    };
    let [vm] = outcome::run(stage, "vm", cpus, [vm])?;
    let console = vm.finished("@hostile pass areas")?.console();
    for life in 1..=LIVES {
        for vcpu in 0..VCPUS {
            for &(name, calls, registers, further) in DEEDS {
                let begin = format!("@hostile area life={life} cpu={vcpu} {name} ");
                let row = console.lines().find_map(|line| line.trim().strip_prefix(&begin));
                let most = [calls, registers, calls + registers + further].map(|n| n * TIMES);
                check(row.unwrap_or_default(), most, twice).map_err(|e| e.context(begin))?;
            }
        }
    }
    Ok(())
}

/// The row of a deed has the exits that it may have.
fn check(row: &str, [calls, registers, all]: [u64; 3], twice: u64) -> Result<()> {
    let mut numbers = row.split(' ').filter_map(|word| word.split_once('=')?.1.parse().ok());
    let [made, written, exits]: [u64; 3] =
        std::array::from_fn(|_| numbers.next().unwrap_or(u64::MAX));
    ensure!(
        made <= calls && written <= registers + twice && exits <= all + SLACK,
        "{row:?}: the limits are {calls}, {registers} with {twice}, and {all} with {SLACK}"
    );
    Ok(())
}
