//! Instruction bytes to instructions, by the decoding library, and the registers that it names.

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, Register};

use crate::mem::walk::MAX_LENGTH;
use crate::vm::hardware::Mode;

#[cfg(test)]
mod tests;

/// Why bytes are no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The instruction goes on behind the bytes given. Never for [`MAX_LENGTH`] bytes.
    NeedBytes,
    /// The decoder knows no such instruction in this mode.
    Invalid,
}

/// Makes the decoder's tables: 2,056 allocations that keep 80 KiB of heap, and 101 KiB at their
/// peak. Called once at boot, it keeps the first guest's access from paying for it.
pub fn prepare() {
    let _ = Decoder::new(64, &[0x90], DecoderOptions::NONE).decode();
}

/// Decodes the instruction at the start of `bytes`, which stand at `rip` in the code segment; what
/// follows it is ignored, and so is everything behind [`MAX_LENGTH`] bytes.
///
/// # Errors
///
/// See [`DecodeError`].
#[inline(never)]
pub fn decode(bytes: &[u8], mode: Mode, rip: u64) -> Result<Instruction, DecodeError> {
    let bytes = bytes.get(..MAX_LENGTH).unwrap_or(bytes);
    let bits = match mode {
        Mode::Code16 => 16,
        Mode::Code32 => 32,
        Mode::Code64 => 64,
    };
    let mut decoder = Decoder::try_with_ip(bits, bytes, rip, DecoderOptions::NONE)
        .map_err(|_| DecodeError::Invalid)?;
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => Ok(instruction),
        DecoderError::NoMoreBytes if bytes.len() < MAX_LENGTH => Err(DecodeError::NeedBytes),
        _ => Err(DecodeError::Invalid),
    }
}

/// A general register, or the part of one that an operand names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number in instruction encodings.
    pub number: u8,
    /// Its width in bytes: 1, 2, 4 or 8.
    pub width: u8,
    /// Its first bit: 8 for AH, CH, DH and BH, else 0.
    shift: u8,
}

impl Part {
    /// So many of the low bytes of a register.
    pub const fn low(number: u8, width: u8) -> Part {
        Part { number, width, shift: 0 }
    }

    /// The part that the decoder calls so, if it is of a general register.
    pub fn of(register: Register) -> Option<Part> {
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
        let number = (register as u8).checked_sub(first as u8)?.checked_add(start)?;
        Some(Part { number, width, shift })
    }

    /// Its value in the whole register.
    pub const fn get(self, whole: u64) -> u64 {
        whole >> (self.shift & 8) & ones(self.width)
    }

    /// The whole register when the part becomes `value`.
    pub const fn set(self, whole: u64, value: u64) -> u64 {
        // A 32-bit result clears the upper half of the register; shorter ones leave the rest.
        let written = if self.width == 4 { u64::MAX } else { ones(self.width) << (self.shift & 8) };
        whole & !written | (value & ones(self.width)) << (self.shift & 8)
    }
}

/// As many bytes of ones.
pub const fn ones(bytes: u8) -> u64 {
    match bytes {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

/// A value of so many bytes, its sign extended to 64 bits.
pub const fn signed(value: u64, bytes: u8) -> u64 {
    let sign = ones(bytes) ^ ones(bytes) >> 1;
    if value & sign != 0 { value | !ones(bytes) } else { value & ones(bytes) }
}
