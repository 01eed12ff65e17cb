//! The instruction that exited, where the CPU says neither its length nor its operands.
//!
//! Instructions of known opcode are matched past their prefixes. The decoding library is asked for
//! memory operands alone.

use iced_x86::OpKind;

use super::{decode, execute};
pub use crate::mem::walk::Fetched;
use crate::mem::walk::{self, MAX_LENGTH, Paging};
use crate::vm::exit::CrAccess;
use crate::vm::hardware::{Kept, Mode};
use crate::vm::{Hardware, Vcpu};

#[cfg(test)]
mod tests;

/// What an instruction that reads or changes the state of the CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// MOV CR, CLTS or LMSW.
    Cr(CrAccess),
    /// MOV DR.
    Dr {
        /// The debug register's number.
        number: u8,
        /// The general register's number.
        gpr: u8,
        /// From the debug register.
        read: bool,
    },
    /// INVLPG.
    Invlpg {
        /// The linear address.
        linear: u64,
    },
}

/// Fetches the bytes at the instruction pointer, as many as are mapped.
#[inline]
pub fn fetch(vcpu: &Vcpu, hardware: &mut impl Hardware) -> Fetched {
    let rip = hardware.kept(Kept::Rip);
    let mode = hardware.mode();
    fetch_at(vcpu, hardware, mode, rip)
}

/// As [`fetch`], where the mode and the instruction pointer are known already, or what the CPU has
/// fetched for the exit.
#[inline(never)]
pub fn fetch_in(vcpu: &Vcpu, hardware: &mut impl Hardware, mode: Mode, rip: u64) -> Fetched {
    match hardware.fetched() {
        Some(fetched) => fetched,
        None => fetch_at(vcpu, hardware, mode, rip),
    }
}

#[inline]
fn fetch_at(vcpu: &Vcpu, hardware: &mut impl Hardware, mode: Mode, rip: u64) -> Fetched {
    let linear = match mode {
        Mode::Code64 => rip,
        _ => rip.wrapping_add(hardware.segment(1).base) & 0xffff_ffff,
    };
    walk::instruction(&vcpu.vm.memory, paging(vcpu, hardware), linear)
}

/// How the guest's linear addresses are translated.
#[inline]
pub fn paging(vcpu: &Vcpu, hardware: &mut impl Hardware) -> Paging {
    Paging {
        cr0: hardware.kept(Kept::Cr0),
        cr3: hardware.kept(Kept::Cr3),
        cr4: hardware.kept(Kept::Cr4),
        long_mode: vcpu.long_mode,
    }
}

/// The length in bytes of the instruction at the start of `bytes`, if it is this opcode behind any
/// number of prefixes. Prefixes that decide what an opcode means are not looked at: the CPU has
/// just executed it.
#[inline]
pub fn length(bytes: &[u8], mode: Mode, opcode: &[u8]) -> Option<u8> {
    if is_at(bytes, opcode) {
        return Some(opcode.len() as u8);
    }
    behind_prefixes(bytes, mode, opcode)
}

#[inline(never)]
fn behind_prefixes(bytes: &[u8], mode: Mode, opcode: &[u8]) -> Option<u8> {
    let bytes = bytes.get(..MAX_LENGTH).unwrap_or(bytes);
    let count = Prefixes::of(bytes, mode).count;
    is_at(bytes.get(count..)?, opcode).then_some(count.wrapping_add(opcode.len()) as u8)
}

/// By byte: a comparison of slices would be a call.
#[inline(always)]
fn is_at(bytes: &[u8], opcode: &[u8]) -> bool {
    bytes.len() >= opcode.len() && opcode.iter().zip(bytes).all(|(a, b)| a == b)
}

/// The prefixes of an instruction.
#[derive(Default)]
struct Prefixes {
    count: usize,
    /// REX, or 0. One that another prefix follows has no effect.
    rex: u8,
    lock: bool,
    operand_size: bool,
}

impl Prefixes {
    fn of(bytes: &[u8], mode: Mode) -> Prefixes {
        const LOCK: u8 = 0xf0;
        const OPERAND_SIZE: u8 = 0x66;
        let mut found = Prefixes::default();
        for &byte in bytes {
            match byte {
                0x40..=0x4f if mode == Mode::Code64 => found.rex = byte,
                0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | LOCK | 0xf2 | 0xf3 => {
                    found.rex = 0;
                    found.lock |= byte == LOCK;
                    found.operand_size |= byte == OPERAND_SIZE;
                }
                _ => break,
            }
            found.count = found.count.wrapping_add(1);
        }
        found
    }
}

