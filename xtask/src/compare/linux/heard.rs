//! What one boot says: lines on its console with their time, and exits at its marks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hv_core::host::report::Cause;
use hv_core::host::stat::{Moment, Stat};
use pv_abi::exit::Reason;

use crate::event::Event;
use crate::linux::{GREETING, MARK_BEGIN, MARK_END, MARK_INIT};
use crate::stat;

/// Since the start of the machine, or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// By the clock on the wall.
    pub wall: Duration,
    /// What the machine had of the host's CPUs: the same on a host that does nothing else.
    pub cpu: Duration,
}

impl Time {
    fn since(self, earlier: Time) -> Time {
        Time {
            wall: self.wall.saturating_sub(earlier.wall),
            cpu: self.cpu.saturating_sub(earlier.cpu),
        }
    }
}

/// A part of a boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub name: String,
    /// How long it took.
    pub time: Time,
    /// What the hypervisor counted; `None` without it.
    pub cost: Option<Cost>,
}

/// What a part of a boot cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    pub exits: u64,
    /// Those that a clock caused, or the guest's wish for one: more the longer it takes.
    pub timer: u64,
    pub by_reason: BTreeMap<&'static str, u64>,
    /// Ticks in which the guest ran.
    pub guest: u64,
    /// Ticks in the hypervisor, from exits to entries.
    pub hypervisor: u64,
    /// Ticks in which the vCPU waited.
    pub halted: u64,
}

impl Cost {
    /// What was counted between two moments; `None` if something ran backwards.
    fn between(begin: Option<&Stat>, end: &Stat) -> Option<Cost> {
        let before = |of: fn(&Stat) -> u64| begin.map_or(0, of);
        let mut cost = Cost {
            exits: end.total().checked_sub(before(Stat::total))?,
            timer: end.timer_writes.checked_sub(before(|stat| stat.timer_writes))?,
            by_reason: BTreeMap::new(),
            guest: 0,
            hypervisor: 0,
            halted: end.halted.checked_sub(before(|stat| stat.halted))?,
        };
        for &reason in Reason::ALL.iter().filter(|reason| **reason != Reason::Mark) {
            let earlier = begin.map(|stat| stat.of(reason)).unwrap_or_default();
            let count = end.of(reason).count.checked_sub(earlier.count)?;
            cost.hypervisor += end.of(reason).ticks.checked_sub(earlier.ticks)?;
            if matches!(reason, Reason::TimeSlice | Reason::ExternalInterrupt) {
                cost.timer += count;
            }
            if count != 0 {
                cost.by_reason.insert(reason.name(), count);
            }
        }
        // The ticks of a halt's exit last until the vCPU goes on.
        cost.hypervisor = cost.hypervisor.checked_sub(cost.halted)?;
        let ticks = end.ticks.checked_sub(before(|stat| stat.ticks))?;
        cost.guest = ticks.checked_sub(cost.hypervisor)?.checked_sub(cost.halted)?;
        Some(cost)
    }
}

/// What was heard so far.
#[derive(Default)]
pub struct Heard {
    line: Vec<u8>,
    /// Lines of the first process, without those of the kernel.
    lines: Vec<(String, Time)>,
    marks: Vec<Stat>,
    end: Option<Stat>,
    failure: Option<String>,
    /// What cost most exits.
    pub top: Option<String>,
    last: Time,
}

impl Heard {
    /// Takes an event that came so long after the start.
    pub fn event(&mut self, event: Event, time: Time) {
        self.last = time;
        match event {
            Event::Console { vm: 0, bytes } => {
                for byte in bytes {
                    if byte != b'\n' {
                        self.line.push(byte);
                        continue;
                    }
                    let line = std::mem::take(&mut self.line);
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    // In front of the first line may be what a boot loader has drawn.
                    let start = line.find(GREETING).or_else(|| line.find("workload "));
                    if let Some(start) = start {
                        self.lines.push((line[start..].to_owned(), time));
                    }
                }
            }
            Event::Stat { vm: 0, stat } => match Moment::from_number(stat.moment) {
                Some(Moment::Scratch) => self.marks.push(*stat),
                Some(Moment::End) => self.end = Some(*stat),
                Some(Moment::Mark) | None => {}
            },
            Event::Top { vm: 0, entries } => self.top = Some(stat::top(&entries)),
            Event::End { cause, code, text, .. }
                if cause != Cause::Shutdown as u32 || code != 0 =>
            {
                self.failure.get_or_insert(text);
            }
            Event::Panic { text } | Event::Malformed(text) => {
                self.failure.get_or_insert(text);
            }
            _ => {}
        }
    }

    /// The last line of the first process.
    pub fn now(&self) -> &str {
        self.lines.last().map_or("boots", |(line, _)| line)
    }

