//! The guest's RAM by address, as the protocols' pointers have it.

use core::fmt::{self, Write};

/// What is mapped to itself: by our tables or the loader's.
const MAPPED: u64 = 1 << 30;

/// Bytes at an address.
pub fn bytes<const N: usize>(at: u64) -> [u8; N] {
    assert!(at != 0 && at < MAPPED - N as u64, "{at:#x} is no address of RAM");
    // SAFETY: it is mapped, nothing else runs, and any bytes will do.
    unsafe { core::ptr::read_volatile(at as *const [u8; N]) }
}

/// A number of 2 bytes.
pub fn u16_at(at: u64) -> u16 {
    u16::from_le_bytes(bytes(at))
}

/// A number of 4 bytes.
pub fn u32_at(at: u64) -> u32 {
    u32::from_le_bytes(bytes(at))
}

/// A number of 8 bytes.
pub fn u64_at(at: u64) -> u64 {
    u64::from_le_bytes(bytes(at))
}

/// The sum of bytes, which is 0 for tables of ACPI.
pub fn sum(at: u64, length: u64) -> u8 {
    (at..at + length).fold(0, |sum, at| sum.wrapping_add(bytes::<1>(at)[0]))
}

/// So many characters at an address, or as many as come before a zero byte.
#[derive(Clone, Copy)]
pub struct Text {
    pub at: u64,
    pub most: u64,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (self.at..self.at + self.most).map(|at| bytes::<1>(at)[0]);
        all.take_while(|&byte| byte != 0).try_for_each(|byte| f.write_char(byte.into()))
    }
}
