//! The console: lines by the driver, and bytes by the port.

use guest_kernel::{console, serial};
use x86_64::instructions::port::Port;

use crate::measure::Meter;

/// A line of 80 characters, its end among them.
const LINE: &[u8; 80] =
    b"The quick brown fox jumps over the lazy dog, and the dog turns around and naps.\n";

/// A line by the UART's driver, or by call when the shim is in use.
pub fn line(meter: &mut Meter, ops: u64) {
    meter.section(ops, op::line);
}

/// A line into the ring that is drained at exits that happen anyway.
pub fn ring(meter: &mut Meter, ops: u64) {
    match console::ring() {
        Ok(mut ring) => meter.section(ops, || {
            let _ = ring.write(LINE);
        }),
        Err(error) => panic!("console.ring_register: {error}"),
    }
}

/// One OUT to the UART's data register.
pub fn port(meter: &mut Meter, ops: u64) {
    let mut data = Port::<u8>::new(serial::COM1);
    // SAFETY: COM1 is the console.
    meter.section(ops, || unsafe { data.write(b'.') });
    console::write(b"\n");
}

/// One operation each.
pub mod op {
    pub fn line() {
        super::console::write(super::LINE);
    }
}
