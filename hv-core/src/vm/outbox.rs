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
    /// Where the last frame's header is, if that frame is of the console and can grow.
    console: Option<usize>,
}

impl Outbox {
    /// An empty box of VM number `vm`.
    pub fn new(vm: u8) -> Outbox {
        Outbox { vm, bytes: Vec::with_capacity(CAPACITY), console: None }
    }

    /// Whether something waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends everything.
    pub fn flush(&mut self, link: &mut impl Link) {
        if !self.bytes.is_empty() {
            link.send(&self.bytes);
            self.bytes.clear();
            self.console = None;
        }
    }

    /// Adds a frame made of two parts, of at most [`MAX_PAYLOAD`] bytes together; what is beyond is
    /// cut off. Returns where its payload starts, for [`Outbox::stamp`].
    pub fn frame(
        &mut self,
        link: &mut impl Link,
        channel: Channel,
        a: &[u8],
        b: &[u8],
    ) -> usize {
        let a = a.get(..a.len().min(MAX_PAYLOAD)).unwrap_or(a);
        let b = b.get(..b.len().min(MAX_PAYLOAD.saturating_sub(a.len()))).unwrap_or(b);
        let length = a.len().saturating_add(b.len());
        self.make_room(link, length.saturating_add(HEADER));
        self.bytes.extend_from_slice(Header::new(self.vm, channel, length as u16).as_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(a);
        self.bytes.extend_from_slice(b);
        self.console = None;
        at
    }

    /// Replaces a 64-bit value in a frame that has not been sent.
    pub fn stamp(&mut self, payload: usize, offset: usize, value: u64) {
        let start = payload.saturating_add(offset);
        if let Some(old) = self.bytes.get_mut(start..start.saturating_add(8)) {
            old.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Adds console output, of at most [`MAX_PAYLOAD`] bytes; consecutive pieces share a frame.
    pub fn console(&mut self, link: &mut impl Link, text: &[u8]) {
        self.make_room(link, text.len().saturating_add(HEADER));
        let grown = self.console.and_then(|at| {
            let start = at.checked_add(HEADER)?;
            let length = self.bytes.len().checked_sub(start)?.checked_add(text.len())?;
            (length <= MAX_PAYLOAD).then_some((at, start, length))
        });
        let Some((at, start, length)) = grown else {
            let at = self.bytes.len();
            let _ = self.frame(link, Channel::Console, text, &[]);
            self.console = Some(at);
            return;
        };
        self.bytes.extend_from_slice(text);
        let header = Header::new(self.vm, Channel::Console, length as u16);
        if let Some(old) = self.bytes.get_mut(at..start) {
            old.copy_from_slice(header.as_bytes());
        }
    }

    fn make_room(&mut self, link: &mut impl Link, length: usize) {
        if self.bytes.len().saturating_add(length) > CAPACITY {
            self.flush(link);
        }
    }
}
