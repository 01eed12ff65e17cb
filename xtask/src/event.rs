//! What a running machine tells, after the link's frames are taken apart.

use hv_core::host::link::{Channel, Frame};
use hv_core::host::report::{End, Mark, MarkCounter, Panic};
use zerocopy::FromBytes;

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
            let counters = counters(rest).ok_or("the counters of a mark")?;
            Content::Mark(vm, Section { mark, counters })
        }
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

fn counters(mut bytes: &[u8]) -> Option<Vec<MarkCounter>> {
    let mut counters = Vec::new();
    while !bytes.is_empty() {
        let (counter, rest) = MarkCounter::read_from_prefix(bytes).ok()?;
        counters.push(counter);
        bytes = rest;
    }
    Some(counters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_core::host::link::HYPERVISOR;
    use zerocopy::IntoBytes;

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
    fn short_payloads_are_named() {
        for channel in [Channel::Mark, Channel::End, Channel::Panic] {
            let frame = Frame { vm: HYPERVISOR, channel, payload: &[1, 2, 3] };
            assert!(content(&frame).is_err(), "{channel:?}");
        }
        let mark = Mark { id: 7, phase: 1, tsc: 99, vmreads: 5, vmwrites: 6 };
        let cut = [mark.as_bytes(), &[0; 23]].concat();
        let frame = Frame { vm: 0, channel: Channel::Mark, payload: &cut };
        assert_eq!(content(&frame), Err("the counters of a mark"));
    }
}
