//! The comparison as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Comparison;
use super::join::{self, UNKNOWN_CALL};

/// The name of this layout. It changes when a key changes its meaning or goes away.
pub const SCHEMA: &str = "paravane-compare-1";

/// The document. Keys are written in this order.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    machine: &'static str,
    cpu_model: &'a str,
    cpus: u32,
    /// What one tick is.
    tick: &'static str,
    /// CPU features that were taken away.
    without: &'a [String],
    commit: &'a str,
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    workload: &'a str,
    policy: &'static str,
    ops: u64,
    exits: u64,
    exits_per_op: f64,
    ticks_per_op: f64,
    exits_by_reason: &'a BTreeMap<&'static str, u64>,
    /// By the number as it stands in RAX, in hexadecimal, or `unknown`.
    hypercalls_by_number: BTreeMap<String, u64>,
    vmreads_per_exit: f64,
    vmwrites_per_exit: f64,
}

/// The document of a comparison.
pub fn document(comparison: &Comparison) -> Document<'_> {
    Document {
        schema: SCHEMA,
        machine: comparison.machine.name(),
        cpu_model: &comparison.cpu_model,
        cpus: comparison.cpus,
        tick: comparison.machine.tick(),
        without: &comparison.without,
        commit: &comparison.commit,
        rows: comparison.rows.iter().map(row).collect(),
    }
}

fn row(row: &join::Row) -> Row<'_> {
    let call = |(&number, &count): (&u64, &u64)| match number {
        UNKNOWN_CALL => ("unknown".to_owned(), count),
        _ => (format!("{number:#07x}"), count),
    };
    Row {
        workload: &row.workload,
        policy: row.policy.name(),
        ops: row.ops,
        exits: row.exits,
        exits_per_op: row.exits_per_op(),
        ticks_per_op: row.ticks_per_op(),
        exits_by_reason: &row.exits_by_reason,
        hypercalls_by_number: row.hypercalls_by_number.iter().map(call).collect(),
        vmreads_per_exit: row.vmreads_per_exit(),
        vmwrites_per_exit: row.vmwrites_per_exit(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_has_exactly_the_published_keys() {
        let document = serde_json::to_value(document(&sample())).unwrap();
        let row = document["rows"][0].as_object().unwrap();
        let mut keys: Vec<&str> = row.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "exits",
                "exits_by_reason",
                "exits_per_op",
                "hypercalls_by_number",
                "ops",
                "policy",
                "ticks_per_op",
                "vmreads_per_exit",
                "vmwrites_per_exit",
                "workload",
            ]
        );
        assert_eq!(row["exits_by_reason"]["cpuid"], 100);
        assert_eq!((&row["policy"], &row["exits_per_op"]), (&json!("hw-assist"), &json!(1.0)));
        let call = &document["rows"][2]["hypercalls_by_number"];
        assert_eq!(call, &json!({ "0x00003": 100 }));
        for key in ["schema", "machine", "commit"] {
            assert!(document[key].is_string(), "{key}");
        }
    }
}
