//! The comparison of a kernel's boots as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::heard::Span;
use super::{Comparison, Measured};
use crate::machine::kvm::flag;

/// The name of this layout. It changes when a key changes its meaning or goes away.
const SCHEMA: &str = "paravane-compare-linux-1";

/// The document. Keys are written in this order.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    commit: &'a str,
    kernel: &'a str,
    machine_type: &'static str,
    without: &'a [String],
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    machine: &'static str,
    vendor: &'static str,
    cpu_model: &'a str,
    tick: &'static str,
    /// A policy, or `bare` without the hypervisor.
    policy: &'static str,
    quiet: bool,
    part: &'a str,
    cpu_seconds: f64,
    wall_seconds: f64,
    /// `null` where nobody counted, and so all that follow.
    exits: Option<u64>,
    timer_exits: Option<u64>,
    guest_ticks: Option<u64>,
    hypervisor_ticks: Option<u64>,
    halted_ticks: Option<u64>,
    exits_by_reason: Option<&'a BTreeMap<&'static str, u64>>,
}

/// The document of a comparison.
pub fn document(comparison: &Comparison) -> Document<'_> {
    let rows = comparison.boots.iter().flat_map(|m| m.spans.iter().map(move |span| row(m, span)));
    Document {
        schema: SCHEMA,
        commit: &comparison.commit,
        kernel: &comparison.kernel,
        machine_type: comparison.machine_type.name(),
        without: &comparison.without,
        rows: rows.collect(),
    }
}

fn row<'a>(measured: &'a Measured, span: &'a Span) -> Row<'a> {
    let hardware = &measured.boot.hardware;
    let cost = span.cost.as_ref();
    Row {
        machine: hardware.machine.name(),
        vendor: flag(hardware.vendor),
        cpu_model: &hardware.cpu_model,
        tick: hardware.tick(),
        policy: measured.boot.way(),
        quiet: measured.boot.quiet,
        part: &span.name,
        cpu_seconds: span.time.cpu.as_secs_f64(),
        wall_seconds: span.time.wall.as_secs_f64(),
        exits: cost.map(|cost| cost.exits),
        timer_exits: cost.map(|cost| cost.timer),
        guest_ticks: cost.map(|cost| cost.guest),
        hypervisor_ticks: cost.map(|cost| cost.hypervisor),
        halted_ticks: cost.map(|cost| cost.halted),
        exits_by_reason: cost.map(|cost| &cost.by_reason),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_part_of_every_boot_is_a_row_and_what_nobody_counted_is_null() {
        let document = serde_json::to_value(document(&sample())).unwrap();
        let rows = document["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 5);
        assert_eq!((&rows[0]["part"], &rows[0]["exits"]), (&"init, quiet".into(), &100.into()));
        assert_eq!(rows[0]["exits_by_reason"]["cpuid"], 100);
        let bare = rows.iter().find(|row| row["policy"] == "bare").unwrap();
        assert_eq!((&bare["exits"], &bare["cpu_seconds"]), (&Value::Null, &2.0.into()));
    }
}
