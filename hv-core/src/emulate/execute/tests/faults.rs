use super::*;
use Mode::{Code16, Code32, Code64};

const GP: Result<Done, Stop> = Err(Stop::Fault(Event::exception(13, 0)));
const SS: Result<Done, Stop> = Err(Stop::Fault(Event::exception(12, 0)));
const OK: Result<Done, Stop> = Ok(Done::Complete);

const DATA: u32 = 0xc093;
const READ_ONLY: u32 = 0xc091;
const DOWN: u32 = 0xc097;
const DOWN_16: u32 = 0x0097;
const CODE: u32 = 0xc09b;
const EXECUTE_ONLY: u32 = 0xc099;
const UNUSABLE: u32 = 1 << 16;

/// mov eax, [ebx] and mov [ebx], eax.
const LOAD: &[u8] = &[0x8b, 0x03];
const STORE: &[u8] = &[0x89, 0x03];
/// The same with SS.
const STACK_LOAD: &[u8] = &[0x36, 0x8b, 0x03];

fn in_segment(rights: u32, limit: u32, offset: u64, code: &[u8]) -> Result<Done, Stop> {
    let mut machine = plain(Code32);
    let base = AT.wrapping_sub(offset) & 0xffff_ffff;
    let segment = Segment { selector: 8, rights, limit, base };
    (machine.segments[2], machine.segments[3], machine.registers[3]) = (segment, segment, offset);
    let before = machine.all();
    let result = machine.run(code, 1);
    assert!(result == OK || machine.all() == before, "a fault changes nothing");
    result
}

#[test]
fn an_access_must_be_inside_the_limit_of_its_segment() {
    for (rights, limit, offset, result) in [
        (DATA, 0xfff, 0xffc, OK),
        (DATA, 0xfff, 0xffd, GP),
        (DATA, 0xfff, 0x1000, GP),
        (DATA, 2, 0, GP),
        (DATA, 3, 0, OK),
        (DATA, u32::MAX, 0xffff_fffc, OK),
        // The limit is the last byte outside of a segment that expands down.
        (DOWN, 0xfff, 0xfff, GP),
        (DOWN, 0xfff, 0x1000, OK),
        (DOWN, 0xfff, 0xffff_fffc, OK),
        (DOWN, 0xfff, 0xffff_fffd, GP),
        (DOWN_16, 0xfff, 0xfffc, OK),
        (DOWN_16, 0xfff, 0xfffd, GP),
    ] {
        let what = std::format!("{rights:x} {limit:x} {offset:x}");
        assert_eq!(in_segment(rights, limit, offset, LOAD), result, "{what}");
        assert_eq!(in_segment(rights, limit, offset, STORE), result, "{what}");
        let stack = if result == OK { OK } else { SS };
        assert_eq!(in_segment(rights, limit, offset, STACK_LOAD), stack, "{what}");
    }
}

#[test]
fn the_type_of_a_segment_says_what_may_be_done() {
    for (rights, load, store) in [
        (DATA, OK, OK),
        (READ_ONLY, OK, GP),
        (CODE, OK, GP),
        (EXECUTE_ONLY, GP, GP),
        (UNUSABLE, GP, GP),
    ] {
        assert_eq!(in_segment(rights, u32::MAX, 0, LOAD), load, "{rights:x}");
        assert_eq!(in_segment(rights, u32::MAX, 0, STORE), store, "{rights:x}");
        // Reading for a change is a write.
        assert_eq!(in_segment(rights, u32::MAX, 0, &[0x01, 0x03]), store, "{rights:x}");
        assert_eq!(in_segment(rights, u32::MAX, 0, &[0x39, 0x03]), load, "{rights:x}");
    }
    // Real mode asks for the limit alone.
    for (offset, result) in [(0xfffe, OK), (0xffff, GP)] {
        let mut machine = plain(Code16);
        machine.protected = false;
        let base = AT.wrapping_sub(offset) & 0xffff_ffff;
        machine.segments[1] = Segment { selector: 0, rights: CODE, limit: 0xffff, base };
        machine.registers[7] = offset;
        assert_eq!(machine.run(&[0x2e, 0x89, 0x05], 1), result);
    }
}

