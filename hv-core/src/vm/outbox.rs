//! Frames on their way to the host.
//!
//! The link is shared by all CPUs and slow, so a vCPU collects its frames and sends them when it
//! leaves, when the box is full, or when they have waited long enough.

extern crate alloc;

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::hardware::Link;
use crate::host::link::{Channel, HEADER, Header, MAX_PAYLOAD};

/// Bytes that the box holds.
const CAPACITY: usize = 6 << 10;

/// A vCPU's frames that are not sent yet.
#[derive(Debug)]
pub struct Outbox {
    vm: u8,
    bytes: Vec<u8>,
    /// The last frame is of the console and grows: where it starts. Its header is written when it
    /// is closed.
    open: Option<usize>,
    /// How long `bytes` may get before the open frame is closed; 0 without one.
    limit: usize,
}

impl Outbox {
    /// An empty box of VM number `vm`.
    pub fn new(vm: u8) -> Outbox {
        Outbox { vm, bytes: Vec::with_capacity(CAPACITY), open: None, limit: 0 }
    }

    /// Whether something waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends everything.
    pub fn flush(&mut self, link: &mut dyn Link) {
        self.close();
        if !self.bytes.is_empty() {
            link.send(&self.bytes);
            self.bytes.clear();
        }
    }

    /// Ends the open frame, if there is one.
    fn close(&mut self) {
        self.limit = 0;
        let Some(at) = self.open.take() else { return };
        let start = at.saturating_add(HEADER);
        let length = self.bytes.len().saturating_sub(start);
        let header = Header::new(self.vm, Channel::Console, length as u16);
        if let Some(room) = self.bytes.get_mut(at..start) {
            room.copy_from_slice(header.as_bytes());
        }
    }

    /// Adds a frame made of two parts, of at most [`MAX_PAYLOAD`] bytes together; what is beyond is
    /// cut off. Returns where its payload starts, for [`Outbox::stamp`].
    pub fn frame(&mut self, link: &mut dyn Link, channel: Channel, a: &[u8], b: &[u8]) -> usize {
        let a = a.get(..a.len().min(MAX_PAYLOAD)).unwrap_or(a);
        let b = b.get(..b.len().min(MAX_PAYLOAD.saturating_sub(a.len()))).unwrap_or(b);
        let length = a.len().saturating_add(b.len());
        self.close();
        self.make_room(link, length.saturating_add(HEADER));
        self.bytes.extend_from_slice(Header::new(self.vm, channel, length as u16).as_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(a);
        self.bytes.extend_from_slice(b);
        at
    }

    /// Replaces a 64-bit value in a frame that has not been sent.
    pub fn stamp(&mut self, payload: usize, offset: usize, value: u64) {
        let start = payload.saturating_add(offset);
        if let Some(old) = self.bytes.get_mut(start..start.saturating_add(8)) {
            old.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Adds console output; consecutive pieces share a frame.
    #[inline(never)]
    pub fn console(&mut self, link: &mut dyn Link, text: &[u8]) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.bytes.len() >= self.limit {
                self.open(link);
            }
            let room = self.limit.saturating_sub(self.bytes.len());
            let (piece, more) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.bytes.extend_from_slice(piece);
            rest = more;
        }
    }

    /// Adds one byte of console output.
    #[inline(always)]
    pub fn console_byte(&mut self, link: &mut dyn Link, byte: u8) {
        if self.bytes.len() >= self.limit {
            self.open(link);
        }
        self.bytes.push(byte);
    }

    /// Starts a frame of the console with room for one byte at least.
    #[inline(never)]
    fn open(&mut self, link: &mut dyn Link) {
        self.close();
        self.make_room(link, HEADER.saturating_add(1));
        self.open = Some(self.bytes.len());
        self.bytes.extend_from_slice(&[0; HEADER]);
        self.limit = self.bytes.len().saturating_add(MAX_PAYLOAD).min(CAPACITY);
    }

    fn make_room(&mut self, link: &mut dyn Link, length: usize) {
        if self.bytes.len().saturating_add(length) > CAPACITY {
            self.flush(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::link::{Decoder, Step};
    use std::string::String;
    use std::vec::Vec;

    #[derive(Default)]
    struct Wire(Vec<u8>);

    impl Link for Wire {
        fn tsc(&self) -> u64 {
            0
        }

        fn interrupt(&mut self, _: u32) {}

        fn send(&mut self, frames: &[u8]) {
            self.0.extend_from_slice(frames);
        }
        fn receive(&mut self) -> Option<u8> {
            None
        }
    }

    fn frames(wire: &Wire) -> Vec<(Channel, Vec<u8>)> {
        let mut decoder = Decoder::<MAX_PAYLOAD>::default();
        let mut frames = Vec::new();
        for &byte in &wire.0 {
            if let Step::Frame(frame) = decoder.push(byte) {
                frames.push((frame.channel, frame.payload.to_vec()));
            }
        }
        frames
    }

    #[test]
    fn pieces_of_the_console_share_a_frame_until_another_comes_between() {
        let (mut outbox, mut wire) = (Outbox::new(3), Wire::default());
        outbox.console(&mut wire, b"one ");
        outbox.console(&mut wire, b"two");
        outbox.frame(&mut wire, Channel::Mark, b"a", b"b");
        outbox.console(&mut wire, b"three");
        assert!(wire.0.is_empty(), "nothing is sent before it must be");
        outbox.flush(&mut wire);
        outbox.flush(&mut wire);
        assert!(outbox.is_empty());
        assert_eq!(
            frames(&wire),
            [
                (Channel::Console, b"one two".to_vec()),
                (Channel::Mark, b"ab".to_vec()),
                (Channel::Console, b"three".to_vec()),
            ]
        );
    }

    #[test]
    fn more_than_the_box_holds_arrives_whole() {
        let (mut outbox, mut wire) = (Outbox::new(0), Wire::default());
        let text: String = (0..5000).map(|i| std::format!("{i} ")).collect();
        for piece in text.as_bytes().chunks(777) {
            outbox.console(&mut wire, piece);
            assert!(outbox.bytes.len() <= CAPACITY);
        }
        outbox.flush(&mut wire);
        let all: Vec<u8> = frames(&wire).into_iter().flat_map(|(_, payload)| payload).collect();
        assert_eq!(all, text.as_bytes());
    }

    #[test]
    fn a_stamp_changes_a_frame_that_waits() {
        let (mut outbox, mut wire) = (Outbox::new(0), Wire::default());
        let at = outbox.frame(&mut wire, Channel::Mark, &[0; 16], &[]);
        outbox.stamp(at, 8, 0x0102_0304_0506_0708);
        outbox.flush(&mut wire);
        assert_eq!(frames(&wire)[0].1[8..], [8, 7, 6, 5, 4, 3, 2, 1]);
    }
}
