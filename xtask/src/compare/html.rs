//! The comparison as one HTML file with SVG charts and nothing to load.

use std::fmt::Write;

use hv_core::host::report::Vendor;
use pv_abi::exit::Reason;

mod chart;

use super::join::Row;
use super::table::{self, DIFFERS, facts, number};
use super::{Comparison, codes};
use crate::machine::kvm::technology;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #c9d1d9;
  --trap-all: #c2410c; --hw-assist: #2563eb; --pv: #15803d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --line: #444c56;
  --trap-all: #fb923c; --hw-assist: #60a5fa; --pv: #4ade80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
svg { max-width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--ink); }
.trap-all { fill: var(--trap-all); } .hw-assist { fill: var(--hw-assist); } .pv { fill: var(--pv); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .6rem; text-align: right; }
th:nth-child(-n+3), td:nth-child(-n+3), th:last-child, td:last-child { text-align: left; }
td:nth-child(-n+3) { white-space: nowrap; }
.words td, .words th { text-align: left; white-space: normal; }
td:last-child { min-width: 14rem; }
p { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
";

/// The page.
pub fn render(comparison: &Comparison) -> String {
    let machines = comparison.machines.iter().map(|hardware| {
        format!(
            "<li>{} ({}): a tick is one of its {}{}</li>\n",
            hardware.machine.name(),
            escape(&facts(hardware)),
            hardware.tick(),
            if hardware.repeatable { "" } else { ", and ticks are not the same at each run" }
        )
    });
    let without = match comparison.without.join(", ") {
        none if none.is_empty() => none,
        names => format!(", without {names}"),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Paravane: comparison</title>\n<style>{STYLE}</style></head>\n<body>\n\
         <h1>What an operation costs</h1>\n<p>Commit {}{}, on</p>\n<ul>\n{}</ul>\n\
         <p>In each chart the longest bar of a workload fills the width; compare bars of one \
         workload, and read values across workloads. Bars of different ticks have different \
         scales.</p>\n\
         <h2>Exits per operation</h2>\n{}\n<h2>Ticks per operation</h2>\n{}\n\
         <h2>Figures</h2>\n<p>{DIFFERS} marks where machines differ in the exits per operation.</p>\n\
         {}\n<h2>What the reasons stand for</h2>\n{}\n</body></html>\n",
        escape(&comparison.commit),
        escape(&without),
        machines.collect::<String>(),
        chart::render(comparison, Row::exits_per_op, table::exits),
        chart::render(comparison, Row::ticks_per_op, table::ticks),
        figures(comparison),
        exit_codes(comparison),
    )
}

fn figures(comparison: &Comparison) -> String {
    let mut text =
        "<div class=\"wide\"><table>\n<tr><th>workload</th><th>policy</th><th>machine</th>\
         <th>operations</th><th>exits/op</th><th>ticks/op</th><th>VMREADs/exit</th>\
         <th>VMWRITEs/exit</th><th>exits by reason</th></tr>\n"
            .to_owned();
    for row in comparison.lines().flat_map(|(_, _, line)| line).flatten() {
        let reasons: Vec<String> =
            row.exits_by_reason.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let mark = if comparison.differs(&row.workload, row.policy) { DIFFERS } else { "" };
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{mark} {}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&row.workload),
            row.policy.name(),
            row.machine.name(),
            row.ops,
            number(row.exits_per_op(), 3),
            number(row.ticks_per_op(), 1),
            if_exits(row, row.vmreads_per_exit()),
            if_exits(row, row.vmwrites_per_exit()),
            escape(&reasons.join(", "))
        );
    }
    text + "</table></div>"
}

/// A figure per exit; of a row without exits it would be that of the clock's.
fn if_exits(row: &Row, value: f64) -> String {
    if row.exits == 0 || !row.has_vmcs() { "-".to_owned() } else { number(value, 2) }
}

