//! What the tests of several formats use.

use std::vec;
use std::vec::Vec;

use super::{ImageError, Kind, Parts, Start};
use crate::mem::guest::GuestMemory;

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
    Parts { kind: Kind::Auto, image, initrd: None, command_line, rsdp: None }
}

/// Loads an image alone.
pub fn load(image: &[u8], line: &str, memory: &GuestMemory) -> Result<Start, ImageError> {
    super::load(&parts(image, line), memory)
}
