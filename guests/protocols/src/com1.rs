//! The first serial port, and the ports that end the machine.

use core::arch::asm;
use core::fmt::{self, Write};

const DATA: u16 = 0x3f8;
const LINE_STATUS: u16 = 0x3fd;
const TRANSMITTER_EMPTY: u8 = 1 << 5;

/// The exit port of a PC.
const EXIT: u16 = 0xf4;
/// The sleep control register of a minimal machine; SLP_EN, with 0 as the SLP_TYP of S5.
const SLEEP_CONTROL: u16 = 0x60c;
const POWER_OFF: u8 = 1 << 5;

struct Com1;

impl Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while read(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
            write(DATA, byte);
        }
        Ok(())
    }
}

/// Prints, polling.
pub fn print(text: fmt::Arguments<'_>) {
    // Nothing fails there.
    let _ = Com1.write_fmt(text);
}

/// Ends the machine.
pub fn end(code: u8) -> ! {
    write(EXIT, code);
    if code == 0 {
        write(SLEEP_CONTROL, POWER_OFF);
    }
    loop {
        // SAFETY: a CPU that waits for ever does nothing.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

fn read(port: u16) -> u8 {
    let value;
    // SAFETY: reading these ports touches no memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

fn write(port: u16, value: u8) {
    // SAFETY: writing these ports touches no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}
