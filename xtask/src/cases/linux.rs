//! Cases with a distribution's kernel.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hv_core::host::report::Cause;
use hv_core::vm::machine_type::MachineType;

use super::Stage;
use super::outcome::Seen;
use super::watch::{Want, watch};
use crate::boot::{Boot, Payload};
use crate::event::Event;
use crate::linux::{self, CLOCK_CHECK, GREETING, PROMPT, WORKLOADS};
use crate::machine::{Hardware, Machine};
use crate::plan;
use crate::session::{Ended, Session, Step};
use crate::vmfile::{CommandLine, Vcpus, VmSpec};

/// What is done when something is on the console: behind what was seen before.
const STEPS: [(&str, &str); 4] = [
    (GREETING, ""),
    // What the kernel has said as a warning or worse.
    (PROMPT, "dmesg -r | grep '^<[0-4]>'\r"),
    // The answer is not in the question, which the terminal repeats.
    (PROMPT, "echo $((6 * 7)) processes: $(ls -d /proc/[0-9]* | wc -l)\r"),
    ("42 processes:", "poweroff\r"),
];

/// What the kernel complains of on a minimal machine: what is not there.
const ON_MINIMAL: &[&str] = &[
    "ACPI: No IOAPIC entries present",
    "ACPI: setting ELCR to # (from ffff)",
    "PCI: Fatal: No config space access function found",
    "PCI: System does not support PCI",
];

/// What it complains of on a VM of type `pc` and not on a PC of QEMU's.
const ON_PC: &[&str] =
    &["PCI: Fatal: No config space access function found", "PCI: System does not support PCI"];

/// Debian's kernel boots to a shell, the shell takes commands, and the guest powers off. The kernel complains of
/// what a minimal machine does not have, and of nothing else.
pub fn boots_to_a_shell(stage: &Stage<'_>) -> Result<()> {
    let vm = stage.lab.linux(stage.machine, MachineType::Minimal, "quiet")?;
    expect(&complaints(&talk(&with_hypervisor(stage, vm)?, &STEPS)?), ON_MINIMAL)
}

/// The same on a machine with the devices of a PC, where the kernel complains of nothing else than on QEMU's PC
/// without the hypervisor.
pub fn boots_on_a_pc(stage: &Stage<'_>) -> Result<()> {
    let vm = stage.lab.linux(stage.machine, MachineType::Pc, "quiet")?;
    let hardware = Machine::QemuTcg.hardware(0).for_figures();
    let bare = plan::bare(&vm, hardware, &stage.folder.join("bare"), Duration::from_secs(120))?;
    let known = complaints(&talk(&bare, &STEPS)?);
    let said = complaints(&talk(&with_hypervisor(stage, vm)?, &STEPS)?);
    expect(&said.difference(&known).cloned().collect(), ON_PC)
}

/// What it says where it does not trust the clocks of several CPUs.
const UNSTABLE: [&str; 4] = [
    "Unstable clock detected",
    "keep using the local clock",
    "trace_clock=local",
    "on the kernel command line",
];

/// The same with work for all of them, and what else is asked of four CPUs.
const LOAD: [(&str, &str); 5] = [
    (GREETING, ""),
    (
        PROMPT,
        "for i in 1 2 3 4 5 6; do (n=0; while [ $n -lt 5 ]; do /bin/true; n=$((n+1)); done; \
         dd if=/dev/zero bs=64k count=16 of=/dev/null 2>/dev/null) & done; wait; echo $((6 * 8)) done\r",
    ),
    // What is typed while the kernel's words are shown would stand between them.
    ("48 done", "dmesg -r | grep '^<[0-4]>'; echo $((6 * 6)) said\r"),
    ("36 said", "echo $((6 * 7)) of $(grep -c ^processor /proc/cpuinfo)\r"),
    ("42 of 4", "poweroff\r"),
];

/// The kernel has four CPUs, keeps them busy, and complains of nothing but what a minimal machine does not have: of
/// no CPU that stalls or is stuck.
pub fn runs_on_four_vcpus(stage: &Stage<'_>) -> Result<()> {
    let mut vm = stage.lab.linux(stage.machine, MachineType::Minimal, "quiet")?;
    vm.vcpus = Vcpus(4);
    let plan = stage.lab.plan.with_vms(vec![vm])?;
    let hardware = Hardware { cpus: 2, ..stage.hardware(&plan.vms) };
    let boot = plan.boot(hardware, &stage.folder, Duration::from_secs(600))?;
    let mut said = complaints(&talk(&boot, &LOAD)?);
    // It counts the CPUs that it starts as if it warned of them.
    said.retain(|line| !line.trim_matches([' ', '#']).is_empty());
    // It trusts the TSCs of several CPUs if they are Intel's, or say that they are invariant: QEMU's are neither.
    if stage.machine == Machine::QemuTcg {
        said.retain(|line| !UNSTABLE.iter().any(|part| line.contains(part)));
    }
    expect(&said, ON_MINIMAL)
}

