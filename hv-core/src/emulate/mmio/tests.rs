use proptest::prelude::*;

use super::*;

const BASES: [u64; 6] = [0x1_0000, 0x2_0000, 0x3_0000, 0x4_0000, 0x5_0000, 0x6_0000];

fn registers() -> [u64; 16] {
    core::array::from_fn(|n| (n as u64 + 1).wrapping_mul(0x1111_1111_1111_1111))
}

fn context(mode: Mode, registers: [u64; 16]) -> Context {
    Context { mode, rip: 0x1000, registers, segment_bases: BASES }
}

fn run(mode: Mode, bytes: &[u8]) -> Result<MmioAccess, DecodeError> {
    decode(bytes, &context(mode, registers()))
}

fn in64(bytes: &[u8]) -> MmioAccess {
    run(Mode::Code64, bytes).unwrap()
}

fn write(access: MmioAccess) -> u64 {
    match access.operation {
        Operation::Write(value) => value,
        other => panic!("{other:?}"),
    }
}

/// The register that a load changes, and what it becomes.
fn read(access: MmioAccess, loaded: u64) -> (u8, u64) {
    match access.operation {
        Operation::Read(target) => {
            let old = registers()[usize::from(target.register)];
            (target.register, target.merge(old, loaded))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_moves_of_apic_drivers_are_decoded() {
    // mov dword [0xfee000b0], 0 ; mov [rdi], eax ; mov eax, [rdi + 0x20] ; mov [abs], ecx
    let eoi = in64(&[0xc7, 0x04, 0x25, 0xb0, 0, 0xe0, 0xfe, 0, 0, 0, 0]);
    assert_eq!(eoi.linear, 0xffff_ffff_fee0_00b0, "a 32-bit displacement is sign-extended");
    assert_eq!((eoi.size, eoi.length, write(eoi)), (4, 11, 0));
    let store = in64(&[0x89, 0x07]);
    assert_eq!((store.linear, store.size, store.length), (registers()[7], 4, 2));
    assert_eq!(write(store), 0x1111_1111);
    let load = in64(&[0x8b, 0x47, 0x20]);
    assert_eq!((load.linear, load.size, load.length), (registers()[7] + 0x20, 4, 3));
    assert_eq!(read(load, 0xaabb_ccdd), (0, 0xaabb_ccdd), "a 32-bit load clears the upper half");
    let absolute = run(Mode::Code32, &[0x89, 0x0d, 0xf0, 0, 0xe0, 0xfe]).unwrap();
    assert_eq!((absolute.linear, write(absolute)), (0xfee4_00f0, 0x2222_2222));
}

#[test]
fn stores_take_the_operand_s_bits() {
    for (bytes, size, value) in [
        (&[0x88, 0x07][..], 1, 0x11),
        (&[0x66, 0x89, 0x07], 2, 0x1111),
        (&[0x48, 0x89, 0x07], 8, 0x1111_1111_1111_1111),
        (&[0x44, 0x89, 0x0f], 4, 0xaaaa_aaaa),
        (&[0x88, 0x27], 1, 0x11),
        (&[0x40, 0x88, 0x27], 1, 0x55),
        (&[0xc6, 0x07, 0xfe], 1, 0xfe),
        (&[0x66, 0xc7, 0x07, 0x34, 0x12], 2, 0x1234),
        (&[0xc7, 0x07, 0xff, 0xff, 0xff, 0xff], 4, 0xffff_ffff),
        (&[0x48, 0xc7, 0x07, 0xfe, 0xff, 0xff, 0xff], 8, 0xffff_ffff_ffff_fffe),
        (&[0xa3, 0xf0, 0, 0xe0, 0xfe, 0, 0, 0, 0], 4, 0x1111_1111),
    ] {
        let access = in64(bytes);
        assert_eq!(usize::from(access.length), bytes.len(), "{bytes:x?}");
        assert_eq!((access.size, write(access)), (size, value), "{bytes:x?}");
    }
}

#[test]
fn the_high_bytes_are_bits_15_to_8() {
    let mut registers = registers();
    registers[0] = 0x1234;
    let context = context(Mode::Code64, registers);
    assert_eq!(write(decode(&[0x88, 0x27], &context).unwrap()), 0x12);
    let load = decode(&[0x8a, 0x27], &context).unwrap();
    let Operation::Read(target) = load.operation else { panic!() };
    assert_eq!((target.register, target.merge(0x1234, 0xff)), (0, 0xff34));
}

#[test]
fn loads_extend_as_their_opcode_says() {
    for (bytes, size, loaded, result) in [
        (&[0x8a, 0x07][..], 1, 0x80, 0x1111_1111_1111_1180),
        (&[0x66, 0x8b, 0x07], 2, 0x8000, 0x1111_1111_1111_8000),
        (&[0x48, 0x8b, 0x07], 8, 1 << 63, 1 << 63),
        (&[0x0f, 0xb6, 0x07], 1, 0x80, 0x80),
        (&[0x66, 0x0f, 0xb6, 0x07], 1, 0x80, 0x1111_1111_1111_0080),
        (&[0x48, 0x0f, 0xb7, 0x07], 2, 0x8000, 0x8000),
        (&[0x0f, 0xbe, 0x07], 1, 0x80, 0xffff_ff80),
        (&[0x66, 0x0f, 0xbe, 0x07], 1, 0x80, 0x1111_1111_1111_ff80),
        (&[0x48, 0x0f, 0xbe, 0x07], 1, 0x7f, 0x7f),
        (&[0x48, 0x0f, 0xbf, 0x07], 2, 0x8000, 0xffff_ffff_ffff_8000),
        (&[0x48, 0x63, 0x07], 4, 0x8000_0000, 0xffff_ffff_8000_0000),
        (&[0x63, 0x07], 4, 0x8000_0000, 0x8000_0000),
        (&[0xa1, 0, 0, 0xe0, 0xfe, 0, 0, 0, 0], 4, 5, 5),
    ] {
        let access = in64(bytes);
        assert_eq!(access.size, size, "{bytes:x?}");
        // Bits beyond the access are not the register's.
        assert_eq!(read(access, loaded | !ones(size)), (0, result), "{bytes:x?}");
    }
}

#[test]
fn addresses_follow_mode_prefixes_and_segments() {
    let r = registers();
    for (bytes, linear) in [
        (&[0x89, 0x04, 0x9e][..], r[6].wrapping_add(r[3] << 2)),
        (&[0x43, 0x89, 0x44, 0x91, 0x10], r[9].wrapping_add(r[10] << 2).wrapping_add(0x10)),
        (&[0x43, 0x89, 0x04, 0x21], r[9].wrapping_add(r[12])),
        (&[0x89, 0x04, 0x26], r[6]),
        (&[0x89, 0x45, 0xf0], r[5].wrapping_sub(0x10)),
        (&[0x89, 0x05, 0x10, 0, 0, 0], 0x1000 + 6 + 0x10),
        (&[0x67, 0x89, 0x07], r[7] & 0xffff_ffff),
        (&[0x64, 0x89, 0x07], r[7].wrapping_add(BASES[4])),
        (&[0x65, 0x89, 0x07], r[7].wrapping_add(BASES[5])),
        (&[0x2e, 0x89, 0x07], r[7]),
        (&[0x36, 0x89, 0x07], r[7]),
    ] {
        assert_eq!(in64(bytes).linear, linear, "{bytes:x?}");
    }
    let in32 = |bytes| run(Mode::Code32, bytes).unwrap().linear;
    let (edi, ebp) = (r[7] & 0xffff_ffff, r[5] & 0xffff_ffff);
    assert_eq!(in32(&[0x89, 0x07]), edi + BASES[3]);
    assert_eq!(in32(&[0x89, 0x45, 0]), ebp + BASES[2], "EBP implies the stack segment");
    assert_eq!(in32(&[0x26, 0x89, 0x07]), edi + BASES[0]);
    assert_eq!(in32(&[0xa3, 0xff, 0xff, 0xff, 0xff]), 0x3_ffff, "wraps at 4 GiB");
    let in16 = |bytes| run(Mode::Code16, bytes).unwrap().linear;
    assert_eq!(in16(&[0x89, 0x00]), ((r[3] + r[6]) & 0xffff) + BASES[3], "BX + SI wraps at 64 KiB");
    assert_eq!(in16(&[0x89, 0x42, 0x10]), ((r[5] + r[6] + 0x10) & 0xffff) + BASES[2]);
    assert_eq!(in16(&[0x67, 0x66, 0x89, 0x07]), edi + BASES[3]);
}

#[test]
fn only_the_instruction_itself_is_asked_for() {
    let whole = [0x67, 0x48, 0xc7, 0x84, 0x9e, 1, 0, 0, 0, 2, 0, 0, 0];
    for length in 0..whole.len() {
        assert_eq!(run(Mode::Code64, &whole[..length]), Err(DecodeError::NeedBytes));
    }
    assert_eq!(in64(&whole).length, 13);
    assert_eq!(in64(&[&whole[..], &[0xcc; 40]].concat()), in64(&whole));
}

#[test]
fn other_instructions_are_named() {
    for (bytes, code) in [
        (&[0x01, 0x07][..], Code::Add_rm32_r32),
        (&[0x87, 0x07], Code::Xchg_rm32_r32),
        (&[0xf0, 0x0f, 0xb1, 0x07], Code::Cmpxchg_rm32_r32),
        (&[0xa5], Code::Movsd_m32_m32),
        (&[0xff, 0x37], Code::Push_rm64),
        (&[0x8e, 0x07], Code::Mov_Sreg_r32m16),
        (&[0x0f, 0x6f, 0x07], Code::Movq_mm_mmm64),
        (&[0x89, 0xc0], Code::Mov_rm32_r32),
        (&[0xb8, 0, 0, 0, 0], Code::Mov_r32_imm32),
        (&[0x90], Code::Nopd),
    ] {
        let unsupported = Err(DecodeError::Unsupported(code as u16));
        assert_eq!(run(Mode::Code64, bytes), unsupported, "{bytes:x?}");
    }
}

#[test]
fn what_is_no_instruction_is_invalid() {
    for bytes in [
        // LOCK MOV; PUSH ES in 64-bit code; C7 /1; prefixes without end.
        &[0xf0, 0x89, 0x07][..],
        &[0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xc7, 0x0f, 0, 0, 0, 0],
        &[0x66; 15],
        &[0x2e; 40],
    ] {
        assert_eq!(run(Mode::Code64, bytes), Err(DecodeError::Invalid), "{bytes:x?}");
    }
}

fn mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(&[Mode::Code16, Mode::Code32, Mode::Code64])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// No bytes can hurt; an access that is decoded needs all of its bytes and no more.
    #[test]
    fn any_bytes_give_an_answer(
        prefix in prop::collection::vec(prop::sample::select(
            &[0x66u8, 0x67, 0x2e, 0x64, 0x65, 0xf0, 0xf2, 0xf3, 0x48, 0x41, 0x0f][..]), 0..4),
        opcode in prop::sample::select(
            &[0x88u8, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xc6, 0xc7, 0xb6, 0xbf, 0x63][..]),
        tail in prop::collection::vec(any::<u8>(), 0..16),
        mode in mode(),
        plain: bool,
    ) {
        let bytes = if plain { tail } else { [prefix, std::vec![opcode], tail].concat() };
        let answer = run(mode, &bytes);
        if bytes.len() >= MAX_LENGTH {
            prop_assert_ne!(answer, Err(DecodeError::NeedBytes));
        }
        if let Ok(access) = answer {
            let length = usize::from(access.length);
            prop_assert!((1..=MAX_LENGTH.min(bytes.len())).contains(&length));
            prop_assert!([1, 2, 4, 8].contains(&access.size));
            prop_assert_eq!(run(mode, &bytes[..length]), Ok(access));
            prop_assert_eq!(run(mode, &bytes[..length - 1]), Err(DecodeError::NeedBytes));
            if let Operation::Write(value) = access.operation {
                prop_assert_eq!(value & !ones(access.size), 0);
            }
            if mode != Mode::Code64 {
                prop_assert!(access.linear < 1 << 32);
            }
        }
    }
}
