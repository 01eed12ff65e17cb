//! `test`: host tests, then cases in the emulators.
//!
//! A case is a few lines of data in [`list`]; what it may state stands in [`trial`]. Conditions
//! that no data can state are functions in [`checks`]. Each machine that a case is for makes a test
//! of it, named `case@machine`.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use hv_core::vm::machine_type::MachineType;

mod areas;
mod checks;
mod events;
mod footprint;
mod host;
mod isolation;
mod linux;
mod list;
mod message;
mod outcome;
mod protocols;
mod remains;
mod sched;
mod senders;
mod share;
mod smp;
mod switch;
mod trial;
mod watch;

use trial::Trial;

use crate::cli::TestArgs;
use crate::machine::{Hardware, Machine, Purpose, kvm};
use crate::plan::Plan;
use crate::vmfile::{MachineName, VmSpec};
use crate::workspace::Workspace;
use crate::{build, deps, plan};

/// What must be so, on each of some machines.
pub struct Case {
    /// Unique; its parts say what is tested, so that a filter finds families.
    pub name: &'static str,
    /// What must be so, in one sentence.
    pub about: &'static str,
    /// Where it must be so. A case for a feature of the CPU names the machines that have it.
    pub on: &'static [Machine],
    pub kind: Kind,
}

/// What a case does.
pub enum Kind {
    /// Boots something and looks at what it says.
    Boots(Trial),
    /// Does something of its own.
    Checks(fn(&Stage<'_>) -> Result<()>),
    /// Looks at what was built, which takes no machine.
    Reads(fn(&Lab) -> Result<()>),
}

/// A case on one of its machines.
struct Test {
    case: &'static Case,
    machine: Option<Machine>,
}

/// How a test ended.
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
    /// A folder for each test stands in it.
    pub folder: PathBuf,
    workspace: Workspace,
    /// A VM with Debian's kernel, fetched when the first case wants it, or why there is none.
    linux: OnceLock<Result<VmSpec, String>>,
}

impl Lab {
    /// A VM of this type that boots Debian's kernel on this machine, with `append` on its command line.
    pub fn linux(&self, machine: Machine, kind: MachineType, append: &str) -> Result<VmSpec> {
        let fetch = || {
            let mut vm = crate::linux::vm();
            let fetched = crate::linux::resolve(&self.workspace, &mut vm);
            fetched.map(|()| vm).map_err(|error| format!("{error:#}"))
        };
        let fetched = self.linux.get_or_init(fetch).clone();
        let mut vm = fetched.map_err(|error| anyhow!("no kernel to boot: {error}"))?;
        vm.command_line.0 = crate::linux::line(append);
        vm.machine = MachineName(kind);
        crate::linux::tell_the_clock(&mut vm, Some(machine.hardware(0).vendor));
        Ok(vm)
    }
}

/// Where a case takes place.
pub struct Stage<'a> {
    pub lab: &'a Lab,
    pub machine: Machine,
    /// The test's own.
    pub folder: PathBuf,
}

impl Stage<'_> {
    /// The machine, large enough for these VMs, and the same at each run if it can be.
    pub fn hardware(&self, vms: &[VmSpec]) -> Hardware {
        self.real_time(vms).for_figures()
    }

    /// The same as it comes: time may pass as it does outside. For VMs that use up their time,
    /// which takes long where every instruction is counted.
    pub fn real_time(&self, vms: &[VmSpec]) -> Hardware {
        plan::standard_hardware(self.machine, vms)
    }
}

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    /// The names of what was skipped, by the reason.
    skipped: BTreeMap<String, Vec<String>>,
}

impl Count {
    fn skip(&mut self, test: &Test, why: impl Into<String>) {
        self.skipped.entry(why.into()).or_default().push(test.name());
    }
}

impl Test {
    fn name(&self) -> String {
        let machine = self.machine.map(|machine| format!("@{}", machine.name()));
        self.case.name.to_owned() + &machine.unwrap_or_default()
    }

