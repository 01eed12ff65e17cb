//! The cases of vCPUs that wait for each other or keep each other waiting.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::list::{EACH_VENDOR, HOSTILE, PATTERN};
use super::trial::{BOOT, TestVm, Trial};
use super::watch::Want;
use super::{Case, Kind, Stage};
use crate::event::Event;
use crate::machine::{Hardware, Machine};
use crate::session::Session;

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

/// The cases.
pub const CASES: &[Case] = &[
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
        name: "an-if0-loop-beside-a-neighbour",
        about: "it takes four slices at most where those who ask wait for a CPU, too, and another VM goes on",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            cpus: 2,
            vms: &[
                deaf(3, "case=if0-loop bound-us=4000"),
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

/// The vCPU never leaves the loop, and with it the machine stands still.
fn forgets_interrupts(stage: &Stage<'_>) -> Result<()> {
    let plan = stage.lab.plan.with_vms(HAS_JUST_EXITED.specs())?;
    let hardware = Hardware { cpus: HAS_JUST_EXITED.cpus, ..stage.hardware(&plan.vms) };
    let boot = plan.boot(hardware, &stage.folder, Duration::from_secs(60))?;
    let (mut began, mut ended) = (false, false);
    Session::start(&boot)?.run(|event| match event {
        Event::Console { .. } => began = true,
        Event::End { .. } => ended = true,
        _ => {}
    })?;
    ensure!(began, "the guest did not begin; log: {}", boot.log.display());
    ensure!(!ended, "it goes on here: let Bochs run the cases of interrupts disabled on AMD-V");
    Ok(())
}
