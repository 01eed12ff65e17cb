//! Moves between devices and registers, decoded: what nearly every access to a device is. Those met last
//! are kept by their bytes, since a guest reaches for a device from few places.

use iced_x86::{Instruction, OpKind};

use super::decode::Part;
use super::execute::{self, Op};
use crate::mem::walk::Fetched;
use crate::vm::hardware::Mode;

/// A move between memory and a general register, or of an immediate to memory. Where in memory is not
/// part of it: the CPU says that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// What is moved where.
    pub kind: Kind,
    /// Bytes in memory.
    pub size: u8,
    /// Bytes of the instruction.
    pub length: u8,
}

/// What is moved where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To a register, whose rest becomes 0 or stays.
    Load(Part),
    /// The same, the sign extended.
    LoadSigned(Part),
    /// From a register.
    Store(Part),
    /// An immediate, its sign extended.
    StoreImmediate(i32),
}

impl Move {
    /// The instruction, if it is one.
    pub fn of(instruction: &Instruction) -> Option<Move> {
        let (op, size) = execute::find(instruction.code())?;
        let kind = match (op, instruction.op0_kind(), instruction.op1_kind()) {
            (Op::Move, OpKind::Memory, OpKind::Register) => {
                Kind::Store(Part::of(instruction.op1_register())?)
            }
            (Op::Move, OpKind::Memory, _) => {
                Kind::StoreImmediate(instruction.try_immediate(1).ok()? as i32)
            }
            (Op::Move | Op::ZeroExtend, OpKind::Register, OpKind::Memory) => {
                Kind::Load(Part::of(instruction.op0_register())?)
            }
            (Op::SignExtend, OpKind::Register, OpKind::Memory) => {
                Kind::LoadSigned(Part::of(instruction.op0_register())?)
            }
            _ => return None,
        };
        // At most MAX_LENGTH.
        Some(Move { kind, size, length: instruction.len() as u8 })
    }
}

/// How many are kept.
const KEPT: usize = 8;

/// Moves by their bytes. What an instruction is depends on nothing but these and the mode, so nothing
/// that happens makes one wrong.
#[derive(Debug, Default)]
pub struct Recent([Option<Entry>; KEPT]);

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    mask: u64,
    mode: Mode,
    found: Move,
}

impl Recent {
    fn place(rip: u64) -> usize {
        (rip ^ rip >> 3) as usize & KEPT.wrapping_sub(1)
    }

    /// The move that begins `fetched`, at this instruction pointer, if it is kept.
    #[inline(always)]
    pub fn get(&self, fetched: &Fetched, mode: Mode, rip: u64) -> Option<Move> {
        let entry = self.0.get(Recent::place(rip))?.as_ref()?;
        let (bytes, count) = fetched.first();
        let same = (bytes ^ entry.bytes) & entry.mask == 0 && entry.mode == mode;
        (same && entry.found.length <= count).then_some(entry.found)
    }

    /// Keeps one, unless it is longer than 8 bytes.
    pub fn put(&mut self, fetched: &Fetched, mode: Mode, rip: u64, found: Move) {
        if let (1..=8, Some(place)) = (found.length, self.0.get_mut(Recent::place(rip))) {
            let (bytes, mask) = (fetched.first().0, ones_below(found.length));
            *place = Some(Entry { bytes: bytes & mask, mask, mode, found });
        }
    }
}

/// As many bytes of ones, 1 to 8.
const fn ones_below(bytes: u8) -> u64 {
    u64::MAX.wrapping_shr(64u32.wrapping_sub((bytes as u32).wrapping_mul(8)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::decode::decode;

    fn found(bytes: &[u8], mode: Mode) -> Option<Move> {
        Move::of(&decode(bytes, mode, 0x1000).unwrap())
    }

    #[test]
    fn moves_are_told_from_the_rest() {
        let part = |number, width| Part::low(number, width);
        for (bytes, kind, size) in [
            (&[0x8b, 0x03][..], Kind::Load(part(0, 4)), 4),
            (&[0x48, 0x89, 0x4d, 0x10], Kind::Store(part(1, 8)), 8),
            (&[0x66, 0xc7, 0x03, 0x34, 0x12], Kind::StoreImmediate(0x1234), 2),
            (&[0x0f, 0xb6, 0x03], Kind::Load(part(0, 4)), 1),
            (&[0x48, 0x0f, 0xbf, 0x03], Kind::LoadSigned(part(0, 8)), 2),
        ] {
            let length = bytes.len() as u8;
            assert_eq!(found(bytes, Mode::Code64), Some(Move { kind, size, length }), "{bytes:x?}");
        }
        // add [rbx], eax; mov eax, ebx; mov ds, [rbx]; movbe eax, [rbx]; push [rbx].
        for bytes in [
            &[0x01, 0x03][..],
            &[0x89, 0xd8],
            &[0x8e, 0x1b],
            &[0x0f, 0x38, 0xf0, 0x03],
            &[0xff, 0x33],
        ] {
            assert_eq!(found(bytes, Mode::Code64), None, "{bytes:x?}");
        }
    }

    #[test]
    fn a_move_is_found_by_all_of_its_bytes_and_its_mode_alone() {
        let bytes = [0x66, 0xc7, 0x03, 0x34, 0x12, 0xcc, 0xcc, 0xcc, 0xcc];
        let fetched = Fetched::by_cpu(&bytes);
        let kept = found(&bytes, Mode::Code64).unwrap();
        let mut recent = Recent::default();
        assert_eq!(recent.get(&fetched, Mode::Code64, 5), None);
        recent.put(&fetched, Mode::Code64, 5, kept);
        assert_eq!(recent.get(&fetched, Mode::Code64, 5), Some(kept));
        assert_eq!(recent.get(&fetched, Mode::Code16, 5), None);
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 0x40;
            let same = recent.get(&Fetched::by_cpu(&other), Mode::Code64, 5) == Some(kept);
            assert_eq!(same, at >= 5, "byte {at}");
        }
        // The rest of it may be on a page that is not there.
        assert_eq!(recent.get(&Fetched::by_cpu(&bytes[..4]), Mode::Code64, 5), None);
        assert_eq!(recent.get(&Fetched::by_cpu(&bytes[..5]), Mode::Code64, 5), Some(kept));
    }

    #[test]
    fn a_long_one_is_not_kept() {
        // mov dword [abs 0xfee00300], imm32, in 64-bit code.
        let bytes = [0xc7, 0x04, 0x25, 0, 3, 0xe0, 0x7e, 1, 2, 3, 4];
        let (fetched, long) = (Fetched::by_cpu(&bytes), found(&bytes, Mode::Code64).unwrap());
        let mut recent = Recent::default();
        recent.put(&fetched, Mode::Code64, 0, long);
        assert_eq!((long.length, recent.get(&fetched, Mode::Code64, 0)), (11, None));
    }
}