/// Two VMs with the kernel, of two vCPUs each, do their work beside a reference guest, on two CPUs.
pub fn runs_beside_another(stage: &Stage<'_>) -> Result<()> {
    let linux = |name: &str| -> Result<VmSpec> {
        let line = "quiet paravane.run=forks";
        let vm = stage.lab.linux(stage.machine, MachineType::Minimal, line)?;
        Ok(VmSpec { name: name.to_owned(), vcpus: Vcpus(2), ..vm })
    };
    let bench = VmSpec {
        vcpus: Vcpus(2),
        command_line: CommandLine("workload=cpuid,timer-tick,ipi-wake,fork-join ops=50".to_owned()),
        ..VmSpec::guest("bench")
    };
    let plan = stage.lab.plan.with_vms(vec![linux("one")?, linux("two")?, bench])?;
    let hardware = Hardware { cpus: 2, memory_mib: 1024, ..stage.hardware(&plan.vms) };
    let want = [
        Want::Console(0, "workload forks end"),
        Want::Shutdown(0, 0),
        Want::Console(1, "workload forks end"),
        Want::Shutdown(1, 0),
        Want::Console(2, "@bench done rows=4"),
        Want::Shutdown(2, 0),
    ];
    watch(&plan.boot(hardware, &stage.folder, Duration::from_secs(600))?, &want)
}

fn expect(said: &BTreeSet<String>, expected: &[&str]) -> Result<()> {
    let said: Vec<_> = said.iter().map(String::as_str).collect();
    ensure!(
        said == expected,
        "the kernel complains of\n  {}\nand not of\n  {}",
        said.join("\n  "),
        expected.join("\n  ")
    );
    Ok(())
}

/// Warnings and worse among lines as `dmesg -r` has them, without their times; `#` stands for each number.
fn complaints(console: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(console);
    let lines = text.lines().filter(|line| line.starts_with('<'));
    let said = lines.filter_map(|line| line.split_once("] ").map(|(_, said)| said.trim_end()));
    said.map(without_numbers).collect()
}

fn without_numbers(line: &str) -> String {
    let words = line.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let word = |word: &str| match word.char_indices().next_back() {
        Some((last, c)) if number(word) && !c.is_ascii_alphanumeric() => {
            format!("#{}", &word[last..])
        }
        Some(_) if number(word) => "#".to_owned(),
        _ => word.to_owned(),
    };
    words.map(word).collect()
}

/// Without the hypervisor the same kernel does all of its work: what fails with it then is its fault.
pub fn works_bare(stage: &Stage<'_>) -> Result<()> {
    let line = linux::line(&format!("quiet paravane.run={}", WORKLOADS.join(",")));
    let vm = VmSpec {
        command_line: CommandLine(line),
        ..stage.lab.linux(stage.machine, MachineType::Minimal, "")?
    };
    let hardware = stage.machine.hardware(0);
    let boot = plan::bare(&vm, hardware, &stage.folder, Duration::from_secs(120))?;
    let (mut seen, ended) = Seen::run(&boot)?;
    let (console, log) = (seen.take(0).console(), boot.log.display());
    ensure!(ended == Ended::Exited(Some(0)), "no power-off but {ended:?}; log: {log}");
    for name in WORKLOADS {
        let (begin, end) = (format!("workload {name} begin"), format!("workload {name} end"));
        let done = console.split_once(&begin).is_some_and(|(_, rest)| rest.contains(&end));
        ensure!(done, "the workload {name} does not begin and end; log: {log}");
    }
    ensure!(console.contains(GREETING), "no greeting; log: {log}");
    Ok(())
}