/// For each reason that occurs, the exit codes of each vendor whose extension was measured.
fn exit_codes(comparison: &Comparison) -> String {
    let measured = |v: &Vendor| comparison.machines.iter().any(|hw| hw.vendor == *v);
    let vendors: Vec<Vendor> = [Vendor::Vmx, Vendor::Svm].into_iter().filter(measured).collect();
    let occurs = |reason: &&Reason| {
        comparison.rows.iter().any(|row| row.exits_by_reason.contains_key(reason.name()))
    };
    let mut text = "<div class=\"wide\"><table class=\"words\">\n<tr><th>reason</th>".to_owned();
    for &vendor in &vendors {
        let _ = write!(text, "<th>{}</th>", technology(vendor));
    }
    text += "<th>meaning</th></tr>\n";
    for &reason in Reason::ALL.iter().filter(occurs) {
        let _ = write!(text, "<tr><td>{}</td>", reason.name());
        for &vendor in &vendors {
            let codes = codes::of(vendor, reason).into_iter();
            let codes: Vec<String> = codes.map(|c| format!("{} ({})", c.name, c.code)).collect();
            let _ = write!(text, "<td>{}</td>", escape(&codes.join(", ")));
        }
        let _ = writeln!(text, "<td>{}</td></tr>", escape(reason.meaning().trim()));
    }
    text + "</table></div>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{sample, three};
    use super::chart::BARS;
    use super::*;

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        for comparison in [sample(), three()] {
            let page = render(&comparison);
            assert!(page.ends_with("</html>\n"));
            assert_eq!(page.matches("<svg").count(), 2);
            for forbidden in ["http:", "https:", "<script", "src=", "<link"] {
                assert!(!page.contains(forbidden), "{forbidden}");
            }
            // Both tables have a head, and "cpuid" is the one reason.
            assert_eq!(page.matches("<tr>").count(), 3 + comparison.rows.len());
        }
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_names_are_escaped() {
        let mut comparison = sample();
        for row in &mut comparison.rows {
            row.workload = format!("<b>{}", row.id);
        }
        let page = render(&comparison);
        assert!(!page.contains("<b>"));
        assert!(page.contains(&format!("width=\"{BARS}.0\"")));
    }

    #[test]
    fn machines_stand_side_by_side_and_equal_ticks_have_one_scale() {
        let mut all = three();
        all.rows[0].ticks *= 2;
        let page = render(&all);
        let bar = |title: &str| {
            let (before, _) = page.split_once(&format!("<title>{title}")).unwrap();
            let (_, bar) = before.rsplit_once("<rect").unwrap();
            let number = |key: &str| {
                let (_, value) = bar.split_once(&format!(" {key}=\"")).unwrap();
                value.split_once('"').unwrap().0.parse::<f64>().unwrap()
            };
            [number("x"), number("y"), number("width")]
        };
        let vmx = bar("cpuid, hw-assist, bochs-vmx: 300");
        let svm = bar("cpuid, hw-assist, bochs-svm: 150");
        let tcg = bar("cpuid, hw-assist, qemu-tcg: 900");
        assert!(vmx[0] < svm[0] && svm[0] < tcg[0], "{vmx:?} {svm:?} {tcg:?}");
        assert!(vmx[1] == svm[1] && svm[1] == tcg[1], "{vmx:?} {svm:?} {tcg:?}");
        assert_eq!((vmx[2], svm[2], tcg[2]), (173.0, 86.5, 173.0));
    }

    #[test]
    fn each_reason_has_the_codes_of_the_vendors_that_were_measured() {
        let codes = "<td>cpuid</td><td>CPUID (10)</td>";
        assert!(render(&sample()).contains(&format!("{codes}<td>CPUID.</td>")));
        assert!(render(&three()).contains(&format!("{codes}<td>CPUID (0x72)</td>")));
    }

    #[test]
    fn what_svm_has_not_is_a_dash_and_differences_have_a_mark() {
        let page = render(&three());
        let row = |start: &str| {
            let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(start)).collect();
            assert_eq!(rows.len(), 1, "{start}");
            rows[0].to_owned()
        };
        let vmx = row("<tr><td>cpuid</td><td>hw-assist</td><td>bochs-vmx</td>");
        assert!(vmx.contains("<td> 1</td><td>150</td><td>5</td><td>1</td>"), "{vmx}");
        let svm = row("<tr><td>cpuid</td><td>hw-assist</td><td>bochs-svm</td>");
        assert!(svm.contains("<td> 1</td><td>150</td><td>-</td><td>-</td>"), "{svm}");
        let tcg = row("<tr><td>cpuid</td><td>pv</td><td>qemu-tcg</td>");
        assert!(tcg.contains("<td>≠ 0.5</td>"), "{tcg}");
    }
}
