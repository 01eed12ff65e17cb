//! The hypervisor's log: defmt frames over the link.
//!
//! Nothing is logged on the exit path: a log frame takes the lock of the link.

use core::sync::atomic::{AtomicBool, Ordering};

use defmt::Encoder;
use spin::Mutex;

use super::output::{self, Text};
use crate::host::link::{Channel, HYPERVISOR};

struct Sink {
    encoder: Encoder,
    /// One log frame; a longer one is cut, which costs that line only.
    text: Text<256>,
}

static SINK: Mutex<Sink> = Mutex::new(Sink { encoder: Encoder::new(), text: Text::new() });
/// Whether the CPU that holds [`SINK`] is inside a log statement.
static BUSY: AtomicBool = AtomicBool::new(false);

#[defmt::global_logger]
struct Logger;

// SAFETY: `acquire` takes a lock that `release` gives back, so no two log statements interleave;
// it is never called from an interrupt or NMI handler, so it cannot wait for itself.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        while BUSY.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        let mut sink = SINK.lock();
        let Sink { encoder, text } = &mut *sink;
        *text = Text::new();
        encoder.start_frame(|bytes| text.push(bytes));
    }

    unsafe fn flush() {}

    unsafe fn release() {
        let mut sink = SINK.lock();
        let Sink { encoder, text } = &mut *sink;
        encoder.end_frame(|bytes| text.push(bytes));
        output::send(HYPERVISOR, Channel::Log, text.as_bytes());
        drop(sink);
        BUSY.store(false, Ordering::Release);
    }

    unsafe fn write(bytes: &[u8]) {
        let mut sink = SINK.lock();
        let Sink { encoder, text } = &mut *sink;
        encoder.write(bytes, |bytes| text.push(bytes));
    }
}

// The clock of the log is the TSC: it needs no calibration and is the unit of every figure.
defmt::timestamp!("{=u64}", super::instructions::tsc());