#[test]
fn addresses_of_64_bits_must_be_canonical() {
    const END: u64 = 1 << 47;
    for (address, data, stack) in [
        (END, GP, SS),
        (END - 4, GP, SS),
        (0x8000_0000_0000_0000, GP, SS),
        (0xffff_7fff_ffff_ffff, GP, SS),
    ] {
        let mut machine = plain(Code64);
        (machine.registers[3], machine.registers[5]) = (address, address);
        assert_eq!(machine.run(&[0x48, 0x8b, 0x03], 1), data, "{address:x}");
        assert_eq!(machine.run(&[0x48, 0x8b, 0x45, 0x00], 1), stack, "{address:x}");
        machine.registers[4] = address + 8;
        machine.registers[3] = AT;
        assert_eq!(machine.run(&[0xff, 0x33], 1), stack, "push, {address:x}");
        assert_eq!(machine.registers[4], address + 8);
    }
    // Overrides are ignored but for FS and GS: ss:[rbx], ds:[rbp], fs:[rbp].
    let mut machine = plain(Code64);
    (machine.registers[3], machine.registers[5]) = (END, END);
    for (code, result) in [
        (&[0x36, 0x8b, 0x03][..], GP),
        (&[0x3e, 0x8b, 0x45, 0x00], SS),
        (&[0x64, 0x8b, 0x45, 0x00], GP),
        (&[0x67, 0x8b, 0x45, 0x00], Err(Stop::Fault(Event::exception(14, 0)))),
    ] {
        assert_eq!(machine.run(code, 1), result, "{code:x?}");
    }
    // The base of FS is part of the address.
    let mut machine = plain(Code64);
    (machine.segments[4].base, machine.registers[3]) = (END - 1, 1);
    assert_eq!(machine.run(&[0x64, 0x8a, 0x03], 1), GP);
}

#[test]
fn unaligned_accesses_of_users_fault_if_they_asked_for_it() {
    const AC: Result<Done, Stop> = Err(Stop::Fault(Event::exception(17, 0)));
    const RFLAGS_AC: u64 = 1 << 18;
    for (privilege, enabled, flags, at, result) in [
        (3, true, RFLAGS_AC, AT + 2, AC),
        (3, true, RFLAGS_AC, AT + 4, OK),
        (0, true, RFLAGS_AC, AT + 2, OK),
        (3, false, RFLAGS_AC, AT + 2, OK),
        (3, true, 0, AT + 2, OK),
    ] {
        let mut machine = plain(Code64);
        (machine.privilege, machine.alignment) = (privilege, enabled);
        (machine.flags, machine.registers[3]) = (2 | flags, at);
        assert_eq!(machine.run(LOAD, 1), result);
    }
}

#[test]
fn a_fault_in_the_second_half_changes_nothing() {
    // Everything that writes: mov, add, xchg, lock xadd, cmpxchg8b, pop, bts.
    for code in [
        &[0x48, 0x89, 0x03][..],
        &[0x48, 0x01, 0x03],
        &[0x48, 0x87, 0x03],
        &[0xf0, 0x48, 0x0f, 0xc1, 0x03],
        &[0x0f, 0xc7, 0x0b],
        &[0x8f, 0x03],
        &[0x48, 0x0f, 0xab, 0x03],
        &[0x48, 0xff, 0x03],
    ] {
        let mut machine = plain(Code64);
        machine.registers[3] = AT + 0xffc;
        machine.registers[4] = AT;
        machine.read_only = AT + 0x1000..AT + 0x2000;
        let before = machine.all();
        let fault = Err(Stop::Fault(Event::exception(14, 3)));
        assert_eq!(machine.run(code, 1), fault, "{code:x?}");
        assert_eq!(machine.all(), before, "{code:x?}");
        assert_eq!(machine.counts, [0; 3], "{code:x?}: a device would notice");
    }
}

