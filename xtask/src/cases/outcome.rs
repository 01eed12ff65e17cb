//! What came of several VMs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hv_core::host::report::Cause;
use hv_core::host::stat::{Moment, Stat};

use super::Stage;
use crate::event::Event;
use crate::machine::Hardware;
use crate::session::Session;
use crate::vmfile::VmSpec;

/// What a VM has said, and how it ended.
#[derive(Default)]
pub struct Outcome {
    console: Vec<u8>,
    /// Why it ended, and its code.
    pub end: Option<(Option<Cause>, u64)>,
    stat: Option<Box<Stat>>,
    log: String,
}

impl Outcome {
    /// Its console.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }

    /// All its exits.
    pub fn stat(&self) -> Result<&Stat> {
        self.stat.as_deref().with_context(|| format!("no figures of the end; log: {}", self.log))
    }

    /// It ended by itself, as it should, and its console has this.
    pub fn finished(&self, text: &str) -> Result<&Outcome> {
        let console = self.console();
        ensure!(
            self.end == Some((Some(Cause::Shutdown), 0)) && console.contains(text),
            "a VM ended by {:?}; log: {}\n{console}",
            self.end,
            self.log
        );
        Ok(self)
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
    let mut seen: BTreeMap<u8, Outcome> = BTreeMap::new();
    let mut faults = Vec::new();
    Session::start(&boot)?.run(|event| match event {
        Event::Console { vm, bytes } => seen.entry(vm).or_default().console.extend(bytes),
        Event::Stat { vm, stat } if stat.moment == Moment::End as u32 => {
            seen.entry(vm).or_default().stat = Some(stat);
        }
        Event::End { vm, cause, code, .. } => {
            seen.entry(vm).or_default().end = Some((Cause::from_number(cause), code));
        }
        Event::Panic { text } | Event::Malformed(text) => faults.push(text),
        _ => {}
    })?;
    let log = boot.log.display().to_string();
    ensure!(faults.is_empty(), "{name}: {faults:?}; log: {log}");
    Ok(std::array::from_fn(|vm| Outcome {
        log: log.clone(),
        ..seen.remove(&(vm as u8)).unwrap_or_default()
    }))
}
