//! Whether one VM can hurt another.

use anyhow::{Result, ensure};
use hv_core::host::report::Cause;
use hv_core::vm::Policy;
use pv_abi::exit::Reason;

use super::checks::small;
use super::list::NO_TRIPLE_FAULTS;
use super::{Case, Kind, Stage, outcome};
use crate::machine::Machine;
use crate::vmfile::{Memory, PolicyName, Slice, Vcpus, VmSpec};

use Kind::Checks;
use Machine::{BochsSvm, BochsVmx, QemuTcg};

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "havoc-beside-a-measurement",
    about: "a VM that does everything at random, and is reset by it, takes from another neither memory nor its share",
    on: &[BochsVmx, BochsSvm, QemuTcg],
    kind: Checks(holds),
}];

/// What the VM that is measured does. All of it takes the CPU.
const WORK: &str =
    "shim=native pattern=4 tag=7 workload=cpuid,context-switch,page-fault,port-io ops=20000";
/// What the other does, and where it has no triple fault.
const HAVOC: &str = "case=havoc shim=pv";
const RESETS: &str = "case=havoc shim=pv disaster=reset";
/// vCPUs of the other, and CPUs.
const VCPUS: u32 = 4;
const CPUS: u32 = 2;
/// Milliseconds that the other VM has, in which the measured one comes to its end: the TSC of Bochs goes at 50 MHz, that
/// of QEMU at 1 GHz.
const BOCHS_MS: u64 = 2500;
const QEMU_MS: u64 = 400;
/// Of its share, what the VM must have at least.
const LEAST: f64 = 0.8;
/// Exits of the measured VM that are its work alone, however often it loses the CPU.
const OWN: &[Reason] = &[Reason::Cpuid, Reason::MsrRead, Reason::NestedPageFault];

fn holds(stage: &Stage<'_>) -> Result<()> {
    let on_qemu = stage.machine == QemuTcg;
    let measured = || VmSpec {
        slice_us: Slice(200),
        memory: Memory(64 << 20),
        ..small("measured", "bench", WORK)
    };
    let havoc = VmSpec {
        vcpus: Vcpus(VCPUS),
        slice_us: Slice(200),
        policy: PolicyName(Policy::Pv),
        may_reset: true,
        may_share: true,
        time_limit_ms: if on_qemu { QEMU_MS } else { BOCHS_MS },
        ..small(
            "havoc",
            "hostile",
            if NO_TRIPLE_FAULTS.contains(&stage.machine) { RESETS } else { HAVOC },
        )
    };
    let [alone] = outcome::run(stage, "alone", CPUS, [measured()])?;
    let linked = VmSpec { links: vec!["havoc".to_owned()], may_share: true, ..measured() };
    let [beside, other] = outcome::run(stage, "beside", CPUS, [linked, havoc])?;
    let done = "@bench done rows=4";
    let (alone, beside) = (alone.finished(done)?.stat()?, beside.finished(done)?.stat()?);
    for &reason in OWN {
        let [a, b] = [alone, beside].map(|stat| stat.exits[reason as usize].count);
        ensure!(a == b, "{a} exits for {reason:?} alone, {b} beside the other VM");
    }
    let starts = other.console().matches("@hostile havoc on 4 CPUs").count();
    ensure!(
        starts > 3 && other.cause() == Some(Cause::TimeLimit),
        "the other VM started {starts} times and ended by {:?}",
        other.cause()
    );
    ensure!(
        other.stat()?.ticks > beside.ticks,
        "the other VM ended before the measured one: give it more time"
    );
    // QEMU's time is what all CPUs execute together: two that are busy go at half the speed.
    let cpus = if on_qemu { 1 } else { CPUS };
    let share = f64::from(cpus) / f64::from(VCPUS + 1);
    let progress = alone.ticks as f64 / beside.ticks as f64;
    ensure!(progress >= LEAST * share, "progress of {progress:.3} of a CPU, the share is {share}");
    Ok(())
}
