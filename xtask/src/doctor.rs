//! `doctor`: what this machine has, what is missing, and how to get it.

use std::process::{Command, ExitCode};

use comfy_table::Table;

use crate::deps::{self, Need};
use crate::machine::{Machine, Purpose, choice, kvm};

struct Finding {
    what: String,
    state: String,
    help: String,
    /// Whether commands fail without it, rather than take another way.
    needed: bool,
    met: bool,
}

/// Prints the table.
pub fn run() -> ExitCode {
    let findings = findings();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "what", "state", "what to do"]);
    for finding in &findings {
        let sign = match (finding.met, finding.needed) {
            (true, _) => "ok",
            (false, true) => "MISSING",
            (false, false) => "-",
        };
        table.add_row([sign, &finding.what, &finding.state, &finding.help]);
    }
    println!("{table}");
    let kvm = kvm::here();
    let [figures, runs] = [Purpose::Figures, Purpose::Run].map(|p| choice::automatic(p, &kvm).0);
    println!("\nMachine auto: {} for `compare`, {} for `run`.", figures.name(), runs.name());
    let missing: Vec<&str> = all_needs().filter(|n| !n.is_met()).map(|n| n.package).collect();
    if !missing.is_empty() {
        println!("\nAll missing packages at once:\n    {}", deps::install_command(&missing));
    }
    let bad = findings.iter().filter(|f| f.needed && !f.met).count();
    if bad == 0 {
        println!("\nEverything that is needed is here.");
        ExitCode::SUCCESS
    } else {
        println!(
            "\nNeeded and missing: {bad}. The commands that need them install them where they may."
        );
        ExitCode::FAILURE
    }
}

fn all_needs() -> impl Iterator<Item = &'static Need> {
    [deps::ISO, deps::BOCHS, deps::QEMU, deps::UEFI].into_iter().flatten()
}

fn findings() -> Vec<Finding> {
    let mut findings = vec![
        rust(),
        component("rustfmt", "cargo-fmt"),
        component("clippy", "cargo-clippy"),
        Finding {
            what: format!("Rust target {}", deps::TARGET),
            state: if deps::has_rust_target() { "installed" } else { "not installed" }.to_owned(),
            help: fix(deps::has_rust_target(), &format!("rustup target add {}", deps::TARGET)),
            needed: true,
            met: deps::has_rust_target(),
        },
    ];
    findings.extend(all_needs().map(|need| Finding {
        what: format!("package {}", need.package),
        state: if need.is_met() { need.purpose.to_owned() } else { format!("no {}", need.sign) },
        help: fix(need.is_met(), &deps::install_command(&[need.package])),
        needed: true,
        met: need.is_met(),
    }));
    findings.extend(Machine::ALL.map(machine));
    findings.push(Finding {
        what: "mdbook".to_owned(),
        state: "for `cargo xtask docs` only".to_owned(),
        help: fix(deps::program("mdbook").is_some(), "cargo install mdbook --locked"),
        needed: false,
        met: deps::program("mdbook").is_some(),
    });
    findings
}

fn fix(met: bool, help: &str) -> String {
    if met { String::new() } else { help.to_owned() }
}

fn rust() -> Finding {
    let output = Command::new("rustc").arg("--version").output();
    let version = output.ok().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    let met = version.is_some();
    Finding {
        what: "Rust, stable".to_owned(),
        state: version.unwrap_or_else(|| "no rustc".to_owned()),
        help: fix(met, "https://rustup.rs"),
        needed: true,
        met,
    }
}

/// rustup puts a program of this name into the path whether the component is there or not, so it
/// is asked for its version.
fn component(name: &str, program: &str) -> Finding {
    let met = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    Finding {
        what: format!("Rust component {name}"),
        state: "for changes to the code".to_owned(),
        help: fix(met, &format!("rustup component add {name}")),
        needed: false,
        met,
    }
}

/// Packages are needed for the machines that run anywhere; KVM is not.
fn machine(machine: Machine) -> Finding {
    let obstacles = machine.obstacles();
    Finding {
        what: format!("machine {}", machine.name()),
        state: machine.about().to_owned(),
        // What is wrong, and below it what to do.
        help: obstacles.join("\n").replace(": ", ":\n  "),
        needed: false,
        met: obstacles.is_empty(),
    }
}
