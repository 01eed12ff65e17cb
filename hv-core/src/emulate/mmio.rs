//! Decoding of the instructions by which a guest reaches a device's registers in memory.
//!
//! Pure: the caller fetches the bytes and carries the access out. Only moves are known, because the
//! SDM asks software to access an APIC with plain 32-bit loads and stores; whatever else touches
//! such a page is named in [`DecodeError::Unsupported`].

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction, OpKind, Register};

use super::instruction::Context;
use crate::mem::walk::MAX_LENGTH;
use crate::vm::hardware::Mode;

#[cfg(test)]
mod tests;

/// What an instruction does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioAccess {
    /// The linear address.
    pub linear: u64,
    /// How many bytes are read or written: 1, 2, 4 or 8.
    pub size: u8,
    /// The instruction's length in bytes.
    pub length: u8,
    /// What moves where.
    pub operation: Operation,
}

/// The direction of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Store this value; bits beyond the access's size are 0.
    Write(u64),
    /// Load into a register: see [`Target::merge`].
    Read(Target),
}

/// The register that a load goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its number, as in [`Context::registers`].
    pub register: u8,
    /// Where its bits start: 8 for AH, CH, DH and BH, else 0.
    shift: u8,
    /// Bytes of it that are written: 1, 2, 4 or 8.
    width: u8,
    /// Bytes that were loaded.
    loaded: u8,
    signed: bool,
}

impl Target {
    /// The register's new value, from its old one and from what was loaded.
    pub fn merge(self, old: u64, loaded: u64) -> u64 {
        let loaded = loaded & ones(self.loaded);
        let sign = ones(self.loaded) ^ ones(self.loaded) >> 1;
        let value =
            if self.signed && loaded & sign != 0 { loaded | !ones(self.loaded) } else { loaded };
        // A 32-bit result clears the upper half of the register; shorter ones leave the rest.
        let written = if self.width == 4 { u64::MAX } else { ones(self.width) << (self.shift & 8) };
        let value = (value & ones(self.width)) << (self.shift & 8);
        old & !written | value
    }
}

/// Why an instruction was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The instruction goes on behind the bytes given. Never for [`MAX_LENGTH`] bytes.
    NeedBytes,
    /// These bytes are no instruction in this mode.
    Invalid,
    /// An instruction that is not a move between memory and a general register, by the decoder's
    /// number for it (`iced_x86::Code`).
    Unsupported(u16),
}

/// Makes the decoder's tables: 2,056 allocations that keep 80 KiB of heap, and 101 KiB at their
/// peak. Called once at boot, it keeps the first guest's access from paying for it.
pub fn prepare() {
    let _ = Decoder::new(64, &[0x90], DecoderOptions::NONE).decode();
}

/// Decodes the instruction at the start of `bytes`; what follows it is ignored, and so is
/// everything behind [`MAX_LENGTH`] bytes.
///
/// # Errors
///
/// See [`DecodeError`].
pub fn decode(bytes: &[u8], context: &Context) -> Result<MmioAccess, DecodeError> {
    let instruction = parse(bytes, context)?;
    let unsupported = DecodeError::Unsupported(instruction.code() as u16);
    let (size, signed) = moved(instruction.code()).ok_or(unsupported)?;
    let (memory, operation) = match (instruction.op0_kind(), instruction.op1_kind()) {
        (OpKind::Memory, OpKind::Register) => {
            let (register, width, shift) =
                general(instruction.op1_register()).ok_or(unsupported)?;
            let value = register_value(register, context).ok_or(unsupported)?;
            (0, Operation::Write(value >> (shift & 8) & ones(width)))
        }
        (OpKind::Register, OpKind::Memory) => {
            let (register, width, shift) =
                general(instruction.op0_register()).ok_or(unsupported)?;
            (1, Operation::Read(Target { register, shift, width, loaded: size, signed }))
        }
        (OpKind::Memory, _) => {
            let value = instruction.try_immediate(1).map_err(|_| unsupported)?;
            (0, Operation::Write(value & ones(size)))
        }
        _ => return Err(unsupported),
    };
    Ok(MmioAccess {
        linear: linear(&instruction, memory, context).ok_or(unsupported)?,
        size,
        // At most MAX_LENGTH.
        length: instruction.len() as u8,
        operation,
    })
}

/// The linear address of the first operand of an instruction, which is in memory, and the
/// instruction's length in bytes. `None` if it is not, or there is no such instruction.
pub fn address(bytes: &[u8], context: &Context) -> Option<(u64, u8)> {
    let instruction = parse(bytes, context).ok()?;
    let memory = instruction.op0_kind() == OpKind::Memory;
    let linear = memory.then(|| linear(&instruction, 0, context))??;
    // At most MAX_LENGTH.
    Some((linear, instruction.len() as u8))
}