    /// Whether a user's word names it: a part of its name, or parts of case and machine with `@`
    /// between them.
    fn is_named(&self, word: &str) -> bool {
        match word.split_once('@') {
            Some((case, on)) => {
                self.case.name.contains(case) && self.machine.is_some_and(|m| m.name().contains(on))
            }
            None => self.case.name.contains(word),
        }
    }
}

/// Every test, in the order in which they run.
fn tests() -> impl Iterator<Item = Test> {
    list::all().flat_map(|case| {
        let nowhere = case.on.is_empty().then_some(Test { case, machine: None });
        let somewhere = case.on.iter().map(move |&machine| Test { case, machine: Some(machine) });
        nowhere.into_iter().chain(somewhere)
    })
}

/// Runs what was asked for. The exit status is 1 if anything failed.
pub fn run(workspace: &Workspace, args: &TestArgs) -> Result<ExitCode> {
    if args.list {
        print_list();
        return Ok(ExitCode::SUCCESS);
    }
    let machines: Vec<Machine> = args
        .machine
        .iter()
        .map(|&choice| Machine::choose(choice, Purpose::Run))
        .collect::<Result<_>>()?;
    let (any_name, any_machine) = (args.filter.is_empty(), machines.is_empty());
    let named = |test: &Test| any_name || args.filter.iter().any(|word| test.is_named(word));
    let placed = |test: &Test| any_machine || test.machine.is_some_and(|m| machines.contains(&m));
    let chosen: Vec<Test> = tests().filter(named).filter(placed).collect();
    let mut count = Count::default();
    if any_machine && (any_name || args.filter.iter().any(|word| host::NAME.contains(word))) {
        let (passed, failed) = host::run(workspace)?;
        count.passed += passed;
        count.failed += failed;
    }
    if args.host_only {
        chosen.iter().for_each(|test| count.skip(test, "--host-only"));
    } else if !chosen.is_empty() {
        let folder = workspace.run_folder("test")?;
        println!("{} tests in the emulators. Logs: {}", chosen.len(), folder.display());
        match prepare(workspace, folder) {
            Ok(lab) => run_tests(&lab, &chosen, args.jobs, &mut count),
            Err(error) => {
                println!("FAILED build: {error:#}");
                count.failed += chosen.len();
            }
        }
    }
    let Count { passed, failed, skipped } = &count;
    for (why, names) in skipped {
        println!("skipped {}: {why}\n    {}", names.len(), names.join(" "));
    }
    let skipped = skipped.values().map(Vec::len).sum();
    if *passed + *failed + skipped == 0 {
        anyhow::bail!("no test has {:?} in its name; see --list", args.filter);
    }
    match skipped {
        0 => println!("{passed} passed, {failed} failed"),
        n => println!("{passed} passed, {failed} failed, {n} skipped"),
    }
    Ok(if *failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_list() {
    println!("{:36} the tests that cargo test runs", host::NAME);
    for case in list::all() {
        let on: Vec<_> = case.on.iter().map(|machine| machine.name()).collect();
        println!("{:36} {}", case.name, case.about);
        if !on.is_empty() {
            println!("{:36} on {}", "", on.join(", "));
        }
    }
}

fn prepare(workspace: &Workspace, folder: PathBuf) -> Result<Lab> {
    deps::ensure(&[deps::ISO, deps::BOCHS, deps::QEMU, deps::UEFI])?;
    let guests = build::GUESTS.iter().map(|name| VmSpec::guest(name)).collect();
    Ok(Lab {
        plan: plan::make(workspace, guests)?,
        folder,
        workspace: workspace.clone(),
        linux: OnceLock::new(),
    })
}

fn run_tests(lab: &Lab, tests: &[Test], jobs: u32, count: &mut Count) {
    let queue: Mutex<VecDeque<&Test>> = Mutex::new(tests.iter().collect());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    let count = Mutex::new(count);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(test) = next() {
                    let start = Instant::now();
                    let verdict = attempt(lab, test);
                    let seconds = start.elapsed().as_secs_f32();
                    let Ok(mut count) = count.lock() else { return };
                    let name = test.name();
                    match verdict {
                        Verdict::Passed => {
                            count.passed += 1;
                            println!("ok      {name:44} {seconds:6.1} s");
                        }
                        Verdict::Failed(why) => {
                            count.failed += 1;
                            let why = why.replace('\n', "\n    ");
                            println!("FAILED  {name:44} {seconds:6.1} s\n    {why}");
                        }
                        Verdict::Skipped(why) => count.skip(test, why),
                    }
                }
            });
        }
    });
}

