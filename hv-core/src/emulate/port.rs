//! Port I/O: COM1, and nothing anywhere else.

use spin::Mutex;

use super::step;
use crate::device::uart::Uart;
use crate::vm::exit::PortAccess;
use crate::vm::{Gpr, Hardware, Outcome, Vcpu};

const COM1: u16 = 0x3f8;
const REGISTERS: u16 = 8;

/// IN, OUT, INS and OUTS.
#[inline(always)]
pub fn port(vcpu: &mut Vcpu, hardware: &mut impl Hardware, access: PortAccess) -> Outcome {
    if access.string {
        return step::port_string(vcpu, hardware, access);
    }
    let vm = vcpu.vm;
    let register = access.port.wrapping_sub(COM1);
    let uart = vm.uart.as_ref().filter(|_| register < REGISTERS && access.size == 1);
    let rax = vcpu.registers.get(Gpr::Rax);
    match (uart, access.input) {
        (Some(uart), true) => {
            let value = read_uart(uart, hardware, register);
            vcpu.registers.set(Gpr::Rax, rax & !0xff | u64::from(value));
        }
        (Some(uart), false) => write_uart(vcpu, hardware, uart, register, rax as u8),
        (None, true) => {
            let value = match access.size {
                1 => rax | 0xff,
                2 => rax | 0xffff,
                // A 32-bit IN clears the upper half of RAX.
                _ => NOBODY.into(),
            };
            vcpu.registers.set(Gpr::Rax, value);
        }
        (None, false) => {}
    }
    Outcome::Advance
}

/// Nobody drives the bus: it reads as ones.
const NOBODY: u32 = u32::MAX;

/// Reads a port; bits beyond `size` bytes do not count.
pub fn read(vcpu: &mut Vcpu, hardware: &mut impl Hardware, port: u16, size: u8) -> u32 {
    let register = port.wrapping_sub(COM1);
    match vcpu.vm.uart.as_ref().filter(|_| register < REGISTERS && size == 1) {
        Some(uart) => read_uart(uart, hardware, register).into(),
        None => NOBODY,
    }
}

/// Writes a port; bits beyond `size` bytes do not count.
pub fn write(vcpu: &mut Vcpu, hardware: &mut impl Hardware, port: u16, size: u8, value: u32) {
    let register = port.wrapping_sub(COM1);
    if let Some(uart) = vcpu.vm.uart.as_ref().filter(|_| register < REGISTERS && size == 1) {
        write_uart(vcpu, hardware, uart, register, value as u8);
    }
}

#[inline(always)]
fn read_uart(uart: &Mutex<Uart>, hardware: &mut impl Hardware, register: u16) -> u8 {
    let mut uart = uart.lock();
    feed(&mut uart, hardware);
    uart.read(register as u8)
}

#[inline(always)]
fn write_uart(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    uart: &Mutex<Uart>,
    register: u16,
    value: u8,
) {
    if let Some(byte) = uart.lock().write(register as u8, value) {
        vcpu.outbox.console_byte(hardware, byte);
        vcpu.output_waits(hardware);
    }
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
