use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::super::testing::{bytes, damage, memory, number, parts, put, survives};
use super::*;
use crate::mem::guest::GuestMemory;

const RAM: u64 = 64 << 20;
const PREFERRED: u64 = 16 << 20;
const INIT_SIZE: u64 = 8 << 20;
const CODE: &[u8; 32] = b"the protected-mode kernel's code";

/// A relocatable kernel of version 2.15 with three setup sectors and a 64-bit entry.
fn sound() -> Vec<u8> {
    let mut image = vec![0xcc; 4 * 512];
    image[0x1f1..0x290].fill(0);
    for (at, value, size) in [
        (0x1f1, 3, 1),
        (0x1f4, 2, 4),
        (0x1fe, 0xaa55, 2),
        (0x200, 0x6aeb, 2),
        (0x206, 0x20f, 2),
        (0x211, 1, 1),
        (0x214, 0x10_0000, 4),
        (0x22c, 0x7fff_ffff, 4),
        (0x230, 2 << 20, 4),
        (0x234, 1, 1),
        (0x236, 1, 2),
        (0x238, 16, 4),
        (0x258, PREFERRED, 8),
        (0x260, INIT_SIZE, 4),
    ] {
        put(&mut image, at, value, size);
    }
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image.extend(CODE);
    image.extend(b"a signature");
    image
}

fn with(at: usize, value: u64, size: usize) -> Vec<u8> {
    let mut image = sound();
    put(&mut image, at, value, size);
    image
}

fn load(parts: &Parts<'_>) -> Result<(Start, GuestMemory), ImageError> {
    let memory = memory(RAM);
    super::super::load(parts, &memory).map(|start| (start, memory))
}

fn refused(image: &[u8]) -> ImageError {
    load(&parts(image, "")).map(|(start, _)| start).expect_err("accepted")
}

#[test]
fn the_kernel_is_entered_in_64_bit_mode_where_it_prefers_to_be() {
    let (start, memory) = load(&parts(&sound(), "")).unwrap();
    let expected = Start::new(Mode::Long, PREFERRED + 0x200, Gpr::Rsi, INFORMATION);
    assert_eq!(start, expected);
    assert_eq!(bytes(&memory, PREFERRED, 33), [&CODE[..], b"\0"].concat());
}

#[test]
fn without_a_64_bit_entry_or_when_asked_to_it_is_entered_in_32_bit_mode() {
    let expected = Start::new(Mode::Protected, PREFERRED, Gpr::Rsi, INFORMATION);
    let old = with(0x206, 0x20b, 2);
    for image in [&old, &with(0x236, 0, 2)] {
        assert_eq!(load(&parts(image, "")).unwrap().0, expected);
    }
    let image = sound();
    let parts = Parts { kind: ImageKind::Linux32, ..parts(&image, "") };
    assert_eq!(load(&parts).unwrap().0, expected);
}

#[test]
fn boot_params_say_what_the_kernel_asks_for() {
    // What another loader left in the fields of loaders.
    let mut image = sound();
    put(&mut image, 0x226, 0xffff, 2);
    put(&mut image, 0x250, u64::MAX, 8);
    let parts = Parts { rsdp: Some(0xe_0010), ..parts(&image, "console=ttyS0") };
    let (_, memory) = load(&parts).unwrap();
    let at = |offset, size| number(&memory, INFORMATION + offset, size);
    assert_eq!(bytes(&memory, at(0x228, 4), 14), b"console=ttyS0\0");
    assert_eq!(at(0x70, 8), 0xe_0010, "the RSDP");
    assert_eq!(at(0x210, 1), 0xff, "a loader without a number");
    assert_eq!((at(0x226, 2), at(0x250, 8)), (0, 0), "nor an extension of it, nor `setup_data`");
    assert_eq!(at(0x214, 4), PREFERRED, "where the kernel is");
    assert_eq!((at(0x206, 2), at(0x1fe, 2)), (0x20f, 0xaa55), "the header is copied");
    assert_eq!(at(0x1e0, 4), (RAM >> 10) - 1024, "KiB above 1 MiB");
    assert_eq!((at(0x218, 4), at(0x21c, 4)), (0, 0), "no ramdisk");
    assert_eq!(at(0x1ef, 1), 0, "the sentinel");
    let regions: Vec<_> = layout::memory_map(RAM).collect();
    assert_eq!(at(0x1e8, 1), regions.len() as u64);
    for (i, region) in (0u64..).zip(regions) {
        let at = |offset, size| at(0x2d0 + 20 * i + offset, size);
        assert_eq!(
            (at(0, 8), at(8, 8), at(16, 4)),
            (region.start, region.length, region.kind().into())
        );
    }
}

#[test]
fn what_lies_behind_the_header_is_not_taken_for_a_part_of_it() {
    // The header of version 2.11 ends before `handover_offset`; code follows.
    let mut image = with(0x206, 0x20b, 2);
    put(&mut image, 0x201, 0x62, 1);
    image[0x264..0x290].fill(0xcc);
    let (_, memory) = load(&parts(&image, "")).unwrap();
    assert_eq!(bytes(&memory, INFORMATION + 0x264, 0x2c), [0; 0x2c]);
    assert_eq!(number(&memory, INFORMATION + 0x260, 4), INIT_SIZE);
}

