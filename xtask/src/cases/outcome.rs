//! What came of a boot: what each VM said, and how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hv_core::host::report::Cause;
use hv_core::host::stat::{Moment, Stat};

use super::Stage;
use crate::boot::Boot;
use crate::compare::{GuestLine, GuestRow, parse};
use crate::event::Event;
use crate::machine::Hardware;
use crate::session::{Ended, Session};
use crate::vmfile::VmSpec;

/// What a VM has said, and how it ended.
#[derive(Debug, Default)]
pub struct Outcome {
    console: Vec<u8>,
    pub end: Option<End>,
    stat: Option<Box<Stat>>,
    /// Where all of it is.
    log: String,
}

/// The end of a VM, or of what was to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// `None` for a cause that is not known.
    pub cause: Option<Cause>,
    pub code: u64,
    pub report: String,
}

/// What was seen in a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// By their numbers.
    pub vms: BTreeMap<u8, Outcome>,
    /// Whose, and in which order.
    pub ends: Vec<(u8, End)>,
    /// The lines of the hypervisor's log.
    pub log: String,
    /// What must never be seen.
    pub faults: Vec<String>,
    /// Where all of it is.
    path: String,
}

impl Outcome {
    /// Its console.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }

    /// Why it ended, if it has.
    pub fn cause(&self) -> Option<Cause> {
        self.end.as_ref()?.cause
    }

    /// All its exits.
    pub fn stat(&self) -> Result<&Stat> {
        self.stat.as_deref().with_context(|| format!("no figures of the end; log: {}", self.log))
    }

    /// It ended by itself, as it should, and its console has this.
    pub fn finished(&self, text: &str) -> Result<&Outcome> {
        let console = self.console();
        let ended = self.end.as_ref().map(|end| (end.cause, end.code));
        ensure!(
            ended == Some((Some(Cause::Shutdown), 0)) && console.contains(text),
            "a VM ended by {ended:?}; log: {}\n{console}",
            self.log
        );
        Ok(self)
    }

    /// What the benchmark guest has measured in it.
    pub fn rows(&self) -> Result<Vec<GuestRow>> {
        let console = self.console();
        let lines = console.lines().filter_map(parse);
        let row = |line| match line {
            Ok(GuestLine::Row(row)) => Some(Ok(row)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        lines.filter_map(row).collect()
    }

    /// The row of a workload.
    pub fn row(&self, workload: &str) -> Result<GuestRow> {
        let row = self.rows()?.into_iter().find(|row| row.name == workload);
        row.with_context(|| format!("no row {workload}; log: {}\n{}", self.log, self.console()))
    }
}

impl Seen {
    /// Runs a boot to its end.
    pub fn run(boot: &Boot) -> Result<(Seen, Ended)> {
        let mut seen = Seen { path: boot.log.display().to_string(), ..Seen::default() };
        let ended = Session::start(boot)?.run(|event| seen.event(event))?;
        Ok((seen, ended))
    }

    /// The same, in which the hypervisor must not fail.
    pub fn sound(boot: &Boot) -> Result<Seen> {
        let (seen, _) = Seen::run(boot)?;
        ensure!(seen.faults.is_empty(), "{:?}; log: {}", seen.faults, boot.log.display());
        Ok(seen)
    }

    /// Adds an event.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Console { vm, bytes } => self.vm(vm).console.extend(bytes),
            Event::Log(line) => self.log += &format!("{line}\n"),
            Event::Stat { vm, stat } if stat.moment == Moment::End as u32 => {
                self.vm(vm).stat = Some(stat);
            }
            Event::End { vm, cause, code, text } => {
                let end = End { cause: Cause::from_number(cause), code, report: text };
                self.vm(vm).end = Some(end.clone());
                self.ends.push((vm, end));
            }
            Event::Panic { text } | Event::Malformed(text) => self.faults.push(text),
            Event::Mark { .. }
            | Event::Stat { .. }
            | Event::Top { .. }
            | Event::Machine(_)
            | Event::Done => {}
        }
    }

    fn vm(&mut self, vm: u8) -> &mut Outcome {
        self.vms.entry(vm).or_default()
    }

    /// What came of a VM.
    pub fn take(&mut self, vm: u8) -> Outcome {
        Outcome { log: self.path.clone(), ..self.vms.remove(&vm).unwrap_or_default() }
    }
}

/// Runs these VMs on so many CPUs until all have ended.
pub fn run<const N: usize>(
    stage: &Stage<'_>,
    name: &str,
    cpus: u32,
    vms: [VmSpec; N],
) -> Result<[Outcome; N]> {
    let plan = stage.lab.plan.with_vms(vms.into())?;
    let hardware = Hardware { cpus, ..stage.hardware(&plan.vms) };
    let boot = plan.boot(hardware, &stage.folder.join(name), Duration::from_secs(300))?;
    let mut seen = Seen::sound(&boot).with_context(|| name.to_owned())?;
    Ok(std::array::from_fn(|vm| seen.take(vm as u8)))
}
