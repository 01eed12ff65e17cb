use std::vec::Vec;

use super::super::testing::{elf, loaded, put};
use super::*;

fn made(word: usize, entry: u64) -> Vec<u8> {
    elf(word, entry, &[loaded(0x20_0000, b"text", 0x1000), loaded(0x10_0000, b"data", 0x800)])
}

#[test]
fn the_span_is_from_the_lowest_segment_to_the_end_of_the_highest() {
    for word in [4, 8] {
        let image = made(word, 0);
        assert_eq!(Elf::find(&image).unwrap().span(), Ok(0x10_0000..0x20_1000));
    }
    let none = elf(8, 0, &[]);
    assert!(Elf::find(&none).unwrap().span().is_err(), "nothing to be loaded");
    let mut image = made(8, 0);
    put(&mut image, 64 + 24, u64::MAX, 8);
    assert!(Elf::find(&image).unwrap().span().is_err(), "a segment that wraps");
}

#[test]
fn the_entry_may_be_a_virtual_or_a_physical_address() {
    for word in [4, 8] {
        for (entry, expected) in [
            (0x4020_0010, Ok(0x20_0010)),
            (0x4010_07ff, Ok(0x10_07ff)),
            (0x10_0004, Ok(0x10_0004)),
            (0x4010_0800, Err(ImageError::Malformed("entry address"))),
            (0, Err(ImageError::Malformed("entry address"))),
        ] {
            let image = made(word, entry);
            assert_eq!(Elf::find(&image).unwrap().entry(), expected, "{entry:#x}");
        }
    }
}

#[test]
fn files_of_either_word_are_found_for_either_machine() {
    for word in [4, 8] {
        let mut image = made(word, 0);
        assert!(Elf::find(&image).is_some());
        put(&mut image, 18, if word == 4 { 62 } else { 3 }, 2);
        assert!(Elf::find(&image).is_some());
        put(&mut image, 18, 183, 2);
        assert!(Elf::find(&image).is_none(), "another machine");
    }
}
