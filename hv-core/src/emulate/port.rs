//! Port I/O: COM1, and nothing anywhere else.

use crate::device::uart::Uart;
use crate::host::report::Cause;
use crate::vm::exit::PortAccess;
use crate::vm::{Gpr, Hardware, Leave, Outcome, Vcpu};

const COM1: u16 = 0x3f8;
const REGISTERS: u16 = 8;

/// IN and OUT.
#[inline(always)]
pub fn port(vcpu: &mut Vcpu, hardware: &mut impl Hardware, access: PortAccess) -> Outcome {
    if access.string {
        return Outcome::Leave(Leave::ended(
            Cause::Unsupported,
            u64::from(access.port),
            "INS and OUTS are not emulated in this version",
        ));
    }
    let vm = vcpu.vm;
    let register = access.port.wrapping_sub(COM1);
    let uart = vm.uart.as_ref().filter(|_| register < REGISTERS && access.size == 1);
    let rax = vcpu.registers.get(Gpr::Rax);
    match (uart, access.input) {
        (Some(uart), true) => {
            let mut uart = uart.lock();
            feed(&mut uart, hardware);
            let value = uart.read(register as u8);
            vcpu.registers.set(Gpr::Rax, rax & !0xff | u64::from(value));
        }
        (Some(uart), false) => {
            if let Some(byte) = uart.lock().write(register as u8, rax as u8) {
                vcpu.outbox.console_byte(hardware, byte);
                vcpu.output_waits(hardware);
            }
        }
        // Nobody drives the bus: it reads as ones. A 32-bit IN clears the upper half of RAX.
        (None, true) => {
            let value = match access.size {
                1 => rax | 0xff,
                2 => rax | 0xffff,
                _ => 0xffff_ffff,
            };
            vcpu.registers.set(Gpr::Rax, value);
        }
        (None, false) => {}
    }
    Outcome::Advance
}

/// Gives the UART what was typed, one byte at a time, as it has room.
fn feed(uart: &mut Uart, hardware: &mut impl Hardware) {
    if uart.receive_room() > 0
        && let Some(byte) = hardware.receive()
    {
        uart.receive(&[byte]);
    }
}

#[cfg(test)]
mod tests;
