use iced_x86::{Decoder, DecoderError, DecoderOptions};
use proptest::prelude::*;

use super::*;
use crate::vm::Gpr;
use crate::vm::testing::{CR0_LONG, Fake, vcpu};
use Mode::{Code16, Code32, Code64};

const CPUID: &[u8] = &[0x0f, 0xa2];

#[test]
fn an_instruction_ends_behind_its_prefixes_and_opcode() {
    for (bytes, mode, length_is) in [
        (&[0x0f, 0xa2][..], Code16, Some(2)),
        (&[0x0f, 0xa2, 0xf4], Code32, Some(2)),
        (&[0x66, 0x67, 0x0f, 0xa2], Code32, Some(4)),
        (&[0xf2, 0xf3, 0x0f, 0xa2], Code16, Some(4)),
        (&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x0f, 0xa2], Code64, Some(8)),
        (&[0x48, 0x0f, 0xa2], Code64, Some(3)),
        (&[0x4f, 0x66, 0x40, 0x0f, 0xa2], Code64, Some(5)),
        (&[0x41, 0x66, 0x0f, 0xa2], Code64, Some(4)),
        // INC and DEC elsewhere.
        (&[0x48, 0x0f, 0xa2], Code32, None),
        (&[0x48, 0x0f, 0xa2], Code16, None),
        (&[0x0f, 0xa3], Code64, None),
        (&[0x66, 0x0f, 0x0b], Code64, None),
        (&[0x0f, 0x66, 0xa2], Code64, None),
        (&[0x0f], Code64, None),
        (&[0x66, 0x0f], Code64, None),
        (&[0x66], Code64, None),
        (&[], Code64, None),
    ] {
        assert_eq!(length(bytes, mode, CPUID), length_is, "{bytes:x?} {mode:?}");
    }
}

#[test]
fn no_instruction_is_longer_than_15_bytes() {
    let mut bytes = [0x66; 16];
    bytes[13..15].copy_from_slice(CPUID);
    assert_eq!(length(&bytes, Code64, CPUID), Some(15));
    bytes[13] = 0x66;
    bytes[14..16].copy_from_slice(CPUID);
    assert_eq!(length(&bytes, Code64, CPUID), None);
    assert_eq!(length(&[0x66; 40], Code64, CPUID), None);
}

const LINE: u64 = 0x2000;

/// A vCPU without paging whose next instruction is this.
fn at(bytes: &[u8], mode: Mode) -> (Vcpu, Fake) {
    let (mut v, mut h) = vcpu();
    h.set(Kept::Cr0, 0x31);
    (v.long_mode, h.long_code, h.code16) = (mode == Code64, mode == Code64, mode == Code16);
    h.set(Kept::Rip, LINE);
    v.vm.memory.write(LINE, bytes).unwrap();
    for number in 0..16 {
        v.set_gpr(&mut h, number, 0x100 * u64::from(number));
    }
    (v, h)
}

fn decoded(bytes: &[u8], mode: Mode) -> Option<(Decoded, u8)> {
    let (v, mut h) = at(bytes, mode);
    let fetched = fetch(&v, &mut h);
    assert_eq!(&fetched.as_slice()[..bytes.len()], bytes);
    let answer = control(&fetched, &v, &mut h);
    if let Some((_, length)) = answer {
        assert_eq!(usize::from(length), bytes.len(), "{bytes:x?}");
    }
    answer
}

fn read(cr: u8, gpr: u8) -> Decoded {
    Decoded::Cr(CrAccess::Read { cr, gpr })
}

fn write(cr: u8, gpr: u8) -> Decoded {
    Decoded::Cr(CrAccess::Write { cr, gpr })
}

#[test]
fn moves_of_control_and_debug_registers_name_both_registers() {
    let (out_of, into) = (true, false);
    let dr = |number, gpr, read| Decoded::Dr { number, gpr, read };
    for (bytes, mode, is) in [
        (&[0x0f, 0x20, 0xc0][..], Code16, read(0, 0)),
        (&[0x0f, 0x22, 0xdf], Code32, write(3, 7)),
        (&[0x0f, 0x22, 0xe4], Code64, write(4, 4)),
        (&[0x41, 0x0f, 0x22, 0xd8], Code64, write(3, 8)),
        (&[0x44, 0x0f, 0x22, 0xc0], Code64, write(8, 0)),
        (&[0x45, 0x0f, 0x20, 0xc7], Code64, read(8, 15)),
        (&[0x66, 0xf3, 0x0f, 0x20, 0xd8], Code32, read(3, 0)),
        // Bits 7:6 of ModRM are ignored.
        (&[0x0f, 0x20, 0x18], Code64, read(3, 0)),
        // CR8 by LOCK.
        (&[0xf0, 0x0f, 0x22, 0xc1], Code32, write(8, 1)),
        (&[0xf0, 0x41, 0x0f, 0x20, 0xc1], Code64, read(8, 9)),
        // A REX that is not the last prefix has no effect.
        (&[0x45, 0x66, 0x0f, 0x22, 0xc1], Code64, write(0, 1)),
        (&[0x0f, 0x21, 0xf8], Code32, dr(7, 0, out_of)),
        (&[0x0f, 0x23, 0xf3], Code16, dr(6, 3, into)),
        (&[0x49, 0x0f, 0x23, 0xc4], Code64, dr(0, 12, into)),
    ] {
        let length = bytes.len() as u8;
        assert_eq!(decoded(bytes, mode), Some((is, length)), "{bytes:x?} {mode:?}");
    }
}

