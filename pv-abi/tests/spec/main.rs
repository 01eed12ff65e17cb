//! Holds `spec/` against this crate: tables and C header are rendered from it and compared.
//!
//! `UPDATE_SPEC=1 cargo test -p pv-abi --test spec` writes them instead of comparing.

mod book;
mod header;
mod tables;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use pv_abi::call::EXTENSIONS;

/// The environment variable that turns comparing into writing.
const UPDATE: &str = "UPDATE_SPEC";
const HOW: &str = "refresh it with: UPDATE_SPEC=1 cargo test -p pv-abi --test spec";

/// Compares a file with what it should be, or writes it if [`UPDATE`] is set.
fn hold(path: &std::path::Path, expected: &str) -> Result<(), String> {
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    if std::env::var_os(UPDATE).is_some() {
        fs::write(path, expected).expect("the specification can be written");
        return Ok(());
    }
    let difference = difference(&found, expected);
    Err(format!("{} differs from pv-abi; {HOW}\n{difference}", path.display()))
}

/// The lines that differ, once the common start and end are taken away.
fn difference(found: &str, expected: &str) -> String {
    let (mut old, mut new): (Vec<_>, Vec<_>) =
        (found.lines().collect(), expected.lines().collect());
    let mut line = 1;
    while !old.is_empty() && old.first() == new.first() {
        old.remove(0);
        new.remove(0);
        line += 1;
    }
    while !old.is_empty() && old.last() == new.last() {
        old.pop();
        new.pop();
    }
    let lines = |sign: char, lines: &[&str]| -> String {
        lines.iter().map(|l| format!("{sign}{l}\n")).collect()
    };
    format!("@@ line {line}\n{}{}", lines('-', &old), lines('+', &new))
}

/// Fails with every fault.
fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_tables_of_the_specification_are_those_of_the_crate() {
    let mut tables = tables::all();
    let mut faults = Vec::new();
    for (path, text) in book::chapters() {
        match book::fill(&text, &mut tables) {
            Ok(expected) => faults.extend(hold(&path, &expected).err()),
            Err(fault) => faults.push(format!("{}: {fault}", path.display())),
        }
    }
    let unused = tables.iter().filter(|t| t.uses != 1);
    faults.extend(unused.map(|t| format!("table `{}` stands in {} places", t.name, t.uses)));
    report(faults);
}

#[test]
fn the_c_header_is_that_of_the_crate() {
    report(hold(&book::root().join("paravane.h"), &header::render()).err().into_iter().collect());
}

#[test]
fn a_c_compiler_agrees_with_sizes_and_offsets() {
    let Ok(mut cc) = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"])
        .args(["-x", "c", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        eprintln!("no C compiler `cc` here: the header was not compiled");
        return;
    };
    // Taking the pipe closes it at the end of the statement, so that the compiler sees the end.
    cc.stdin.take().expect("piped").write_all(header::render().as_bytes()).expect("cc reads");
    let output = cc.wait_with_output().expect("cc ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_call_has_a_section_that_explains_each_of_its_errors() {
    let mut faults = Vec::new();
    for extension in EXTENSIONS {
        let path = book::root().join(format!("src/ext/{}.md", extension.name));
        let text = fs::read_to_string(&path).unwrap_or_default();
        for call in extension.calls {
            let name = format!("{}.{}", extension.name, tables::call_name(call));
            let Some(section) = book::section(&text, &format!("`{name}`")) else {
                faults.push(format!("{}: no section for {name}", path.display()));
                continue;
            };
            let prose = book::without_tables(section);
            let unexplained = call.errors.iter().filter(|e| !prose.contains(e.name()));
            faults.extend(unexplained.map(|e| format!("{name}: {} is not explained", e.name())));
            let parts = ["**Environment.**", "**Example.**"];
            let missing = parts.iter().filter(|part| !prose.contains(*part));
            faults.extend(missing.map(|part| format!("{name}: no paragraph {part}")));
        }
    }
    report(faults);
}

#[test]
fn every_chapter_is_in_the_summary_and_every_link_leads_somewhere() {
    report(book::broken_links());
}

#[test]
fn clauses_are_numbered_without_gaps_and_name_a_side() {
    let text = fs::read_to_string(book::root().join("src/conformance.md")).expect("the chapter");
    report(book::clause_faults(&text));
}
