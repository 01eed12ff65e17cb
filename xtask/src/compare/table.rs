//! The comparison as a table on the terminal.

use std::mem;

use comfy_table::{CellAlignment, Table};
use hv_core::vm::policy::Policy;

use super::Comparison;
use super::join::Row;
use crate::machine::Hardware;
use crate::machine::kvm::technology;

/// The table, without a newline behind it: of one machine with the policies side by side, of
/// several with the machines.
pub fn render(comparison: &Comparison) -> String {
    match comparison.machines.as_slice() {
        [hardware] => policies(comparison, hardware),
        _ => machines(comparison),
    }
}

/// One line for each workload.
fn policies(comparison: &Comparison, hardware: &Hardware) -> String {
    let policies = comparison.policies();
    let tick = hardware.tick();
    let mut header = vec!["workload".to_owned()];
    header.extend(policies.iter().map(|p| format!("exits\nper op\n{}", p.name())));
    header.extend(policies.iter().map(|p| format!("{tick}\nper op\n{}", p.name())));
    let ratio = policies.contains(&Policy::Pv) && policies.contains(&Policy::HwAssist);
    if ratio {
        header.push("pv :\nhw-assist\nexits".to_owned());
        header.push(format!("pv :\nhw-assist\n{tick}"));
    }
    let lines = comparison.workloads().into_iter().map(|workload| {
        let row = |policy| comparison.row(hardware.machine, workload, policy);
        let mut cells = vec![workload.to_owned()];
        cells.extend(policies.iter().map(|&p| cell(row(p), exits)));
        cells.extend(policies.iter().map(|&p| cell(row(p), ticks)));
        if ratio {
            let pair = row(Policy::Pv).zip(row(Policy::HwAssist));
            for value in [Row::exits_per_op, Row::ticks_per_op] {
                cells.push(pair.map_or("-".to_owned(), |(pv, hw)| quotient(value(pv), value(hw))));
            }
        }
        cells
    });
    draw(header, lines, 1)
}

/// One line for each workload and policy, so that what differs between machines stands side by side
/// and what differs between policies one below the other.
fn machines(comparison: &Comparison) -> String {
    let mut header = vec!["workload".to_owned(), "policy".to_owned()];
    let name = |hw: &Hardware| hw.machine.name();
    header.extend(comparison.machines.iter().map(|hw| format!("exits\nper op\n{}", name(hw))));
    header.push(String::new());
    header.extend(
        comparison.machines.iter().map(|hw| format!("{}\nper op\n{}", hw.tick(), name(hw))),
    );
    let mut last = "";
    let lines = comparison.lines().map(|(workload, policy, rows)| {
        // The name stands over the lines of its policies.
        let title = if mem::replace(&mut last, workload) == workload { "" } else { workload };
        let mark = if comparison.differs(workload, policy) { DIFFERS } else { "" };
        let mut cells = vec![title.to_owned(), policy.name().to_owned()];
        cells.extend(rows.iter().map(|row| cell(*row, exits)));
        cells.push(mark.to_owned());
        cells.extend(rows.iter().map(|row| cell(*row, ticks)));
        cells
    });
    draw(header, lines, 2)
}

