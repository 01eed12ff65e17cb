//! A page of registers that keep what is written to them: memory by what it does, a device by how it is
//! reached, since every access to it exits and is emulated. A guest compares the one with the other.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::emulate::decode::ones;
use crate::mem::frames::PAGE;

/// Its guest-physical address: above all RAM, and nothing of a PC is there.
pub const BASE: u64 = 0xe000_0000;
/// Words of it.
const WORDS: usize = PAGE as usize / 8;

/// The page.
pub struct Scratch([AtomicU64; WORDS]);

impl Scratch {
    /// All zeros.
    pub const fn new() -> Scratch {
        Scratch([const { AtomicU64::new(0) }; WORDS])
    }

    /// What it is after a reset.
    pub fn reset(&self) {
        self.0.iter().for_each(|word| word.store(0, Relaxed));
    }

    /// The 16 bytes that begin with the word at `offset`; zeros behind the end.
    #[inline]
    fn words(&self, offset: u16) -> u128 {
        let word = |index: u16| {
            self.0.get(usize::from(index)).map_or(0, |word| u128::from(word.load(Relaxed)))
        };
        let low = word(offset >> 3);
        if offset & 7 == 0 { low } else { low | word((offset >> 3).wrapping_add(1)) << 64 }
    }

    /// Reads 8 bytes, of which those behind the end are zeros.
    #[inline]
    pub fn read(&self, offset: u16) -> u64 {
        self.words(offset).wrapping_shr(u32::from(offset & 7).wrapping_mul(8)) as u64
    }

    /// Writes up to 8 bytes.
    pub fn write(&self, offset: u16, size: u8, value: u64) {
        let shift = u32::from(offset & 7).wrapping_mul(8);
        let mask = u128::from(ones(size)).wrapping_shl(shift);
        let new = self.words(offset) & !mask | u128::from(value).wrapping_shl(shift) & mask;
        let index = usize::from(offset >> 3);
        let words = [(0, new as u64, mask as u64), (1, (new >> 64) as u64, (mask >> 64) as u64)];
        for (beyond, new, mask) in words {
            if let (Some(word), 1..) = (self.0.get(index.wrapping_add(beyond)), mask) {
                word.store(new, Relaxed);
            }
        }
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_changes() {
        let page = Scratch::new();
        for size in [1u8, 2, 4, 8] {
            for offset in [0u16, 3, 0x800, 4096 - u16::from(size)] {
                page.reset();
                page.write(offset, size, 0x8877_6655_4433_2211);
                let mask = u64::MAX >> (64 - 8 * u32::from(size));
                assert_eq!(page.read(offset), 0x8877_6655_4433_2211 & mask, "{offset:#x}");
                let bytes = page.0.iter().flat_map(|word| word.load(Relaxed).to_le_bytes());
                let written = bytes.filter(|&byte| byte != 0).count();
                assert_eq!(written, size.into(), "{offset:#x}");
            }
        }
    }

    #[test]
    fn behind_its_end_there_is_nothing() {
        let page = Scratch::new();
        page.write(4094, 8, u64::MAX);
        assert_eq!((page.read(4094), page.read(4096)), (0xffff, 0));
    }
}
