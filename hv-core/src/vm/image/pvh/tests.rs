use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

use super::super::testing::{self, Made, bytes, damage, elf, loaded, parts, put, survives};
use super::*;
use crate::mem::guest::GuestMemory;
use crate::vm::image::layout::IMAGE_FLOOR;

const RAM: u64 = 4 << 20;
const HEADERS: usize = 64;
const NOTES: usize = 64 + 3 * 56;
const TEXT: usize = NOTES + 40;

fn memory() -> GuestMemory {
    testing::memory(RAM)
}

fn load(image: &[u8], line: &str, memory: &GuestMemory) -> Result<Start, ImageError> {
    super::super::load(&Parts { kind: ImageKind::Pvh, ..parts(image, line) }, memory)
}

fn note(name: &[u8], kind: u32, descriptor: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name.len() as u32, descriptor.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    for part in [name, descriptor] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

fn header(image: &mut [u8], index: usize, kind: u64, [offset, address, file, memory]: [u64; 4]) {
    let at = HEADERS + index * 56;
    put(image, at, kind, 4);
    put(image, at + 8, offset, 8);
    put(image, at + 16, 0xffff_ffff_8000_0000, 8);
    put(image, at + 24, address, 8);
    put(image, at + 32, file, 8);
    put(image, at + 40, memory, 8);
}

/// Two segments, 8 bytes of text and 4 of data with 100 of zeros behind, and notes of which the
/// second is the entry.
fn made(word: usize) -> Vec<u8> {
    let notes =
        [note(b"GNU\0", 18, &[1, 2, 3]), note(b"Xen\0", 18, &[0x34, 0x12, 0x10, 0])].concat();
    let bytes = &notes[..];
    let notes = Made { kind: 4, virtual_address: 0, address: 0, bytes, length: 0 };
    let text = loaded(0x1_0000, b"the text", 8);
    elf(word, 0, &[notes, text, loaded(0x2_0003, b"data", 104)])
}

fn sound() -> Vec<u8> {
    made(8)
}

fn refused(change: impl Fn(&mut Vec<u8>)) -> ImageError {
    let mut image = sound();
    change(&mut image);
    load(&image, "", &memory()).expect_err("accepted")
}

#[test]
fn segments_lie_at_their_physical_addresses() {
    let memory = memory();
    for word in [4, 8] {
        memory.zero(0, RAM).unwrap();
        let start = load(&made(word), "", &memory).unwrap();
        assert_eq!(start.entry, 0x0010_1234, "from the Xen note, not from the other");
        assert_eq!(bytes(&memory, 0x1_0000, 9), b"the text\0");
        assert_eq!(bytes(&memory, 0x2_0002, 6), b"\0data\0");
    }
}

fn information(memory: &GuestMemory, start: Start) -> StartInfo {
    assert_eq!((start.mode, start.registers[0]), (Mode::Protected, (Gpr::Rbx, INFORMATION)));
    let mut info = StartInfo::default();
    memory.read(INFORMATION, info.as_mut_bytes()).unwrap();
    info
}

#[test]
fn the_start_information_is_what_the_entry_expects() {
    let memory = memory();
    let line = "quiet shim=auto";
    let start = load(&sound(), line, &memory).unwrap();
    let info = information(&memory, start);
    assert_eq!((info.magic, info.version), (0x336e_c578, 1));
    assert_eq!((info.modules, info.rsdp), (0, 0), "no modules, no ACPI");
    let command_line = bytes(&memory, info.command_line, line.len() + 1);
    assert_eq!(command_line, [line.as_bytes(), b"\0"].concat());
    for (region, at) in layout::memory_map(RAM).zip((info.memory_map..).step_by(24)) {
        let at = |offset, size| testing::number(&memory, at + offset, size);
        assert_eq!((at(0, 8), at(8, 8)), (region.start, region.length));
        assert_eq!((at(16, 4), at(20, 4)), (region.kind().into(), 0));
    }
    assert_eq!(info.memory_map_entries as usize, layout::memory_map(RAM).count());
}

#[test]
fn the_module_and_the_acpi_tables_are_handed_over() {
    let memory = memory();
    let image = sound();
    let initrd = Some(&b"a module"[..]);
    let parts = Parts { initrd, rsdp: Some(0xe_0000), ..parts(&image, "") };
    let start = super::super::load(&parts, &memory).unwrap();
    let info = information(&memory, start);
    assert_eq!((info.modules, info.rsdp), (1, 0xe_0000));
    let at = |offset| testing::number(&memory, info.module_list + offset, 8);
    assert_eq!((at(0), at(8), at(16)), (RAM - 0x1000, 8, 0), "as high as it goes");
    assert_eq!(bytes(&memory, at(0), 9), b"a module\0");
}

#[test]
fn the_lowest_image_lies_behind_all_that_is_handed_over() {
    let memory = memory();
    let line = "x".repeat((IMAGE_FLOOR - COMMAND_LINE - 1) as usize);
    let mut image = sound();
    header(&mut image, 1, 1, [TEXT as u64, IMAGE_FLOOR, 8, 8]);
    load(&image, &line, &memory).unwrap();
    assert_eq!(bytes(&memory, COMMAND_LINE, line.len() + 1), [line.as_bytes(), b"\0"].concat());
    assert_eq!(bytes(&memory, IMAGE_FLOOR, 8), b"the text");
    let (line, length) = (line.clone() + "x", line.len() + 1);
    let error = ImageError::CommandLine { length, most: length - 1 };
    assert_eq!(load(&image, &line, &memory), Err(error));
}

#[test]
fn an_image_that_is_cut_off_is_refused_at_every_length() {
    let image = sound();
    let memory = memory();
    for length in 0..image.len() {
        let error = load(&image[..length], "", &memory).expect_err("accepted");
        let expected =
            if length < 64 { ImageError::NotA(ImageKind::Pvh) } else { ImageError::Truncated };
        assert_eq!(error, expected, "{length} bytes");
    }
}

#[test]
fn other_files_are_no_images() {
    for (at, value) in [
        (0, 0x7e),
        (1, b'e'),
        (4, 3),
        (5, 2),
        (16, 3),
        (16, 1),
        (18, 4),
        (18, 183),
        (54, 55),
        (54, 0),
    ] {
        assert_eq!(
            refused(|image| image[at] = value),
            ImageError::NotA(ImageKind::Pvh),
            "byte {at}"
        );
    }
}

#[test]
fn headers_outside_of_the_file_are_refused() {
    for offset in [u64::MAX, u64::MAX - 55, 1 << 32, sound().len() as u64 - 55] {
        assert_eq!(refused(|image| put(image, 32, offset, 8)), ImageError::Truncated);
    }
    assert_eq!(refused(|image| put(image, 56, 0xffff, 2)), ImageError::Truncated);
    for (offset, size) in [(u64::MAX, 1), (0, u64::MAX), (u64::MAX, u64::MAX), (1 << 40, 8)] {
        let notes = refused(|image| header(image, 0, 4, [offset, 0, size, 0]));
        assert_eq!(notes, ImageError::Truncated);
    }
    let text = refused(|image| header(image, 1, 1, [u64::MAX - 3, 0x1_0000, 8, 8]));
    assert_eq!(text, ImageError::Truncated);
}

#[test]
fn segments_that_do_not_fit_are_refused() {
    for (address, file, length) in [
        (0, 8, 8),
        (IMAGE_FLOOR - 1, 8, 8),
        (RAM - 7, 8, 8),
        (RAM, 0, 1),
        (0x1_0000, 0, RAM),
        (0x1_0000, 8, 7),
        (0x9_fbf9, 8, 8),
        (0xe_0000, 8, 8),
        (0x9_0000, 8, 0x8_0000),
        (u64::MAX - 7, 8, 8),
        (u64::MAX, 8, u64::MAX),
        (0x1_0000, 8, u64::MAX),
    ] {
        let error = refused(|image| header(image, 1, 1, [TEXT as u64, address, file, length]));
        assert_eq!(error, ImageError::DoesNotFit { address, length });
        assert!(error.to_string().contains(&std::format!("{address:#x}")));
    }
    let mut image = sound();
    header(&mut image, 1, 1, [TEXT as u64, RAM - 8, 8, 8]);
    assert!(load(&image, "", &memory()).is_ok(), "the last bytes of RAM");
    header(&mut image, 1, 1, [TEXT as u64, 0, 0, 0]);
    assert!(load(&image, "", &memory()).is_ok(), "an empty segment is nowhere");
}

#[test]
fn segments_that_lie_on_each_other_are_refused() {
    for address in [0x1_fffc, 0x2_0000, 0x2_006a] {
        let error = refused(|image| header(image, 1, 1, [TEXT as u64, address, 8, 8]));
        assert_eq!(error, ImageError::Overlap { address: 0x2_0003, length: 104 });
    }
    let mut image = sound();
    header(&mut image, 1, 1, [TEXT as u64, 0x2_006b, 8, 8]);
    assert!(load(&image, "", &memory()).is_ok(), "one ends where the other begins");
}

#[test]
fn more_segments_than_are_kept_apart_are_refused() {
    let mut image = sound();
    let (table, count) = (image.len() as u64, 70);
    put(&mut image, 32, table, 8);
    put(&mut image, 56, count, 2);
    let note: Vec<u8> = image[HEADERS..HEADERS + 56].to_vec();
    image.extend(note);
    for i in 1..count {
        let at = image.len();
        image.resize(at + 56, 0);
        for (field, value) in [(0, 1), (8, TEXT as u64), (24, (i + 32) << 12), (32, 8), (40, 8)] {
            put(&mut image, at + field, value, 8);
        }
    }
    assert_eq!(load(&image, "", &memory()), Err(ImageError::TooManySegments));
}

#[test]
fn an_image_without_an_entry_is_refused() {
    assert_eq!(refused(|image| put(image, 56, 0, 2)), ImageError::NotA(ImageKind::Pvh));
    assert_eq!(refused(|image| put(image, HEADERS, 0, 4)), ImageError::NotA(ImageKind::Pvh));
    let second = NOTES + 20;
    for (at, value) in [
        (second + 8, 17),
        (second + 12, u64::from(b'x')),
        (second, 0xffff_ffff),
        (second + 4, 0xffff_ffff),
        (second + 4, 0),
    ] {
        assert_eq!(
            refused(|image| put(image, at, value, 4)),
            ImageError::NotA(ImageKind::Pvh),
            "{at}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_damage_is_answered(damage in damage(), long: bool) {
        survives(&made(if long { 8 } else { 4 }), &damage, ImageKind::Auto);
    }
}
