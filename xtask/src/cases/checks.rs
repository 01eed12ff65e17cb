//! Cases that no data can state.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hv_core::host::report::Cause;
use hv_core::vm::feature::Features;
use hv_core::vm::policy::Policy;

use super::list::{NEWEST, NO_TRIPLE_FAULTS, WRONG};
use super::outcome::Seen;
use super::watch::{Want, watch};
use super::{Lab, Stage, outcome};
use crate::boot::Payload;
use crate::compare::{self, Progress, Row};
use crate::machine::{Hardware, Machine};
use crate::vmfile::{Cpus, FeatureName, Memory, PolicyName, Slice, Vcpus, VmSpec, Weight};
use crate::{build, elf, plan};

/// The hypervisor's memory stays below its limit.
pub fn image_size(lab: &Lab) -> Result<()> {
    let path = lab.plan.images.hypervisor.as_deref().context("no hypervisor")?;
    let size = elf::memory_size(&fs::read(path)?)?;
    ensure!(
        size <= build::IMAGE_LIMIT,
        "the image takes {} KiB, the limit is {} KiB",
        size.div_ceil(1024),
        build::IMAGE_LIMIT / 1024
    );
    Ok(())
}

fn measured(stage: &Stage<'_>, folder: &str) -> Result<Vec<Row>> {
    measured_on(stage, folder, &[stage.machine], &[])
}

fn measured_on(
    stage: &Stage<'_>,
    folder: &str,
    machines: &[Machine],
    without: &[FeatureName],
) -> Result<Vec<Row>> {
    let specs: Vec<_> = Policy::ALL.map(|p| compare::spec(p, &[], without)).into();
    let hardware: Vec<_> = machines
        .iter()
        .map(|&machine| plan::standard_hardware(machine, &specs).for_figures())
        .collect();
    let folder = stage.folder.join(folder);
    let limit = Duration::from_secs(400);
    compare::measure_all(&stage.lab.plan, &specs, &hardware, &folder, limit, &Progress::none())
}

/// Operations that exit differently because the vendors' hardware intercepts differently, with the
/// policy. The specification says why.
const DIFFER: &[(&str, Policy)] = &[("cr-redundant", Policy::TrapAll)];

