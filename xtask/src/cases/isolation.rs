//! Whether one VM can hurt another.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hv_core::host::report::Cause;
use hv_core::host::stat::{Moment, Stat};
use hv_core::vm::Policy;
use pv_abi::exit::Reason;

use super::checks::small;
use super::list::NO_TRIPLE_FAULTS;
use super::{Case, Kind, Stage};
use crate::event::Event;
use crate::machine::{Hardware, Machine};
use crate::session::Session;
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
    "shim=native pattern=16 tag=7 workload=cpuid,context-switch,page-fault,port-io ops=60000";
/// What the other does, and where it has no triple fault.
const HAVOC: &str = "case=havoc shim=pv";
const RESETS: &str = "case=havoc shim=pv disaster=reset";
/// vCPUs of the other, and CPUs.
const VCPUS: u32 = 4;
const CPUS: u32 = 2;
/// Of its share, what the VM must have at least.
const LEAST: f64 = 0.8;
/// Exits of the measured VM that are its work alone, however often it loses the CPU.
const OWN: &[Reason] = &[Reason::Cpuid, Reason::MsrRead, Reason::NestedPageFault];

/// A run of the VM that is measured.
struct Run {
    stat: Box<Stat>,
    /// How often the other VM started, if there was one, and what it ended by.
    starts: usize,
    end: Option<Cause>,
}

fn holds(stage: &Stage<'_>) -> Result<()> {
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
        time_limit_ms: 4000,
        ..small(
            "havoc",
            "hostile",
            if NO_TRIPLE_FAULTS.contains(&stage.machine) { RESETS } else { HAVOC },
        )
    };
    let alone = run(stage, "alone", vec![measured()])?;
    let beside = run(stage, "beside", vec![measured(), havoc])?;
    for &reason in OWN {
        let [a, b] = [&alone, &beside].map(|run| run.stat.exits[reason as usize].count);
        ensure!(a == b, "{a} exits for {reason:?} alone, {b} beside the other VM");
    }
    ensure!(beside.end == Some(Cause::TimeLimit), "the other VM ended by {:?}", beside.end);
    ensure!(beside.starts > 3, "the other VM started only {} times", beside.starts);
    let share = f64::from(CPUS) / f64::from(VCPUS + 1);
    let progress = alone.stat.ticks as f64 / beside.stat.ticks as f64;
    ensure!(progress >= LEAST * share, "progress of {progress:.3} of a CPU, the share is {share}");
    Ok(())
}

/// Runs these VMs, of which the first is measured, until all have ended.
fn run(stage: &Stage<'_>, name: &str, vms: Vec<VmSpec>) -> Result<Run> {
    let plan = stage.lab.plan.with_vms(vms)?;
    let hardware = Hardware { cpus: CPUS, ..stage.hardware(&plan.vms) };
    let boot = plan.boot(hardware, &stage.folder.join(name), Duration::from_secs(300))?;
    let (mut stat, mut ends, mut faults) = (None, [None; 2], Vec::new());
    let mut consoles: [Vec<u8>; 2] = Default::default();
    Session::start(&boot)?.run(|event| match event {
        Event::Console { vm, bytes } => {
            if let Some(console) = consoles.get_mut(usize::from(vm)) {
                console.extend(bytes);
            }
        }
        Event::Stat { vm: 0, stat: new } if new.moment == Moment::End as u32 => stat = Some(new),
        Event::End { vm, cause, code, .. } => {
            // What the measured VM ended by is known before the other's end.
            if let Some(end) = ends.get_mut(usize::from(vm)) {
                *end = Some((Cause::from_number(cause), code));
            }
        }
        Event::Panic { text } | Event::Malformed(text) => faults.push(text),
        _ => {}
    })?;
    let [measured, other] = consoles.map(|text| String::from_utf8_lossy(&text).into_owned());
    let at = boot.log.display();
    ensure!(faults.is_empty(), "{name}: {faults:?}; log: {at}");
    ensure!(
        ends[0] == Some((Some(Cause::Shutdown), 0)) && measured.contains("@bench done rows=4"),
        "{name}: the measured VM ended by {:?}; log: {at}\n{measured}",
        ends[0]
    );
    Ok(Run {
        stat: stat.with_context(|| format!("{name}: no figures; log: {at}"))?,
        starts: other.matches("@hostile havoc on 4 CPUs").count(),
        end: ends[1].and_then(|(cause, _)| cause),
    })
}
