//! The one host tool: builds, runs, tests and compares Paravane.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod boot;
mod build;
mod bundle;
mod cases;
mod cli;
mod compare;
mod deps;
mod docs;
mod doctor;
mod elf;
mod event;
#[cfg(test)]
mod forms;
mod hvlog;
mod image;
mod iso;
mod linux;
mod logfile;
mod machine;
mod members;
mod plan;
mod report;
mod run;
mod serial;
mod session;
mod stat;
mod symbols;
mod terminal;
mod transcript;
mod vmfile;
mod workspace;

use cli::{Cli, Command};
use workspace::Workspace;

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Build(args) => image::run(&workspace, &args)?,
        Command::Run(args) => return run::run(&workspace, &args),
        Command::Compare(args) => return compare::run(&workspace, &args),
        Command::Test(args) => return cases::run(&workspace, &args),
        Command::Doctor => return Ok(doctor::run()),
        Command::Docs => docs::run(&workspace)?,
    }
    Ok(ExitCode::SUCCESS)
}
