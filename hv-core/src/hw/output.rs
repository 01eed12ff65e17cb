//! The byte stream to and from the host: the debug port where there is one, else COM1.

use core::fmt;

use spin::Mutex;
use x86_64::instructions::port::Port;
use zerocopy::IntoBytes;

use crate::host::link::{Channel, HYPERVISOR, Header, MAX_PAYLOAD};

const DEBUG_PORT: u16 = 0xe9;
const COM1: u16 = 0x3f8;
/// LSR: data ready, transmitter holding register empty, transmitter empty.
const DATA_READY: u8 = 1 << 0;
const HOLDING_EMPTY: u8 = 1 << 5;
const ALL_SENT: u8 = 1 << 6;

/// The ports; it has no state of its own, so the panic path can use it whoever holds the lock.
#[derive(Clone, Copy)]
struct Wire {
    debug_port: bool,
}

fn read(port: u16) -> u8 {
    // SAFETY: the callers name the debug port and the UART's registers, which no other code uses;
    // reading them has no effect on memory.
    unsafe { Port::new(port).read() }
}

fn write(port: u16, value: u8) {
    // SAFETY: as in `read`.
    unsafe { Port::new(port).write(value) }
}

impl Wire {
    fn find() -> Wire {
        Wire { debug_port: read(DEBUG_PORT) == DEBUG_PORT as u8 }
    }

    fn send(self, bytes: &[u8]) {
        for &byte in bytes {
            if self.debug_port {
                write(DEBUG_PORT, byte);
            } else {
                wait(HOLDING_EMPTY);
                write(COM1, byte);
            }
        }
    }
}

/// Waits until the UART says `bits`, or gives up: an absent UART reads as all ones, a stuck one
/// must not hold the hypervisor.
fn wait(bits: u8) {
    for _ in 0..1_000_000 {
        if read(COM1.wrapping_add(5)) & bits != 0 {
            return;
        }
    }
}

/// Sets COM1 to 115200 baud, 8N1, FIFOs on, no interrupts. The link's input arrives there.
pub fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
        write(COM1.wrapping_add(register), value);
    }
}

/// The next byte from the host, if one has arrived.
pub fn receive() -> Option<u8> {
    let status = read(COM1.wrapping_add(5));
    // An absent UART reads as all ones.
    (status != 0xff && status & DATA_READY != 0).then(|| read(COM1))
}

static LINK: Mutex<()> = Mutex::new(());

/// Sends one frame; a longer payload goes out in several.
///
/// It takes the lock of the link, so it is for boot, for the ends of VMs and for full buffers, not
/// for the exit path.
pub fn send(vm: u8, channel: Channel, payload: &[u8]) {
    let _lock = LINK.lock();
    send_unlocked(vm, channel, payload);
}

/// Sends bytes that are frames already.
pub fn send_raw(frames: &[u8]) {
    let _lock = LINK.lock();
    Wire::find().send(frames);
}

/// As [`send`], without the lock: the hypervisor is failing and its holder may never let it go.
pub fn send_unlocked(vm: u8, channel: Channel, payload: &[u8]) {
    let wire = Wire::find();
    let mut rest = payload;
    loop {
        let (piece, more) =
            rest.split_at_checked(rest.len().min(MAX_PAYLOAD)).unwrap_or((rest, &[]));
        wire.send(Header::new(vm, channel, piece.len() as u16).as_bytes());
        wire.send(piece);
        if more.is_empty() {
            return;
        }
        rest = more;
    }
}

/// What sends and receives for one VM.
pub trait OfVm {
    /// The VM's number.
    fn vm(&self) -> u8;
}

impl<T: OfVm> crate::vm::hardware::Link for T {
    #[inline(always)]
    fn tsc(&self) -> u64 {
        super::instructions::tsc()
    }

    fn interrupt(&mut self, apic_id: u32) {
        super::local_apic::interrupt(apic_id);
    }

    fn send(&mut self, frames: &[u8]) {
        send_raw(frames);
    }

    fn receive(&mut self) -> Option<u8> {
        super::input::console_byte(self.vm())
    }
}

/// The link for a VM that is on no CPU.
pub struct Host {
    /// The VM's number.
    pub vm: u8,
}

impl OfVm for Host {
    fn vm(&self) -> u8 {
        self.vm
    }
}

/// Says that nothing is left to run and waits until the last byte is out.
pub fn finish() {
    send(HYPERVISOR, Channel::Done, &[]);
    wait(ALL_SENT);
}

/// A text of bounded length on its way into a frame.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text::new()
    }
}

impl<const N: usize> Text<N> {
    /// An empty text.
    pub const fn new() -> Text<N> {
        Text { bytes: [0; N], length: 0 }
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// Appends bytes; what does not fit is cut off.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(slot) = self.bytes.get_mut(self.length) {
                *slot = byte;
                self.length = self.length.wrapping_add(1);
            }
        }
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes());
        Ok(())
    }
}
