//! What a message to another VM costs, as a case.

use anyhow::{Result, ensure};

use super::events::{OPS, SLACK, vm};
use super::list::EACH_VENDOR;
use super::{Case, Kind, Stage, outcome};
use crate::compare::GuestRow;
use crate::vmfile::{Cpus, VmSpec};

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "message-costs",
    about: "a question and its answer take no exit if both sides poll and two if both sleep; a stream takes one for eight messages at most",
    on: EACH_VENDOR,
    kind: Kind::Checks(costs),
}];

/// On how many CPUs the VMs run, what they do, and the most that both exit for [`OPS`] of it. A ring, of 32, takes three
/// exits where the receiver does not keep up: on one CPU it runs when the ring is full, or the sender's turn has lasted.
const ROWS: &[(u32, &str, u64)] = &[
    (1, "vm-message", 2 * OPS),
    (1, "vm-throughput", OPS / 8),
    (2, "vm-message", 2 * OPS),
    (2, "vm-message-poll", 0),
    (2, "vm-throughput", OPS / 8),
];

/// Two VMs on one CPU, and on one each, that do one workload after the other.
fn costs(stage: &Stage<'_>) -> Result<()> {
    for cpus in [1, 2] {
        let rows = || ROWS.iter().filter(|row| row.0 == cpus);
        let names: Vec<_> = rows().map(|row| row.1).collect();
        let on = |cpu: u32| VmSpec {
            cpus: Cpus(1 << (cpu % cpus)),
            may_share: true,
            ..vm(["asks", "answers"][cpu as usize], &names.join(","))
        };
        let asks = VmSpec { links: vec!["answers".to_owned()], ..on(0) };
        let both = outcome::run(stage, &format!("on-{cpus}"), cpus, [asks, on(1)])?;
        for (_, name, most) in rows() {
            check(name, [both[0].row(name)?, both[1].row(name)?], *most)
                .map_err(|error| error.context(format!("{cpus} CPUs")))?;
        }
    }
    Ok(())
}

fn check(name: &str, both: [GuestRow; 2], most: u64) -> Result<()> {
    let ops = both.each_ref().map(|row| row.ops);
    ensure!(ops == [OPS; 2], "{name}: {ops:?} operations done");
    let exits = [both[0].counted()?, both[1].counted()?];
    ensure!(
        exits.iter().sum::<u64>() <= most + SLACK,
        "{name}: {exits:?} exits, the limit is {most} and {SLACK}"
    );
    Ok(())
}
