//! `run`: guests with the console on the terminal.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use hv_core::host::report::Cause;
use hv_core::host::stat::Moment;

use crate::boot::complaints;
use crate::cli::RunArgs;
use crate::event::Event;
use crate::machine::{Hardware, Machine, Purpose};
use crate::session::{Ended, Session, Step};
use crate::terminal::{Keyboard, RawMode};
use crate::workspace::Workspace;
use crate::{build, linux, plan, stat, vmfile};

/// The exit status of a run that took too long, as `timeout` has it.
const TIMED_OUT: u8 = 124;

/// Runs until the last VM has ended.
pub fn run(workspace: &Workspace, args: &RunArgs) -> Result<ExitCode> {
    let folder = workspace.run_folder("run")?;
    let limit = Duration::from_secs(if args.limit == 0 { 365 * 86_400 } else { args.limit });
    let mut boot = if args.bare {
        let mut vm = plan::vm(&args.image, &args.guest)?;
        linux::resolve(workspace, &mut vm)?;
        vm.image = linux::text(&build::guest(workspace, &vm.image)?)?;
        let standard = Machine::QemuTcg.hardware(0);
        let hardware = Hardware {
            cpu_model: args.hardware.cpu_model.clone().unwrap_or(standard.cpu_model.clone()),
            cpus: args.hardware.cpus,
            ..standard
        };
        plan::bare(&vm, hardware, &folder, limit)?
    } else {
        let file = args.config.as_deref().map(vmfile::read).transpose()?;
        let mut vms = match &file {
            Some(file) => file.vms.clone(),
            None => vec![plan::vm(&args.image, &args.guest)?],
        };
        vms.iter_mut().for_each(|vm| vm.profile |= args.top);
        let hardware = plan::hardware(args.machine, &args.hardware, Purpose::Run, &vms)?;
        if let Some(file) = &file {
            file.check_on(&hardware)?;
        }
        if linux::is_name(&args.image) && args.config.is_none() {
            vms.iter_mut().for_each(|vm| linux::tell_the_clock_aloud(vm, Some(hardware.vendor)));
        }
        plan::make(workspace, vms)?.boot(hardware, &folder, limit)?
    };
    boot.input = true;
    let aloud = args.log.as_deref() == Some(Path::new("-"));
    if let Some(path) = args.log.as_ref().filter(|_| !aloud) {
        boot.log = std::path::absolute(path)?;
    }
    eprintln!(
        "{} on {} ({}). Ctrl-A x ends it. Log: {}",
        if args.bare { "Bare guest" } else { "Paravane" },
        boot.hardware.machine.name(),
        boot.hardware.cpu_model,
        boot.log.display()
    );
    let mut session = Session::start(&boot)?;
    let raw = RawMode::enter()?;
    let keyboard = session.take_input().map(Keyboard::start);
    let mut outcome = Outcome { code: None, bare: args.bare, aloud, top: args.top };
    let ended = loop {
        if keyboard.as_ref().is_some_and(Keyboard::leaves) {
            break None;
        }
        match session.next(Duration::from_millis(50))? {
            Step::Event(event) => outcome.see(event)?,
            Step::Idle => {}
            Step::Ended(ended) => break Some(ended),
        }
    };
    drop(session);
    drop(raw);
    let code = outcome.code(ended, &folder);
    // The ISO is large and can be made again.
    let _ = fs::remove_file(folder.join("paravane.iso"));
    Ok(ExitCode::from(code))
}

struct Outcome {
    code: Option<u8>,
    bare: bool,
    /// The hypervisor's log is shown.
    aloud: bool,
    /// What cost most exits is shown.
    top: bool,
}

impl Outcome {
    fn see(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Console { bytes, .. } => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()?;
            }
            Event::Log(line) if self.aloud => say(&line.to_string()),
            Event::Stat { stat, .. } if self.top && stat.moment == Moment::End as u32 => {
                say(&stat::exits(&stat));
            }
            Event::Top { entries, .. } if self.top => say(&stat::top(&entries)),
            Event::End { cause, code, text, .. } => {
                let shutdown = cause == Cause::Shutdown as u32;
                let code = if shutdown { code as u8 } else { 1 };
                // Of several VMs the worst decides.
                self.code = Some(self.code.unwrap_or(0).max(code));
                if !shutdown || code != 0 {
                    say(&text);
                }
            }
            Event::Panic { text } => {
                self.code = Some(101);
                say(&text);
            }
            Event::Malformed(text) => say(&text),
            Event::Machine(_)
            | Event::Log(_)
            | Event::Mark { .. }
            | Event::Stat { .. }
            | Event::Top { .. }
            | Event::Done => {}
        }
        Ok(())
    }

    fn code(&self, ended: Option<Ended>, folder: &Path) -> u8 {
        match ended {
            None => 0,
            Some(Ended::TimeLimit) => {
                eprintln!("The time limit was reached.");
                TIMED_OUT
            }
            // isa-debug-exit makes 2 * code + 1 of a guest's code.
            Some(Ended::Exited(Some(status))) if self.bare && status % 2 == 1 => (status / 2) as u8,
            Some(Ended::Exited(Some(0))) if self.bare => 0,
            Some(Ended::Exited(status)) if self.code.is_none() => {
                eprintln!(
                    "The machine ended before the guest did (status {status:?}).\n{}",
                    complaints(folder)
                );
                1
            }
            Some(_) => self.code.unwrap_or_else(|| {
                eprintln!("No VM has reported its end.");
                1
            }),
        }
    }
}

/// Prints lines that stay lines while the terminal is raw.
fn say(text: &str) {
    eprint!("{}\r\n", text.replace('\n', "\r\n"));
}
