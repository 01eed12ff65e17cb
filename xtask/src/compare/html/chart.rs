//! Bars: for each machine a panel, side by side, in which a workload has the same place.

use std::fmt::Write;

use super::escape;
use crate::compare::Comparison;
use crate::compare::join::Row;

const BAR: u32 = 14;
const LABELS: u32 = 150;
/// What the bars of all panels have together.
pub const BARS: u32 = 520;
/// The room for a value behind its bar.
const VALUES: u32 = 130;
const HEAD: u32 = 46;

/// The chart of a figure, and how it is shown.
pub fn render(
    comparison: &Comparison,
    value: fn(&Row) -> f64,
    shown: fn(&Row) -> String,
) -> String {
    let panels = comparison.machines.len().max(1) as u32;
    let bars = BARS / panels;
    let lefts = || (0..panels).map(|panel| LABELS + panel * (bars + VALUES));
    let mut body = head(comparison, lefts());
    let mut y = HEAD;
    for workload in comparison.workloads() {
        let _ = write!(
            body,
            "\n<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABELS - 8,
            y + 11,
            escape(workload)
        );
        for policy in comparison.policies() {
            let line = comparison.line(workload, policy);
            if line.iter().all(Option::is_none) {
                continue;
            }
            let name = policy.name();
            for (row, x) in line.into_iter().zip(lefts()) {
                let Some(row) = row else { continue };
                let longest = longest(comparison, row, value);
                let share = if longest == 0.0 { 0.0 } else { value(row) / longest };
                let width = share * f64::from(bars);
                let _ = write!(
                    body,
                    "<rect class=\"{name}\" x=\"{x}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\">\
                     <title>{}, {name}, {}: {text}</title></rect>\
                     <text x=\"{:.1}\" y=\"{}\">{text}</text>",
                    BAR - 2,
                    escape(workload),
                    row.machine.name(),
                    f64::from(x) + width + 6.0,
                    y + 11,
                    text = shown(row),
                );
            }
            y += BAR;
        }
        y += 10;
    }
    let width = LABELS + panels * (bars + VALUES);
    format!("<svg role=\"img\" viewBox=\"0 0 {width} {y}\" width=\"{width}\">{body}\n</svg>")
}

/// What the colours mean, and above each panel its machine.
fn head(comparison: &Comparison, lefts: impl Iterator<Item = u32>) -> String {
    let mut head = String::new();
    for (policy, x) in comparison.policies().into_iter().zip((LABELS..).step_by(110)) {
        let name = policy.name();
        let _ = write!(
            head,
            "<rect class=\"{name}\" x=\"{x}\" y=\"2\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"12\">{name}</text>",
            x + 18
        );
    }
    for (hardware, x) in comparison.machines.iter().zip(lefts) {
        let name = hardware.machine.name();
        let _ = write!(head, "<text x=\"{x}\" y=\"34\" font-weight=\"bold\">{name}</text>");
    }
    head
}

/// The largest figure of the row's workload on the machines that have the same ticks.
fn longest(comparison: &Comparison, row: &Row, value: fn(&Row) -> f64) -> f64 {
    let tick = |row: &Row| comparison.hardware(row.machine).map(|hw| hw.tick());
    let alike = |other: &&Row| other.id == row.id && tick(other) == tick(row);
    comparison.rows.iter().filter(alike).map(value).fold(0.0, f64::max)
}
