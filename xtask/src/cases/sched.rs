//! The cases of vCPUs that wait for each other or keep each other waiting.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hv_core::vm::policy::Policy;

use super::list::{EACH_VENDOR, HOSTILE, PATTERN};
use super::outcome::Seen;
use super::trial::{BOOT, TestVm, Trial};
use super::watch::Want;
use super::{Case, Kind, Stage, outcome};
use crate::compare;
use crate::machine::{Hardware, Machine};
use crate::vmfile::{Slice, Vcpus, VmSpec};

use Kind::{Boots, Checks};

/// Slices in microseconds.
const SLICE_US: u32 = 1000;

/// A VM of which the last vCPU takes no interrupts. How long a flush may take is on its command line.
const fn deaf(vcpus: u32, line: &'static str) -> TestVm {
    TestVm { name: "deaf", line, vcpus, memory: 16 << 20, slice_us: SLICE_US, ..HOSTILE }
}

/// Exits at each of whose instructions something is asked of the vCPU, which then loops.
const HAS_JUST_EXITED: Trial = Trial {
    cpus: 2,
    vms: &[deaf(2, "case=if0-exits bound-us=1300")],
    want: &[Want::Console(0, "@hostile pass if0-exits"), Want::Shutdown(0, 0)],
    ..BOOT
};

/// A VM on two CPUs whose first vCPU interrupts itself.
const COMES_ONCE: Trial = Trial {
    cpus: 2,
    vms: &[TestVm {
        policy: Policy::Pv,
        vcpus: 3,
        memory: 16 << 20,
        slice_us: SLICE_US,
        line: "shim=pv case=interrupts-once",
        ..HOSTILE
    }],
    ..BOOT
};

/// Those whose CPU has PAUSE-loop exiting.
const PAUSE_LOOPS: &[Machine] = &[Machine::BochsVmx, Machine::BochsSvm];

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "a-lock-that-many-want",
        about: "the shim's lock is taken three times as often as a fair one under hw-assist, and as often as any",
        on: PAUSE_LOOPS,
        kind: Checks(locks),
    },
    Case {
        name: "an-if0-loop-flushes-within-a-slice",
        about: "a vCPU that loops with interrupts disabled does what another asks of it when its slice ends",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[deaf(2, "case=if0-loop bound-us=1300")],
            want: &[Want::Console(0, "@hostile pass if0-loop"), Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "an-if0-loop-flushes-when-it-has-just-exited",
        about: "the same where it is asked at every instruction of an exit, and exits no more",
        on: EACH_VENDOR,
        kind: Boots(HAS_JUST_EXITED),
    },
    Case {
        name: "bochs-forgets-interrupts-of-an-if0-loop",
        about: "Bochs' AMD-V loses the host's interrupt in the case before; if not, let it run those of such loops",
        on: &[Machine::BochsSvm],
        kind: Checks(forgets_interrupts),
    },
    Case {
        name: "an-interrupt-comes-once",
        about: "one whose end is signalled by the flag, which is no exit, comes once while vCPUs take turns",
        on: PAUSE_LOOPS,
        kind: Boots(Trial {
            want: &[Want::Console(0, "@hostile pass interrupts-once"), Want::Shutdown(0, 0)],
            ..COMES_ONCE
        }),
    },
    Case {
        name: "qemu-delivers-an-interrupt-twice",
        about: "QEMU delivers an injected interrupt again; if not, let it run the case before",
        on: &[Machine::QemuTcg],
        kind: Boots(Trial {
            want: &[
                Want::Console(0, "@hostile fail interrupts-once: an interrupt did not come once"),
                Want::Shutdown(0, 1),
            ],
            ..COMES_ONCE
        }),
    },
    Case {
        name: "an-if0-loop-beside-a-neighbour",
        about: "where those who ask wait for a CPU, too, it ends when the scheduler has given all of them a turn, and another VM goes on",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[
                // Who waits, waits for two slices at its share, half a CPU, and for five rounds of three slices at most
                // until CPUs that are apart have met.
                deaf(3, "case=if0-loop bound-us=19000"),
                TestVm { line: "case=pattern tag=9 turns=5", slice_us: SLICE_US, ..PATTERN },
            ],
            want: &[
                Want::Console(0, "@hostile pass if0-loop"),
                Want::Shutdown(0, 0),
                Want::Shutdown(1, 0),
            ],
            ..BOOT
        }),
    },
];

/// Eight vCPUs on two CPUs want a lock all the time, but for a gap twice as long as they hold it: the benchmark guest's
/// locks under `hw-assist`, where loops of PAUSEs exit, and the shim's under `pv`.
fn locks(stage: &Stage<'_>) -> Result<()> {
    let hw = taken(stage, Policy::HwAssist, &["lock-spin", "lock-ticket"])?;
    let pv = taken(stage, Policy::Pv, &["lock-pv"])?;
    let (&[spin, ticket], &[shims]) = (&hw[..], &pv[..]) else { bail!("rows: {hw:?}, {pv:?}") };
    ensure!(
        shims >= 3.0 * ticket && shims >= spin,
        "in a million ticks: a spin lock {spin:.0} times, a ticket lock {ticket:.0}, the shim's {shims:.0}"
    );
    Ok(())
}

/// How often each lock is taken in a million ticks. A slice may end between a mark and the clock, so this is the
/// guest's word alone.
fn taken(stage: &Stage<'_>, policy: Policy, locks: &[&str]) -> Result<Vec<f64>> {
    let locks: Vec<String> = locks.iter().map(ToString::to_string).collect();
    let vm =
        VmSpec { vcpus: Vcpus(8), slice_us: Slice(SLICE_US), ..compare::spec(policy, &locks, &[]) };
    let [vm] = outcome::run(stage, policy.name(), 2, [vm])?;
    Ok(vm.rows()?.iter().map(|row| row.ops as f64 / row.ticks as f64 * 1e6).collect())
}

/// The vCPU never leaves the loop, and with it the machine stands still.
fn forgets_interrupts(stage: &Stage<'_>) -> Result<()> {
    let plan = stage.lab.plan.with_vms(HAS_JUST_EXITED.specs())?;
    let hardware = Hardware { cpus: HAS_JUST_EXITED.cpus, ..stage.hardware(&plan.vms) };
    let boot = plan.boot(hardware, &stage.folder, Duration::from_secs(60))?;
    let vm = Seen::sound(&boot)?.take(0);
    ensure!(!vm.console().is_empty(), "the guest did not begin; log: {}", boot.log.display());
    ensure!(
        vm.end.is_none(),
        "it goes on here: let Bochs run the cases of interrupts disabled on AMD-V"
    );
    Ok(())
}
