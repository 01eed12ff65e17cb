use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::super::layout::{self, INFORMATION};
use super::super::start::Mode;
use super::super::testing::{bytes, damage, elf, loaded, memory, number, parts, put, survives};
use super::*;
use crate::mem::guest::GuestMemory;
use crate::vm::Gpr;

const RAM: u64 = 4 << 20;
const REQUIRED: u16 = 0;
const RSDP: u64 = 0xe_0000;

/// A tag of the header: its type, its flags, its words.
type HeaderTag<'a> = (u16, u16, &'a [u32]);

fn header(tags: &[HeaderTag<'_>]) -> Vec<u8> {
    let mut header = vec![0; 16];
    for (kind, flags, words) in tags.iter().chain([&(tag::END, REQUIRED, &[][..])]) {
        header.extend(kind.to_le_bytes());
        header.extend(flags.to_le_bytes());
        header.extend((8 + 4 * words.len() as u32).to_le_bytes());
        header.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        header.resize(header.len().next_multiple_of(8), 0);
    }
    let length = header.len() as u32;
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(length);
    for (i, word) in [MAGIC, I386, length, checksum].into_iter().enumerate() {
        put(&mut header, 4 * i, word.into(), 4);
    }
    header
}

/// 1 MiB is where it is linked, 100h bytes long, with the header 8 bytes behind its start.
fn executable(tags: &[HeaderTag<'_>]) -> Vec<u8> {
    let mut text = header(tags);
    // The contents follow 64 + 56 bytes of headers.
    text.splice(..0, *b"12345678");
    let length = text.len().max(0x100) as u64;
    elf(8, 0x4010_0004, &[loaded(0x10_0000, &text, length)])
}

fn load(parts: &Parts<'_>) -> Result<(Start, GuestMemory), ImageError> {
    let memory = memory(RAM);
    let mut rsdp = *b"RSD PTR .......\x02\x11\x22\x33\x44 the rest of it  ";
    rsdp[35] = b'.';
    memory.write(RSDP, &rsdp).unwrap();
    super::super::load(parts, &memory).map(|start| (start, memory))
}

fn start(image: &[u8]) -> Result<Start, ImageError> {
    load(&parts(image, "")).map(|(start, _)| start)
}

/// The tags of the boot information: types and contents.
fn information(memory: &GuestMemory) -> Vec<(u64, Vec<u8>)> {
    let end = INFORMATION + number(memory, INFORMATION, 4);
    let (mut at, mut tags) = (INFORMATION + 8, Vec::new());
    while at < end {
        let [kind, size] = [0, 4].map(|offset| number(memory, at + offset, 4));
        tags.push((kind, bytes(memory, at + 8, size as usize - 8)));
        at = (at + size).next_multiple_of(8);
    }
    assert_eq!((at, tags.last()), (end, Some(&(0, Vec::new()))), "the end tag is the last");
    tags
}

fn content(memory: &GuestMemory, kind: u64) -> Option<Vec<u8>> {
    let found = information(memory).into_iter().find(|(of, _)| *of == kind);
    found.map(|(_, content)| content)
}

#[test]
fn a_kernel_is_entered_with_the_magic_number_and_the_boot_information() {
    let registers = [(Gpr::Rax, 0x36d7_6289), (Gpr::Rbx, INFORMATION)];
    let expected = Start { mode: Mode::Protected, entry: 0x10_0004, registers };
    assert_eq!(start(&executable(&[])), Ok(expected));
    let entry = executable(&[(tag::ENTRY, REQUIRED, &[0x10_0050])]);
    assert_eq!(start(&entry), Ok(Start { entry: 0x10_0050, ..expected }), "the header's counts");
    let addresses = [0x20_0000, 0x20_0000, 0, 0x20_1000];
    let flat = header(&[(tag::ADDRESSES, REQUIRED, &addresses), (tag::ENTRY, REQUIRED, &[7])]);
    let (flat_start, memory) = load(&parts(&flat, "")).unwrap();
    assert_eq!(flat_start, Start { entry: 7, ..expected });
    assert_eq!(bytes(&memory, 0x20_0000, flat.len()), flat);
}

#[test]
fn the_boot_information_says_what_there_is() {
    let image = executable(&[]);
    let parts = Parts { initrd: Some(b"a module"), rsdp: Some(RSDP), ..parts(&image, "a line") };
    let (_, memory) = load(&parts).unwrap();
    let content = |kind| content(&memory, kind).unwrap();
    assert_eq!(content(1), b"a line\0");
    assert_eq!(content(2), b"Paravane\0");
    let at = (RAM - 4096) as u32;
    assert_eq!(content(3), [&at.to_le_bytes()[..], &(at + 8).to_le_bytes(), b"\0"].concat());
    assert_eq!(bytes(&memory, at.into(), 8), b"a module");
    assert_eq!(content(4), [639u32.to_le_bytes(), 3072u32.to_le_bytes()].concat());
    let map = content(6);
    assert_eq!(map[..8], [24, 0, 0, 0, 0, 0, 0, 0]);
    let regions = layout::memory_map(RAM).flat_map(|r| [r.start, r.length, r.kind().into()]);
    assert_eq!(map[8..], regions.flat_map(u64::to_le_bytes).collect::<Vec<_>>());
    assert_eq!(content(14), bytes(&memory, RSDP, 20));
    assert_eq!(content(15), bytes(&memory, RSDP, 36));
    let kinds: Vec<u64> = information(&memory).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [1, 2, 3, 4, 6, 14, 15, 0], "and nothing else");
}

#[test]
fn an_rsdp_is_given_in_the_forms_that_it_has() {
    let image = executable(&[]);
    let given = |change: &dyn Fn(&mut [u8; 36])| {
        let memory = memory(RAM);
        let mut rsdp = [0xff; 36];
        rsdp[15] = 2;
        change(&mut rsdp);
        memory.write(RSDP, &rsdp).unwrap();
        let parts = Parts { rsdp: Some(RSDP), ..parts(&image, "") };
        super::super::load(&parts, &memory).unwrap();
        [14, 15].map(|kind| content(&memory, kind).is_some())
    };
    assert_eq!(given(&|rsdp| rsdp[15] = 0), [true, false], "of ACPI 1.0");
    assert_eq!(given(&|rsdp| rsdp[16..20].fill(0)), [false, true], "without an RSDT");
    assert_eq!(given(&|_| ()), [true, true]);
    let parts = Parts { rsdp: Some(RAM - 35), ..parts(&image, "") };
    assert!(matches!(load(&parts), Err(ImageError::DoesNotFit { .. })), "outside of memory");
}

#[test]
fn the_header_is_found_in_the_first_32_kib_on_a_boundary_of_8_bytes() {
    let plain = header(&[]);
    let at = |offset: usize, end: usize| {
        let mut image = vec![0; end];
        image[offset..offset + 24].copy_from_slice(&plain);
        find(&image)
    };
    assert_eq!(at(0, 24), Some((0, 24)));
    assert_eq!(at(32752, 1 << 16), Some((32752, 24)));
    assert_eq!(at(32768, 1 << 16), None);
    assert_eq!(at(4, 100), None);
    for byte in [0, 4, 8, 12] {
        let mut image = plain.clone();
        image[byte] ^= 4;
        assert_eq!(find(&image), None, "byte {byte}");
    }
}

#[test]
fn what_a_kernel_insists_on_and_does_not_get_is_refused() {
    const FRAMEBUFFER: u16 = 5;
    const EFI_BOOT_SERVICES: u16 = 7;
    for (kind, words, error) in [
        (1, &[1, 8, 22][..], Some(ImageError::Information(22))),
        (1, &[1, 2, 3, 4, 5, 6, 14, 15, 21], None),
        (tag::CONSOLE, &[1], Some(ImageError::Unsupported("a text or graphics console"))),
        (tag::CONSOLE, &[2], None),
        (FRAMEBUFFER, &[1024, 768, 32], Some(ImageError::Tag(FRAMEBUFFER))),
        (tag::MODULE_ALIGNMENT, &[], None),
        (EFI_BOOT_SERVICES, &[], Some(ImageError::Tag(EFI_BOOT_SERVICES))),
        (8, &[0x1234], None),
        (9, &[0x1234], None),
        (11, &[], Some(ImageError::Tag(11))),
    ] {
        let required = start(&executable(&[(kind, REQUIRED, words)]));
        assert_eq!(required.err(), error, "tag {kind} {words:?}");
        let optional = start(&executable(&[(kind, tag::OPTIONAL, words)]));
        assert_eq!(optional.err(), None, "tag {kind} {words:?}");
    }
}

fn moved(image: &[u8]) -> Result<u64, ImageError> {
    let (start, memory) = load(&parts(image, ""))?;
    let base = content(&memory, 21).unwrap();
    let base = u64::from(u32::from_le_bytes(base.try_into().unwrap()));
    assert_eq!(bytes(&memory, base, 8), b"12345678", "it is where it is told");
    assert_eq!(start.entry, base + 4, "the entry moves with it");
    Ok(base)
}

#[test]
fn a_kernel_that_can_be_moved_is_where_it_prefers_to_be() {
    let relocatable = |words: [u32; 4]| moved(&executable(&[(tag::RELOCATABLE, REQUIRED, &words)]));
    let end = RAM as u32 - 1;
    assert_eq!(relocatable([0, end, 0x1000, 0]), Ok(0x10_0000), "where it is linked");
    assert_eq!(relocatable([0x18_0800, end, 0x1000, 0]), Ok(0x18_1000), "not allowed there");
    assert_eq!(relocatable([0x18_0800, end, 0x1000, 1]), Ok(0x18_1000));
    assert_eq!(relocatable([0, end, 0x1000, 2]), Ok(RAM - 0x1000));
    assert_eq!(relocatable([0, 0x1f_ffff, 0x1_0000, 2]), Ok(0x1f_0000));
    assert_eq!(relocatable([0, 0x1f_00fe, 0x1_0000, 2]), Ok(0x1e_0000), "it ends before");
    let error = ImageError::DoesNotFit { address: 0x40_0000, length: 0x100 };
    assert_eq!(relocatable([0x40_0000, u32::MAX, 0x1000, 0]), Err(error));
    for align in [0, 3] {
        let error = Err(ImageError::Malformed("Multiboot2 alignment"));
        assert_eq!(relocatable([0, end, align, 0]), error);
    }
    let mut image = executable(&[(tag::RELOCATABLE, REQUIRED, &[0x20_0000, end, 1, 0])]);
    // The segment's address: the screen, where nothing can be loaded.
    put(&mut image, 64 + 24, 0xb_8000, 8);
    assert_eq!(moved(&image), Ok(0x20_0000));
    assert!(start(&executable(&[])).is_ok());
}

/// With three sections: none, one that is loaded, one that is not.
fn with_sections() -> Vec<u8> {
    let mut image = executable(&[(1, tag::OPTIONAL, &[9])]);
    let (symbols, table) = (image.len() as u64, image.len() + 8);
    image.extend(b"symbols.");
    image.resize(table + 3 * 64, 0);
    put(&mut image, 40, table as u64, 8);
    for (at, value) in [(58, 64), (60, 3), (62, 2)] {
        put(&mut image, at, value, 2);
    }
    for (i, words) in [(1, [1 << 32, 6, 0x10_0000, 120, 16]), (2, [3 << 32, 0, 0, symbols, 7])] {
        for (field, word) in words.into_iter().enumerate() {
            put(&mut image, table + 64 * i + 8 * field, word, 8);
        }
    }
    image
}

#[test]
fn sections_are_told_if_they_are_asked_for() {
    assert_eq!(content(&load(&parts(&executable(&[]), "")).unwrap().1, 9), None);
    let image = with_sections();
    let (_, memory) = load(&parts(&image, "")).unwrap();
    let told = content(&memory, 9).unwrap();
    assert_eq!(told[..12], [3, 0, 0, 0, 64, 0, 0, 0, 2, 0, 0, 0], "count, size, names");
    let table = image.len() - 3 * 64;
    let mut expected = image[table..].to_vec();
    put(&mut expected, 2 * 64 + 16, RAM - 0x1000, 8);
    assert_eq!(told[12..], expected, "the address of what was not loaded is filled in");
    assert_eq!(bytes(&memory, RAM - 0x1000, 8), b"symbols\0");
}

#[test]
fn sections_that_cannot_be_told_are_refused() {
    let mut image = with_sections();
    put(&mut image, 58, 63, 2);
    assert_eq!(start(&image), Err(ImageError::Malformed("ELF header")), "too small");
    let mut image = with_sections();
    put(&mut image, 60, 4, 2);
    assert_eq!(start(&image), Err(ImageError::Truncated));
    let mut image = with_sections();
    let table = image.len() - 3 * 64;
    put(&mut image, table + 2 * 64 + 24, u64::MAX, 8);
    assert_eq!(start(&image), Err(ImageError::Truncated), "its contents");
    let mut image = with_sections();
    put(&mut image, 60, 300, 2);
    image.resize(image.len() + 300 * 64, 0);
    assert_eq!(start(&image), Err(ImageError::TooManySections));
}

#[test]
fn a_list_of_tags_that_is_cut_off_is_refused() {
    let sound = executable(&[(tag::ENTRY, REQUIRED, &[0x10_0000])]);
    // Headers, 8 bytes, the fixed part; then the first tag's type, flags and size.
    let first = 64 + 56 + 8 + 16;
    for size in [0, 7, 11, 25, 33, u32::MAX - 6, u32::MAX] {
        let mut image = sound.clone();
        put(&mut image, first + 4, size.into(), 4);
        assert!(matches!(start(&image), Err(ImageError::Malformed(_))), "{size}");
    }
    let mut image = sound.clone();
    put(&mut image, first - 8, 1 << 20, 4);
    put(&mut image, first - 4, 0u32.wrapping_sub(MAGIC).wrapping_sub(1 << 20).into(), 4);
    assert_eq!(start(&image), Err(ImageError::Truncated), "the header is longer than the file");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_damage_is_answered(damage in damage(), near: bool) {
        let relocation: &[u32] = &[0x20_0000, 0x3f_ffff, 0x1000, 1];
        let mut image = with_sections();
        let more = executable(&[
            (1, REQUIRED, &[9]),
            (tag::RELOCATABLE, REQUIRED, relocation),
            (tag::ENTRY, REQUIRED, &[0x10_0000]),
        ]);
        if near {
            image = more;
        }
        survives(&image, &damage, ImageKind::Multiboot2);
    }
}
