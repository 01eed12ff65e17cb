//! The comparison as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Comparison;
use super::codes::{self, Code};
use super::join::{self, UNKNOWN_CALL};
use crate::machine::Hardware;
use crate::machine::kvm::flag;

/// The name of this layout. It changes when a key changes its meaning or goes away.
pub const SCHEMA: &str = "paravane-compare-2";

/// The document. Keys are written in this order.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    commit: &'a str,
    /// CPU features that were taken away.
    without: &'a [String],
    machines: Vec<Machine<'a>>,
    /// Where the machines do not have the same exits per operation, to two digits.
    exits_differ: Vec<Place<'a>>,
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Machine<'a> {
    name: &'static str,
    /// `vmx` or `svm`.
    vendor: &'static str,
    cpu_model: &'a str,
    cpus: u32,
    /// What one tick is.
    tick: &'static str,
    /// Whether two runs give the same figures.
    repeatable: bool,
    /// By reason, for those of the machine's rows: the vendor's exit codes that it stands for.
    exit_codes: BTreeMap<&'static str, Vec<Code>>,
}

#[derive(Serialize)]
struct Place<'a> {
    workload: &'a str,
    policy: &'static str,
}

#[derive(Serialize)]
struct Row<'a> {
    machine: &'static str,
    workload: &'a str,
    policy: &'static str,
    ops: u64,
    exits: u64,
    exits_per_op: f64,
    ticks_per_op: f64,
    exits_by_reason: &'a BTreeMap<&'static str, u64>,
    /// By the number as it stands in RAX, in hexadecimal, or `unknown`.
    hypercalls_by_number: BTreeMap<String, u64>,
    /// `null` where the extension has no such instruction.
    vmreads_per_exit: Option<f64>,
    vmwrites_per_exit: Option<f64>,
}

/// The document of a comparison.
pub fn document(comparison: &Comparison) -> Document<'_> {
    let differ = comparison.lines().filter(|(workload, p, _)| comparison.differs(workload, *p));
    Document {
        schema: SCHEMA,
        commit: &comparison.commit,
        without: &comparison.without,
        exits_differ: differ
            .map(|(workload, policy, _)| Place { workload, policy: policy.name() })
            .collect(),
        machines: comparison.machines.iter().map(|hw| machine(comparison, hw)).collect(),
        rows: comparison.rows.iter().map(row).collect(),
    }
}

fn machine<'a>(comparison: &Comparison, hardware: &'a Hardware) -> Machine<'a> {
    Machine {
        name: hardware.machine.name(),
        vendor: flag(hardware.vendor),
        cpu_model: &hardware.cpu_model,
        cpus: hardware.cpus,
        tick: hardware.tick(),
        repeatable: hardware.repeatable,
        exit_codes: comparison
            .reasons(hardware.machine)
            .map(|reason| (reason.name(), codes::of(hardware.vendor, reason)))
            .collect(),
    }
}

fn row(row: &join::Row) -> Row<'_> {
    let call = |(&number, &count): (&u64, &u64)| match number {
        UNKNOWN_CALL => ("unknown".to_owned(), count),
        _ => (format!("{number:#07x}"), count),
    };
    Row {
        machine: row.machine.name(),
        workload: &row.workload,
        policy: row.policy.name(),
        ops: row.ops,
        exits: row.exits,
        exits_per_op: row.exits_per_op(),
        ticks_per_op: row.ticks_per_op(),
        exits_by_reason: &row.exits_by_reason,
        hypercalls_by_number: row.hypercalls_by_number.iter().map(call).collect(),
        vmreads_per_exit: row.has_vmcs().then(|| row.vmreads_per_exit()),
        vmwrites_per_exit: row.has_vmcs().then(|| row.vmwrites_per_exit()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{sample, three};
    use super::*;
    use serde_json::{Value, json};

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_document_has_exactly_the_published_keys() {
        let document = serde_json::to_value(document(&sample())).unwrap();
        assert_eq!(
            keys(&document),
            ["commit", "exits_differ", "machines", "rows", "schema", "without"]
        );
        assert_eq!(
            keys(&document["machines"][0]),
            ["cpu_model", "cpus", "exit_codes", "name", "repeatable", "tick", "vendor"]
        );
        let row = &document["rows"][0];
        assert_eq!(
            keys(row),
            [
                "exits",
                "exits_by_reason",
                "exits_per_op",
                "hypercalls_by_number",
                "machine",
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
    }

    #[test]
    fn each_machine_has_its_codes_and_where_they_differ_is_said() {
        let document = serde_json::to_value(document(&three())).unwrap();
        let codes = |machine: usize| &document["machines"][machine]["exit_codes"];
        assert_eq!(codes(0), &json!({ "cpuid": [{ "code": "10", "name": "CPUID" }] }));
        assert_eq!(codes(1)["cpuid"][0]["code"], "0x72");
        assert_eq!(document["machines"][1]["vendor"], "svm");
        assert_eq!(document["machines"][2]["repeatable"], false);
        assert_eq!(document["exits_differ"], json!([{ "workload": "cpuid", "policy": "pv" }]));
    }

    #[test]
    fn where_no_vmcs_is_no_reads_of_one_are_claimed() {
        let document = serde_json::to_value(document(&three())).unwrap();
        let first = |name: &str| {
            let mut rows = document["rows"].as_array().unwrap().iter();
            rows.find(|row| row["machine"] == name).unwrap()
        };
        assert_eq!(first("bochs-vmx")["vmreads_per_exit"], 5.0);
        assert_eq!(first("bochs-svm")["vmreads_per_exit"], Value::Null);
        assert_eq!(first("bochs-svm")["vmwrites_per_exit"], Value::Null);
    }
}
