use iced_x86::Code;
use proptest::prelude::*;

use super::*;
use Mode::{Code16, Code32, Code64};

#[test]
fn only_the_instruction_itself_is_asked_for() {
    let whole = [0x67, 0x48, 0xc7, 0x84, 0x9e, 1, 0, 0, 0, 2, 0, 0, 0];
    for length in 0..whole.len() {
        assert_eq!(decode(&whole[..length], Code64, 0), Err(DecodeError::NeedBytes));
    }
    let instruction = decode(&whole, Code64, 0).unwrap();
    assert_eq!(instruction.len(), 13);
    assert_eq!(decode(&[&whole[..], &[0xcc; 40]].concat(), Code64, 0), Ok(instruction));
}

#[test]
fn what_is_no_instruction_is_invalid() {
    for bytes in [
        // LOCK MOV; PUSH ES in 64-bit code; C7 /1; FF /7; prefixes without end.
        &[0xf0, 0x89, 0x07][..],
        &[0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xc7, 0x0f, 0, 0, 0, 0],
        &[0xff; 2],
        &[0x66; 15],
        &[0x2e; 40],
    ] {
        assert_eq!(decode(bytes, Code64, 0), Err(DecodeError::Invalid), "{bytes:x?}");
    }
}

#[test]
fn the_mode_decides_what_bytes_mean() {
    let code = |mode| decode(&[0x48, 0x89, 0x07], mode, 0).map(|i| (i.code(), i.len()));
    assert_eq!(code(Code16), Ok((Code::Dec_r16, 1)));
    assert_eq!(code(Code32), Ok((Code::Dec_r32, 1)));
    assert_eq!(code(Code64), Ok((Code::Mov_rm64_r64, 3)));
}

#[test]
fn parts_of_registers_are_where_the_manual_has_them() {
    let whole = 0x8877_6655_4433_2211;
    for (register, number, value, set) in [
        (Register::AL, 0, 0x11, 0x8877_6655_4433_22ff),
        (Register::BH, 3, 0x22, 0x8877_6655_4433_ff11),
        (Register::SPL, 4, 0x11, 0x8877_6655_4433_22ff),
        (Register::R15L, 15, 0x11, 0x8877_6655_4433_22ff),
        (Register::DI, 7, 0x2211, 0x8877_6655_4433_ffff),
        (Register::R8D, 8, 0x4433_2211, 0xffff_ffff),
        (Register::RSI, 6, whole, u64::MAX),
    ] {
        let part = Part::of(register).unwrap();
        assert_eq!((part.number, part.get(whole)), (number, value), "{register:?}");
        assert_eq!(part.set(whole, u64::MAX), set, "{register:?}");
    }
    for register in [Register::None, Register::ES, Register::XMM0, Register::RIP, Register::CR0] {
        assert_eq!(Part::of(register), None, "{register:?}");
    }
}

#[test]
fn signs_are_extended_from_their_size() {
    assert_eq!(signed(0x17f, 1), 0x7f);
    assert_eq!(signed(0x80, 1), 0xffff_ffff_ffff_ff80);
    assert_eq!(signed(0x8000, 2), 0xffff_ffff_ffff_8000);
    assert_eq!(signed(0x8000_0000, 4), 0xffff_ffff_8000_0000);
    assert_eq!(signed(1 << 63, 8), 1 << 63);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// No bytes can hurt; an instruction needs all of its bytes and no more.
    #[test]
    fn any_bytes_give_an_answer(
        bytes in prop::collection::vec(any::<u8>(), 0..20),
        mode in prop::sample::select(&[Code16, Code32, Code64]),
    ) {
        let answer = decode(&bytes, mode, 0x1000);
        if bytes.len() >= MAX_LENGTH {
            prop_assert_ne!(answer, Err(DecodeError::NeedBytes));
        }
        if let Ok(instruction) = answer {
            let length = instruction.len();
            prop_assert!((1..=MAX_LENGTH.min(bytes.len())).contains(&length));
            prop_assert_eq!(decode(&bytes[..length], mode, 0x1000), Ok(instruction));
            prop_assert_eq!(decode(&bytes[..length - 1], mode, 0x1000), Err(DecodeError::NeedBytes));
        }
    }
}
