//! What must be seen in a run, and whether it was.

use anyhow::{Result, bail};
use hv_core::host::report::Cause;

use crate::boot::{Boot, Payload, complaints};
use crate::event::Event;
use crate::session::{Ended, Session};

/// Something that must be seen.
#[derive(Clone, Copy, Debug)]
pub enum Want {
    /// A line of the log contains this.
    Log(&'static str),
    /// The console of this VM contains this.
    Console(u8, &'static str),
    /// This VM shut down with this code. A bare guest is VM 0.
    Shutdown(u8, u64),
    /// This VM ended for this cause, with a report that contains this.
    End(u8, Cause, &'static str),
    /// The hypervisor or the start of a VM was refused, with a report that contains this.
    Refuses(&'static str),
}

struct VmEnd {
    vm: u8,
    cause: u32,
    code: u64,
    report: String,
}

/// What was seen.
#[derive(Default)]
struct Seen {
    log: String,
    consoles: Vec<(u8, Vec<u8>)>,
    ends: Vec<VmEnd>,
    faults: Vec<String>,
    exit: Option<i32>,
}

/// Runs `boot` and looks for everything in `want`, and that the hypervisor does not fail.
pub fn watch(boot: &Boot, want: &[Want]) -> Result<()> {
    let bare = matches!(boot.payload, Payload::Bare { .. });
    let mut seen = Seen::default();
    let mut missing: Vec<String> = Vec::new();
    match Session::start(boot)?.run(|event| seen.event(event))? {
        Ended::Done => {}
        Ended::TimeLimit => missing.push(format!("an end within {} s", boot.limit.as_secs())),
        Ended::Exited(status) if bare => seen.exit = status,
        Ended::Exited(status) => missing.push(format!(
            "the hypervisor's last word (the machine ended with {status:?})\n{}",
            complaints(&boot.folder)
        )),
    }
    let unmet: Vec<&Want> = want.iter().filter(|w| !seen.has(w)).collect();
    missing.extend(unmet.iter().map(|w| format!("{w:?}")));
    if missing.is_empty() && seen.faults.is_empty() {
        // Logs of tests that passed are small; images are not.
        let _ = std::fs::remove_file(boot.folder.join("paravane.iso"));
        return Ok(());
    }
    let mut text = format!("log: {}", boot.log.display());
    for missing in missing {
        text += &format!("\nmissing: {missing}");
    }
    for fault in &seen.faults {
        text += &format!("\n{fault}");
    }
    for end in &seen.ends {
        // Of VMs that did what they should, one line.
        let whole = unmet.iter().any(|want| want.vm() == Some(end.vm));
        let report = if whole { &end.report } else { end.report.lines().next().unwrap_or("") };
        text += &format!("\n{report}");
    }
    bail!("{text}")
}

impl Want {
    fn vm(&self) -> Option<u8> {
        match *self {
            Want::Console(vm, _) | Want::Shutdown(vm, _) | Want::End(vm, ..) => Some(vm),
            Want::Log(_) | Want::Refuses(_) => None,
        }
    }
}

impl Seen {
    fn event(&mut self, event: Event) {
        match event {
            Event::Console { vm, bytes } => {
                match self.consoles.iter_mut().find(|(other, _)| *other == vm) {
                    Some((_, text)) => text.extend(bytes),
                    None => self.consoles.push((vm, bytes)),
                }
            }
            Event::Log(line) => self.log += &format!("{line}\n"),
            Event::End { vm, cause, code, text } => {
                self.ends.push(VmEnd { vm, cause, code, report: text });
            }
            Event::Panic { text } | Event::Malformed(text) => self.faults.push(text),
            Event::Mark { .. }
            | Event::Stat { .. }
            | Event::Top { .. }
            | Event::Machine(_)
            | Event::Done => {}
        }
    }

    fn has(&self, want: &Want) -> bool {
        let ended = |is: &dyn Fn(&VmEnd) -> bool| self.ends.iter().any(is);
        match *want {
            Want::Log(part) => self.log.contains(part),
            Want::Console(vm, part) => self.consoles.iter().any(|(other, bytes)| {
                *other == vm && String::from_utf8_lossy(bytes).contains(part)
            }),
            // isa-debug-exit makes 2 * code + 1 of a bare guest's code.
            Want::Shutdown(0, code) if self.exit.is_some() => {
                self.exit.is_some_and(|status| status as u64 == 2 * code + 1)
            }
            Want::Shutdown(vm, code) => ended(&|end| {
                end.vm == vm && end.cause == Cause::Shutdown as u32 && end.code == code
            }),
            Want::End(vm, cause, part) => {
                ended(&|end| end.vm == vm && end.cause == cause as u32 && end.report.contains(part))
            }
            Want::Refuses(part) => {
                ended(&|end| end.cause == Cause::Refused as u32 && end.report.contains(part))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_core::host::link::HYPERVISOR;

    #[test]
    fn wants_are_met_by_what_was_seen_and_nothing_else() {
        let mut seen = Seen::default();
        seen.event(Event::Console { vm: 1, bytes: b"hel".to_vec() });
        seen.event(Event::Console { vm: 1, bytes: b"lo".to_vec() });
        let shutdown = Cause::Shutdown as u32;
        seen.event(Event::End { vm: 1, cause: shutdown, code: 3, text: "bye".into() });
        let refused = Cause::Refused as u32;
        seen.event(Event::End { vm: HYPERVISOR, cause: refused, code: 0, text: "no EPT".into() });
        for want in [
            Want::Console(1, "hello"),
            Want::Shutdown(1, 3),
            Want::End(1, Cause::Shutdown, "bye"),
            Want::Refuses("EPT"),
        ] {
            assert!(seen.has(&want), "{want:?}");
        }
        for want in [
            Want::Console(0, "hello"),
            Want::Shutdown(1, 0),
            Want::Shutdown(0, 3),
            Want::End(1, Cause::Crash, ""),
            Want::End(1, Cause::Shutdown, "hello"),
            Want::Refuses("VMX"),
            Want::Log("hello"),
        ] {
            assert!(!seen.has(&want), "{want:?}");
        }
    }

    #[test]
    fn a_bare_guest_ends_by_the_debug_port() {
        let seen = Seen { exit: Some(7), ..Seen::default() };
        assert!(seen.has(&Want::Shutdown(0, 3)));
        assert!(!seen.has(&Want::Shutdown(0, 7)));
    }
}
