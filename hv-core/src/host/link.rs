//! The one link to the host: frames that multiplex consoles, log and results over a byte stream.
//!
//! The stream is whatever the machine has (a UART, a debug port); other bytes may stand between
//! frames, so a reader looks for [`SYNC`] and believes a header only if its check fits.

use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first two bytes of a frame. They are not text in any encoding.
pub const SYNC: [u8; 2] = [0xd5, 0xfe];
/// The longest payload of one frame in bytes. Longer messages are sent in pieces.
pub const MAX_PAYLOAD: usize = 4096;
/// The VM number that stands for the hypervisor itself.
pub const HYPERVISOR: u8 = 0xff;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Channel {
    /// The hypervisor's log: defmt frames as its encoder made them, cut anywhere.
    Log = 0,
    /// Console bytes of a VM, in both directions.
    Console = 1,
    /// One [`super::report::Mark`] with its counters.
    Mark = 2,
    /// One [`super::report::End`] and the message behind it.
    End = 3,
    /// One [`super::report::Panic`] and the text behind it: the hypervisor itself has failed.
    Panic = 4,
    /// The hypervisor has nothing left to run; no payload. The last frame.
    Done = 5,
    /// One [`super::stat::Stat`]: a VM's exits by reason, before its [`Channel::End`], and at its
    /// marks.
    Stat = 6,
    /// The [`super::stat::TopEntry`]s of a VM, before its [`Channel::End`].
    Top = 7,
}

impl Channel {
    /// The channel with this number.
    pub const fn from_number(number: u8) -> Option<Channel> {
        Some(match number {
            0 => Channel::Log,
            1 => Channel::Console,
            2 => Channel::Mark,
            3 => Channel::End,
            4 => Channel::Panic,
            5 => Channel::Done,
            6 => Channel::Stat,
            7 => Channel::Top,
            _ => return None,
        })
    }
}

/// A frame's header, followed by `length` bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    sync: [u8; 2],
    vm: u8,
    channel: u8,
    length: U16,
    check: U16,
}

const _: () = assert!(size_of::<Header>() == 8);

/// Size of a header in bytes.
pub const HEADER: usize = size_of::<Header>();

impl Header {
    /// The header of a frame of `length` bytes, which is at most [`MAX_PAYLOAD`].
    pub fn new(vm: u8, channel: Channel, length: u16) -> Header {
        Header {
            sync: SYNC,
            vm,
            channel: channel as u8,
            length: U16::new(length),
            check: U16::new(check(vm, channel as u8, length)),
        }
    }

    fn parse(bytes: &[u8]) -> Option<(u8, Channel, usize)> {
        let header = Header::read_from_bytes(bytes).ok()?;
        let length = header.length.get();
        let sound = header.sync == SYNC
            && usize::from(length) <= MAX_PAYLOAD
            && header.check.get() == check(header.vm, header.channel, length);
        let channel = Channel::from_number(header.channel)?;
        sound.then_some((header.vm, channel, usize::from(length)))
    }
}

fn check(vm: u8, channel: u8, length: u16) -> u16 {
    !(u16::from_le_bytes([vm, channel]).rotate_left(5) ^ length)
}

/// Takes a byte stream apart into frames; `N` is the longest payload that it can hold.
pub struct Decoder<const N: usize> {
    header: [u8; HEADER],
    have: usize,
    frame: Option<(u8, Channel, usize)>,
    payload: [u8; N],
}

/// One frame, borrowed from the decoder that found it.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The VM it concerns, or [`HYPERVISOR`].
    pub vm: u8,
    /// What it carries.
    pub channel: Channel,
    /// The bytes.
    pub payload: &'a [u8],
}

/// What a byte did.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// It belongs to a frame that is not complete.
    Partial,
    /// It completed a frame.
    Frame(Frame<'a>),
    /// This byte, the first that the decoder held, belongs to no frame: text between frames.
    Stray(u8),
}

impl<const N: usize> Default for Decoder<N> {
    fn default() -> Self {
        Decoder { header: [0; HEADER], have: 0, frame: None, payload: [0; N] }
    }
}

