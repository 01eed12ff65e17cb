//! Console bytes from the host: frames on COM1, each for one VM.

extern crate alloc;

use alloc::vec::Vec;

use spin::Mutex;

use super::output;
use crate::host::bundle::MAX_ENTRIES;
use crate::host::link::{Channel, Decoder, Step};

/// Bytes of one frame that are kept; the host sends shorter ones.
const PAYLOAD: usize = 64;
/// Bytes that wait for one VM; what is beyond is lost, as on a UART that nobody reads.
const WAITING: usize = 128;
/// Bytes that are taken from the UART at one call, which bounds its time.
const AT_ONCE: usize = 16;

/// What has arrived for one VM and has not been read.
#[derive(Clone, Copy)]
struct Queue {
    bytes: [u8; WAITING],
    head: usize,
    count: usize,
}

impl Queue {
    const EMPTY: Queue = Queue { bytes: [0; WAITING], head: 0, count: 0 };

    fn push(&mut self, byte: u8) {
        let at = self.head.wrapping_add(self.count) & (WAITING - 1);
        if self.count < WAITING
            && let Some(slot) = self.bytes.get_mut(at)
        {
            *slot = byte;
            self.count = self.count.wrapping_add(1);
        }
    }

    fn pop(&mut self) -> Option<u8> {
        self.count = self.count.checked_sub(1)?;
        let byte = self.bytes.get(self.head).copied();
        self.head = self.head.wrapping_add(1) & (WAITING - 1);
        byte
    }
}

struct Input {
    decoder: Decoder<PAYLOAD>,
    /// By the numbers of VMs, as far as something has come for one.
    queues: Vec<Queue>,
}

static INPUT: Mutex<Option<Input>> = Mutex::new(None);

/// The next console byte for a VM, if one has arrived. A CPU that finds another at the UART does not
/// wait: the byte comes at the next call.
pub fn console_byte(vm: u8) -> Option<u8> {
    let mut input = INPUT.try_lock()?;
    let Input { decoder, queues } =
        input.get_or_insert_with(|| Input { decoder: Decoder::default(), queues: Vec::new() });
    for _ in 0..AT_ONCE {
        let Some(byte) = output::receive() else { break };
        if let Step::Frame(frame) = decoder.push(byte)
            && frame.channel == Channel::Console
            && usize::from(frame.vm) < MAX_ENTRIES
        {
            let vm = usize::from(frame.vm);
            if queues.len() <= vm {
                queues.resize(vm.saturating_add(1), Queue::EMPTY);
            }
            let Some(queue) = queues.get_mut(vm) else { continue };
            frame.payload.iter().for_each(|&byte| queue.push(byte));
        }
    }
    queues.get_mut(usize::from(vm))?.pop()
}