#[test]
fn bit_offsets_reach_before_and_behind_their_operand() {
    for (code, offset, byte, bit) in [
        // bts [rbx], eax: bits -1, 31, 32 and 1000; 16 and 64 bits.
        (&[0x0f, 0xab, 0x03][..], u64::MAX, 0x100 - 4 + 3, 7),
        (&[0x0f, 0xab, 0x03], 31, 0x103, 7),
        (&[0x0f, 0xab, 0x03], 32, 0x104, 0),
        (&[0x0f, 0xab, 0x03], 1000, 0x100 + 125, 0),
        (&[0x66, 0x0f, 0xab, 0x03], 0xffff, 0x100 - 2 + 1, 7),
        (&[0x48, 0x0f, 0xab, 0x03], 1000, 0x100 + 125, 0),
        // The immediate stays within.
        (&[0x0f, 0xba, 0x2b, 0xff], 0, 0x103, 7),
    ] {
        let mut machine = plain(Code64);
        machine.memory.fill(0);
        (machine.registers[0], machine.registers[3]) = (offset, AT + 0x100);
        assert_eq!(machine.run(code, 1), OK);
        let changed: Vec<_> = (0..0x2000)
            .filter(|&at| machine.memory[at] != 0)
            .map(|at| (at, machine.memory[at]))
            .collect();
        assert_eq!(changed, [(byte, 1 << bit)], "{code:x?}");
        assert_eq!(machine.flags & 1, 0);
        assert_eq!(machine.run(code, 1), OK);
        assert_eq!(machine.flags & 1, 1, "it was set");
    }
    // BT reads only.
    let mut machine = plain(Code64);
    (machine.registers[3], machine.read_only) = (AT, AT..AT + 0x2000);
    assert_eq!(machine.run(&[0x0f, 0xa3, 0x03], 1), OK);
}

#[test]
fn descriptors_must_fit_the_segment_register() {
    const PRESENT: u64 = 0x80;
    let gp = Err(Stop::Fault(Event::exception(13, 8)));
    let np = Err(Stop::Fault(Event::exception(11, 8)));
    let ss = Err(Stop::Fault(Event::exception(12, 8)));
    const SHADOWED: Result<Done, Stop> = Ok(Done::Shadowed);
    for (kind, dpl, privilege, rpl, data, stack) in [
        (0x13, 0, 0, 0, OK, SHADOWED),
        (0x11, 0, 0, 0, OK, gp),
        (0x1b, 0, 0, 0, OK, gp),
        (0x19, 0, 0, 0, gp, gp),
        (0x17, 0, 0, 0, OK, SHADOWED),
        (0x0b, 0, 0, 0, gp, gp),
        (0x13, 3, 3, 3, OK, SHADOWED),
        (0x13, 0, 3, 3, gp, gp),
        (0x13, 0, 0, 3, gp, gp),
        (0x13, 3, 0, 0, OK, gp),
        // Conforming code may be read from everywhere.
        (0x1f, 0, 3, 3, OK, gp),
        (0x1b, 0, 3, 3, gp, gp),
    ] {
        for (present, data, stack) in [
            (PRESENT, data, stack),
            (0, if data == OK { np } else { data }, if stack == SHADOWED { ss } else { stack }),
        ] {
            for (code, result) in [(&[0x8e, 0x1b], data), (&[0x8e, 0x13], stack)] {
                let mut machine = plain(Code32);
                machine.gdt = (AT, 15);
                let byte = kind | dpl << 5 | present;
                machine.memory[8..16].copy_from_slice(&(byte << 40 | 0xffff).to_le_bytes());
                machine.memory[0x100..0x102].copy_from_slice(&[8 | rpl, 0]);
                machine.registers[3] = AT + 0x100;
                machine.privilege = privilege;
                let before = machine.all();
                assert_eq!(machine.run(code, 1), result, "{byte:x} {privilege} {rpl} {code:x?}");
                assert!(result.is_ok() || machine.all() == before);
            }
        }
    }
    // Outside of the table, and in an LDT that is none.
    for (selector, limit) in [(0x10, 0x16), (0x14, 0xff)] {
        let mut machine = plain(Code32);
        machine.gdt = (AT, limit);
        machine.segments[6].rights = UNUSABLE;
        machine.memory[0x100..0x102].copy_from_slice(&[selector, 0]);
        machine.registers[3] = AT + 0x100;
        let gp = Err(Stop::Fault(Event::exception(13, selector.into())));
        assert_eq!(machine.run(&[0x8e, 0x1b], 1), gp, "{selector:x}");
    }
}

#[test]
fn a_pop_that_faults_leaves_the_stack_pointer() {
    let mut machine = plain(Code64);
    (machine.registers[4], machine.registers[3]) = (AT, 0);
    let fault = Err(Stop::Fault(Event::exception(14, 2)));
    assert_eq!(machine.run(&[0x8f, 0x03], 1), fault);
    assert_eq!(machine.registers[4], AT);
    // Its own address is that behind the pop.
    machine.memory[0] = 0x77;
    assert_eq!(machine.run(&[0x8f, 0x04, 0x24], 1), OK);
    assert_eq!((machine.registers[4], machine.memory[8]), (AT + 8, 0x77));
}