fn parse(bytes: &[u8], context: &Context) -> Result<Instruction, DecodeError> {
    let bytes = bytes.get(..MAX_LENGTH).unwrap_or(bytes);
    let bits = match context.mode {
        Mode::Code16 => 16,
        Mode::Code32 => 32,
        Mode::Code64 => 64,
    };
    let mut decoder = Decoder::try_with_ip(bits, bytes, context.rip, DecoderOptions::NONE)
        .map_err(|_| DecodeError::Invalid)?;
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => Ok(instruction),
        DecoderError::NoMoreBytes if bytes.len() < MAX_LENGTH => Err(DecodeError::NeedBytes),
        _ => Err(DecodeError::Invalid),
    }
}

/// Bytes that a move reads or writes in memory, and whether it extends their sign.
fn moved(code: Code) -> Option<(u8, bool)> {
    Some(match code {
        Code::Mov_rm8_r8 | Code::Mov_r8_rm8 | Code::Mov_rm8_imm8 => (1, false),
        Code::Mov_AL_moffs8 | Code::Mov_moffs8_AL => (1, false),
        Code::Mov_rm16_r16 | Code::Mov_r16_rm16 | Code::Mov_rm16_imm16 => (2, false),
        Code::Mov_AX_moffs16 | Code::Mov_moffs16_AX => (2, false),
        Code::Mov_rm32_r32 | Code::Mov_r32_rm32 | Code::Mov_rm32_imm32 => (4, false),
        Code::Mov_EAX_moffs32 | Code::Mov_moffs32_EAX => (4, false),
        Code::Mov_rm64_r64 | Code::Mov_r64_rm64 | Code::Mov_rm64_imm32 => (8, false),
        Code::Mov_RAX_moffs64 | Code::Mov_moffs64_RAX => (8, false),
        Code::Movzx_r16_rm8 | Code::Movzx_r32_rm8 | Code::Movzx_r64_rm8 => (1, false),
        Code::Movzx_r16_rm16 | Code::Movzx_r32_rm16 | Code::Movzx_r64_rm16 => (2, false),
        Code::Movsx_r16_rm8 | Code::Movsx_r32_rm8 | Code::Movsx_r64_rm8 => (1, true),
        Code::Movsx_r16_rm16 | Code::Movsx_r32_rm16 | Code::Movsx_r64_rm16 => (2, true),
        Code::Movsxd_r16_rm16 => (2, true),
        Code::Movsxd_r32_rm32 | Code::Movsxd_r64_rm32 => (4, true),
        _ => return None,
    })
}

/// Number, width in bytes, and first bit of a general register.
fn general(register: Register) -> Option<(u8, u8, u8)> {
    // The decoder numbers AL, CL, DL, BL, AH, CH, DH, BH, SPL to R15L, and then the sixteen of
    // each larger width in their own order.
    const BLOCKS: [(Register, u8, u8, u8); 6] = [
        (Register::RAX, 0, 8, 0),
        (Register::EAX, 0, 4, 0),
        (Register::AX, 0, 2, 0),
        (Register::SPL, 4, 1, 0),
        (Register::AH, 0, 1, 8),
        (Register::AL, 0, 1, 0),
    ];
    if register > Register::R15 {
        return None;
    }
    let &(first, start, width, shift) = BLOCKS.iter().find(|(first, ..)| register >= *first)?;
    let number = (register as usize).checked_sub(first as usize)?;
    Some((u8::try_from(number).ok()?.checked_add(start)?, width, shift))
}

fn register_value(number: u8, context: &Context) -> Option<u64> {
    context.registers.get(usize::from(number)).copied()
}

fn linear(instruction: &Instruction, operand: u32, context: &Context) -> Option<u64> {
    let long = context.mode == Mode::Code64;
    let address = instruction.virtual_address(operand, 0, |register, _, _| {
        if (Register::ES..=Register::GS).contains(&register) {
            if long && register < Register::FS {
                return Some(0);
            }
            let number = (register as usize).checked_sub(Register::ES as usize)?;
            return context.segment_bases.get(number).copied();
        }
        // The decoder cuts the sum to the address size, so that parts of registers need no care.
        let (number, ..) = general(register)?;
        register_value(number, context)
    })?;
    Some(if long { address } else { address & 0xffff_ffff })
}

/// As many bytes of ones.
const fn ones(bytes: u8) -> u64 {
    match bytes {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    }
}