/// The kernel's clock goes like that of the PC, to 100 millionths over a minute.
pub fn keeps_time(stage: &Stage<'_>) -> Result<()> {
    let line = format!("quiet paravane.run={CLOCK_CHECK}");
    let vm = stage.lab.linux(stage.machine, MachineType::Pc, &line)?;
    let console = talk(&with_hypervisor(stage, vm)?, &[])?;
    let (kernel, clock) = clock_line(&console).context("the guest compared no clocks")?;
    ensure!(clock >= 60, "the clock was watched for {clock} s only");
    let off = (kernel - clock * 1_000_000_000) * 1_000_000 / (clock * 1_000_000_000);
    ensure!(off.abs() <= 100, "{clock} s are {kernel} ns for the kernel: off by {off} millionths");
    Ok(())
}

/// What the line of [`CLOCK_CHECK`] says: nanoseconds of the kernel, and seconds of the other clock.
fn clock_line(console: &[u8]) -> Option<(i64, i64)> {
    let text = String::from_utf8_lossy(console);
    let (ns, rest) = text.split_once("clock: ")?.1.split_once(" ns in ")?;
    Some((ns.parse().ok()?, rest.split_once(" s")?.0.parse().ok()?))
}

/// A boot of one VM. Time is counted by the machine: on a busy host, clocks that follow the host's contradict each
/// other, and the kernel complains of that.
fn with_hypervisor(stage: &Stage<'_>, vm: VmSpec) -> Result<Boot> {
    let plan = stage.lab.plan.with_vms(vec![vm])?;
    plan.boot(stage.hardware(&plan.vms), &stage.folder, Duration::from_secs(240))
}

/// Boots, types what `steps` say, and wants the guest to power off then. Gives what was on its console.
fn talk(boot: &Boot, steps: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut boot = boot.clone();
    boot.input = true;
    let mut session = Session::start(&boot)?;
    let mut input = session.take_input().context("the machine takes no input")?;
    let (mut console, mut seen, mut steps, mut end) = (Vec::new(), 0, steps.iter(), None);
    let mut next = steps.next();
    let ended = loop {
        match session.next(Duration::from_secs(1))? {
            Step::Event(Event::Console { bytes, .. }) => console.extend(bytes),
            Step::Event(Event::End { cause, code, text, .. }) => end = Some((cause, code, text)),
            Step::Event(Event::Panic { text } | Event::Malformed(text)) => bail!("{text}"),
            Step::Event(_) | Step::Idle => {}
            Step::Ended(ended) => break ended,
        }
        while let Some((text, answer)) = next
            && let Some(at) = find(&console[seen..], text)
        {
            seen += at + text.len();
            input.send(0, answer.as_bytes())?;
            next = steps.next();
        }
    };
    // The image is large and can be made again.
    let _ = std::fs::remove_file(boot.folder.join("paravane.iso"));
    let log = boot.log.display();
    if let Some((text, _)) = next {
        let report = end.map_or(format!("{ended:?}"), |(_, _, text)| text);
        bail!("the console has no {text:?}; log: {log}\n{report}");
    }
    if matches!(boot.payload, Payload::Bare { .. }) {
        ensure!(ended == Ended::Exited(Some(0)), "no power-off but {ended:?}; log: {log}");
        return Ok(console);
    }
    let (cause, code, report) = end.with_context(|| format!("{ended:?}; log: {log}"))?;
    ensure!(
        cause == Cause::Shutdown as u32 && code == 0 && ended == Ended::Done,
        "no power-off with code 0, and then {ended:?}; log: {log}\n{report}"
    );
    Ok(console)
}

fn find(text: &[u8], part: &str) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_alike_whatever_their_numbers() {
        let console =
            b"<4>[    0.5] MP-BIOS bug: 8254 at 0x1f\r\nelse\r\n<3>[    2.0] 7 of x2apic\r\n";
        let said: Vec<_> = complaints(console).into_iter().collect();
        assert_eq!(said, ["# of x2apic", "MP-BIOS bug: # at #"]);
    }

    #[test]
    fn no_answer_is_found_in_its_own_question() {
        for pair in STEPS.windows(2).chain(LOAD.windows(2)) {
            assert!(!pair[0].1.contains(pair[1].0), "{}", pair[0].1);
        }
        assert_eq!(find(b"abcabd", "abd"), Some(3));
        assert_eq!(find(b"ab", "abd"), None);
    }

    #[test]
    fn the_line_about_the_clocks_is_read() {
        let console = b"workload clock begin\r\nclock: 59999064520 ns in 60 s\r\n";
        assert_eq!(clock_line(console), Some((59_999_064_520, 60)));
        assert_eq!(clock_line(b"clock: ns in 60 s"), None);
    }
}
