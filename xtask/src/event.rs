//! What a running machine tells, after the link's frames are taken apart.

use hv_core::host::link::{Channel, Frame};
use hv_core::host::report::{End, Mark, MarkCounter, Panic};
use hv_core::host::stat::{Stat, TopEntry};
use zerocopy::{FromBytes, Immutable};

use crate::hvlog::Line;

/// Something that the machine said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Console output of a VM; of a guest that runs bare, VM 0.
    Console { vm: u8, bytes: Vec<u8> },
    /// A line of the hypervisor's log.
    Log(Line),
    /// A measured section begins or ends.
    Mark { vm: u8, section: Section },
    /// A VM's exits by reason until now.
    Stat { vm: u8, stat: Box<Stat> },
    /// The ports, MSRs and pages that cost a VM most exits.
    Top { vm: u8, entries: Vec<TopEntry> },
    /// A VM has ended: its [`hv_core::host::report::Cause`], its code, and the whole report.
    End { vm: u8, cause: u32, code: u64, text: String },
    /// The hypervisor itself has failed.
    Panic { text: String },
    /// The hypervisor has nothing left to run.
    Done,
    /// A line from the machine outside of frames: firmware, boot loader, emulator.
    Machine(String),
    /// A frame that does not hold what its channel says.
    Malformed(String),
}

/// A mark with its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub mark: Mark,
    pub counters: Vec<MarkCounter>,
}

/// A frame's contents by channel, before log and reports are made readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    Log(&'a [u8]),
    Console(u8, &'a [u8]),
    Mark(u8, Section),
    Stat(u8, Box<Stat>),
    Top(u8, Vec<TopEntry>),
    End(u8, End, String),
    Panic(Panic, String),
    Done,
}

/// What a frame holds.
///
/// # Errors
///
/// The name of the structure that it does not hold.
pub fn content<'a>(frame: &Frame<'a>) -> Result<Content<'a>, &'static str> {
    let (vm, payload) = (frame.vm, frame.payload);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match frame.channel {
        Channel::Log => Content::Log(payload),
        Channel::Console => Content::Console(vm, payload),
        Channel::Mark => {
            let (mark, rest) = Mark::read_from_prefix(payload).map_err(|_| "a mark")?;
            let counters = all(rest).ok_or("the counters of a mark")?;
            Content::Mark(vm, Section { mark, counters })
        }
        Channel::Stat => {
            let stat = Stat::read_from_bytes(payload).map_err(|_| "exits by reason")?;
            Content::Stat(vm, Box::new(stat))
        }
        Channel::Top => Content::Top(vm, all(payload).ok_or("a list of places")?),
        Channel::End => {
            let (end, rest) = End::read_from_prefix(payload).map_err(|_| "an end report")?;
            Content::End(vm, end, text(rest))
        }
        Channel::Panic => {
            let (panic, rest) = Panic::read_from_prefix(payload).map_err(|_| "a panic report")?;
            Content::Panic(panic, text(rest))
        }
        Channel::Done => Content::Done,
    })
}

/// As many `T` as the bytes hold; `None` if some are left over.
fn all<T: FromBytes + Immutable + Copy>(mut bytes: &[u8]) -> Option<Vec<T>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (one, rest) = T::read_from_prefix(bytes).ok()?;
        found.push(one);
        bytes = rest;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_core::host::link::HYPERVISOR;
    use zerocopy::{FromZeros, IntoBytes};

    #[test]
    fn a_mark_comes_with_all_its_counters() {
        let mark = Mark { id: 7, phase: 1, tsc: 99, vmreads: 5, vmwrites: 6 };
        let counters = [
            MarkCounter { slot: 0, count: 1, ticks: 2 },
            MarkCounter { slot: 65, count: 3, ticks: 4 },
        ];
        let payload = [mark.as_bytes(), counters.as_bytes()].concat();
        let frame = Frame { vm: 2, channel: Channel::Mark, payload: &payload };
        let section = Section { mark, counters: counters.to_vec() };
        assert_eq!(content(&frame), Ok(Content::Mark(2, section)));
    }

    #[test]
    fn exits_and_places_arrive_whole() {
        let mut stat = Stat::new_zeroed();
        (stat.ticks, stat.exits[3].count) = (77, 5);
        let frame = Frame { vm: 1, channel: Channel::Stat, payload: stat.as_bytes() };
        assert_eq!(content(&frame), Ok(Content::Stat(1, Box::new(stat))));
        let entries = [TopEntry { place: 1, reserved: 0, number: 0x3f8, count: 9 }; 2];
        let frame = Frame { vm: 1, channel: Channel::Top, payload: entries.as_bytes() };
        assert_eq!(content(&frame), Ok(Content::Top(1, entries.to_vec())));
        let cut = Frame { payload: &entries.as_bytes()[1..], ..frame };
        assert_eq!(content(&cut), Err("a list of places"));
    }

    #[test]
    fn short_payloads_are_named() {
        let all = [Channel::Mark, Channel::End, Channel::Panic, Channel::Stat, Channel::Top];
        for channel in all {
            let frame = Frame { vm: HYPERVISOR, channel, payload: &[1, 2, 3] };
            assert!(content(&frame).is_err(), "{channel:?}");
        }
        let mark = Mark { id: 7, phase: 1, tsc: 99, vmreads: 5, vmwrites: 6 };
        let cut = [mark.as_bytes(), &[0; 23]].concat();
        let frame = Frame { vm: 0, channel: Channel::Mark, payload: &cut };
        assert_eq!(content(&frame), Err("the counters of a mark"));
    }
}
