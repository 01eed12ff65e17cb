//! A page of registers that keep what is written to them: memory by what it does, a device by how it is
//! reached, since every access to it exits and is emulated. A guest compares the one with the other.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::mem::frames::PAGE;

/// Its guest-physical address: above all RAM, and nothing of a PC is there.
pub const BASE: u64 = 0xe000_0000;

/// The page.
pub struct Scratch([AtomicU8; PAGE as usize]);

impl Scratch {
    /// All zeros.
    pub const fn new() -> Scratch {
        Scratch([const { AtomicU8::new(0) }; PAGE as usize])
    }

    /// What it is after a reset.
    pub fn reset(&self) {
        self.0.iter().for_each(|byte| byte.store(0, Relaxed));
    }

    fn bytes(&self, offset: u16, size: u8) -> impl DoubleEndedIterator<Item = &AtomicU8> {
        let from = self.0.get(offset.into()..).unwrap_or(&[]);
        from.get(..size.into()).unwrap_or(from).iter()
    }

    /// Reads up to 8 bytes; there are none behind its end.
    pub fn read(&self, offset: u16, size: u8) -> u64 {
        self.bytes(offset, size).rfold(0, |value, byte| value << 8 | u64::from(byte.load(Relaxed)))
    }

    /// Writes up to 8 bytes.
    pub fn write(&self, offset: u16, size: u8, value: u64) {
        for (byte, value) in self.bytes(offset, size).zip(value.to_le_bytes()) {
            byte.store(value, Relaxed);
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
                assert_eq!(page.read(offset, size), 0x8877_6655_4433_2211 & mask);
                let written = page.0.iter().filter(|byte| byte.load(Relaxed) != 0).count();
                assert_eq!(written, size.into(), "{offset:#x}");
            }
        }
    }

    #[test]
    fn behind_its_end_there_is_nothing() {
        let page = Scratch::new();
        page.write(4094, 8, u64::MAX);
        assert_eq!((page.read(4094, 8), page.read(4096, 1)), (0xffff, 0));
    }
}
