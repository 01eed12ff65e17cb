//! What it costs to switch between vCPUs, and to wake a CPU up.

use anyhow::{Context, Result, ensure};
use hv_core::vm::policy::Policy;

use super::{Case, Kind, Stage, outcome};
use crate::machine::Machine;
use crate::vmfile::{Memory, PolicyName, Slice, Vcpus, VmSpec};

use Kind::Checks;
use Machine::{BochsSvm, BochsVmx};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "switch-between-vms",
        about: "from the call by which a vCPU yields to one of another VM it is no more instructions than so many",
        on: &[BochsVmx, BochsSvm],
        kind: Checks(between_vms),
    },
    Case {
        name: "switch-between-vcpus",
        // Not with Bochs' AMD-V, where the interrupt that ends a slice is lost on a guest that holds interrupts off, as
        // one does that waits for another CPU to start: `bochs-forgets-interrupts-of-an-if0-loop`.
        about: "the same between two vCPUs of one VM",
        on: &[BochsVmx],
        kind: Checks(between_vcpus),
    },
    Case {
        name: "wake-of-an-idle-cpu",
        about: "from a deadline for which the CPU is halted to the guest it is no more instructions than so many",
        on: &[BochsVmx, BochsSvm],
        kind: Checks(wake),
    },
    Case {
        name: "rouse-of-an-idle-cpu",
        about: "the same from an interrupt by another CPU, with what that does for it",
        on: &[BochsVmx, BochsSvm],
        kind: Checks(rouse),
    },
];

/// From one vCPU's call to another's next instruction. One tick is one instruction.
const TURN: f64 = 720.0;
/// The same, less a call that does nothing: one vCPU saved, and another loaded.
const SWITCH: f64 = 600.0;
/// From the wake of a halted CPU to the guest; with a second CPU too, which is to see that this one is idle.
const WAKE: f64 = 500.0;
/// The same with Bochs' AMD-V, where interrupts are delivered by software.
const WAKE_BY_SOFTWARE: f64 = 680.0;
/// The same, with what the CPU that interrupts it does until then.
const ROUSE: f64 = 2350.0;

/// A VM that takes turns.
fn vm(name: &str, line: &str, vcpus: u32) -> VmSpec {
    VmSpec {
        name: name.to_owned(),
        command_line: line.into(),
        memory: Memory(16 << 20),
        policy: PolicyName(Policy::Pv),
        vcpus: Vcpus(vcpus),
        slice_us: Slice(1000),
        ..VmSpec::guest("bench")
    }
}

/// Two VMs on one CPU; the second goes on for longer than the first.
fn between_vms(stage: &Stage<'_>) -> Result<()> {
    let vms = [
        vm("one", "shim=pv workload=turn-yield", 1),
        vm("other", "shim=pv workload=turn-yield ops=20000", 1),
    ];
    switches(stage, vms)
}

fn between_vcpus(stage: &Stage<'_>) -> Result<()> {
    switches(stage, [vm("both", "shim=pv workload=turn-yield", 2)])
}

/// What turns there and back cost, on one CPU.
fn switches<const N: usize>(stage: &Stage<'_>, vms: [VmSpec; N]) -> Result<()> {
    let turn = ticks_per_op(stage, "turns", vms, 1)? / 2.0;
    let call = vm("calls", "shim=pv workload=null-hypercall", 1);
    let call = ticks_per_op(stage, "calls", [call], 1)?;
    within("a turn", turn, TURN)?;
    within("a switch to another vCPU", turn - call, SWITCH)
}

/// A second vCPU waits to be started, and sleeps beside the first.
fn wake(stage: &Stage<'_>) -> Result<()> {
    let most = if stage.machine == BochsSvm { WAKE_BY_SOFTWARE } else { WAKE };
    for (name, cpus) in [("one", 1), ("two", 2)] {
        // Once a slice it lies down, to be charged.
        let slice_us = Slice::default();
        let wakes = VmSpec { slice_us, ..vm("wakes", "shim=pv workload=turn-wake", 2) };
        let late = ticks_per_op(stage, name, [wakes], cpus)?;
        within(&format!("a wake by the timer, CPUs: {cpus},"), late, most)?;
    }
    Ok(())
}

fn rouse(stage: &Stage<'_>) -> Result<()> {
    let late = ticks_per_op(stage, "", [vm("rouses", "shim=pv workload=turn-rouse", 2)], 2)?;
    within("a wake by another CPU", late, ROUSE)
}

fn within(what: &str, instructions: f64, most: f64) -> Result<()> {
    ensure!(instructions > 0.0, "{what} takes {instructions} instructions");
    ensure!(instructions <= most, "{what} takes {instructions} instructions, the limit is {most}");
    Ok(())
}

/// What the only row of the first VM says of an operation.
fn ticks_per_op<const N: usize>(
    stage: &Stage<'_>,
    name: &str,
    vms: [VmSpec; N],
    cpus: u32,
) -> Result<f64> {
    let outcomes = outcome::run(stage, name, cpus, vms)?;
    let rows = outcomes.first().context("there is no VM")?.rows()?;
    Ok(rows.first().context("the first VM has measured nothing")?.ticks_per_op())
}
