//! The comparison as a table on the terminal.

use comfy_table::{CellAlignment, Table};
use hv_core::vm::policy::Policy;

use super::Comparison;
use super::join::Row;

/// The table, without a newline behind it.
pub fn render(comparison: &Comparison) -> String {
    let policies = comparison.policies();
    let tick = comparison.machine.tick();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    let mut header = vec!["workload".to_owned()];
    header.extend(policies.iter().map(|p| format!("exits\nper op\n{}", p.name())));
    header.extend(policies.iter().map(|p| format!("{tick}\nper op\n{}", p.name())));
    let ratio = policies.contains(&Policy::Pv) && policies.contains(&Policy::HwAssist);
    if ratio {
        header.push("pv :\nhw-assist\nexits".to_owned());
        header.push(format!("pv :\nhw-assist\n{tick}"));
    }
    table.set_header(header);
    for workload in comparison.workloads() {
        let row = |policy| comparison.row(workload, policy);
        let mut cells = vec![workload.to_owned()];
        let each = |value: fn(&Row) -> f64, digits: usize| {
            policies
                .iter()
                .map(move |&p| row(p).map_or("-".to_owned(), |r| number(value(r), digits)))
        };
        cells.extend(each(Row::exits_per_op, 2));
        cells.extend(each(Row::ticks_per_op, 1));
        if ratio {
            let pair = row(Policy::Pv).zip(row(Policy::HwAssist));
            cells.push(
                pair.map_or("-".to_owned(), |(pv, hw)| {
                    quotient(pv.exits_per_op(), hw.exits_per_op())
                }),
            );
            cells.push(
                pair.map_or("-".to_owned(), |(pv, hw)| {
                    quotient(pv.ticks_per_op(), hw.ticks_per_op())
                }),
            );
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
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
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_workload_has_a_line_with_its_figures_and_ratios() {
        let text = render(&sample());
        let line = text.lines().find(|l| l.contains("cpuid")).unwrap();
        let cells: Vec<&str> =
            line.split(['│', '┆']).map(str::trim).filter(|c| !c.is_empty()).collect();
        assert_eq!(cells, ["cpuid", "1", "0", "150", "12.5", "0.00", "0.08"]);
        let line = text.lines().find(|l| l.contains("null-hypercall")).unwrap();
        assert!(line.contains("90") && line.contains('-'), "{line}");
        assert!(text.contains("instructions"), "{text}");
    }

    #[test]
    fn numbers_have_no_idle_digits() {
        assert_eq!(number(1.0, 2), "1");
        assert_eq!(number(100.0, 0), "100");
        assert_eq!(number(0.125, 2), "0.12");
        assert_eq!(number(0.0, 1), "0");
    }
}