/// Why this machine cannot be used here, if it cannot.
fn obstacle(machine: Machine) -> Option<String> {
    let reasons = (machine == Machine::QemuKvm).then(kvm::here)?.err()?;
    Some(format!("machine {} cannot be used here: {}", machine.name(), reasons.join("; ")))
}

fn attempt(lab: &Lab, test: &Test) -> Verdict {
    if let Some(why) = test.machine.and_then(obstacle) {
        return Verdict::Skipped(why);
    }
    let stage = |machine| Stage { lab, machine, folder: lab.folder.join(test.name()) };
    let result = match (&test.case.kind, test.machine.map(stage)) {
        (Kind::Boots(trial), Some(stage)) => trial.run(&stage),
        (Kind::Checks(check), Some(stage)) => check(&stage),
        (Kind::Reads(read), None) => read(lab),
        // The tests of the list refuse such a case.
        _ => Err(anyhow!("the case has a machine and takes none, or the reverse")),
    };
    match result {
        Ok(()) => Verdict::Passed,
        Err(error) => Verdict::Failed(format!("{error:#}\nIt must be so: {}", test.case.about)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::BootPath;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_into_file_names() {
        let mut seen = BTreeSet::new();
        for test in super::tests() {
            assert!(seen.insert(test.name()), "{} is there twice", test.name());
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(test.case.name.chars().all(plain), "{}", test.case.name);
        }
        let cases: BTreeSet<_> = list::all().map(|case| case.name).collect();
        assert_eq!(cases.len(), list::all().count());
    }

    #[test]
    fn every_boot_states_something_and_its_vms_can_be_packed() {
        for case in list::all() {
            if let Kind::Boots(trial) = &case.kind {
                assert!(!trial.want.is_empty(), "{}", case.name);
                crate::vmfile::packed(&trial.specs())
                    .unwrap_or_else(|e| panic!("{}: {e:#}", case.name));
            }
        }
    }

    #[test]
    fn a_case_has_machines_that_it_can_take_place_on() {
        for case in list::all() {
            let takes_none = matches!(case.kind, Kind::Reads(_));
            assert_eq!(case.on.is_empty(), takes_none, "{}", case.name);
            let Kind::Boots(trial) = &case.kind else { continue };
            if trial.bare {
                assert_eq!(case.on, [Machine::QemuTcg], "{}", case.name);
            }
            // A CPU model is in the words of one machine.
            assert!(trial.cpu_model.is_none() || case.on.len() == 1, "{}", case.name);
            let bochs = |m: &Machine| matches!(m, Machine::BochsVmx | Machine::BochsSvm);
            let loads_elf = trial.boot == Some(BootPath::Pvh);
            assert!(!(loads_elf && case.on.iter().any(bochs)), "{}", case.name);
        }
    }

    #[test]
    fn both_vendors_and_every_machine_are_tested() {
        for machine in Machine::ALL {
            let here = super::tests().filter(|test| test.machine == Some(machine)).count();
            let most = matches!(machine, Machine::BochsVmx | Machine::QemuTcg);
            assert!(
                here * 2 > list::all().count() || !most && here > 4,
                "{}: {here}",
                machine.name()
            );
        }
    }

    #[test]
    fn words_name_cases_machines_and_both() {
        let case = list::all().next().unwrap();
        let test = Test { case, machine: Some(Machine::QemuTcg) };
        let (first, rest) = case.name.split_at(4);
        for word in [case.name, first, rest, "@qemu", &format!("{first}@qemu-tcg"), "@qemu-tcg"] {
            assert!(test.is_named(word), "{word}");
        }
        for word in ["@bochs-vmx", &format!("x{first}"), &format!("x{first}@qemu-tcg")] {
            assert!(!test.is_named(word), "{word}");
        }
        assert!(!Test { case, machine: None }.is_named("@"));
    }
}
