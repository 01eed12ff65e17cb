//! A VM's exits in readable form: by reason, and by what it reached for.

use std::cmp::Reverse;
use std::fmt::Write;
use std::ops::RangeInclusive;

use hv_core::host::stat::{Moment, Place, Stat, TopEntry};
use pv_abi::exit::Reason;

/// IA32_TSC_DEADLINE, by which a guest asks for its next timer interrupt.
pub const TSC_DEADLINE: u64 = 0x6e0;

/// The reasons that were counted, most frequent first, with ticks in the hypervisor for each exit.
pub fn exits(stat: &Stat) -> String {
    let mut text = format!("{} exits", stat.total());
    match Moment::from_number(stat.moment) {
        Some(Moment::Mark) => text += &format!(" until mark {}", stat.id),
        Some(Moment::Scratch) => text += &format!(" until the scratch mark {:#x}", stat.id),
        Some(Moment::End) | None => {}
    }
    let _ = write!(text, " in {} ticks", stat.ticks);
    if stat.halted != 0 {
        let _ = write!(text, ", {} of them halted", stat.halted);
    }
    if stat.timer_writes != 0 {
        let _ = write!(text, "; {} exits set the timer", stat.timer_writes);
    }
    let mut counted: Vec<(Reason, u64, u64)> = Reason::ALL
        .iter()
        .map(|&reason| (reason, stat.of(reason).count, stat.of(reason).ticks))
        .filter(|&(reason, count, _)| count != 0 && reason != Reason::Mark)
        .collect();
    counted.sort_by_key(|&(_, count, _)| Reverse(count));
    for (reason, count, ticks) in counted {
        let _ = write!(text, "\n  {:18} {count:>10}  {} ticks each", reason.name(), ticks / count);
    }
    text
}

/// The places that cost most exits, by kind.
pub fn top(entries: &[TopEntry]) -> String {
    let mut text = "Most exits by".to_owned();
    for place in Place::ALL {
        let mut own: Vec<&TopEntry> = entries
            .iter()
            .filter(|entry| entry.place == place as u32 && entry.count != 0)
            .collect();
        own.sort_by_key(|entry| Reverse(entry.count));
        for entry in own {
            let what = format!("{} {:#x}", title(place), entry.number);
            let line = format!("{what:24} {:>10}  {}", entry.count, name(place, entry.number));
            let _ = write!(text, "\n  {}", line.trim_end());
        }
    }
    text
}

const fn title(place: Place) -> &'static str {
    match place {
        Place::PortIn => "IN of port",
        Place::PortOut => "OUT to port",
        Place::MsrRead => "RDMSR",
        Place::MsrWrite => "WRMSR",
        Place::Page => "page",
    }
}

/// What a reader may not know by its number.
fn name(place: Place, number: u64) -> &'static str {
    let names = match place {
        Place::PortIn | Place::PortOut => PORTS,
        Place::MsrRead | Place::MsrWrite => MSRS,
        Place::Page => PAGES,
    };
    names.iter().find(|(range, _)| range.contains(&number)).map_or("", |(_, name)| name)
}

type Names = &'static [(RangeInclusive<u64>, &'static str)];

const PORTS: Names = &[
    (0x20..=0x21, "first PIC"),
    (0x40..=0x43, "PIT"),
    (0x60..=0x60, "i8042 data"),
    (0x61..=0x61, "PIT channel 2 gate"),
    (0x64..=0x64, "i8042 status"),
    (0x70..=0x71, "RTC"),
    (0x80..=0x80, "delay"),
    (0xa0..=0xa1, "second PIC"),
    (0x3f8..=0x3f8, "COM1 data"),
    (0x3f9..=0x3fc, "COM1"),
    (0x3fd..=0x3fd, "COM1 line status"),
    (0x3fe..=0x3ff, "COM1"),
    (0xcf8..=0xcff, "PCI configuration"),
];

const MSRS: Names = &[
    (0x1b..=0x1b, "APIC_BASE"),
    (0x3b..=0x3b, "TSC_ADJUST"),
    (0x48..=0x48, "SPEC_CTRL"),
    (0x49..=0x49, "PRED_CMD"),
    (0x8b..=0x8b, "microcode revision"),
    (TSC_DEADLINE..=TSC_DEADLINE, "TSC_DEADLINE"),
    (0x277..=0x277, "PAT"),
    (0x80b..=0x80b, "x2APIC EOI"),
    (0x830..=0x830, "x2APIC ICR"),
    (0x838..=0x838, "x2APIC initial count"),
    (0x800..=0x8ff, "x2APIC"),
    (0xc000_0080..=0xc000_0080, "EFER"),
    (0xc000_0081..=0xc000_0084, "SYSCALL"),
    (0xc000_0100..=0xc000_0102, "FS and GS base"),
    (0xc000_0103..=0xc000_0103, "TSC_AUX"),
];

const PAGES: Names = &[
    (0xfec0_0000..=0xfec0_0fff, "I/O APIC"),
    (0xfed0_0000..=0xfed0_0fff, "HPET"),
    (0xfee0_0000..=0xfee0_0fff, "local APIC"),
];

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    fn sample() -> Stat {
        let mut stat = Stat::new_zeroed();
        (stat.ticks, stat.halted, stat.timer_writes) = (1000, 400, 3);
        for (reason, count, ticks) in
            [(Reason::Cpuid, 5, 500), (Reason::PortOut, 90, 9000), (Reason::Mark, 7, 70)]
        {
            let counter = &mut stat.exits[reason as usize];
            (counter.count, counter.ticks) = (count, ticks);
        }
        stat
    }

    #[test]
    fn the_most_frequent_reason_stands_first_and_marks_nowhere() {
        let text = exits(&sample());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "95 exits in 1000 ticks, 400 of them halted; 3 exits set the timer");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[1]), ["port-out", "90", "100", "ticks", "each"]);
        assert_eq!(words(lines[2]), ["cpuid", "5", "100", "ticks", "each"]);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn the_exits_at_a_mark_name_it() {
        let stat =
            Stat { moment: Moment::Mark as u32, id: 9, halted: 0, timer_writes: 0, ..sample() };
        assert!(exits(&stat).starts_with("95 exits until mark 9 in 1000 ticks\n"));
    }

    #[test]
    fn places_are_sorted_by_kind_then_by_count_and_known_ones_named() {
        let entry = |place: Place, number, count| TopEntry {
            place: place as u32,
            reserved: 0,
            number,
            count,
        };
        let text = top(&[
            entry(Place::MsrWrite, TSC_DEADLINE, 3),
            entry(Place::PortOut, 0x99, 2),
            entry(Place::PortOut, 0x3f8, 400),
            entry(Place::Page, 0xfee0_0000, 1),
            entry(Place::PortIn, 0x3fd, 0),
        ]);
        let lines: Vec<String> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "Most exits by",
                "OUT to port 0x3f8 400 COM1 data",
                "OUT to port 0x99 2",
                "WRMSR 0x6e0 3 TSC_DEADLINE",
                "page 0xfee00000 1 local APIC",
            ]
        );
    }
}
