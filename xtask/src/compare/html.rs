//! The comparison as one HTML file with SVG charts and nothing to load.

use std::fmt::Write;

use hv_core::vm::policy::Policy;

use super::Comparison;
use super::join::Row;
use super::table::number;

const BAR: u32 = 14;
const LABELS: u32 = 150;
const BARS: u32 = 520;
const VALUES: u32 = 130;

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
th:first-child, td:first-child, td:nth-child(2), th:nth-child(2), th:last-child, td:last-child
  { text-align: left; }
td:first-child, td:nth-child(2) { white-space: nowrap; }
td:last-child { min-width: 14rem; }
p { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
";

/// The page.
pub fn render(comparison: &Comparison) -> String {
    let tick = comparison.machine.tick();
    let mut page = String::new();
    let facts = format!(
        "Machine {} ({}, {} CPU), commit {}{}.",
        comparison.machine.name(),
        comparison.cpu_model,
        comparison.cpus,
        comparison.commit,
        if comparison.without.is_empty() {
            String::new()
        } else {
            format!(", without {}", comparison.without.join(", "))
        }
    );
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Paravane: comparison</title>\n<style>{STYLE}</style></head>\n<body>\n\
         <h1>What an operation costs</h1>\n<p>{}</p>\n\
         <p>In each chart the longest bar of a workload fills the width; compare bars of one \
         workload, and read values across workloads.</p>\n\
         <h2>Exits per operation</h2>\n{}\n<h2>{} per operation</h2>\n{}\n\
         <h2>Figures</h2>\n{}\n</body></html>\n",
        escape(&facts),
        chart(comparison, Row::exits_per_op, 2),
        capital(tick),
        chart(comparison, Row::ticks_per_op, 1),
        figures(comparison, tick),
    );
    page
}

fn chart(comparison: &Comparison, value: fn(&Row) -> f64, digits: usize) -> String {
    let mut body = String::new();
    let mut y = 24;
    let mut x = LABELS;
    for policy in comparison.policies() {
        let name = policy.name();
        let _ = write!(
            body,
            "<rect class=\"{name}\" x=\"{x}\" y=\"2\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"12\">{name}</text>",
            x + 18
        );
        x += 110;
    }
    for workload in comparison.workloads() {
        let rows: Vec<(Policy, &Row)> = comparison
            .policies()
            .into_iter()
            .filter_map(|p| Some((p, comparison.row(workload, p)?)))
            .collect();
        let longest = rows.iter().map(|(_, row)| value(row)).fold(0.0, f64::max);
        let _ = write!(
            body,
            "\n<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABELS - 8,
            y + 11,
            escape(workload)
        );
        for (policy, row) in rows {
            let share = if longest == 0.0 { 0.0 } else { value(row) / longest };
            let width = share * f64::from(BARS);
            let text = number(value(row), digits);
            let name = policy.name();
            let _ = write!(
                body,
                "<rect class=\"{name}\" x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\">\
                 <title>{}, {name}: {text}</title></rect>\
                 <text x=\"{:.1}\" y=\"{}\">{text}</text>",
                BAR - 2,
                escape(workload),
                f64::from(LABELS) + width + 6.0,
                y + 11
            );
            y += BAR;
        }
        y += 10;
    }
    let width = LABELS + BARS + VALUES;
    format!("<svg role=\"img\" viewBox=\"0 0 {width} {y}\" width=\"{width}\">{body}\n</svg>")
}

fn figures(comparison: &Comparison, tick: &str) -> String {
    let mut text = format!(
        "<div class=\"wide\"><table>\n<tr><th>workload</th><th>policy</th><th>operations</th><th>exits/op</th>\
         <th>{tick}/op</th><th>VMREADs/exit</th><th>VMWRITEs/exit</th><th>exits by reason</th></tr>\n"
    );
    for row in &comparison.rows {
        let reasons: Vec<String> =
            row.exits_by_reason.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&row.workload),
            row.policy.name(),
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
    if row.exits == 0 { "-".to_owned() } else { number(value, 2) }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let page = render(&sample());
        assert!(page.ends_with("</html>\n"));
        assert_eq!(page.matches("<svg").count(), 2);
        for forbidden in ["http:", "https:", "<script", "src=", "<link"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(page.matches("<tr>").count(), 1 + sample().rows.len());
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
}