    /// The parts of the boot: until the first process runs, which is called `first`, each of `work`, and
    /// everything. `counted` if there is a hypervisor that counts.
    pub fn spans(&self, first: &str, work: &[&str], counted: bool) -> Result<Vec<Span>> {
        if let Some(failure) = &self.failure {
            bail!("{failure}");
        }
        let at = |line: &str| {
            let found = self.lines.iter().find(|(other, _)| other.starts_with(line));
            found.map(|(_, time)| *time).with_context(|| format!("the guest did not say {line:?}"))
        };
        let mut marks = self.marks.iter().skip_while(|stat| stat.id != u64::from(MARK_INIT));
        let mut mark = |letter: u8| match marks.next() {
            Some(stat) if stat.id == u64::from(letter) => Ok(Some(stat)),
            Some(stat) => bail!("a mark {:#x} instead of {letter:#x}", stat.id),
            None => Ok(None),
        };
        let span = |name: &str, time: Time, stats: Option<(Option<&Stat>, &Stat)>| {
            let cost = stats.map(|(begin, end)| {
                Cost::between(begin, end)
                    .with_context(|| format!("{name}: a counter ran backwards"))
            });
            anyhow::Ok(Span { name: name.to_owned(), time, cost: cost.transpose()? })
        };
        let mut spans = Vec::new();
        let reached = at(GREETING)?;
        let init = mark(MARK_INIT)?;
        spans.push(span(first, reached, init.map(|stat| (None, stat)))?);
        for name in work {
            let begin = at(&format!("workload {name} begin"))?;
            let end = at(&format!("workload {name} end"))?;
            let marks = mark(MARK_BEGIN)?.map(Some).zip(mark(MARK_END)?);
            spans.push(span(name, end.since(begin), marks)?);
        }
        ensure!(!counted || self.end.is_some(), "the hypervisor did not tell the exits by reason");
        let everything = self.end.as_ref().map(|stat| (None, stat));
        spans.push(span("everything", self.last, everything)?);
        Ok(spans)
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    /// Counters at a moment, with `n` of everything; an exit takes 10 ticks, beside those of the halts.
    fn stat(moment: Moment, letter: u8, n: u64) -> Event {
        let mut stat = Box::new(Stat::new_zeroed());
        (stat.moment, stat.id) = (moment as u32, letter.into());
        (stat.ticks, stat.halted, stat.timer_writes) = (1000 * n, 100 * n, n);
        for reason in [Reason::Cpuid, Reason::TimeSlice, Reason::Hlt, Reason::Mark] {
            let counter = &mut stat.exits[reason as usize];
            (counter.count, counter.ticks) = (n, 10 * n);
        }
        stat.exits[Reason::Hlt as usize].ticks += stat.halted;
        Event::Stat { vm: 0, stat }
    }

    fn console(text: &str) -> Event {
        Event::Console { vm: 0, bytes: text.as_bytes().to_vec() }
    }

    fn heard(events: Vec<Event>) -> Heard {
        let mut heard = Heard::default();
        for (event, second) in events.into_iter().zip(1..) {
            let wall = Duration::from_secs(second);
            heard.event(event, Time { wall, cpu: 2 * wall });
        }
        heard
    }

    fn whole() -> Vec<Event> {
        vec![
            console("[    0.1] Linux\n\x1b[Hparavane: init after 2.5 s\r\nwork"),
            stat(Moment::Scratch, b'x', 1),
            stat(Moment::Scratch, MARK_INIT, 2),
            console("load forks begin\r\n"),
            stat(Moment::Scratch, MARK_BEGIN, 3),
            stat(Moment::Scratch, MARK_END, 7),
            console("workload forks end\n"),
            stat(Moment::End, 0, 9),
        ]
    }

    #[test]
    fn each_part_has_its_time_and_what_was_counted_between_its_marks() {
        let spans = heard(whole()).spans("init", &["forks"], true).unwrap();
        let seconds = |s: &Span| (s.time.wall.as_secs(), s.time.cpu.as_secs());
        let names: Vec<_> = spans.iter().map(|s| (s.name.as_str(), seconds(s))).collect();
        assert_eq!(names, [("init", (1, 2)), ("forks", (3, 6)), ("everything", (8, 16))]);
        let costs: Vec<_> = spans.iter().map(|s| s.cost.clone().unwrap()).collect();
        assert_eq!(
            costs.iter().map(|c| (c.exits, c.timer)).collect::<Vec<_>>(),
            [(6, 4), (12, 8), (27, 18)]
        );
        let forks = &costs[1];
        assert_eq!(
            (forks.guest, forks.hypervisor, forks.halted),
            (4 * (1000 - 30 - 100), 120, 400)
        );
        let each = BTreeMap::from([("cpuid", 4), ("hlt", 4), ("time-slice", 4)]);
        assert_eq!(forks.by_reason, each);
    }

    #[test]
    fn without_marks_only_everything_is_counted() {
        let events = whole().into_iter();
        let unmarked = events.filter(|event| match event {
            Event::Stat { stat, .. } => stat.moment == Moment::End as u32,
            _ => true,
        });
        let spans = heard(unmarked.collect()).spans("init", &["forks"], true).unwrap();
        let counted: Vec<bool> = spans.iter().map(|span| span.cost.is_some()).collect();
        assert_eq!(counted, [false, false, true]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let refused = |events: Vec<Event>, work: &[&str]| {
            heard(events).spans("init", work, true).unwrap_err().to_string()
        };
        assert!(refused(whole(), &["forks", "dd"]).contains("workload dd begin"));
        assert!(refused(whole()[1..].to_vec(), &[]).contains(GREETING));
        let mut swapped = whole();
        swapped.swap(4, 5);
        assert!(refused(swapped, &["forks"]).contains("instead of"));
        assert!(refused(whole()[..7].to_vec(), &["forks"]).contains("exits by reason"));
        let crash =
            Event::End { vm: 0, cause: Cause::TripleFault as u32, code: 0, text: "fell".into() };
        assert_eq!(refused([whole(), vec![crash]].concat(), &["forks"]), "fell");
    }
}
