use super::*;
use Mode::{Code16, Code32, Code64};

/// RBX points to the value; the bytes around it must stay.
fn with(mode: Mode, value: u64) -> Plain {
    let mut machine = plain(mode);
    machine.registers[3] = AT + 0x100;
    machine.memory[0x100..0x108].copy_from_slice(&value.to_le_bytes());
    machine
}

fn value(machine: &Plain) -> u64 {
    u64::from_le_bytes(machine.memory[0x100..0x108].try_into().unwrap())
}

const REST: u64 = 0x1122_3344_5566_7788;

#[test]
fn moves_change_as_many_bytes_as_their_operand_has() {
    for (code, result) in [
        (&[0x88, 0x03][..], 0x1122_3344_5566_77ef),
        (&[0x88, 0x23], 0x1122_3344_5566_77be),
        (&[0x40, 0x88, 0x23], 0x1122_3344_5566_7704),
        (&[0x66, 0x89, 0x03], 0x1122_3344_5566_beef),
        (&[0x89, 0x03], 0x1122_3344_dead_beef),
        (&[0x48, 0x89, 0x03], 0x0123_4567_dead_beef),
        (&[0x0f, 0xc3, 0x03], 0x1122_3344_dead_beef),
        (&[0x48, 0x0f, 0xc3, 0x03], 0x0123_4567_dead_beef),
        (&[0xc6, 0x03, 0xfe], 0x1122_3344_5566_77fe),
        (&[0x66, 0xc7, 0x03, 0x34, 0x12], 0x1122_3344_5566_1234),
        (&[0x48, 0xc7, 0x03, 0xfe, 0xff, 0xff, 0xff], 0xffff_ffff_ffff_fffe),
        (&[0x0f, 0x38, 0xf1, 0x03], 0x1122_3344_efbe_adde),
        (&[0x66, 0x0f, 0x38, 0xf1, 0x03], 0x1122_3344_5566_efbe),
        // MOV of DS, which is 16 bits in memory.
        (&[0x48, 0x8c, 0x1b], 0x1122_3344_5566_0008),
    ] {
        let mut machine = with(Code64, REST);
        machine.registers[0] = 0x0123_4567_dead_beef;
        machine.registers[4] = 4;
        assert_eq!(machine.run(code, 1), Ok(Done::Complete));
        assert_eq!(value(&machine), result, "{code:x?}");
        assert_eq!(machine.flags, 2);
    }
}

#[test]
fn loads_extend_as_their_opcode_says() {
    for (code, result) in [
        (&[0x8a, 0x03][..], 0xffff_ffff_ffff_ff88),
        (&[0x8a, 0x23], 0xffff_ffff_ffff_88ff),
        (&[0x66, 0x8b, 0x03], 0xffff_ffff_ffff_f788),
        (&[0x8b, 0x03], 0x8566_f788),
        (&[0x48, 0x8b, 0x03], 0x1122_3344_8566_f788),
        (&[0x0f, 0xb6, 0x03], 0x88),
        (&[0x66, 0x0f, 0xb6, 0x03], 0xffff_ffff_ffff_0088),
        (&[0x48, 0x0f, 0xb7, 0x03], 0xf788),
        (&[0x0f, 0xbe, 0x03], 0xffff_ff88),
        (&[0x66, 0x0f, 0xbe, 0x03], 0xffff_ffff_ffff_ff88),
        (&[0x48, 0x0f, 0xbf, 0x03], 0xffff_ffff_ffff_f788),
        (&[0x48, 0x63, 0x03], 0xffff_ffff_8566_f788),
        (&[0x63, 0x03], 0x8566_f788),
        (&[0x0f, 0x38, 0xf0, 0x03], 0x88f7_6685),
        (&[0x66, 0x0f, 0x38, 0xf0, 0x03], 0xffff_ffff_ffff_88f7),
    ] {
        let mut machine = with(Code64, 0x1122_3344_8566_f788);
        machine.registers[0] = u64::MAX;
        assert_eq!(machine.run(code, 1), Ok(Done::Complete));
        assert_eq!(machine.registers[0], result, "{code:x?}");
        assert_eq!(value(&machine), 0x1122_3344_8566_f788);
    }
}

