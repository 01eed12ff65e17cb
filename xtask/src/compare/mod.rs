//! `compare`: the benchmark guest under each policy and on each machine, side by side.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;
use pv_abi::exit::Reason;

mod boots;
mod codes;
mod html;
mod join;
mod json;
mod linux;
mod measure;
mod progress;
mod rows;
mod table;

pub use boots::{measure_all, spec};
pub use join::Row;
pub use progress::Progress;
pub use rows::{GuestLine, GuestRow, parse};

use crate::cli::CompareArgs;
use crate::machine::{Hardware, Machine};
use crate::plan;
use crate::vmfile::{FeatureName, VmSpec};
use crate::workspace::Workspace;

/// The result.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub commit: String,
    pub without: Vec<String>,
    pub machines: Vec<Hardware>,
    /// By machine, then by policy, then in the guest's order.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// The policies that were measured, least help first.
    pub fn policies(&self) -> Vec<Policy> {
        let measured = |p: &Policy| self.rows.iter().any(|row| row.policy == *p);
        Policy::ALL.into_iter().filter(measured).collect()
    }

    /// The workloads, in the order in which the guest runs them.
    pub fn workloads(&self) -> Vec<&str> {
        let names: BTreeMap<u64, &str> =
            self.rows.iter().map(|row| (row.id, row.workload.as_str())).collect();
        names.into_values().collect()
    }

    /// The rows of a workload under a policy: one for each machine, `None` where there is none.
    pub fn line(&self, workload: &str, policy: Policy) -> Vec<Option<&Row>> {
        self.machines.iter().map(|hw| self.row(hw.machine, workload, policy)).collect()
    }

    pub fn row(&self, machine: Machine, workload: &str, policy: Policy) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| (row.machine, row.policy) == (machine, policy) && row.workload == workload)
    }

    /// Every workload and policy that some machine has, with [`Comparison::line`].
    pub fn lines(&self) -> impl Iterator<Item = (&str, Policy, Vec<Option<&Row>>)> {
        let policies = self.policies();
        let places = self
            .workloads()
            .into_iter()
            .flat_map(move |workload| policies.clone().into_iter().map(move |p| (workload, p)));
        places
            .map(|(workload, policy)| (workload, policy, self.line(workload, policy)))
            .filter(|(.., line)| line.iter().any(Option::is_some))
    }

    pub fn hardware(&self, machine: Machine) -> Option<&Hardware> {
        self.machines.iter().find(|hw| hw.machine == machine)
    }

    /// Whether the machines differ in the exits of this operation, as far as a table shows them.
    pub fn differs(&self, workload: &str, policy: Policy) -> bool {
        let line = self.line(workload, policy);
        let mut exits = line.into_iter().flatten().map(table::exits);
        let first = exits.next();
        exits.any(|other| first.as_ref() != Some(&other))
    }

    /// The reasons of the exits on a machine.
    fn reasons(&self, machine: Machine) -> impl Iterator<Item = Reason> {
        Reason::ALL.iter().copied().filter(move |reason| {
            let mut rows = self.rows.iter().filter(|row| row.machine == machine);
            rows.any(|row| row.exits_by_reason.contains_key(reason.name()))
        })
    }

    /// In what guest and hypervisor agree on a machine: the ticks that the marks of its sections
    /// take, at least and at most.
    fn marks(&self, machine: Machine) -> (u64, u64) {
        let marks = self.rows.iter().filter(|row| row.machine == machine).map(|r| r.mark_ticks);
        (marks.clone().min().unwrap_or(0), marks.max().unwrap_or(0))
    }
}