impl<const N: usize> Decoder<N> {
    /// Takes the next byte.
    pub fn push(&mut self, byte: u8) -> Step<'_> {
        let Some((vm, channel, length)) = self.frame else {
            return self.push_header(byte);
        };
        if let Some(slot) = self.payload.get_mut(self.have) {
            *slot = byte;
        }
        self.have = self.have.saturating_add(1);
        if self.have < length {
            return Step::Partial;
        }
        self.frame = None;
        self.have = 0;
        Step::Frame(Frame { vm, channel, payload: self.payload.get(..length).unwrap_or(&[]) })
    }

    fn push_header(&mut self, byte: u8) -> Step<'_> {
        let mut stray = None;
        if self.have == HEADER {
            stray = self.shift();
        }
        if let Some(slot) = self.header.get_mut(self.have) {
            *slot = byte;
        }
        self.have = self.have.saturating_add(1);
        let held = self.header.get(..self.have.min(SYNC.len())).unwrap_or(&[]);
        if stray.is_none() && !SYNC.starts_with(held) {
            stray = self.shift();
        }
        if self.have == HEADER {
            match Header::parse(&self.header) {
                Some((vm, channel, 0)) => {
                    self.have = 0;
                    return Step::Frame(Frame { vm, channel, payload: &[] });
                }
                Some(frame) if frame.2 <= N => {
                    self.frame = Some(frame);
                    self.have = 0;
                    return Step::Partial;
                }
                _ => {}
            }
        }
        stray.map_or(Step::Partial, Step::Stray)
    }

    fn shift(&mut self) -> Option<u8> {
        let first = *self.header.first()?;
        self.header.rotate_left(1);
        self.have = self.have.saturating_sub(1);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn frame(vm: u8, channel: Channel, payload: &[u8]) -> Vec<u8> {
        let header = Header::new(vm, channel, payload.len() as u16);
        [header.as_bytes(), payload].concat()
    }

    /// VM, channel, payload.
    type Owned = (u8, Channel, Vec<u8>);

    /// Frames, and the text between them.
    fn decode(bytes: &[u8]) -> (Vec<Owned>, Vec<u8>) {
        let mut decoder = Decoder::<MAX_PAYLOAD>::default();
        let (mut frames, mut strays) = (Vec::new(), Vec::new());
        for &byte in bytes {
            match decoder.push(byte) {
                Step::Partial => {}
                Step::Frame(f) => frames.push((f.vm, f.channel, f.payload.to_vec())),
                Step::Stray(b) => strays.push(b),
            }
        }
        (frames, strays)
    }

    #[test]
    fn frames_are_found_between_text() {
        let bytes = [
            b"banner\n".to_vec(),
            frame(0, Channel::Console, b"hello"),
            frame(HYPERVISOR, Channel::Done, b""),
            b"<bochs:2>".to_vec(),
            frame(3, Channel::Log, &SYNC),
        ]
        .concat();
        let (frames, strays) = decode(&bytes);
        assert_eq!(
            frames,
            [
                (0, Channel::Console, b"hello".to_vec()),
                (HYPERVISOR, Channel::Done, Vec::new()),
                (3, Channel::Log, SYNC.to_vec()),
            ]
        );
        assert_eq!(strays, b"banner\n<bochs:2>");
    }

    #[test]
    fn a_damaged_header_loses_one_frame_only() {
        let mut damaged = frame(0, Channel::Console, b"lost");
        damaged[4] ^= 1;
        let bytes = [damaged, frame(1, Channel::Console, b"kept")].concat();
        assert_eq!(decode(&bytes).0, [(1, Channel::Console, b"kept".to_vec())]);
    }

    #[test]
    fn half_a_sync_before_a_frame_does_no_harm() {
        for noise in [&SYNC[..1], &SYNC[..], &[SYNC[0], SYNC[0], SYNC[1], 0, 0]] {
            let bytes = [noise, &frame(1, Channel::Console, b"x")].concat();
            assert_eq!(decode(&bytes).0.len(), 1, "{noise:x?}");
        }
    }
}
