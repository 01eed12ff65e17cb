use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::super::testing::{
    bytes, damage, elf, load, loaded, memory, number, parts, put, survives,
};
use super::*;

const RAM: u64 = 4 << 20;

fn header(flags: u32) -> Vec<u8> {
    let words = [MAGIC, flags, 0u32.wrapping_sub(MAGIC).wrapping_sub(flags)];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn executable(word: usize, flags: u32) -> Vec<u8> {
    elf(word, 0x4010_0010, &[loaded(0x10_0000, &[&header(flags)[..], b"text"].concat(), 0x100)])
}

/// A flat file whose header is at 40, loaded from 32 on, with an entry.
fn flat() -> Vec<u8> {
    let mut image = vec![0; 40];
    image[32..].copy_from_slice(b"8 before");
    image.extend(header(HAS_ADDRESSES | PAGE_ALIGN));
    for address in [0x10_0008, 0x10_0000, 0, 0x10_0200, 0x10_0030u32] {
        image.extend(address.to_le_bytes());
    }
    image.extend(b"text");
    image
}

#[test]
fn a_kernel_is_entered_with_the_magic_number_and_the_boot_information() {
    let memory = memory(RAM);
    for (image, entry, at, expected) in [
        (executable(4, MEMORY_INFO), 0x10_0010, 0x10_000c, &b"text\0"[..]),
        (executable(8, 0), 0x10_0010, 0x10_000c, b"text\0"),
        (flat(), 0x10_0030, 0x10_0000, b"8 before\x02\xb0"),
    ] {
        let start = load(&image, "", &memory).unwrap();
        let registers = [(Gpr::Rax, 0x2bad_b002), (Gpr::Rbx, INFORMATION)];
        assert_eq!(start, Start { mode: Mode::Protected, entry, registers });
        assert_eq!(bytes(&memory, at, expected.len()), expected);
        memory.zero(0, RAM).unwrap();
    }
}

#[test]
fn the_boot_information_says_what_there_is() {
    let memory = memory(RAM);
    let image = executable(4, 0);
    let parts = Parts { initrd: Some(b"a module"), ..parts(&image, "a line") };
    super::super::load(&parts, &memory).unwrap();
    let at = |offset| number(&memory, INFORMATION + offset, 4);
    assert_eq!(at(0), 0b10_0100_1101);
    assert_eq!((at(4), at(8)), (639, 3 * 1024), "KiB of low and high memory");
    assert_eq!(bytes(&memory, at(16), 7), b"a line\0");
    assert_eq!(at(20), 1, "modules");
    let module = |offset| number(&memory, at(24) + offset, 4);
    assert_eq!((module(0), module(4)), (RAM - 4096, RAM - 4096 + 8), "on a page boundary");
    assert_eq!(bytes(&memory, module(0), 8), b"a module");
    assert_eq!(bytes(&memory, module(8), 1), b"\0");
    assert_eq!(bytes(&memory, at(64), 9), b"Paravane\0");
    let (length, mut entry) = (at(44), at(48));
    for region in layout::memory_map(RAM) {
        let field = |offset, size| number(&memory, entry + offset, size);
        assert_eq!(field(0, 4), 20, "the size leaves itself out");
        assert_eq!((field(4, 8), field(12, 8)), (region.start, region.length));
        assert_eq!(field(20, 4), region.kind().into());
        entry += 24;
    }
    assert_eq!(entry, at(48) + length);
}

#[test]
fn the_header_is_found_in_the_first_8_kib_on_a_boundary_of_4_bytes() {
    let at = |offset: usize, end: usize| {
        let mut image = vec![0; end];
        image[offset..offset + 12].copy_from_slice(&header(3));
        find(&image)
    };
    assert_eq!(at(0, 12), Some((0, 3)));
    assert_eq!(at(8180, 1 << 16), Some((8180, 3)));
    assert_eq!(at(8184, 1 << 16), None, "it ends behind them");
    assert_eq!(at(2, 100), None);
    let mut image = vec![0; 64];
    image[..4].copy_from_slice(&MAGIC.to_le_bytes());
    image[32..44].copy_from_slice(&header(0));
    assert_eq!(find(&image), Some((32, 0)), "a magic number without its checksum is none");
}

#[test]
fn what_a_kernel_insists_on_and_does_not_get_is_refused() {
    let memory = memory(RAM);
    for bit in 2..16 {
        let error = load(&executable(4, 1 << bit), "", &memory);
        assert!(matches!(error, Err(ImageError::Unsupported(_))), "bit {bit}");
    }
    for bit in 17..32 {
        assert!(load(&executable(4, 1 << bit), "", &memory).is_ok(), "bit {bit} may be ignored");
        memory.zero(0, RAM).unwrap();
    }
}

#[test]
fn a_kernel_that_cannot_be_loaded_is_refused_by_name() {
    let memory = memory(RAM);
    let refused = |image: &[u8]| load(image, "", &memory).unwrap_err();
    assert_eq!(refused(&header(0)), ImageError::NoAddresses);
    assert_eq!(refused(&flat()[..70]), ImageError::Truncated, "fields are cut off");
    let mut image = executable(4, 0);
    put(&mut image, 24, 0x10_0100, 4);
    assert_eq!(refused(&image), ImageError::Malformed("entry address"));
    let mut image = flat();
    put(&mut image, 40 + 24, 0x80_0000, 4);
    let error = ImageError::DoesNotFit { address: 0x10_0000, length: 0x70_0000 };
    assert_eq!(refused(&image), error);
    let parts = Parts { kind: ImageKind::Multiboot, ..parts(b"nothing", "") };
    let error = super::super::load(&parts, &memory);
    assert_eq!(error, Err(ImageError::NotA(ImageKind::Multiboot)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_damage_is_answered(damage in damage(), which in 0usize..3) {
        let image = [executable(4, 3), executable(8, 3), flat()][which].clone();
        survives(&image, &damage, ImageKind::Multiboot);
    }
}
