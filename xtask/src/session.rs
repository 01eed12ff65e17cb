//! One run of one machine: started, listened to, ended in time.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::boot::{Boot, Payload, medium};
use crate::event::Event;
use crate::machine::Serial;
use crate::serial::{Input, raw_terminal, swallow};
use crate::transcript::pump;

/// How long a machine may take to end when it does so by itself.
const GRACE: Duration = Duration::from_millis(500);

/// What [`Session::next`] found.
#[derive(Debug)]
pub enum Step {
    Event(Event),
    /// Nothing, for as long as the caller was willing to wait.
    Idle,
    Ended(Ended),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The hypervisor said that it has nothing left to run.
    Done,
    /// The machine ended without that; its exit status, if it has one.
    Exited(Option<i32>),
    /// The time was over.
    TimeLimit,
}

/// A machine that runs. Dropping it ends the machine.
pub struct Session {
    child: Child,
    events: Receiver<Event>,
    reader: Option<JoinHandle<Result<()>>>,
    input: Option<Input>,
    deadline: Instant,
    /// How long the machine may take to end by itself after its last frame.
    grace: Duration,
    done: bool,
    // The terminal's other side stays open, or reading it would fail before the machine opens it.
    _terminal: Option<OwnedFd>,
}

impl Session {
    /// Makes what the machine boots from and starts it.
    pub fn start(boot: &Boot) -> Result<Session> {
        boot.hardware.ensure()?;
        let medium = medium(boot)?;
        let bare = matches!(boot.payload, Payload::Bare { .. });
        let mut terminal = None;
        let mut input: Option<Box<dyn Write + Send>> = None;
        let serial = match (bare, boot.input) {
            (true, _) => Serial::Stdio,
            (false, false) => Serial::File(boot.folder.join("com1.txt")),
            (false, true) => {
                let pair = raw_terminal()?;
                let path = nix::unistd::ttyname(&pair.slave)?;
                terminal = Some(pair.slave);
                let master = File::from(pair.master);
                swallow(master.try_clone()?);
                input = Some(Box::new(master));
                Serial::Terminal(path)
            }
        };
        let mut command = ends_with_us(&boot.hardware.command(&boot.folder, &medium, &serial)?);
        let log = File::create(&boot.log)
            .with_context(|| format!("cannot write {}", boot.log.display()))?;
        let errors = File::create(boot.folder.join("stderr.txt"))?;
        let mut child = command
            .stdin(if bare { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let output = child.stdout.take().context("the machine has no output")?;
        if let Some(stdin) = child.stdin.take() {
            input = Some(Box::new(stdin));
        }
        let (sender, events) = channel();
        let images = boot.images.clone();
        let reader = thread::spawn(move || pump(output, &images, log, &sender));
        Ok(Session {
            child,
            events,
            reader: Some(reader),
            input: input.map(|to| Input::new(to, !bare)),
            deadline: Instant::now() + boot.limit,
            grace: if boot.hardware.machine.ends_by_itself() { GRACE } else { Duration::ZERO },
            done: false,
            _terminal: terminal,
        })
    }

    /// The way to type; `None` if nothing will be typed, or when it was taken before.
    pub fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Waits for what happens next, at most `patience`. After [`Step::Ended`] there is nothing.
    pub fn next(&mut self, patience: Duration) -> Result<Step> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left.min(patience)) {
            Ok(event) => {
                if event == Event::Done {
                    self.done = true;
                    self.deadline = self.deadline.min(Instant::now() + self.grace);
                }
                Ok(Step::Event(event))
            }
            Err(RecvTimeoutError::Timeout) if left > patience => Ok(Step::Idle),
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                self.finish()?;
                Ok(Step::Ended(if self.done { Ended::Done } else { Ended::TimeLimit }))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.finish()?;
                // Output is closed; a machine that does not end then has lost its way.
                let status = self.wait(GRACE * 10);
                Ok(Step::Ended(if self.done { Ended::Done } else { Ended::Exited(status) }))
            }
        }
    }

    /// The number of the process that is the machine.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The time that the machine has had of the host's CPUs, if the host says it.
    pub fn cpu_time(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        cpu_time(&text)
    }

    /// Runs to the end and gives each event to `see`.
    pub fn run(mut self, mut see: impl FnMut(Event)) -> Result<Ended> {
        loop {
            match self.next(Duration::from_secs(1))? {
                Step::Event(event) => see(event),
                Step::Idle => {}
                Step::Ended(ended) => return Ok(ended),
            }
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<i32> {
        let until = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.code(),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
                _ => {
                    self.kill();
                    return None;
                }
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        match self.reader.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => bail!("the reader of the machine's output failed"),
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself meanwhile.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command, ended by the kernel when the thread that starts it is gone, however that comes: an
/// emulator that nobody listens to would run for ever.
fn ends_with_us(command: &Command) -> Command {
    // From util-linux, which every Debian has.
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
        let _ = self.finish();
    }
}

/// Of a process, from its `stat` (proc(5)): the name in it may hold anything but ends in the last `)`.
fn cpu_time(stat: &str) -> Option<Duration> {
    /// `utime` and `stime`, counted behind the name.
    const FIELDS: std::ops::RangeInclusive<usize> = 11..=12;
    /// The unit of both: USER_HZ is 100 on every x86 Linux.
    const TICK: Duration = Duration::from_millis(10);
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(FIELDS)?.iter().map(|field| field.parse::<u32>().ok());
    Some(TICK * ticks.sum::<Option<u32>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_is_found_behind_any_name() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 8 9 20 0 1 0 99";
        assert_eq!(cpu_time(text), Some(Duration::from_secs(3)));
        assert_eq!(cpu_time("7 (a) S 1"), None);
        assert_eq!(cpu_time(""), None);
    }
}
