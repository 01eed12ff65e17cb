//! The tests on the host: `cargo test` of what a workstation can build.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::workspace::{Workspace, cargo};

/// The name by which they are chosen.
pub const NAME: &str = "host";
/// Wall time for building and running them.
const LIMIT: Duration = Duration::from_secs(1200);

/// Runs them and counts those that passed and failed. What cannot be built counts as one failed.
pub fn run(workspace: &Workspace) -> Result<(usize, usize)> {
    let mut all = cargo_test(workspace);
    all.arg("--no-fail-fast");
    // The models of lock-free code. Other flags make everything anew, so they have a folder of their own.
    let mut models = cargo_test(workspace);
    models.args(["--package=hv-core", "--test=loom", "--profile=loom", "--target-dir"]);
    models.arg(workspace.target.join("loom")).env("RUSTFLAGS", "--cfg loom");
    let (passed, failed) = count(all)?;
    let (models_passed, models_failed) = count(models)?;
    Ok((passed + models_passed, failed + models_failed))
}

fn cargo_test(workspace: &Workspace) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(&workspace.root).arg("test");
    command
}

fn count(mut command: Command) -> Result<(usize, usize)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + LIMIT;
    let (mut passed, mut failed) = (0, 0);
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                let (p, f) = summary(&line).unwrap_or_default();
                passed += p;
                failed += f;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("FAILED  {NAME}: no end within {} s", LIMIT.as_secs());
                end_tree(Pid::from_raw(i32::try_from(child.id())?));
                failed += 1;
                break;
            }
        }
    }
    let status = child.wait()?;
    if !status.success() && failed == 0 {
        println!("FAILED  {NAME}: {command:?} ended with {status}");
        failed = 1;
    }
    Ok((passed, failed))
}

/// Ends a process of ours and all that it has started. They stay in our process group, so that
/// Ctrl-C reaches them too.
fn end_tree(root: Pid) {
    let list = fs::read_to_string(format!("/proc/{root}/task/{root}/children"));
    // It may have ended meanwhile.
    let _ = kill(root, Signal::SIGKILL);
    for child in list.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()) {
        end_tree(Pid::from_raw(child));
    }
}

/// Passed and failed in a line `test result: ok. 3 passed; 0 failed; ...`.
fn summary(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let (before, _) = rest.split_once(word)?;
        before.split_whitespace().last()?.parse().ok()
    };
    Some((number(" passed;")?, number(" failed;")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_those_that_it_started() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap());
        end_tree(Pid::from_raw(child.id() as i32));
        child.wait().unwrap();
        // It is gone when its new parent has looked; until then it is a zombie.
        let ended = || {
            let state = fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !ended() {
            assert!(Instant::now() < deadline, "{grandchild} lives");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn summaries_are_read_from_the_lines_of_the_test_harness() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out";
        assert_eq!(summary(line), Some((12, 3)));
        assert_eq!(summary("running 3 tests"), None);
        assert_eq!(summary("test result: ok. x passed; 0 failed;"), None);
    }
}
