//! `compare linux`: a distribution's kernel under the policies that do not need its help, and without the
//! hypervisor.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;

mod heard;
mod json;
mod table;

use heard::{Heard, Span, Time};

use super::boots::in_parallel;
use super::progress::Progress;
use crate::cli::CompareArgs;
use crate::linux::{self, WORKLOADS};
use crate::machine::Hardware;
use crate::plan::{self, Plan};
use crate::session::{Session, Step};
use crate::vmfile::{FeatureName, MachineName, PolicyName, VmSpec};
use crate::workspace::Workspace;

/// One boot of the kernel.
#[derive(Clone, Debug)]
struct Boot {
    hardware: Hardware,
    /// `None` without the hypervisor.
    policy: Option<Policy>,
    /// With `quiet` the kernel does not write its log to the console; then it also works.
    quiet: bool,
}

/// What was measured in one boot.
struct Measured {
    boot: Boot,
    spans: Vec<Span>,
    /// What cost most exits, in words.
    top: Option<String>,
}

/// The result.
struct Comparison {
    commit: String,
    kernel: String,
    machine_type: MachineType,
    without: Vec<String>,
    boots: Vec<Measured>,
}

/// Policies that say nothing to the guest.
const POLICIES: [Policy; 2] = [Policy::TrapAll, Policy::HwAssist];

impl Boot {
    /// What runs the kernel.
    fn way(&self) -> &'static str {
        self.policy.map_or("bare", Policy::name)
    }

    fn name(&self) -> String {
        let log = if self.quiet { "quiet" } else { "full" };
        format!("{} {} {log}", self.hardware.machine.name(), self.way())
    }

    /// What the kernel is asked to do.
    fn line(&self, work: &[&str]) -> String {
        match self.quiet {
            true => linux::line(&format!("quiet paravane.run={}", work.join(","))),
            false => linux::line("paravane.run=boot"),
        }
    }
}

