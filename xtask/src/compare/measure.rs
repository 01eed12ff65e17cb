//! One boot of the benchmark guest: from the machine's events to joined rows.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hv_core::host::report::Cause;

use super::join::{Row, join};
use super::progress::Progress;
use super::rows::{GuestLine, GuestRow, parse};
use crate::event::{Event, Section};
use crate::machine::Hardware;
use crate::plan::Plan;
use crate::session::Session;
use crate::vmfile::VmSpec;

/// What one boot has said so far.
#[derive(Default)]
struct Heard {
    line: Vec<u8>,
    rows: Vec<GuestRow>,
    sections: Vec<Section>,
    announced: Option<usize>,
    failure: Option<String>,
}

/// Boots the guest of `spec` and joins its rows with the hypervisor's marks.
pub fn one(
    plan: &Plan,
    spec: &VmSpec,
    hardware: &Hardware,
    folder: &Path,
    limit: Duration,
    progress: &Progress,
) -> Result<Vec<Row>> {
    let boot = plan.with_vms(vec![spec.clone()])?.boot(hardware.clone(), folder, limit)?;
    let line = progress.line(&format!("{} {}", hardware.machine.name(), spec.name));
    let mut heard = Heard::default();
    let log = boot.log.display().to_string();
    let ended = Session::start(&boot)?.run(|event| {
        heard.event(event);
        line.say(&match heard.rows.last() {
            Some(row) => format!("{} workloads, the last: {}", heard.rows.len(), row.name),
            None => "boots".to_owned(),
        });
    })?;
    // The image is large and can be made again.
    let _ = std::fs::remove_file(folder.join("paravane.iso"));
    line.end(&format!("{} workloads", heard.rows.len()));
    let rows = heard
        .rows()
        .and_then(|(rows, sections)| Ok(join(spec.policy.0, hardware, rows, sections)?));
    rows.with_context(|| format!("run ended with {ended:?}; log: {log}"))
}

impl Heard {
    fn event(&mut self, event: Event) {
        match event {
            Event::Console { vm: 0, bytes } => {
                for byte in bytes {
                    if byte != b'\n' {
                        self.line.push(byte);
                        continue;
                    }
                    let line = std::mem::take(&mut self.line);
                    match parse(&String::from_utf8_lossy(&line)) {
                        None => {}
                        Some(Ok(GuestLine::Row(row))) => self.rows.push(row),
                        Some(Ok(GuestLine::Done(rows))) => self.announced = Some(rows),
                        Some(Ok(GuestLine::Fail(text))) => {
                            self.fail(format!("the guest failed: {text}"))
                        }
                        Some(Err(error)) => self.fail(format!("{error:#}")),
                    }
                }
            }
            Event::Mark { vm: 0, section } => self.sections.push(section),
            Event::End { cause, code, text, .. } => {
                if cause != Cause::Shutdown as u32 || code != 0 {
                    self.fail(text);
                }
            }
            Event::Panic { text } | Event::Malformed(text) => self.fail(text),
            Event::Console { .. }
            | Event::Mark { .. }
            | Event::Stat { .. }
            | Event::Top { .. }
            | Event::Log(_)
            | Event::Machine(_)
            | Event::Done => {}
        }
    }

    /// The first failure says most.
    fn fail(&mut self, text: String) {
        self.failure.get_or_insert(text);
    }

    fn rows(&self) -> Result<(&[GuestRow], &[Section])> {
        if let Some(failure) = &self.failure {
            bail!("{failure}");
        }
        let announced = self.announced.context("the guest did not finish")?;
        ensure!(
            announced == self.rows.len() && announced > 0,
            "the guest announced {announced} rows and printed {}",
            self.rows.len()
        );
        Ok((&self.rows, &self.sections))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Event {
        Event::Console { vm: 0, bytes: text.as_bytes().to_vec() }
    }

    const ROW: &str = "@bench row id=1 name=cpuid ops=10 ticks=20 empty=1 exits=10\n";

    #[test]
    fn lines_may_come_in_pieces() {
        let mut heard = Heard::default();
        heard.event(console(&ROW[..17]));
        heard.event(console(&ROW[17..]));
        heard.event(console("@bench done rows=1\n"));
        assert_eq!(heard.rows().unwrap().0.len(), 1);
    }

    #[test]
    fn an_unfinished_or_short_run_is_an_error() {
        let mut heard = Heard::default();
        heard.event(console(ROW));
        assert!(heard.rows().unwrap_err().to_string().contains("did not finish"));
        heard.event(console("@bench done rows=2\n"));
        assert!(heard.rows().unwrap_err().to_string().contains("announced 2"));
        heard.event(console("@bench fail no timer\n@bench fail other\n"));
        assert_eq!(heard.rows().unwrap_err().to_string(), "the guest failed: no timer");
    }
}