#[test]
fn addresses_are_as_wide_as_the_mode_and_the_prefix_say() {
    for (mode, code, at) in [
        // [bx + si], [bp + di + 2], [0x4010], and the wrap at 64 KiB.
        (Code16, &[0x8a, 0x00][..], 0x4001),
        (Code16, &[0x8a, 0x43, 0x02], 0x4030 + 0x200 + 2),
        (Code16, &[0xa0, 0x10, 0x40], 0x4010),
        (Code16, &[0x67, 0x8a, 0x01], 0x4050),
        (Code32, &[0x67, 0x8a, 0x00], 0x4001),
        (Code32, &[0x8a, 0x44, 0x91, 0x04], 0x4050 + 0x300 * 4 + 4),
        (Code32, &[0xa0, 0x10, 0x40, 0, 0], 0x4010),
        (Code64, &[0x67, 0x8a, 0x01], 0x4050),
        (Code64, &[0x8a, 0x05, 0x10, 0x30, 0, 0], 0x1006 + 0x3010),
        (Code64, &[0x67, 0x8a, 0x05, 0x10, 0x30, 0, 0], 0x1007 + 0x3010),
        (Code64, &[0x8a, 0x04, 0x25, 0x10, 0x40, 0, 0], 0x4010),
        (Code64, &[0xa0, 0x10, 0x40, 0, 0, 0, 0, 0, 0], 0x4010),
    ] {
        let mut machine = plain(mode);
        let upper = if mode == Code64 && code[0] != 0x67 { 0 } else { 0xabcd << 48 };
        machine.registers =
            [0, 0x4050, 0x300, 0xf000, 0, 0x4030, 0x5001, 0x200, 0, 0, 0, 0, 0, 0, 0, 0]
                .map(|value| value | upper);
        machine.memory[(at - AT) as usize] = 0x77;
        assert_eq!(machine.run(code, 1), Ok(Done::Complete), "{mode:?} {code:x?}");
        assert_eq!(machine.registers[0] as u8, 0x77, "{mode:?} {code:x?}");
    }
}

#[test]
fn segments_add_their_bases() {
    for (mode, prefix, number) in
        [(Code32, 0x26, 0), (Code32, 0x2e, 1), (Code32, 0x64, 4), (Code64, 0x65, 5)]
    {
        let mut machine = plain(mode);
        for (number, segment) in machine.segments.iter_mut().enumerate() {
            segment.base = 0x4000 + 0x100 * number as u64;
        }
        machine.memory[0x100 * number + 7] = 0x77;
        machine.registers[3] = 7;
        assert_eq!(machine.run(&[prefix, 0x8a, 0x03], 1), Ok(Done::Complete));
        assert_eq!(machine.registers[0], 0x77, "{prefix:x}");
    }
    // The base of DS does not count in 64-bit code, and sums wrap at 4 GiB elsewhere.
    let mut machine = with(Code64, 0x77);
    machine.segments[3].base = 0x100;
    machine.run(&[0x8a, 0x03], 1).unwrap();
    let mut wrapping = with(Code32, 0x77);
    wrapping.segments[3].base = 0xffff_0000;
    wrapping.registers[3] += 0x1_0000;
    wrapping.run(&[0x8a, 0x03], 1).unwrap();
    assert_eq!([machine.registers[0], wrapping.registers[0]], [0x77; 2]);
}

#[test]
fn changes_are_in_one_step_where_the_cpu_locks() {
    // lock add [rbx], eax; xchg; add; lock cmpxchg; lock bts; lock xadd; lock cmpxchg8b.
    for (code, replaced) in [
        (&[0xf0, 0x01, 0x03][..], 1),
        (&[0x87, 0x03], 1),
        (&[0x86, 0x03], 1),
        (&[0x01, 0x03], 0),
        (&[0xf0, 0x0f, 0xb1, 0x03], 1),
        (&[0x0f, 0xb1, 0x03], 0),
        (&[0xf0, 0x0f, 0xab, 0x03], 1),
        (&[0xf0, 0x0f, 0xc1, 0x03], 1),
        (&[0xf0, 0x0f, 0xc7, 0x0b], 1),
        (&[0xf0, 0xff, 0x03], 1),
    ] {
        let mut machine = with(Code64, 5);
        assert_eq!(machine.run(code, 1), Ok(Done::Complete));
        assert_eq!(machine.counts, [1, 1 - replaced, replaced], "{code:x?}");
    }
}

#[test]
fn a_locked_change_takes_what_others_have_written() {
    let mut machine = with(Code64, 5);
    (machine.contended, machine.registers[0]) = (3, 1);
    assert_eq!(machine.run(&[0xf0, 0x01, 0x03], 1), Ok(Done::Complete));
    assert_eq!(value(&machine), 0x86, "5, with bit 7 changed three times, and 1");
    // There is an end to it.
    (machine.contended, machine.flags) = (u32::MAX, 2);
    assert_eq!(machine.run(&[0xf0, 0x01, 0x03], 1), Err(Stop::Again));
    assert_eq!((machine.registers[0], machine.flags), (1, 2));
}

