use std::vec;
use std::vec::Vec;

use super::super::testing::{bytes, memory, parts};
use super::*;
use crate::mem::guest::GuestMemory;
use crate::vm::ImageKind;

/// A ROM whose 32-bit words are their offsets.
fn rom(size: u32) -> Vec<u8> {
    (0..size).step_by(4).flat_map(u32::to_le_bytes).collect()
}

fn with_rom(image: &[u8]) -> GuestMemory {
    let copy = image.to_vec().leak();
    // SAFETY: the copy is leaked and never written.
    unsafe { memory(2 << 20).with_rom(copy.as_ptr(), copy.len() as u64) }
}

fn load(image: &[u8], memory: &GuestMemory) -> Result<Start, ImageError> {
    super::super::load(&Parts { kind: ImageKind::Rom, ..parts(image, "") }, memory)
}

#[test]
fn a_rom_starts_at_the_reset_vector_and_its_end_is_below_1_mib_as_well() {
    for (size, shadow) in [(64 << 10, 64 << 10), (128 << 10, 128 << 10), (256 << 10, 128 << 10)] {
        let image = rom(size);
        let memory = with_rom(&image);
        let start = load(&image, &memory).unwrap();
        assert_eq!((start.mode, start.entry), (Mode::Real, 0xfff0));
        let from = image.len() - shadow;
        assert_eq!(bytes(&memory, HIGH_RAM - shadow as u64, shadow), image[from..]);
        assert_eq!(bytes(&memory, HIGH_RAM - shadow as u64 - 4, 4), [0; 4], "no more than that");
        assert_eq!(bytes(&memory, END - u64::from(size), size as usize), image);
        assert_eq!(bytes(&memory, 0, 0x9000), vec![0; 0x9000], "nothing is put into low memory");
    }
}

#[test]
fn a_rom_of_another_size_is_refused() {
    for size in
        [0, 1, 4096, (64 << 10) - 4096, (64 << 10) + 1, (64 << 10) + 2048, (16 << 20) + 4096]
    {
        let image = vec![0; size];
        assert_eq!(load(&image, &memory(2 << 20)), Err(ImageError::RomSize(size as u64)));
    }
    assert_eq!(place(&rom((64 << 10) + 4096)), Ok(END - (68 << 10)..END));
    assert_eq!(place(&vec![0; 16 << 20]), Ok(0xff00_0000..END));
}

#[test]
fn a_rom_that_is_not_in_memory_is_not_started() {
    let image = rom(64 << 10);
    let error = ImageError::DoesNotFit { address: 0xffff_0000, length: 64 << 10 };
    assert_eq!(load(&image, &memory(2 << 20)), Err(error));
}

#[test]
fn what_a_rom_would_never_see_is_refused() {
    let image = rom(64 << 10);
    let rom = Parts { kind: ImageKind::Rom, ..parts(&image, "") };
    for parts in [Parts { initrd: Some(b"x"), ..rom }, Parts { command_line: "x", ..rom }] {
        let error = super::super::load(&parts, &with_rom(&image)).unwrap_err();
        assert!(matches!(error, ImageError::NoPlace(_)), "{error}");
    }
}
