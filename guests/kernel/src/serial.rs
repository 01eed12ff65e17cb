//! A 16550 UART at COM1 that polls once for each fill of its FIFO.

use core::arch::x86_64::_mm_pause;

use x86_64::instructions::port::Port;

/// The port of COM1's data register.
pub const COM1: u16 = 0x3f8;
/// The port of COM1's scratch register, which has no effect on anything.
pub const SCRATCH: u16 = COM1 + 7;
/// Bytes that the transmitter holds once it says that it is empty.
const FIFO: usize = 16;
const HOLDING_EMPTY: u8 = 1 << 5;
const ALL_SENT: u8 = 1 << 6;
/// Polls after which a UART counts as absent or stuck.
const PATIENCE: u32 = 1_000_000;

fn port(register: u16) -> Port<u8> {
    Port::new(COM1 + register)
}

fn out(register: u16, value: u8) {
    // SAFETY: the registers of a UART that only this module drives.
    unsafe { port(register).write(value) }
}

/// 115200 baud, 8N1, FIFOs on, no interrupts.
pub fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0x07), (4, 3)] {
        out(register, value);
    }
}

fn wait(condition: u8) {
    for _ in 0..PATIENCE {
        // SAFETY: reading the line status register clears error bits, which nobody looks at.
        if unsafe { port(5).read() } & condition != 0 {
            return;
        }
        _mm_pause();
    }
}

/// Writes bytes, 16 for each time that the FIFO is found empty.
pub fn write(bytes: &[u8]) {
    for chunk in bytes.chunks(FIFO) {
        wait(HOLDING_EMPTY);
        for &byte in chunk {
            out(0, byte);
        }
    }
}

/// Waits until the last bit has left.
pub(crate) fn flush() {
    wait(ALL_SENT);
}
