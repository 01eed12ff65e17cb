//! `compare`: the benchmark guest under each policy, side by side.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hv_core::vm::policy::Policy;

mod boots;
mod html;
mod join;
mod json;
mod measure;
mod progress;
mod rows;
mod table;

pub use boots::{measure_all, spec};
pub use join::Row;
pub use progress::Progress;

use crate::cli::CompareArgs;
use crate::machine::Machine;
use crate::plan;
use crate::vmfile::{FeatureName, VmSpec};
use crate::workspace::Workspace;

/// The result.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub machine: Machine,
    pub cpu_model: String,
    pub cpus: u32,
    pub commit: String,
    pub without: Vec<String>,
    /// By policy, then in the guest's order.
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

    /// In what guest and hypervisor agree.
    fn agreement(&self) -> String {
        let marks = self.rows.iter().map(|row| row.mark_ticks);
        format!(
            "Guest and hypervisor agree on every exit, and on the {} of every section but for those of its two marks, {} to {}.",
            self.machine.tick(),
            marks.clone().min().unwrap_or(0),
            marks.max().unwrap_or(0)
        )
    }

    pub fn row(&self, workload: &str, policy: Policy) -> Option<&Row> {
        self.rows.iter().find(|row| row.workload == workload && row.policy == policy)
    }
}

/// Measures, prints the table and writes what was asked for.
pub fn run(workspace: &Workspace, args: &CompareArgs) -> Result<ExitCode> {
    let policies: Vec<Policy> = match args.policy.as_slice() {
        [] => Policy::ALL.to_vec(),
        chosen => Policy::ALL.into_iter().filter(|p| chosen.contains(p)).collect(),
    };
    let without: Vec<FeatureName> = args.without.iter().copied().map(FeatureName).collect();
    let specs: Vec<VmSpec> = policies.iter().map(|&p| spec(p, &args.workload, &without)).collect();
    let folder = workspace.run_folder("compare")?;
    let hardware = plan::hardware(&args.machine, &specs[..1])?;
    let plan = plan::make(workspace, specs[..1].to_vec())?;
    eprintln!(
        "Comparing {} on {} ({}). Logs: {}",
        policies.iter().map(|p| p.name()).collect::<Vec<_>>().join(", "),
        hardware.machine.name(),
        hardware.cpu_model,
        folder.display()
    );
    let limit = Duration::from_secs(args.limit);
    let rows = measure_all(&plan, &specs, &hardware, &folder, limit, &Progress::start())?;
    for name in &args.workload {
        ensure!(
            rows.iter().any(|row| row.workload == *name),
            "the guest has no workload {name:?} under these policies"
        );
    }
    let comparison = Comparison {
        machine: hardware.machine,
        cpu_model: hardware.cpu_model,
        cpus: hardware.cpus,
        commit: workspace.commit(),
        without: names(&without),
        rows,
    };
    println!("{}", table::render(&comparison));
    println!("{}", comparison.agreement());
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
    use super::*;

    /// Two workloads; one of them under `pv` only.
    pub fn sample() -> Comparison {
        let row = |workload: &str, policy, exits: u64, ticks| Row {
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
        };
        let mut null = row("null-hypercall", Policy::Pv, 100, 9_000);
        null.hypercalls_by_number = BTreeMap::from([(3, 100)]);
        Comparison {
            machine: Machine::BochsVmx,
            cpu_model: "corei7_haswell_4770".into(),
            cpus: 1,
            commit: "abc".into(),
            without: vec!["vpid".into()],
            rows: vec![
                row("cpuid", Policy::HwAssist, 100, 15_000),
                row("cpuid", Policy::Pv, 0, 1_250),
                null,
            ],
        }
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
        assert!(comparison.row("null-hypercall", Policy::HwAssist).is_none());
    }
}
