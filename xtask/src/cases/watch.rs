//! What must be seen in a run, and whether it was.

use anyhow::{Result, bail};
use hv_core::host::report::Cause;

use super::outcome::{End, Seen};
use crate::boot::{Boot, Payload, complaints};
use crate::session::Ended;

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

/// Runs `boot` and looks for everything in `want`, and that the hypervisor does not fail.
pub fn watch(boot: &Boot, want: &[Want]) -> Result<()> {
    let bare = matches!(boot.payload, Payload::Bare { .. });
    let (seen, ended) = Seen::run(boot)?;
    let mut missing: Vec<String> = Vec::new();
    let mut exit = None;
    match ended {
        Ended::Done => {}
        Ended::TimeLimit => missing.push(format!("an end within {} s", boot.limit.as_secs())),
        Ended::Exited(status) if bare => exit = status,
        Ended::Exited(status) => missing.push(format!(
            "the hypervisor's last word (the machine ended with {status:?})\n{}",
            complaints(&boot.folder)
        )),
    }
    let unmet: Vec<&Want> = want.iter().filter(|want| !want.is_met(&seen, exit)).collect();
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
    for (vm, end) in &seen.ends {
        // Of VMs that did what they should, one line.
        let whole = unmet.iter().any(|want| want.vm() == Some(*vm));
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

    /// Whether it was seen; `exit` is the exit status of the machine of a bare guest.
    fn is_met(&self, seen: &Seen, exit: Option<i32>) -> bool {
        let ended = |is: &dyn Fn(u8, &End) -> bool| seen.ends.iter().any(|(vm, end)| is(*vm, end));
        match *self {
            Want::Log(part) => seen.log.contains(part),
            Want::Console(vm, part) => {
                seen.vms.get(&vm).is_some_and(|vm| vm.console().contains(part))
            }
            // isa-debug-exit makes 2 * code + 1 of a bare guest's code.
            Want::Shutdown(0, code) if exit.is_some() => {
                exit.is_some_and(|status| status as u64 == 2 * code + 1)
            }
            Want::Shutdown(vm, code) => {
                ended(&|of, end| of == vm && end.cause == Some(Cause::Shutdown) && end.code == code)
            }
            Want::End(vm, cause, part) => {
                ended(&|of, end| of == vm && end.cause == Some(cause) && end.report.contains(part))
            }
            Want::Refuses(part) => {
                ended(&|_, end| end.cause == Some(Cause::Refused) && end.report.contains(part))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
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
            assert!(want.is_met(&seen, None), "{want:?}");
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
            assert!(!want.is_met(&seen, None), "{want:?}");
        }
    }

    #[test]
    fn a_bare_guest_ends_by_the_debug_port() {
        let met = |want: Want| want.is_met(&Seen::default(), Some(7));
        assert!(met(Want::Shutdown(0, 3)));
        assert!(!met(Want::Shutdown(0, 7)));
    }
}