/// Measures, prints the tables and writes what was asked for.
pub fn run(workspace: &Workspace, args: &CompareArgs) -> Result<ExitCode> {
    ensure!(args.report.is_none(), "--report is for the guest bench: leave it out, or take --json");
    let work = work(&args.workload)?;
    let policies: Vec<Policy> = match args.policy.as_slice() {
        [] => POLICIES.to_vec(),
        chosen => Policy::ALL.into_iter().filter(|p| chosen.contains(p)).collect(),
    };
    let without: Vec<FeatureName> = args.without.iter().copied().map(FeatureName).collect();
    let mut vm = VmSpec {
        image: args.guest.clone(),
        machine: MachineName(args.machine_type),
        without: without.clone(),
        profile: args.top,
        scratch_marks: true,
        ..linux::vm()
    };
    linux::resolve(workspace, &mut vm)?;
    let folder = workspace.run_folder("compare")?;
    let machines = plan::compared(args, std::slice::from_ref(&vm))?;
    let plan = plan::make(workspace, vec![vm.clone()])?;
    let ways = policies.iter().map(|&policy| Some(policy)).chain(args.bare.then_some(None));
    let ways: Vec<Option<Policy>> = ways.collect();
    let mut boots = Vec::new();
    for hardware in &machines {
        for &policy in &ways {
            // The longer one first.
            boots.extend([true, false].map(|quiet| Boot {
                hardware: hardware.clone(),
                policy,
                quiet,
            }));
        }
    }
    eprintln!("Comparing {}, {} boots. Logs: {}", args.guest, boots.len(), folder.display());
    let limit = Duration::from_secs(args.limit);
    let progress = Progress::start();
    let boots = in_parallel(&boots, |boot| {
        one(&plan, &vm, boot, &work, &folder, limit, &progress)
            .with_context(|| format!("boot {}", boot.name()))
    })?;
    let kernel = Path::new(&vm.image).file_name().unwrap_or_default().to_string_lossy();
    let comparison = Comparison {
        commit: workspace.commit(),
        kernel: kernel.into_owned(),
        machine_type: args.machine_type,
        without: super::names(&without),
        boots,
    };
    println!("{}", table::render(&comparison));
    if args.top {
        for measured in &comparison.boots {
            let top = measured.top.as_deref().unwrap_or("the hypervisor did not tell");
            println!("\n{}: {top}", measured.boot.name());
        }
    }
    if let Some(path) = &args.json {
        super::write(path, &(serde_json::to_string_pretty(&json::document(&comparison))? + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The workloads that were chosen, in the order of the list: all of them, if none was.
fn work(chosen: &[String]) -> Result<Vec<&'static str>> {
    if let Some(unknown) = chosen.iter().find(|name| !WORKLOADS.contains(&name.as_str())) {
        bail!("linux has no workload {unknown:?}: it has {}", WORKLOADS.join(", "));
    }
    let is_chosen = |name: &&str| chosen.is_empty() || chosen.iter().any(|other| other == *name);
    Ok(WORKLOADS.into_iter().filter(is_chosen).collect())
}

fn one(
    plan: &Plan,
    vm: &VmSpec,
    boot: &Boot,
    work: &[&'static str],
    folder: &Path,
    limit: Duration,
    progress: &Progress,
) -> Result<Measured> {
    let place = folder.join(boot.name().replace(' ', "-"));
    let mut vm = VmSpec { command_line: (&*boot.line(work)).into(), ..vm.clone() };
    let start = match boot.policy {
        Some(policy) => {
            vm.policy = PolicyName(policy);
            linux::tell_the_clock(&mut vm, Some(boot.hardware.vendor));
            plan.with_vms(vec![vm])?.boot(boot.hardware.clone(), &place, limit)?
        }
        None => plan::bare(&vm, boot.hardware.clone(), &place, limit)?,
    };
    let line = progress.line(&boot.name());
    let mut session = Session::start(&start)?;
    let began = Instant::now();
    let mut heard = Heard::default();
    // A machine that has ended has no time any more: its last one counts.
    let mut cpu = Duration::ZERO;
    let ended = loop {
        match session.next(Duration::from_secs(1))? {
            Step::Event(event) => {
                cpu = session.cpu_time().unwrap_or(cpu).max(cpu);
                heard.event(event, Time { wall: began.elapsed(), cpu });
                line.say(heard.now());
            }
            Step::Idle => {}
            Step::Ended(ended) => break ended,
        }
    };
    // The image is large and can be made again.
    let _ = std::fs::remove_file(place.join("paravane.iso"));
    line.end(heard.now());
    let work = if boot.quiet { work } else { &[WORKLOADS[0]] };
    let context = || format!("run ended with {ended:?}; log: {}", start.log.display());
    let first = if boot.quiet { "init, quiet" } else { "init, full log" };
    let spans = heard.spans(first, work, boot.policy.is_some()).with_context(context)?;
    Ok(Measured { boot: boot.clone(), spans, top: heard.top })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::heard::Cost;
    use super::*;
    use crate::machine::Machine;

    /// A machine with one policy and without the hypervisor; the boot with the full log under the policy only.
    pub fn sample() -> Comparison {
        let measured = |policy: Option<Policy>, quiet: bool, names: &[&str]| {
            let cost = Cost {
                exits: 100,
                timer: 7,
                by_reason: BTreeMap::from([("cpuid", 100)]),
                guest: 900,
                hypervisor: 50,
                halted: 1,
            };
            let cost = policy.map(|_| cost);
            let cpu = Duration::from_secs(if policy.is_some() { 3 } else { 2 });
            let time = Time { wall: 2 * cpu, cpu };
            let span = |name: &&str| Span { name: (*name).into(), time, cost: cost.clone() };
            Measured {
                boot: Boot { hardware: Machine::BochsVmx.hardware(0), policy, quiet },
                spans: names.iter().map(span).collect(),
                top: None,
            }
        };
        Comparison {
            commit: "abc".into(),
            kernel: "vmlinuz".into(),
            machine_type: MachineType::Minimal,
            without: Vec::new(),
            boots: vec![
                measured(Some(Policy::HwAssist), true, &["init, quiet", "forks"]),
                measured(Some(Policy::HwAssist), false, &["init, full log"]),
                measured(None, true, &["init, quiet", "forks"]),
            ],
        }
    }

    #[test]
    fn work_keeps_the_order_of_the_list_and_unknown_work_is_refused() {
        assert_eq!(work(&[]).unwrap(), WORKLOADS);
        assert_eq!(work(&["dd".into(), "forks".into()]).unwrap(), ["forks", "dd"]);
        let error = work(&["cpuid".into()]).unwrap_err().to_string();
        assert!(error.contains("cpuid") && error.contains("forks"), "{error}");
    }

    #[test]
    fn only_the_quiet_boot_works() {
        let boot = |quiet| Boot { hardware: Machine::QemuTcg.hardware(0), policy: None, quiet };
        assert!(boot(true).line(&["forks", "dd"]).ends_with(" quiet paravane.run=forks,dd"));
        assert!(boot(false).line(&["forks", "dd"]).ends_with("notests paravane.run=boot"));
        assert_eq!(boot(true).name(), "qemu-tcg bare quiet");
    }
}
