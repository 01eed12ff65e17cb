//! Console bytes from the host: frames on COM1.

use spin::Mutex;

use super::output;
use crate::host::link::{Channel, Decoder, Step};

/// Bytes of one frame that are kept; the host sends shorter ones.
const PAYLOAD: usize = 128;

struct Input {
    decoder: Decoder<PAYLOAD>,
    /// What arrived and has not been read.
    waiting: [u8; PAYLOAD],
    count: usize,
    next: usize,
}

static INPUT: Mutex<Option<Input>> = Mutex::new(None);

/// The next console byte, if one has arrived. In this version input goes to whichever VM asks.
pub fn console_byte() -> Option<u8> {
    let mut input = INPUT.lock();
    let input = input.get_or_insert_with(|| Input {
        decoder: Decoder::default(),
        waiting: [0; PAYLOAD],
        count: 0,
        next: 0,
    });
    while input.next >= input.count {
        let byte = output::receive()?;
        if let Step::Frame(frame) = input.decoder.push(byte)
            && frame.channel == Channel::Console
            && let Some(room) = input.waiting.get_mut(..frame.payload.len())
        {
            room.copy_from_slice(frame.payload);
            input.count = frame.payload.len();
            input.next = 0;
        }
    }
    let byte = input.waiting.get(input.next).copied();
    input.next = input.next.wrapping_add(1);
    byte
}
