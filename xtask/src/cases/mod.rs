//! `test`: host tests, then cases in the emulators.
//!
//! A case is a few lines of data in [`list`]; what it may state stands in [`trial`]. Conditions
//! that no data can state are functions in [`checks`].

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::Result;

mod checks;
mod host;
mod list;
mod trial;
mod watch;

use trial::Trial;

use crate::cli::TestArgs;
use crate::plan::Plan;
use crate::vmfile::VmSpec;
use crate::workspace::Workspace;
use crate::{build, deps, plan};

/// One integration test.
pub struct Case {
    /// Unique; its parts say what is tested, so that a filter finds families.
    pub name: &'static str,
    /// What must be so, in one sentence.
    pub about: &'static str,
    pub kind: Kind,
}

/// What a case does.
pub enum Kind {
    /// Boots something and looks at what it says.
    Boots(Trial),
    /// Does something of its own.
    Checks(fn(&Lab) -> Result<()>),
}

/// How a case ended.
enum Verdict {
    Passed,
    Failed(String),
    /// It could not be tried here, and why.
    Skipped(String),
}

/// What cases share.
pub struct Lab {
    /// Hypervisor and reference guests, built once.
    pub plan: Plan,
    /// A folder for each case stands in it.
    pub folder: PathBuf,
}

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
}

/// Runs what was asked for. The exit status is 1 if anything failed.
pub fn run(workspace: &Workspace, args: &TestArgs) -> Result<ExitCode> {
    let chosen: Vec<&Case> = list::CASES
        .iter()
        .filter(|case| args.filter.is_empty() || args.filter.iter().any(|f| case.name.contains(f)))
        .collect();
    if args.list {
        println!("{:36} the tests that cargo test runs", host::NAME);
        for case in list::CASES {
            println!("{:36} {}", case.name, case.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut count = Count::default();
    if args.filter.is_empty() || args.filter.iter().any(|f| host::NAME.contains(f.as_str())) {
        let (passed, failed) = host::run(workspace)?;
        count.passed += passed;
        count.failed += failed;
    }
    if args.host_only {
        count.skipped.extend(list::CASES.iter().map(|c| format!("{}: --host-only", c.name)));
    } else if !chosen.is_empty() {
        let folder = workspace.run_folder("test")?;
        println!("{} cases in the emulators. Logs: {}", chosen.len(), folder.display());
        match prepare(workspace, folder) {
            Ok(lab) => run_cases(&lab, &chosen, args.jobs, &mut count),
            Err(error) => {
                println!("FAILED build: {error:#}");
                count.failed += chosen.len();
            }
        }
    }
    let Count { passed, failed, skipped } = &count;
    for reason in skipped {
        println!("skipped {reason}");
    }
    if *passed + *failed + skipped.len() == 0 {
        anyhow::bail!("no test has {:?} in its name; see --list", args.filter);
    }
    match skipped.len() {
        0 => println!("{passed} passed, {failed} failed"),
        n => println!("{passed} passed, {failed} failed, {n} skipped"),
    }
    Ok(if *failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn prepare(workspace: &Workspace, folder: PathBuf) -> Result<Lab> {
    deps::ensure(&[deps::ISO, deps::BOCHS, deps::QEMU, deps::UEFI])?;
    let guests = build::GUESTS.iter().map(|name| VmSpec::guest(name)).collect();
    Ok(Lab { plan: plan::make(workspace, guests)?, folder })
}

fn run_cases(lab: &Lab, cases: &[&Case], jobs: u32, count: &mut Count) {
    let queue: Mutex<VecDeque<&Case>> = Mutex::new(cases.iter().copied().collect());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    let count = Mutex::new(count);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let start = Instant::now();
                    let verdict = attempt(lab, case);
                    let seconds = start.elapsed().as_secs_f32();
                    let Ok(mut count) = count.lock() else { return };
                    match verdict {
                        Verdict::Passed => {
                            count.passed += 1;
                            println!("ok      {:36} {seconds:6.1} s", case.name);
                        }
                        Verdict::Failed(why) => {
                            count.failed += 1;
                            println!(
                                "FAILED  {:36} {seconds:6.1} s\n    {}",
                                case.name,
                                why.replace('\n', "\n    ")
                            );
                        }
                        Verdict::Skipped(why) => {
                            count.skipped.push(format!("{}: {why}", case.name))
                        }
                    }
                }
            });
        }
    });
}

fn attempt(lab: &Lab, case: &Case) -> Verdict {
    let result = match &case.kind {
        Kind::Boots(trial) => {
            if let Some(why) = trial.obstacle() {
                return Verdict::Skipped(why);
            }
            trial.run(lab, case.name)
        }
        Kind::Checks(check) => check(lab),
    };
    match result {
        Ok(()) => Verdict::Passed,
        Err(error) => Verdict::Failed(format!("{error:#}\nIt must be so: {}", case.about)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_into_file_names() {
        let mut seen = BTreeSet::new();
        for case in list::CASES {
            assert!(seen.insert(case.name), "{} is there twice", case.name);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(case.name.chars().all(plain), "{}", case.name);
        }
    }

    #[test]
    fn every_boot_states_something_and_its_vms_can_be_packed() {
        for case in list::CASES {
            if let Kind::Boots(trial) = &case.kind {
                assert!(!trial.want.is_empty(), "{}", case.name);
                trial.specs().iter().for_each(|vm| {
                    vm.packed().unwrap_or_else(|e| panic!("{}: {e:#}", case.name));
                });
            }
        }
    }
}