#[test]
fn the_stack_is_as_wide_as_its_segment_says() {
    const SMALL: u32 = 0x93;
    for (mode, rights, code, size, result) in [
        (Code64, 0, &[0xff, 0x33][..], 8, 0x4ff8),
        (Code64, 0, &[0x66, 0xff, 0x33], 2, 0x4ffe),
        (Code32, 0xc093, &[0xff, 0x33], 4, 0x4ffc),
        (Code32, 0xc093, &[0x66, 0xff, 0x33], 2, 0x4ffe),
        (Code32, SMALL, &[0xff, 0x33], 4, 0xabcd_4ffc),
        (Code16, SMALL, &[0xff, 0x37], 2, 0xabcd_4ffe),
        (Code16, SMALL, &[0x66, 0xff, 0x37], 4, 0xabcd_4ffc),
    ] {
        let mut machine = with(mode, REST);
        machine.segments[2].rights = rights;
        let upper = if rights == SMALL { 0xabcd_0000 } else { 0 };
        machine.registers[4] = 0x5000 | upper;
        machine.registers[7] = 0;
        assert_eq!(machine.run(code, 1), Ok(Done::Complete));
        assert_eq!(machine.registers[4], result, "{mode:?} {code:x?}");
        let at = (result as u16 as u64 - AT) as usize;
        assert_eq!(machine.memory[at..0x1000], REST.to_le_bytes()[..size]);
        // And back.
        let mut back = code.to_vec();
        let opcode = back.iter().position(|&byte| byte == 0xff).unwrap();
        (back[opcode], back[opcode + 1]) = (0x8f, back[opcode + 1] & 7);
        machine.memory[0x100..0x108].fill(0);
        assert_eq!(machine.run(&back, 1), Ok(Done::Complete));
        assert_eq!(machine.registers[4], 0x5000 | upper);
        assert_eq!(machine.memory[0x100..0x100 + size], REST.to_le_bytes()[..size]);
    }
}

#[test]
fn real_mode_loads_segments_without_looking() {
    let mut machine = with(Code16, 0x1234);
    machine.protected = false;
    machine.registers[7] = 0;
    machine.segments[0].limit = 0xffff;
    assert_eq!(machine.run(&[0x8e, 0x07], 1), Ok(Done::Complete));
    let expected = Segment { selector: 0x1234, base: 0x1_2340, limit: 0xffff, rights: 0xc093 };
    assert_eq!(machine.loaded, [(0, expected)]);
}

#[test]
fn segments_are_loaded_from_their_descriptors() {
    let mut machine = with(Code32, 0x18);
    machine.gdt = (AT, 0x1f);
    // Writable data from 0x12345678, pages, not accessed yet.
    machine.memory[0x18..0x20].copy_from_slice(&0x12cf_9234_5678_ffffu64.to_le_bytes());
    assert_eq!(machine.run(&[0x8e, 0x03], 1), Ok(Done::Complete));
    let rights = 0xc093;
    let expected = Segment { selector: 0x18, base: 0x1234_5678, limit: u32::MAX, rights };
    assert_eq!(machine.loaded, [(0, expected)]);
    assert_eq!(machine.memory[0x1d], 0x93, "marked as accessed");
    // SS holds off interrupts.
    assert_eq!(machine.run(&[0x8e, 0x13], 1), Ok(Done::Shadowed));
    // From the LDT; marked already, so nothing is written.
    machine.segments[6] = Segment { selector: 8, base: AT, limit: 0x1f, rights: 0x82 };
    machine.memory[0x100] = 0x1c;
    machine.read_only = AT..AT + 0x100;
    assert_eq!(machine.run(&[0x8e, 0x23], 1), Ok(Done::Complete));
    assert_eq!(machine.loaded[2], (4, Segment { selector: 0x1c, ..expected }));
    // Null.
    machine.memory[0x100] = 0x3;
    assert_eq!(machine.run(&[0x8e, 0x03], 1), Ok(Done::Complete));
    assert_eq!(machine.loaded[3].1.rights, 1 << 16);
}

#[test]
fn a_null_stack_is_for_64_bit_code_of_the_kernel() {
    let gp = Err(Stop::Fault(Event::exception(13, 0)));
    for (mode, privilege, selector, result) in [
        (Code64, 0, 0, Ok(Done::Shadowed)),
        (Code64, 1, 1, Ok(Done::Shadowed)),
        (Code64, 0, 1, gp),
        (Code64, 3, 3, gp),
        (Code32, 0, 0, gp),
    ] {
        let mut machine = with(mode, selector);
        machine.privilege = privilege;
        assert_eq!(machine.run(&[0x8e, 0x13], 1), result, "{mode:?} {privilege} {selector}");
        let rights = u32::from(privilege) << 5 | 1 << 16;
        assert_eq!(machine.loaded.iter().any(|(_, s)| s.rights == rights), result.is_ok());
    }
}

#[test]
fn other_instructions_are_refused() {
    for code in [
        // MOVUPS, MOVDQA, FLD, CALL, IMUL, SHL, LEA, CMPXCHG16B, MOV between registers is none of them.
        &[0x0f, 0x11, 0x03][..],
        &[0x66, 0x0f, 0x6f, 0x03],
        &[0xd9, 0x03],
        &[0xff, 0x13],
        &[0xf7, 0x2b],
        &[0xd1, 0x23],
        &[0x8d, 0x03],
        &[0x48, 0x0f, 0xc7, 0x0b],
    ] {
        let mut machine = with(Code64, 1);
        let before = machine.all();
        assert_eq!(machine.run(code, 1), Err(Stop::Unsupported), "{code:x?}");
        assert_eq!(machine.all(), before);
    }
}