#[test]
fn smsw_into_a_whole_register_is_a_move() {
    let read = |gpr| Some(Decoded::Cr(CrAccess::Read { cr: 0, gpr }));
    let one = |bytes, mode| decoded(bytes, mode).map(|(decoded, _)| decoded);
    assert_eq!(one(&[0x0f, 0x01, 0xe3], Code64), read(3));
    assert_eq!(one(&[0x41, 0x0f, 0x01, 0xe3], Code64), read(11));
    assert_eq!(one(&[0x0f, 0x01, 0xe3], Code32), read(3));
    assert_eq!(one(&[0x66, 0x0f, 0x01, 0xe3], Code64), None, "16 bits");
    assert_eq!(one(&[0x0f, 0x01, 0xe3], Code16), None, "16 bits");
    assert_eq!(one(&[0x0f, 0x01, 0x23], Code64), None, "memory");
}

#[test]
fn clts_and_lmsw_of_a_register_are_known() {
    let lmsw = |source| Some(Decoded::Cr(CrAccess::Lmsw(source)));
    let one = |bytes, mode| decoded(bytes, mode).map(|(decoded, _)| decoded);
    for mode in [Code16, Code32, Code64] {
        assert_eq!(one(&[0x0f, 0x06], mode), Some(Decoded::Cr(CrAccess::Clts)));
        assert_eq!(one(&[0x0f, 0x01, 0xf3], mode), lmsw(0x300));
        assert_eq!(one(&[0x66, 0x0f, 0x01, 0xf4], mode), lmsw(0x400), "SP");
    }
    assert_eq!(one(&[0x41, 0x0f, 0x01, 0xf1], Code64), lmsw(0x900));
}

#[test]
fn memory_operands_follow_mode_prefixes_and_segments() {
    let bases = [0, 0, 0x3_0000, 0x4_0000, 0x5_0000, 0x6_0000];
    for (bytes, mode, linear) in [
        // [rbx], [r11], fs:[rbx], [rip + 0x10], [ebx + esi * 4 - 8] and [bx + si].
        (&[0x0f, 0x01, 0x3b][..], Code64, 0x300),
        (&[0x41, 0x0f, 0x01, 0x3b], Code64, 0xb00),
        (&[0x64, 0x0f, 0x01, 0x3b], Code64, 0x5_0300),
        (&[0x0f, 0x01, 0x3d, 0x10, 0, 0, 0], Code64, LINE + 7 + 0x10),
        (&[0x0f, 0x01, 0x7c, 0xb3, 0xf8], Code32, 0x4_0000 + 0x300 + 0x1800 - 8),
        (&[0x0f, 0x01, 0x38], Code16, 0x4_0000 + 0x900),
        (&[0x36, 0x67, 0x0f, 0x01, 0x3c, 0x24], Code16, 0x3_0000 + 0x400),
    ] {
        let (v, mut h) = at(bytes, mode);
        h.bases = bases;
        let fetched = fetch(&v, &mut h);
        let invlpg = Some((Decoded::Invlpg { linear }, bytes.len() as u8));
        assert_eq!(control(&fetched, &v, &mut h), invlpg, "{bytes:x?} {mode:?}");
        // LMSW with the same operand.
        let mut lmsw = bytes.to_vec();
        let modrm = bytes.iter().position(|&byte| byte == 0x01).unwrap() + 1;
        lmsw[modrm] &= !8;
        v.vm.memory.write(LINE, &lmsw).unwrap();
        v.vm.memory.write(linear, &[0x0b, 0xa5]).unwrap();
        let fetched = fetch(&v, &mut h);
        let lmsw = Some((Decoded::Cr(CrAccess::Lmsw(0xa50b)), bytes.len() as u8));
        assert_eq!(control(&fetched, &v, &mut h), lmsw, "{bytes:x?} {mode:?}");
    }
}

#[test]
fn an_operand_that_cannot_be_read_is_not_made_up() {
    // lmsw [rbx]
    let (mut v, mut h) = at(&[0x0f, 0x01, 0x33], Code64);
    v.registers.set(Gpr::Rbx, crate::vm::testing::RAM - 1);
    let fetched = fetch(&v, &mut h);
    assert_eq!(control(&fetched, &v, &mut h), None);
}

