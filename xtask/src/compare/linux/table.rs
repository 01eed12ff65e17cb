//! The comparison of a kernel's boots as tables on the terminal.

use hv_core::vm::policy::Policy;
use pv_abi::exit::Reason;

use super::super::table::{draw, facts};
use super::heard::{Cost, Span};
use super::{Comparison, Measured};
use crate::machine::Hardware;

/// Of each machine, a table of its boots, one of the exits by reason for each policy, and what has to be
/// known of them.
pub fn render(comparison: &Comparison) -> String {
    let mut machines: Vec<&Hardware> = Vec::new();
    for measured in &comparison.boots {
        if !machines.contains(&&measured.boot.hardware) {
            machines.push(&measured.boot.hardware);
        }
    }
    let mut text =
        format!("{}, machine type {}", comparison.kernel, comparison.machine_type.name());
    for hardware in machines {
        let own = || comparison.boots.iter().filter(|m| m.boot.hardware == *hardware);
        text += &format!("\n\n{} ({})\n", hardware.machine.name(), facts(hardware));
        text += &costs(hardware, own());
        for policy in Policy::ALL {
            let boots: Vec<_> = own().filter(|m| m.boot.policy == Some(policy)).collect();
            if let Some(reasons) = reasons(&boots) {
                text += &format!("\nExits by reason under {}\n{reasons}", policy.name());
            }
        }
    }
    text + "\n" + NOTES
}

const NOTES: &str = "\
init: from the first instruction to the line of the first process. everything: with the power-off.
Timer exits are those by which a clock interrupts and by which the guest sets it; they grow with time.
Seconds are those that the machine had of the host's CPUs, from its start, with firmware and boot loader.";

fn seconds(span: &Span) -> f64 {
    span.time.cpu.as_secs_f64()
}

/// The parts of all boots in the order in which they are shown, with those that have them.
fn parts<'a>(boots: &[&'a Measured]) -> Vec<(&'a str, Vec<(&'a Measured, &'a Span)>)> {
    let mut parts: Vec<(&str, Vec<(&Measured, &Span)>)> = Vec::new();
    for measured in boots {
        // What the boot with the full log does is not told apart from its boot.
        let take = if measured.boot.quiet { measured.spans.len() } else { 1 };
        for span in measured.spans.iter().take(take) {
            match parts.iter_mut().find(|(name, _)| *name == span.name) {
                Some((_, all)) => all.push((measured, span)),
                None => parts.push((&span.name, vec![(measured, span)])),
            }
        }
    }
    parts
}

fn costs<'a>(hardware: &Hardware, boots: impl Iterator<Item = &'a Measured>) -> String {
    let boots: Vec<&Measured> = boots.collect();
    let bare = boots.iter().any(|measured| measured.boot.policy.is_none());
    let tick = hardware.tick();
    let mut header = vec![
        "part".to_owned(),
        "policy".to_owned(),
        "exits".to_owned(),
        "of the\ntimer".to_owned(),
        format!("{tick}\nof the guest"),
        format!("{tick}\nof the hypervisor"),
        "CPU\nseconds".to_owned(),
    ];
    if bare {
        header.push("times\nbare".to_owned());
    }
    let mut lines = Vec::new();
    for (name, all) in parts(&boots) {
        let alone =
            all.iter().find(|(m, _)| m.boot.policy.is_none()).map(|(_, span)| seconds(span));
        for (index, (measured, span)) in all.iter().enumerate() {
            let figure = |of: fn(&Cost) -> u64| {
                span.cost.as_ref().map_or("-".to_owned(), |cost| of(cost).to_string())
            };
            let mut line = vec![
                if index == 0 { name.to_owned() } else { String::new() },
                measured.boot.way().to_owned(),
                figure(|cost| cost.exits),
                figure(|cost| cost.timer),
                figure(|cost| cost.guest),
                figure(|cost| cost.hypervisor),
                format!("{:.1}", seconds(span)),
            ];
            if bare {
                let times = alone.filter(|alone| *alone > 0.0).map(|alone| seconds(span) / alone);
                line.push(times.map_or("-".to_owned(), |times| format!("{times:.2}")));
            }
            lines.push(line);
        }
    }
    draw(header, lines, 2)
}

/// A line for each reason, a column for each part that was counted.
fn reasons(boots: &[&Measured]) -> Option<String> {
    let counted: Vec<(&str, &Cost)> = parts(boots)
        .into_iter()
        .filter_map(|(name, all)| Some((name, all.first()?.1.cost.as_ref()?)))
        .collect();
    if counted.is_empty() {
        return None;
    }
    let header = ["reason"].into_iter().chain(counted.iter().map(|(name, _)| *name));
    let lines = Reason::ALL.iter().filter_map(|reason| {
        let counts = counted.iter().map(|(_, cost)| cost.by_reason.get(reason.name()).copied());
        let counts: Vec<u64> = counts.map(Option::unwrap_or_default).collect();
        let numbers = counts.iter().map(u64::to_string);
        let line = std::iter::once(reason.name().to_owned()).chain(numbers);
        counts.iter().any(|count| *count != 0).then(|| line.collect())
    });
    Some(draw(header.map(|name| name.replace(", ", "\n")).collect(), lines, 1))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    fn cells(line: &str) -> Vec<&str> {
        line.trim_matches('│').split('┆').map(str::trim).collect()
    }

    #[test]
    fn each_part_has_a_line_for_each_way_with_its_times_of_the_bare_one() {
        let text = render(&sample());
        let lines: Vec<_> =
            text.lines().filter(|l| l.contains("bare") || l.contains("hw-a")).collect();
        let lines: Vec<_> = lines.into_iter().map(cells).filter(|c| c.len() == 8).skip(1).collect();
        assert_eq!(
            lines,
            [
                ["init, quiet", "hw-assist", "100", "7", "900", "50", "3.0", "1.50"],
                ["", "bare", "-", "-", "-", "-", "2.0", "1.00"],
                ["forks", "hw-assist", "100", "7", "900", "50", "3.0", "1.50"],
                ["", "bare", "-", "-", "-", "-", "2.0", "1.00"],
                ["init, full log", "hw-assist", "100", "7", "900", "50", "3.0", "-"],
            ]
        );
    }

    #[test]
    fn every_reason_that_was_counted_has_a_line_with_all_parts() {
        let text = render(&sample());
        let line = text.lines().find(|line| line.contains("cpuid")).unwrap();
        assert_eq!(cells(line), ["cpuid", "100", "100", "100"]);
        assert!(text.contains("Exits by reason under hw-assist"), "{text}");
        assert!(!text.contains("under trap-all"), "{text}");
    }
}
