//! The console's output ring: one page of guest RAM.
//!
//! The guest stores bytes at `head % CAPACITY` of `data` and then advances `head`; the hypervisor
//! takes them and advances `tail`. Both count bytes since registration and wrap at 2^32. A `head`
//! that is more than [`CAPACITY`] ahead of `tail` is an error of the guest: the hypervisor skips to
//! it.

use crate::layout::wire;

/// Bytes that the ring holds. A power of two, so that the wrapping counters can be reduced by it.
pub const CAPACITY: usize = 2048;

wire! {
    /// The ring, at the start of the registered page.
    pub struct ConsoleRing [2176] {
        /// Written by the guest: bytes stored so far.
        0: head: u32,
        /// 0.
        4: reserved: [u32; 15],
        /// Written by the hypervisor: bytes taken so far.
        64: tail: u32,
        /// 0.
        68: reserved2: [u32; 15],
        /// The bytes.
        128: data: [u8; CAPACITY],
    }
}