#[test]
fn other_instructions_are_none_of_these() {
    for bytes in [
        // SMSW, LGDT, SWAPGS, VMMCALL, MOV to TR, CPUID, a one-byte opcode.
        &[0x66, 0x0f, 0x01, 0xe0][..],
        &[0x0f, 0x01, 0x13],
        &[0x0f, 0x01, 0xf8],
        &[0x0f, 0x01, 0xd9],
        &[0x0f, 0x26, 0xc0],
        &[0x0f, 0xa2],
        &[0x90],
        // LOCK INVLPG.
        &[0xf0, 0x0f, 0x01, 0x3b],
    ] {
        assert_eq!(decoded(bytes, Code64), None, "{bytes:x?}");
    }
    assert_eq!(decoded(&[0x41, 0x0f, 0x22, 0xd8], Code32), None, "INC ECX");
}

#[test]
fn what_goes_on_behind_the_mapped_bytes_is_not_known() {
    let whole = [0x66, 0x0f, 0x01, 0xbb, 1, 2, 3, 4];
    for length in 0..=whole.len() {
        let end = crate::vm::testing::RAM;
        let (v, mut h) = at(&[], Code64);
        let start = end - length as u64;
        v.vm.memory.write(start, &whole[..length]).unwrap();
        h.set(Kept::Rip, start);
        let fetched = fetch(&v, &mut h);
        assert_eq!(fetched.as_slice(), &whole[..length]);
        assert_eq!(control(&fetched, &v, &mut h).is_some(), length == whole.len());
    }
}

#[test]
fn instructions_are_fetched_by_way_of_code_segment_and_paging() {
    for (mode, rip, base, linear) in [
        (Code64, 0x5678, 0x1_0000, 0x5678),
        (Code32, 0x5678, 0x1_0000, 0x1_5678),
        (Code16, 0xfff0, 0x2_0000, 0x2_fff0),
        (Code32, 0x2000, 0xffff_f000, 0x1000),
    ] {
        let (v, mut h) = at(&[], mode);
        h.bases[1] = base;
        h.set(Kept::Rip, rip);
        v.vm.memory.write(linear, b"123456789abcdefgh").unwrap();
        assert_eq!(fetch(&v, &mut h).as_slice(), b"123456789abcdef", "{mode:?}");
        assert_eq!(fetch_in(&v, &mut h, mode, rip), fetch(&v, &mut h));
    }
    let (v, mut h) = at(b"x", Code64);
    h.set(Kept::Cr0, CR0_LONG);
    h.set(Kept::Cr3, 0x3000);
    assert_eq!(fetch(&v, &mut h).as_slice(), [], "nothing is mapped");
}

/// CPUID, RDMSR, WRMSR, RDTSC, RDTSCP, HLT, VMMCALL, XSETBV, INVD, WBINVD, RDPMC, CLTS, PAUSE.
const OPCODES: &[&[u8]] = &[
    CPUID,
    &[0x0f, 0x32],
    &[0x0f, 0x30],
    &[0x0f, 0x31],
    &[0x0f, 0x01, 0xf9],
    &[0xf4],
    &[0x0f, 0x01, 0xd9],
    &[0x0f, 0x01, 0xd1],
    &[0x0f, 0x08],
    &[0x0f, 0x09],
    &[0x0f, 0x33],
    &[0x0f, 0x06],
    &[0x90],
];

/// LOCK is legal for none of these. The last four are REX in 64-bit code.
const PREFIXES: &[u8] =
    &[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3, 0x40, 0x41, 0x48, 0x4c];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn lengths_are_those_of_the_library(
        mut bytes in prop::collection::vec(prop::sample::select(PREFIXES), 0..15),
        opcode in prop::sample::select(OPCODES),
        tail in prop::collection::vec(any::<u8>(), 0..4),
        mode in prop::sample::select(&[(16, Code16), (32, Code32), (64, Code64)][..]),
        cut in 0usize..4,
    ) {
        let (bits, mode) = mode;
        if mode != Code64 {
            bytes.retain(|byte| byte & 0xf0 != 0x40);
        }
        bytes.extend(opcode);
        bytes.extend(tail);
        bytes.truncate(bytes.len().saturating_sub(cut).min(MAX_LENGTH));
        let mut library = Decoder::new(bits, &bytes, DecoderOptions::NONE);
        let instruction = library.decode();
        let expected = match library.last_error() {
            DecoderError::None => {
                let length = instruction.len();
                bytes[..length].ends_with(opcode).then_some(length as u8)
            }
            DecoderError::NoMoreBytes => None,
            // Not with these prefixes: it cannot have exited.
            _ => return Ok(()),
        };
        prop_assert_eq!(length(&bytes, mode, opcode), expected, "{:x?}", bytes);
    }
}