#[test]
fn the_ramdisk_is_as_high_as_ram_and_the_kernel_allow() {
    let initrd = vec![0x5a; 0x1801];
    let ramdisk = |image: &[u8]| {
        let (_, memory) = load(&Parts { initrd: Some(&initrd), ..parts(image, "") })?;
        let at = |offset| number(&memory, INFORMATION + offset, 4);
        assert_eq!(at(0x21c), 0x1801);
        assert_eq!(bytes(&memory, at(0x218), 0x1801), initrd);
        Ok(at(0x218))
    };
    assert_eq!(ramdisk(&sound()), Ok(RAM - 0x2000));
    let highest = |last| with(0x22c, last, 4);
    assert_eq!(ramdisk(&highest(0x37_ffff)), Ok(0x37_e000));
    assert_eq!(ramdisk(&highest(0x37_fffe)), Ok(0x37_e000), "the last byte may be lower");
    assert_eq!(ramdisk(&highest(0x37_f7ff)), Ok(0x37_d000));
    let inside = PREFERRED + INIT_SIZE - 1;
    assert_eq!(ramdisk(&highest(inside)), Ok(PREFERRED - 0x2000), "below what the kernel needs");
    assert_eq!(ramdisk(&highest(0x10_1800)), Ok(0x10_0000));
    assert_eq!(ramdisk(&highest(0x10_17ff)), Err(ImageError::NoRoom { length: 0x1801 }));
}

#[test]
fn a_kernel_is_where_it_can_run() {
    let place =
        |image: &[u8]| load(&parts(image, "")).map(|(_, m)| number(&m, INFORMATION + 0x214, 4));
    assert_eq!(place(&with(0x258, PREFERRED + 1, 8)), Ok(PREFERRED + (2 << 20)), "aligned");
    assert_eq!(place(&with(0x258, 0, 8)), Ok(2 << 20), "not in low memory");
    let fixed = |preferred| {
        let mut image = with(0x234, 0, 1);
        put(&mut image, 0x258, preferred, 8);
        put(&mut image, 0x230, 0, 4);
        image
    };
    assert_eq!(place(&fixed(0x10_1000)), Ok(0x10_1000));
    let length = INIT_SIZE;
    assert_eq!(place(&fixed(0)), Err(ImageError::DoesNotFit { address: 0, length }));
    let address = RAM - length + 1;
    assert_eq!(place(&fixed(address - 1)), Ok(address - 1));
    assert_eq!(place(&fixed(address)), Err(ImageError::DoesNotFit { address, length }));
    let old = with(0x206, 0x209, 2);
    assert_eq!(place(&old), Ok(2 << 20), "before `pref_address`: `code32_start`, aligned");
}

#[test]
fn every_field_that_means_nothing_is_named() {
    for (at, size, field) in [
        (0x1f4, 4, "syssize"),
        (0x230, 4, "kernel_alignment"),
        (0x22c, 4, "initrd_addr_max"),
        (0x238, 4, "cmdline_size"),
        (0x260, 4, "init_size"),
    ] {
        assert_eq!(refused(&with(at, 0, size)), ImageError::Malformed(field));
    }
    assert_eq!(refused(&with(0x230, 3, 4)), ImageError::Malformed("kernel_alignment"));
    for preferred in [1 << 32, u64::MAX, 0xffff_ffff] {
        assert_eq!(refused(&with(0x258, preferred, 8)), ImageError::Malformed("pref_address"));
    }
}

#[test]
fn kernels_that_cannot_be_started_are_refused_by_name() {
    assert_eq!(refused(&with(0x206, 0x205, 2)), ImageError::Version { found: 0x205, least: 0x206 });
    assert!(matches!(refused(&with(0x211, 0, 1)), ImageError::Unsupported(_)), "a zImage");
    let length = RAM;
    let error = ImageError::DoesNotFit { address: PREFERRED, length };
    assert_eq!(refused(&with(0x260, length, 4)), error);
    for change in [with(0x1fe, 0x55aa, 2), with(0x202, 0, 4)] {
        let parts = Parts { kind: ImageKind::Linux, ..parts(&change, "") };
        assert_eq!(load(&parts).map(|(s, _)| s), Err(ImageError::NotA(ImageKind::Linux)));
    }
}

#[test]
fn a_kernel_that_is_cut_off_is_refused_at_every_length() {
    let image = sound();
    for length in 0x206..image.len() - b"a signature".len() {
        assert_eq!(refused(&image[..length]), ImageError::Truncated, "{length} bytes");
    }
    assert_eq!(refused(&with(0x1f1, 0, 1)), ImageError::Truncated, "0 sectors stand for 4");
    assert_eq!(refused(&with(0x1f4, u64::MAX, 4)), ImageError::Truncated);
}

#[test]
fn a_command_line_is_as_long_as_the_kernel_takes() {
    let image = sound();
    assert!(load(&parts(&image, &"x".repeat(16))).is_ok());
    let error = load(&parts(&image, &"x".repeat(17))).map(|(s, _)| s);
    assert_eq!(error, Err(ImageError::CommandLine { length: 17, most: 16 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_damage_is_answered(damage in damage(), short: bool) {
        let mut image = sound();
        // So that an undamaged one fits.
        put(&mut image, 0x258, 0x20_0000, 8);
        put(&mut image, 0x260, 0x10_0000, 4);
        let damage: Vec<_> = damage
            .into_iter()
            .map(|(at, value, size)| if short { (0x1f0 + at % 0xa0, value, size) } else { (at, value, size) })
            .collect();
        survives(&image, &damage, ImageKind::Linux);
    }
}