/// Without APIC virtualization, which only VT-x has here, both vendors exit equally often for every
/// operation but those of [`DIFFER`].
pub fn vendors_exit_alike(stage: &Stage<'_>) -> Result<()> {
    let without = [FeatureName(Features::APIC_REGISTERS | Features::VIRTUAL_INTERRUPTS)];
    let rows = measured_on(stage, "alike", &[Machine::BochsVmx, Machine::BochsSvm], &without)?;
    let (vmx, svm): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.machine == Machine::BochsVmx);
    ensure!(!vmx.is_empty() && vmx.len() == svm.len(), "{} and {} rows", vmx.len(), svm.len());
    let mut wrong = Vec::new();
    for (a, b) in vmx.iter().zip(&svm) {
        ensure!((&a.workload, a.policy) == (&b.workload, b.policy), "the rows do not match");
        let alike = (a.exits_per_op() - b.exits_per_op()).abs() < 0.005;
        if alike == DIFFER.contains(&(a.workload.as_str(), a.policy)) {
            wrong.push(format!(
                "{} under {}: {} exits per operation on VT-x, {} on AMD-V",
                a.workload,
                a.policy.name(),
                a.exits_per_op(),
                b.exits_per_op()
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Two comparisons give the same figures, to the digit.
pub fn repeatable(stage: &Stage<'_>) -> Result<()> {
    let first = measured(stage, "first")?;
    let second = measured(stage, "second")?;
    ensure!(first.len() == second.len(), "{} rows, then {}", first.len(), second.len());
    for (a, b) in first.iter().zip(&second) {
        ensure!(a == b, "not the same twice:\n{a:?}\n{b:?}");
    }
    Ok(())
}

/// The most that an operation may cost.
struct Limit {
    on: &'static [Machine],
    workload: &'static str,
    policy: Policy,
    exits: f64,
    instructions: f64,
    /// Per exit.
    vmreads: f64,
    vmwrites: f64,
}

/// Machines that repeat to the digit, with a CPU that says where the next instruction starts.
const EXACT: &[Machine] = &[Machine::BochsVmx, Machine::BochsSvm];
/// One whose CPU does not: what is no hypercall is fetched.
const FETCHES: &[Machine] = &[Machine::QemuTcg];
const EMULATED: &[Machine] = &[Machine::BochsVmx, Machine::BochsSvm, Machine::QemuTcg];

/// No limits.
const FREE: Limit = Limit {
    on: EMULATED,
    workload: "",
    policy: Policy::Pv,
    exits: f64::MAX,
    instructions: f64::MAX,
    vmreads: f64::MAX,
    vmwrites: f64::MAX,
};

const LIMITS: &[Limit] = &[
    Limit { workload: "null-hypercall", exits: 1.0, vmreads: 7.0, ..FREE },
    Limit { on: EXACT, workload: "null-hypercall", instructions: 120.0, ..FREE },
    Limit { on: FETCHES, workload: "null-hypercall", instructions: 200.0, ..FREE },
    Limit {
        on: FETCHES,
        workload: "cpuid",
        policy: Policy::HwAssist,
        exits: 1.0,
        instructions: 450.0,
        ..FREE
    },
    Limit {
        on: EXACT,
        workload: "cpuid",
        policy: Policy::HwAssist,
        exits: 1.0,
        instructions: 160.0,
        vmreads: 5.0,
        vmwrites: 2.0,
    },
    Limit {
        on: EXACT,
        workload: "msr-read",
        policy: Policy::HwAssist,
        instructions: 180.0,
        ..FREE
    },
    Limit { on: EXACT, workload: "mmio-read", exits: 1.0, instructions: 700.0, ..FREE },
    Limit { on: FETCHES, workload: "mmio-read", exits: 1.0, instructions: 700.0, ..FREE },
    Limit { workload: "mmio-write", exits: 1.0, instructions: 700.0, ..FREE },
    Limit { workload: "port-console", policy: Policy::HwAssist, instructions: 250.0, ..FREE },
    Limit { workload: "first-touch", policy: Policy::TrapAll, exits: 0.0, ..FREE },
    Limit { workload: "first-touch", policy: Policy::HwAssist, exits: 0.0, ..FREE },
    // An interrupt that comes when it is due, 20000 ticks ahead, and not at the next chance.
    Limit { workload: "timer-tick", policy: Policy::TrapAll, instructions: 25_000.0, ..FREE },
    Limit { workload: "timer-tick", policy: Policy::HwAssist, instructions: 25_000.0, ..FREE },
    Limit { workload: "timer-tick", instructions: 25_000.0, ..FREE },
    Limit { workload: "idle-wake", policy: Policy::HwAssist, instructions: 25_000.0, ..FREE },
    Limit { workload: "idle-wake", instructions: 25_000.0, ..FREE },
    Limit { workload: "cpuid", exits: 0.0, ..FREE },
    Limit { workload: "clock-read", exits: 0.0, ..FREE },
    Limit { workload: "eoi", exits: 0.0, ..FREE },
    Limit { workload: "later-deadline", exits: 0.0, ..FREE },
    Limit { workload: "console-line", exits: 1.0, ..FREE },
    Limit { workload: "console-ring", exits: 0.0, ..FREE },
];

/// How many times fewer exits `pv` must have than `hw-assist`.
const FEWER: &[(&str, f64)] = &[("idle-wake", 2.0), ("mixed", 5.0)];

/// No operation costs more than its limit.
pub fn limits(stage: &Stage<'_>) -> Result<()> {
    let rows = measured(stage, "figures")?;
    let find = |workload: &str, policy: Policy| {
        let row = rows.iter().find(|r| r.workload == workload && r.policy == policy);
        row.with_context(|| format!("{workload} under {} was not measured", policy.name()))
    };
    let mut missed = Vec::new();
    for limit in LIMITS.iter().filter(|limit| limit.on.contains(&stage.machine)) {
        let row = find(limit.workload, limit.policy)?;
        for (what, value, most) in [
            ("exits per operation", row.exits_per_op(), limit.exits),
            ("instructions per operation", row.ticks_per_op(), limit.instructions),
            ("VMREADs per exit", row.vmreads_per_exit(), limit.vmreads),
            ("VMWRITEs per exit", row.vmwrites_per_exit(), limit.vmwrites),
        ] {
            if value > most {
                let policy = limit.policy.name();
                missed
                    .push(format!("{} under {policy}: {value} {what}, limit {most}", row.workload));
            }
        }
    }
    for &(workload, factor) in FEWER {
        let (hw, pv) = (find(workload, Policy::HwAssist)?, find(workload, Policy::Pv)?);
        if pv.exits_per_op() * factor > hw.exits_per_op() {
            missed.push(format!(
                "{workload}: {} exits per operation under pv, {} under hw-assist, not {factor} times fewer",
                pv.exits_per_op(),
                hw.exits_per_op()
            ));
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("\n"));
    Ok(())
}

/// Small, because many of them run in one boot.
pub(super) fn small(name: &str, image: &str, line: &str) -> VmSpec {
    VmSpec {
        name: name.to_owned(),
        command_line: line.into(),
        memory: Memory(16 << 20),
        policy: PolicyName(Policy::HwAssist),
        ..VmSpec::guest(image)
    }
}

/// Boots these VMs together.
fn together(
    stage: &Stage<'_>,
    cpu_model: Option<&str>,
    vms: Vec<VmSpec>,
    want: &[Want],
) -> Result<()> {
    let plan = stage.lab.plan.with_vms(vms)?;
    let standard = stage.real_time(&plan.vms);
    let cpu_model = cpu_model.map_or(standard.cpu_model.clone(), str::to_owned);
    let hardware = Hardware { cpu_model, ..standard };
    watch(&plan.boot(hardware, &stage.folder, Duration::from_secs(300))?, want)
}

/// Guests that end badly end alone: each for its own cause, and one that behaves goes on.
pub fn hostile_ends(stage: &Stage<'_>) -> Result<()> {
    hostile_ends_on(stage, None)
}

/// The same on the CPU model that has everything.
pub fn hostile_ends_newest(stage: &Stage<'_>) -> Result<()> {
    hostile_ends_on(stage, NEWEST)
}

fn hostile_ends_on(stage: &Stage<'_>, cpu_model: Option<&str>) -> Result<()> {
    let mut cases = hostile_cases(stage)?;
    if NO_TRIPLE_FAULTS.contains(&stage.machine) {
        cases.retain(|(_, cause)| *cause != Cause::TripleFault);
    }
    let mut vms = Vec::new();
    let mut want = Vec::new();
    for (case, cause) in cases {
        let mut vm = small(&case, "hostile", &format!("case={case}"));
        // Under each policy in turn: a bad end must not depend on it.
        vm.policy = PolicyName(Policy::ALL[vms.len() % Policy::ALL.len()]);
        vm.time_limit_ms = if cause == Cause::TimeLimit { 200 } else { 20_000 };
        want.push(Want::End(u8::try_from(vms.len())?, cause, ""));
        vms.push(vm);
    }
    want.push(Want::Shutdown(u8::try_from(vms.len())?, 0));
    vms.push(small("behaves", "bench", "shim=native workload=cpuid,timer-tick"));
    together(stage, cpu_model, vms, &want)
}

/// Each case that an emulator gets wrong still fails on it, under one policy at least: a list of faults that
/// are gone would hide those that come.
pub fn faults_are_there(stage: &Stage<'_>) -> Result<()> {
    let survived = (Some(Cause::Shutdown), 0);
    let named = WRONG.iter().filter(|(machine, _)| *machine == stage.machine);
    let mut cases: Vec<_> =
        named.flat_map(|(_, cases)| cases.split(',').map(|case| (case, survived))).collect();
    if NO_TRIPLE_FAULTS.contains(&stage.machine) {
        cases.push(("triple-fault", (Some(Cause::TripleFault), 0)));
    }
    for (case, right) in cases {
        let mut passes = true;
        for policy in [Policy::TrapAll, Policy::HwAssist] {
            let mut vm = small("wrong", "hostile", &format!("case={case}"));
            vm.policy = PolicyName(policy);
            vm.time_limit_ms = 2_000;
            let folder = stage.folder.join(format!("{case}-{}", policy.name()));
            let plan = stage.lab.plan.with_vms(vec![vm])?;
            let boot = plan.boot(stage.hardware(&plan.vms), &folder, Duration::from_secs(30))?;
            let (mut seen, _) = Seen::run(&boot)?;
            // The image is large and can be made again.
            let _ = fs::remove_file(boot.folder.join("paravane.iso"));
            passes = seen.take(0).end.is_some_and(|end| (end.cause, end.code) == right);
            if !passes {
                break;
            }
        }
        ensure!(
            !passes,
            "{case} passes here: take it off the list of what the emulator gets wrong"
        );
    }
    Ok(())
}

/// A guest that floods hypercalls gives way at the end of its slice: a guest on the same CPU finishes
/// first, although the flood was there before and goes on for much longer.
pub fn flood_is_preempted(stage: &Stage<'_>) -> Result<()> {
    let mut flood = small("floods", "hostile", "case=call-flood");
    flood.time_limit_ms = 2_000;
    let vms = vec![flood, small("waits", "bench", "shim=native workload=cpuid")];
    let ends = ends(stage, stage.real_time(&vms), vms)?;
    let expected = [(1, Some(Cause::Shutdown)), (0, Some(Cause::TimeLimit))];
    ensure!(ends == expected, "ends: {ends:?}, expected {expected:?}");
    Ok(())
}

/// Of two VMs with the same work one has eight times the other's weight. So it has eight ninths of the CPU, and
/// takes nine sixteenths of the time that both take together. Without weights both take all of it.
pub fn weights_count(stage: &Stage<'_>) -> Result<()> {
    let work = |name, weight| VmSpec {
        weight: Weight(weight),
        slice_us: Slice(100),
        ..small(name, "bench", "shim=native workload=cpuid ops=100000")
    };
    let [light, heavy] = outcome::run(stage, "", 1, [work("light", 64), work("heavy", 512)])?;
    let ticks = [light.stat()?.ticks, heavy.stat()?.ticks];
    let share = ticks[1] as f64 / ticks[0] as f64;
    ensure!((0.5..0.65).contains(&share), "{ticks:?} ticks from the first entry to the end");
    Ok(())
}

/// A VM that halts gets the CPU back when its timer is due, from one that never exits by itself: each
/// wait is much shorter than a slice, and all of them end before the other VM does.
pub fn halted_gets_the_cpu_back(stage: &Stage<'_>) -> Result<()> {
    let mut busy = small("busy", "hostile", "case=loop");
    busy.time_limit_ms = 400;
    let vms = vec![busy, small("halts", "bench", "shim=native workload=idle-wake ops=100")];
    let ends = ends(stage, stage.hardware(&vms), vms)?;
    let expected = [(1, Some(Cause::Shutdown)), (0, Some(Cause::TimeLimit))];
    ensure!(ends == expected, "ends: {ends:?}, expected {expected:?}");
    Ok(())
}

/// Boots these VMs together on `hardware` and returns their ends in order.
fn ends(
    stage: &Stage<'_>,
    hardware: Hardware,
    vms: Vec<VmSpec>,
) -> Result<Vec<(u8, Option<Cause>)>> {
    let plan = stage.lab.plan.with_vms(vms)?;
    let boot = plan.boot(hardware, &stage.folder, Duration::from_secs(120))?;
    Ok(Seen::sound(&boot)?.ends.into_iter().map(|(vm, end)| (vm, end.cause)).collect())
}

/// A VM that resets itself finds itself as at its first start, again and again.
pub fn resets_are_complete(stage: &Stage<'_>) -> Result<()> {
    for policy in Policy::ALL {
        let vm = VmSpec {
            policy: PolicyName(policy),
            time_limit_ms: 600,
            ..small("resets", "hostile", "case=reset")
        };
        resets(stage, policy.name(), vm, 1, "@hostile reset sound")?;
    }
    Ok(())
}

/// The same where one vCPU of three has a triple fault while the others work, on two CPUs.
pub fn vcpus_reset(stage: &Stage<'_>) -> Result<()> {
    let vm = small("resets", "hostile", "case=triple-fault-on-one-cpu");
    resets(
        stage,
        "vcpus",
        VmSpec { vcpus: Vcpus(3), time_limit_ms: 3000, ..vm },
        2,
        "@hostile 3 CPUs work",
    )
}

/// A VM that resets itself until its time is over says `text` each time.
fn resets(stage: &Stage<'_>, name: &str, vm: VmSpec, cpus: u32, text: &str) -> Result<()> {
    const RESETS: usize = 3;
    let vm = VmSpec { may_reset: true, ..vm };
    let plan = stage.lab.plan.with_vms(vec![vm])?;
    let hardware = Hardware { cpus, ..stage.real_time(&plan.vms) };
    let boot = plan.boot(hardware, &stage.folder.join(name), Duration::from_secs(120))?;
    let vm = Seen::sound(&boot)?.take(0);
    let runs = vm.console().matches(text).count();
    ensure!(
        runs > RESETS && vm.cause() == Some(Cause::TimeLimit),
        "{name}: {runs} sound runs, ended by {:?}; log: {}\n{}",
        vm.cause(),
        boot.log.display(),
        vm.console()
    );
    Ok(())
}

/// VMs run on two CPUs at once, two of them on each.
pub fn two_cpus(stage: &Stage<'_>) -> Result<()> {
    let on =
        |cpu| move |name: &str| VmSpec { cpus: Cpus(1u64 << cpu), ..small(name, "bench", QUICK) };
    let vms = vec![on(0)("first"), on(1)("second"), on(0)("third"), on(1)("fourth")];
    let plan = stage.lab.plan.with_vms(vms)?;
    let hardware = Hardware { cpus: 2, ..stage.hardware(&plan.vms) };
    let want = [
        Want::Log("2 CPUs"),
        Want::Log("CPU 0: "),
        Want::Log("CPU 1: "),
        Want::Shutdown(0, 0),
        Want::Shutdown(1, 0),
        Want::Shutdown(2, 0),
        Want::Shutdown(3, 0),
    ];
    watch(&plan.boot(hardware, &stage.folder, Duration::from_secs(240))?, &want)
}

/// Work that uses interrupts and the floating-point and system state that is switched.
const QUICK: &str = "shim=native workload=cpuid,timer-tick,self-ipi";

/// An exception in the hypervisor arrives with its name and a backtrace that names functions.
pub fn crash_is_reported(stage: &Stage<'_>) -> Result<()> {
    let plan = stage.lab.plan.with_vms(vec![small("none", "bench", "")])?;
    let hardware = stage.hardware(&plan.vms);
    let mut boot = plan.boot(hardware, &stage.folder, Duration::from_secs(60))?;
    boot.payload = Payload::Hypervisor { bundle: None, arguments: "crash-test".to_owned() };
    let (seen, _) = Seen::run(&boot)?;
    let text = seen.faults.last().context("no report")?;
    for word in ["crash_test", "start::start", "RIP"] {
        ensure!(text.to_lowercase().contains(&word.to_lowercase()), "no {word} in\n{text}");
    }
    Ok(())
}

/// The cases of the hostile guest that end it, and how. The guest itself is asked, so that no case
/// is forgotten here.
fn hostile_cases(stage: &Stage<'_>) -> Result<Vec<(String, Cause)>> {
    let list = VmSpec { command_line: "case=list".into(), ..VmSpec::guest("hostile") };
    let list = stage.lab.plan.with_vms(vec![list])?.standalone()?;
    let folder = stage.folder.join("list");
    let hardware = Machine::QemuTcg.hardware(0);
    let boot = plan::bare(&list, hardware, &folder, Duration::from_secs(60))?;
    let console = Seen::sound(&boot)?.take(0).console();
    let mut cases = Vec::new();
    for line in console.lines() {
        let Some(words) = line.trim().strip_prefix("@hostile case ") else { continue };
        let (case, expected) = words.split_once(' ').context("a case without an end")?;
        let cause = match expected {
            "survives" | "depends" => continue,
            "triple-fault" => Cause::TripleFault,
            "bad-memory" => Cause::BadMemory,
            "halted-for-ever" => Cause::HaltedForEver,
            "time-limit" => Cause::TimeLimit,
            "crash" => Cause::Crash,
            "unsupported" => Cause::Unsupported,
            other => anyhow::bail!("case {case} ends by {other:?}, which this test does not know"),
        };
        cases.push((case.to_owned(), cause));
    }
    ensure!(!cases.is_empty(), "the hostile guest lists no cases; log: {}", boot.log.display());
    Ok(cases)
}

/// Each optional feature of the CPU can be missing.
pub fn without_each_feature(stage: &Stage<'_>) -> Result<()> {
    let mut vms = Vec::new();
    let mut want = Vec::new();
    for (name, feature) in Features::all().iter_names() {
        let mut vm = small(name, "bench", "shim=native workload=cpuid,self-ipi,timer-tick,eoi");
        vm.without = vec![FeatureName(feature)];
        want.push(Want::Shutdown(u8::try_from(vms.len())?, 0));
        vms.push(vm);
    }
    together(stage, None, vms, &want)
}