/// What the instruction in `fetched` does, and its length in bytes. `None` if it is not one of
/// [`Decoded`], not all of it was fetched, or its operand in memory cannot be read.
pub fn control(
    fetched: &Fetched,
    vcpu: &Vcpu,
    hardware: &mut impl Hardware,
) -> Option<(Decoded, u8)> {
    const CLTS: u8 = 0x06;
    const GROUP_7: u8 = 0x01;
    const REX_R: u8 = 1 << 2;
    const REX_B: u8 = 1 << 0;
    let bytes = fetched.as_slice();
    let mode = hardware.mode();
    let prefixes = Prefixes::of(bytes, mode);
    let [0x0f, opcode, operands @ ..] = bytes.get(prefixes.count..)? else { return None };
    // At most MAX_LENGTH.
    let length = prefixes.count.wrapping_add(2) as u8;
    if *opcode == CLTS {
        return Some((Decoded::Cr(CrAccess::Clts), length));
    }
    let modrm = *operands.first()?;
    let length = length.wrapping_add(1);
    let extension = |bit: u8| if prefixes.rex & bit != 0 { 8 } else { 0 };
    let reg = modrm >> 3 & 7 | extension(REX_R);
    let gpr = modrm & 7 | extension(REX_B);
    // LOCK stands for REX.R where there is none (APM vol. 3, MOV CRn).
    let cr = if prefixes.lock { reg | 8 } else { reg };
    let decoded = match *opcode {
        0x20 => Decoded::Cr(CrAccess::Read { cr, gpr }),
        0x22 => Decoded::Cr(CrAccess::Write { cr, gpr }),
        0x21 => Decoded::Dr { number: reg, gpr, read: true },
        0x23 => Decoded::Dr { number: reg, gpr, read: false },
        // SMSW into 32 or 64 bits of a register is a move.
        GROUP_7 if modrm & 0xf8 == 0xe0 && !prefixes.operand_size && mode != Mode::Code16 => {
            Decoded::Cr(CrAccess::Read { cr: 0, gpr })
        }
        GROUP_7 => return group_7(bytes, modrm, gpr, length, vcpu, hardware),
        _ => return None,
    };
    Some((decoded, length))
}

/// LMSW and INVLPG.
fn group_7(
    bytes: &[u8],
    modrm: u8,
    gpr: u8,
    length: u8,
    vcpu: &Vcpu,
    hardware: &mut impl Hardware,
) -> Option<(Decoded, u8)> {
    const LMSW: u8 = 6;
    const INVLPG: u8 = 7;
    const REGISTER: u8 = 0xc0;
    let lmsw = |source| Decoded::Cr(CrAccess::Lmsw(source));
    let mut memory = || operand_address(bytes, vcpu, hardware);
    match modrm >> 3 & 7 {
        LMSW if modrm >= REGISTER => Some((lmsw(vcpu.gpr(hardware, gpr) as u16), length)),
        LMSW => {
            let (linear, length) = memory()?;
            let source = walk::instruction(&vcpu.vm.memory, paging(vcpu, hardware), linear);
            let source = source.as_slice().first_chunk()?;
            Some((lmsw(u16::from_le_bytes(*source)), length))
        }
        INVLPG => memory().map(|(linear, length)| (Decoded::Invlpg { linear }, length)),
        _ => None,
    }
}

/// The linear address of operand 0, if that is in memory, and the length of the instruction.
fn operand_address(bytes: &[u8], vcpu: &Vcpu, hardware: &mut impl Hardware) -> Option<(u64, u8)> {
    let mode = hardware.mode();
    let instruction = decode::decode(bytes, mode, hardware.kept(Kept::Rip)).ok()?;
    if instruction.op0_kind() != OpKind::Memory {
        return None;
    }
    let segment = execute::segment_number(instruction.memory_segment())?;
    let offset = execute::offset(&instruction, 0, &mut |number| vcpu.gpr(hardware, number));
    let linear = match (mode, segment) {
        (Mode::Code64, ..=execute::DS) => offset,
        (Mode::Code64, _) => hardware.segment(segment).base.wrapping_add(offset),
        _ => hardware.segment(segment).base.wrapping_add(offset) & 0xffff_ffff,
    };
    // At most MAX_LENGTH.
    Some((linear, instruction.len() as u8))
}
