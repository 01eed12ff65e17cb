//! Port I/O: COM1, and the devices of the VM's board.

use spin::Mutex;
use zerocopy::IntoBytes;

use super::step;
use crate::device::power::Effect;
use crate::device::uart::Uart;
use crate::host::link::Channel;
use crate::host::report::Cause;
use crate::host::stat::Moment;
use crate::vm::exit::PortAccess;
use crate::vm::hardware::Link;
use crate::vm::{Gpr, Hardware, Leave, Options, Outcome, Vcpu};

const COM1: u16 = 0x3f8;
const REGISTERS: u16 = 8;
const SCRATCH: u16 = 7;

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
            let value = read_board(vcpu, hardware, access.port, access.size);
            // A 32-bit IN clears the upper half of RAX.
            let kept = match access.size {
                1 => rax & !0xff | value & 0xff,
                2 => rax & !0xffff | value & 0xffff,
                _ => value,
            };
            vcpu.registers.set(Gpr::Rax, kept);
        }
        (None, false) => return write_board(vcpu, hardware, access.port, access.size, rax as u32),
    }
    if vcpu.vm.wired {
        settle(vcpu, hardware);
    }
    Outcome::Advance
}

/// Reads a port; bits beyond `size` bytes do not count.
pub fn read(vcpu: &mut Vcpu, hardware: &mut impl Hardware, port: u16, size: u8) -> u32 {
    let register = port.wrapping_sub(COM1);
    let value = match vcpu.vm.uart.as_ref().filter(|_| register < REGISTERS && size == 1) {
        Some(uart) => read_uart(uart, hardware, register).into(),
        None => read_board(vcpu, hardware, port, size) as u32,
    };
    if vcpu.vm.wired {
        settle(vcpu, hardware);
    }
    value
}

/// Writes a port; bits beyond `size` bytes do not count.
///
/// # Errors
///
/// How the vCPU leaves for it.
pub fn write(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    port: u16,
    size: u8,
    value: u32,
) -> Result<(), Leave> {
    let register = port.wrapping_sub(COM1);
    if let Some(uart) = vcpu.vm.uart.as_ref().filter(|_| register < REGISTERS && size == 1) {
        write_uart(vcpu, hardware, uart, register, value as u8);
        if vcpu.vm.wired {
            settle(vcpu, hardware);
        }
        return Ok(());
    }
    match write_board(vcpu, hardware, port, size, value) {
        Outcome::AdvanceAndLeave(leave) => Err(leave),
        _ => Ok(()),
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
    let sent = match register {
        0 => uart.lock().write_data(value),
        _ => uart.lock().write(register as u8, value),
    };
    if let Some(byte) = sent {
        vcpu.vm.outbox.lock().console_byte(hardware, byte);
        vcpu.output_waits(hardware);
    } else if register == SCRATCH && vcpu.vm.options.contains(Options::SCRATCH_MARKS) {
        report(vcpu, hardware, value);
    }
}

/// Sends the counters, by the number that was written.
#[cold]
#[inline(never)]
fn report(vcpu: &mut Vcpu, link: &mut dyn Link, number: u8) {
    let stat = vcpu.stat(Moment::Scratch, number.into(), link.tsc());
    vcpu.vm.outbox.lock().frame(link, Channel::Stat, stat.as_bytes(), &[]);
    vcpu.output_waits(link);
}

#[inline(never)]
fn read_board(vcpu: &mut Vcpu, link: &mut dyn Link, port: u16, size: u8) -> u64 {
    let now = vcpu.device_time(link.tsc());
    vcpu.vm.board.lock().read(port, size, now).into()
}

#[inline(never)]
fn write_board(vcpu: &mut Vcpu, link: &mut dyn Link, port: u16, size: u8, value: u32) -> Outcome {
    let now = vcpu.device_time(link.tsc());
    let effect = vcpu.vm.board.lock().write(port, size, value, now);
    if vcpu.vm.wired {
        settle(vcpu, link);
    }
    power(vcpu, effect)
}

/// An access may have changed the interrupt of a device.
#[inline(never)]
fn settle(vcpu: &mut Vcpu, link: &mut dyn Link) {
    let now = link.tsc();
    vcpu.settle_board(link, now);
}

/// How an instruction ends that asked for this.
fn power(vcpu: &mut Vcpu, effect: Effect) -> Outcome {
    let leave = match effect {
        // Address bit 20 always counts: software that wants it masked is older than the CPUs that run
        // this.
        Effect::None | Effect::A20(_) | Effect::Sci => return Outcome::Advance,
        Effect::PowerOff => vcpu.ends(Cause::Shutdown, 0, ""),
        Effect::Exit(code) => vcpu.ends(Cause::Shutdown, code.into(), ""),
        Effect::Reset | Effect::Init if vcpu.vm.options.contains(Options::MAY_RESET) => {
            Leave::Reset
        }
        Effect::Reset | Effect::Init => vcpu.ends(
            Cause::Shutdown,
            0,
            "the guest reset its machine, and its description does not let it start again",
        ),
    };
    Outcome::AdvanceAndLeave(leave)
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
