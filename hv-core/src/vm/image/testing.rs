//! What the tests of several formats use.

use core::ops::Range;

use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::{ImageError, Parts, Start};
use crate::mem::guest::GuestMemory;
use crate::vm::ImageKind;

/// Zeroed memory of this size, which is never given back.
pub fn memory(size: u64) -> GuestMemory {
    let ram = vec![0u64; size as usize / 8].leak();
    // SAFETY: the memory is leaked, and used through this value alone.
    unsafe { GuestMemory::new(ram.as_mut_ptr().cast(), size) }
}

/// Writes a little-endian number of `size` bytes into an image.
pub fn put(image: &mut [u8], at: usize, value: u64, size: usize) {
    image[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// Bytes of the VM's memory.
pub fn bytes(memory: &GuestMemory, gpa: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read(gpa, &mut bytes).unwrap();
    bytes
}

/// A number of `size` bytes in the VM's memory.
pub fn number(memory: &GuestMemory, gpa: u64, size: usize) -> u64 {
    super::number(&bytes(memory, gpa, size), 0, size as u64).unwrap()
}

/// An image alone, with this command line.
pub fn parts<'a>(image: &'a [u8], command_line: &'a str) -> Parts<'a> {
    Parts { kind: ImageKind::Auto, image, initrd: None, command_line, rsdp: None }
}

/// Loads an image alone.
pub fn load(image: &[u8], line: &str, memory: &GuestMemory) -> Result<Start, ImageError> {
    super::load(&parts(image, line), memory)
}

/// A segment of an executable to be made.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    pub kind: u64,
    pub virtual_address: u64,
    pub address: u64,
    pub bytes: &'a [u8],
    pub length: u64,
}

/// A segment to be loaded, which is linked to run 1 GiB above.
pub fn loaded(address: u64, bytes: &[u8], length: u64) -> Made<'_> {
    Made { kind: 1, virtual_address: address + (1 << 30), address, bytes, length }
}

/// An executable with words of this size: the header, the segments' headers, their contents.
pub fn elf(word: usize, entry: u64, segments: &[Made<'_>]) -> Vec<u8> {
    let (table, size) = (40 + 3 * word, 8 + 6 * word);
    let mut image = vec![0; table + size * segments.len()];
    image[..6].copy_from_slice(b"\x7fELF\0\x01");
    image[4] = word as u8 / 4;
    put(&mut image, 16, 2, 2);
    put(&mut image, 18, if word == 8 { 62 } else { 3 }, 2);
    put(&mut image, 24, entry, word);
    put(&mut image, 24 + word, table as u64, word);
    put(&mut image, 24 + 3 * word + 6, size as u64, 2);
    put(&mut image, 24 + 3 * word + 8, segments.len() as u64, 2);
    for (i, segment) in segments.iter().enumerate() {
        let at = table + size * i;
        let words = [
            image.len() as u64,
            segment.virtual_address,
            segment.address,
            segment.bytes.len() as u64,
            segment.length,
        ];
        put(&mut image, at, segment.kind, 4);
        for (i, value) in words.into_iter().enumerate() {
            put(&mut image, at + word * (i + 1), value, word);
        }
        image.extend(segment.bytes);
    }
    image
}

/// Damage to an image: single bytes, and words at aligned places.
pub fn damage() -> impl Strategy<Value = Vec<(usize, u64, usize)>> {
    let wild = prop_oneof![any::<u64>(), (0u32..64).prop_map(|n| 1 << n), Just(u64::MAX)];
    let word = (0usize..1 << 12, wild, prop_oneof![Just(2usize), Just(4), Just(8)]);
    let word = word.prop_map(|(at, value, size)| (at * 4, value, size));
    let byte = (0usize..1 << 14, any::<u64>()).prop_map(|(at, value)| (at, value, 1));
    prop::collection::vec(prop_oneof![word, byte], 0..8)
}

/// Loads an image after this damage, which may have any outcome but a panic, or a write beside the VM's
/// memory.
pub fn survives(image: &[u8], damage: &[(usize, u64, usize)], kind: ImageKind) {
    let mut image = image.to_vec();
    for &(at, value, size) in damage {
        let at = at % image.len();
        let size = size.min(image.len() - at);
        put(&mut image, at, value, size);
    }
    let cut = damage.first().map_or(0, |&(at, value, _)| if value & 7 == 0 { at } else { 0 });
    image.truncate(image.len().saturating_sub(cut % 64));
    // RAM between two fences.
    const RAM: usize = 4 << 20;
    const FENCE: usize = 4096 / 8;
    let mut all = vec![0u64; FENCE + RAM / 8 + FENCE];
    let fences = [0..FENCE, FENCE + RAM / 8..all.len()];
    fences.iter().for_each(|fence| all[fence.clone()].fill(u64::MAX));
    // SAFETY: the memory outlives the value, and is used through it alone while that lives.
    let memory = unsafe { GuestMemory::new(all[FENCE..].as_mut_ptr().cast(), RAM as u64) };
    let initrd = Some(&b"initrd"[..]);
    let parts = Parts { kind, initrd, rsdp: Some(0xe_0000), ..parts(&image, "line") };
    let _ = super::load(&parts, &memory);
    let whole = |fence: Range<usize>| all[fence].iter().all(|&word| word == u64::MAX);
    assert!(fences.into_iter().all(whole), "memory beside RAM was written");
}