/// A table whose columns from `figures` on are numbers.
pub fn draw(
    header: Vec<String>,
    lines: impl IntoIterator<Item = Vec<String>>,
    figures: usize,
) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    for cells in lines {
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(figures) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// What stands below the table: in what guest and hypervisor agree.
pub fn notes(comparison: &Comparison) -> String {
    const AGREE: &str = "Guest and hypervisor agree on every exit, and on the";
    const MARKS: &str = "of every section but for those of its two marks";
    if let [hardware] = comparison.machines.as_slice() {
        let (least, most) = comparison.marks(hardware.machine);
        return format!("{AGREE} {} {MARKS}, {least} to {most}.", hardware.tick());
    }
    let mut text = format!("{AGREE} ticks {MARKS}:");
    for hardware in &comparison.machines {
        let (least, most) = comparison.marks(hardware.machine);
        text += &format!(
            "\n  {} ({}): {least} to {most} {}{}",
            hardware.machine.name(),
            facts(hardware),
            hardware.tick(),
            if hardware.repeatable { "" } else { ", not the same at each run" }
        );
    }
    if comparison.lines().any(|(workload, policy, _)| comparison.differs(workload, policy)) {
        text += &format!(
            "\n{DIFFERS} The machines differ in the exits per operation; --report and --json say by which exits."
        );
    }
    text
}

/// A machine's extension, CPU model and number of CPUs.
pub fn facts(hardware: &Hardware) -> String {
    let plural = if hardware.cpus == 1 { "" } else { "s" };
    let extension = technology(hardware.vendor);
    format!("{extension}, {}, {} CPU{plural}", hardware.cpu_model, hardware.cpus)
}

/// Marks a line in which the machines differ in the exits per operation.
pub const DIFFERS: &str = "≠";

/// Exits per operation, as shown.
pub fn exits(row: &Row) -> String {
    number(row.exits_per_op(), 2)
}

/// Ticks per operation, as shown.
pub fn ticks(row: &Row) -> String {
    number(row.ticks_per_op(), 1)
}

fn cell(row: Option<&Row>, figure: fn(&Row) -> String) -> String {
    row.map_or("-".to_owned(), figure)
}

/// `value` with at most `digits` behind the point, and none if they are zero.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// How many times `a` is `b`.
fn quotient(a: f64, b: f64) -> String {
    if b == 0.0 { if a == 0.0 { "=" } else { "-" }.to_owned() } else { format!("{:.2}", a / b) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{sample, three};
    use super::*;

    fn cells(line: &str) -> Vec<&str> {
        line.trim_matches('│').split('┆').map(str::trim).collect()
    }

    #[test]
    fn of_one_machine_every_workload_has_a_line_with_its_figures_and_ratios() {
        let text = render(&sample());
        let line = text.lines().find(|l| l.contains("cpuid")).unwrap();
        assert_eq!(cells(line), ["cpuid", "1", "0", "150", "12.5", "0.00", "0.08"]);
        let line = text.lines().find(|l| l.contains("null-hypercall")).unwrap();
        assert_eq!(cells(line), ["null-hypercall", "-", "1", "-", "90", "-", "-"]);
        assert!(text.contains("instructions"), "{text}");
        assert_eq!(
            notes(&sample()),
            "Guest and hypervisor agree on every exit, and on the instructions of every section \
             but for those of its two marks, 40 to 40."
        );
    }

    #[test]
    fn of_several_machines_every_policy_has_a_line_and_differences_a_mark() {
        let text = render(&three());
        let lines: Vec<Vec<&str>> =
            text.lines().filter(|l| l.starts_with('│')).skip(3).map(cells).collect();
        assert_eq!(
            lines,
            [
                ["null-hypercall", "pv", "1", "1", "-", "", "90", "90", "-"],
                ["cpuid", "hw-assist", "1", "1", "1", "", "150", "150", "900"],
                ["", "pv", "0", "0", "0.5", "≠", "12.5", "12.5", "13"],
            ]
        );
        let header: Vec<Vec<&str>> =
            text.lines().filter(|l| l.starts_with('│')).take(3).map(cells).collect();
        assert_eq!(header[0][6..], ["instructions", "instructions", "cycles"]);
        assert_eq!(header[2][2..5], ["bochs-vmx", "bochs-svm", "qemu-tcg"]);
    }

    #[test]
    fn the_notes_of_several_machines_say_what_each_is() {
        let text = notes(&three());
        assert!(
            text.contains("\n  bochs-svm (AMD-V, trinity_apu, 1 CPU): 40 to 40 instructions\n"),
            "{text}"
        );
        assert!(text.contains("(AMD-V, max, 1 CPU): 40 to 40 cycles, not the same"), "{text}");
        assert!(text.contains("≠ The machines differ"), "{text}");
        let mut equal = three();
        equal.machines.pop();
        assert!(!notes(&equal).contains(DIFFERS));
    }

    #[test]
    fn four_machines_fit_into_160_columns() {
        let mut all = three();
        all.machines.push(crate::machine::Machine::QemuKvm.hardware(0));
        for row in &mut all.rows {
            row.ticks = 1_234_567_890 * row.ops / 1_000;
        }
        let longest = |text: String| text.lines().map(|l| l.chars().count()).max();
        assert!(longest(render(&all)) <= Some(160));
    }

    #[test]
    fn numbers_have_no_idle_digits() {
        assert_eq!(number(1.0, 2), "1");
        assert_eq!(number(100.0, 0), "100");
        assert_eq!(number(0.125, 2), "0.12");
        assert_eq!(number(0.0, 1), "0");
    }
}