/// Measures, prints the table and writes what was asked for.
pub fn run(workspace: &Workspace, args: &CompareArgs) -> Result<ExitCode> {
    if crate::linux::is_name(&args.guest) {
        return linux::run(workspace, args);
    }
    ensure!(
        args.guest == "bench",
        "compare takes bench, linux or linux-generic, not {}",
        args.guest
    );
    ensure!(
        !args.bare && !args.top && args.machine_type == MachineType::Minimal,
        "--bare, --top and --machine-type are for compare linux"
    );
    let policies: Vec<Policy> = match args.policy.as_slice() {
        [] => Policy::ALL.to_vec(),
        chosen => Policy::ALL.into_iter().filter(|p| chosen.contains(p)).collect(),
    };
    let without: Vec<FeatureName> = args.without.iter().copied().map(FeatureName).collect();
    let specs: Vec<VmSpec> = policies.iter().map(|&p| spec(p, &args.workload, &without)).collect();
    let folder = workspace.run_folder("compare")?;
    let machines = plan::compared(args, &specs[..1])?;
    let plan = plan::make(workspace, specs[..1].to_vec())?;
    eprintln!(
        "Comparing {} on {}. Logs: {}",
        policies.iter().map(|p| p.name()).collect::<Vec<_>>().join(", "),
        machines
            .iter()
            .map(|hw| format!("{} ({})", hw.machine.name(), hw.cpu_model))
            .collect::<Vec<_>>()
            .join(", "),
        folder.display()
    );
    let limit = Duration::from_secs(args.limit);
    let rows = measure_all(&plan, &specs, &machines, &folder, limit, &Progress::start())?;
    for name in &args.workload {
        ensure!(
            rows.iter().any(|row| row.workload == *name),
            "the guest has no workload {name:?} under these policies"
        );
    }
    let comparison =
        Comparison { commit: workspace.commit(), without: names(&without), machines, rows };
    println!("{}\n{}", table::render(&comparison), table::notes(&comparison));
    if let Some(path) = &args.json {
        write(path, &(serde_json::to_string_pretty(&json::document(&comparison))? + "\n"))?;
    }
    if let Some(folder) = &args.report {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write(&folder.join("index.html"), &html::render(&comparison))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("Written: {}", path.display());
    Ok(())
}

fn names(without: &[FeatureName]) -> Vec<String> {
    let all = without.iter().fold(hv_core::vm::feature::Features::empty(), |all, f| all | f.0);
    all.iter_names().map(|(name, _)| name.to_ascii_lowercase().replace('_', "-")).collect()
}

#[cfg(test)]
mod tests {
    use hv_core::host::report::Vendor;

    use super::*;

    fn measured(machine: Machine, workload: &str, policy: Policy, exits: u64, ticks: u64) -> Row {
        Row {
            machine,
            vendor: machine.hardware(0).vendor,
            id: if workload == "cpuid" { 2 } else { 1 },
            workload: workload.into(),
            policy,
            ops: 100,
            exits,
            all_exits: exits,
            mark_ticks: 40,
            ticks,
            exits_by_reason: BTreeMap::from([("cpuid", exits)]),
            hypercalls_by_number: BTreeMap::new(),
            vmreads: 5 * exits,
            vmwrites: exits,
        }
    }

    /// Two workloads on one machine; one of them under `pv` only.
    pub fn sample() -> Comparison {
        let row = |workload, policy, exits, ticks| {
            measured(Machine::BochsVmx, workload, policy, exits, ticks)
        };
        let mut null = row("null-hypercall", Policy::Pv, 100, 9_000);
        null.hypercalls_by_number = BTreeMap::from([(3, 100)]);
        Comparison {
            commit: "abc".into(),
            without: vec!["vpid".into()],
            machines: vec![Machine::BochsVmx.hardware(0)],
            rows: vec![
                row("cpuid", Policy::HwAssist, 100, 15_000),
                row("cpuid", Policy::Pv, 0, 1_250),
                null,
            ],
        }
    }

    /// The same beside two more machines. The last lacks a workload, has other exits under `pv`, and
    /// ticks that are no instructions.
    pub fn three() -> Comparison {
        let mut all = sample();
        for mut row in sample().rows {
            (row.machine, row.vendor) = (Machine::BochsSvm, Vendor::Svm);
            (row.vmreads, row.vmwrites) = (0, 0);
            all.rows.push(row);
        }
        for (policy, exits, ticks) in [(Policy::HwAssist, 100, 90_000), (Policy::Pv, 50, 1_300)] {
            all.rows.push(measured(Machine::QemuTcg, "cpuid", policy, exits, ticks));
        }
        all.machines.extend([Machine::BochsSvm, Machine::QemuTcg].map(|m| m.hardware(0)));
        all
    }

    #[test]
    fn only_the_pv_policy_runs_the_shim() {
        let line = |p| spec(p, &["a".into(), "b".into()], &[]).command_line.0;
        assert_eq!(line(Policy::TrapAll), "shim=native workload=a,b");
        assert_eq!(line(Policy::HwAssist), "shim=native workload=a,b");
        assert_eq!(line(Policy::Pv), "shim=auto workload=a,b");
        assert_eq!(spec(Policy::Pv, &[], &[]).command_line.0, "shim=auto");
    }

    #[test]
    fn policies_and_workloads_keep_their_order() {
        let comparison = sample();
        assert_eq!(comparison.policies(), [Policy::HwAssist, Policy::Pv]);
        assert_eq!(comparison.workloads(), ["null-hypercall", "cpuid"]);
        let row = |policy| comparison.row(Machine::BochsVmx, "null-hypercall", policy);
        assert!(row(Policy::HwAssist).is_none() && row(Policy::Pv).is_some());
    }

    #[test]
    fn a_line_has_a_place_for_each_machine() {
        let all = three();
        let line = all.line("null-hypercall", Policy::Pv);
        let machines: Vec<Option<Machine>> = line.iter().map(|r| Some((*r)?.machine)).collect();
        assert_eq!(machines, [Some(Machine::BochsVmx), Some(Machine::BochsSvm), None]);
        assert_eq!(all.line("cpuid", Policy::Pv)[2].unwrap().exits, 50);
    }

    #[test]
    fn only_what_shows_is_a_difference() {
        let mut all = three();
        assert!(all.differs("cpuid", Policy::Pv));
        assert!(!all.differs("cpuid", Policy::HwAssist));
        // A workload that a machine has not is no other number of exits.
        assert!(!all.differs("null-hypercall", Policy::Pv));
        let last = all.rows.iter_mut().rfind(|row| row.policy == Policy::HwAssist).unwrap();
        (last.exits, last.ops) = (100_001, 100_000);
        assert!(!all.differs("cpuid", Policy::HwAssist));
    }

    #[test]
    fn the_marks_of_a_machine_are_its_own() {
        let mut all = three();
        all.rows[1].mark_ticks = 70;
        assert_eq!(all.marks(Machine::BochsVmx), (40, 70));
        assert_eq!(all.marks(Machine::QemuTcg), (40, 40));
    }
}
