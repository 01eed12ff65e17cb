use std::boxed::Box;
use std::vec;

use super::*;

const READ: Access = Access::READ;
const WRITE: Access = Access::WRITE;
const FETCH: Access = Access::FETCH;
const IMPLICIT: Access = Access::IMPLICIT;

/// Of error codes.
const P: u32 = 1;
const W: u32 = 2;
const U: u32 = 4;
const RSVD: u32 = 8;
const I: u32 = 16;
const PK: u32 = 32;

const LONG: Paging = Paging { cr0: CR0_PG, cr3: 0x1000, cr4: CR4_PAE, long_mode: true };
const RULES: Rules = Rules {
    paging: LONG,
    no_execute: true,
    user: false,
    user_pages: false,
    keys: 0,
    physical_bits: 40,
    pointers: None,
};

struct Tables(#[allow(dead_code)] Box<[u64]>, GuestMemory);

/// 32 KiB of RAM with these entries of 8 bytes.
fn tables(entries: &[(u64, u64)]) -> Tables {
    let mut ram = vec![0u64; 8 * 512].into_boxed_slice();
    // SAFETY: the box outlives the value in every test and is used through it alone.
    let memory = unsafe { GuestMemory::new(ram.as_mut_ptr().cast(), 8 * 4096) };
    for &(gpa, entry) in entries {
        memory.write_u64(gpa, entry).unwrap();
    }
    Tables(ram, memory)
}

/// Four levels that lead from linear 0 to this entry, with all rights above it.
fn leading_to(entry: u64) -> Tables {
    tables(&[(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007), (0x4000, entry)])
}

fn fault(code: u32) -> Result<u64, NoTranslation> {
    Err(NoTranslation::Fault(code))
}

#[test]
fn pages_of_each_size_are_found() {
    let t = tables(&[
        (0x1000 + 8, 0x2003),
        (0x2000 + 16, 0x3003),
        (0x3000 + 24, 0x4003),
        (0x4000 + 32, 0x7003),
        (0x3000, 0x20_0083),
        (0x2000 + 8, 0x4000_0083),
    ]);
    let at = |linear| translate(&t.1, &RULES, linear, READ);
    assert_eq!(at(1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 5), Ok(0x7005));
    assert_eq!(at(1 << 39 | 2 << 30 | 0x1_2345), Ok(0x21_2345));
    assert_eq!(at(1 << 39 | 1 << 30 | 0x1234_5678), Ok(0x5234_5678));
    assert_eq!(at(0), fault(0));
    let unpaged = Rules { paging: Paging { cr0: 0, ..LONG }, ..RULES };
    assert_eq!(translate(&t.1, &unpaged, 0x1_0000_1234, WRITE), Ok(0x1234));
}

#[test]
fn rights_are_those_that_every_level_gives() {
    let user = Rules { user: true, ..RULES };
    for (level, taken, rules, access, result) in [
        (0, 0, user, WRITE, Ok(0)),
        (0, 2, user, READ, Ok(0)),
        (0, 2, user, WRITE, Err(P | W | U)),
        (1, 2, user, WRITE, Err(P | W | U)),
        (2, 2, user, WRITE, Err(P | W | U)),
        (3, 2, user, WRITE, Err(P | W | U)),
        (0, 4, user, READ, Err(P | U)),
        (3, 4, user, READ, Err(P | U)),
        (3, 4, user, FETCH, Err(P | U | I)),
        (3, 4, user, IMPLICIT, Ok(0)),
        (3, 4, RULES, WRITE, Ok(0)),
        // Without CR0.WP the supervisor writes where it wants.
        (3, 2, RULES, WRITE, Ok(0)),
    ] {
        let mut entries = [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007), (0x4000, 0x7007)];
        entries[level].1 &= !taken;
        let t = tables(&entries);
        let expected = result.map(|_| 0x7000).map_err(NoTranslation::Fault);
        assert_eq!(translate(&t.1, &rules, 0, access), expected, "{level} {taken} {access:?}");
    }
}

/// The rules with bits of CR0 and CR4 set.
fn with(cr0: u64, cr4: u64, rules: Rules) -> Rules {
    let paging = Paging { cr0: LONG.cr0 | cr0, cr4: LONG.cr4 | cr4, ..LONG };
    Rules { paging, ..rules }
}

#[test]
fn the_supervisor_is_held_back_where_it_asked_for_it() {
    const USER_PAGE: u64 = 0x7007;
    const READ_ONLY: u64 = 0x7001;
    let ac = Rules { user_pages: true, ..RULES };
    for (entry, rules, access, result) in [
        (READ_ONLY, with(CR0_WP, 0, RULES), READ, Ok(0)),
        (READ_ONLY, with(CR0_WP, 0, RULES), WRITE, Err(P | W)),
        (USER_PAGE, with(0, CR4_SMEP, RULES), FETCH, Err(P | I)),
        (USER_PAGE, with(0, CR4_SMEP, RULES), READ, Ok(0)),
        (USER_PAGE, with(0, CR4_SMAP, RULES), READ, Err(P)),
        (USER_PAGE, with(0, CR4_SMAP, RULES), WRITE, Err(P | W)),
        (USER_PAGE, with(0, CR4_SMAP, RULES), FETCH, Ok(0)),
        (USER_PAGE, with(0, CR4_SMAP, ac), WRITE, Ok(0)),
        // AC is for what the program itself does.
        (USER_PAGE, with(0, CR4_SMAP, ac), IMPLICIT, Err(P)),
        (USER_PAGE, with(0, CR4_SMAP | CR4_SMEP, Rules { user: true, ..RULES }), WRITE, Ok(0)),
        (READ_ONLY, with(0, CR4_SMAP | CR4_SMEP, RULES), FETCH, Ok(0)),
    ] {
        let t = leading_to(entry);
        let expected = result.map(|_| 0x7000).map_err(NoTranslation::Fault);
        assert_eq!(translate(&t.1, &rules, 0, access), expected, "{entry:x} {access:?}");
    }
}

#[test]
fn fetches_are_told_apart_where_that_matters() {
    let entry = 0x7007 | NO_EXECUTE;
    assert_eq!(translate(&leading_to(entry).1, &RULES, 0, FETCH), fault(P | I));
    assert_eq!(translate(&leading_to(entry).1, &RULES, 0, READ), Ok(0x7000));
    let without = Rules { no_execute: false, ..RULES };
    assert_eq!(translate(&leading_to(entry).1, &without, 0, FETCH), fault(P | RSVD));
    assert_eq!(translate(&leading_to(0).1, &without, 0, FETCH), fault(0));
    assert_eq!(translate(&leading_to(0).1, &RULES, 0, FETCH), fault(I));
    assert_eq!(translate(&leading_to(0).1, &with(0, CR4_SMEP, without), 0, FETCH), fault(I));
}

#[test]
fn reserved_bits_fault_at_each_level() {
    for (level, bits, reserved) in [
        (0, LARGE, true),
        (1, 1 << 40, true),
        (1, LARGE | 1 << 13, true),
        (1, LARGE | 1 << 29, true),
        (1, LARGE | 1 << 12, false),
        (2, LARGE | 1 << 20, true),
        (2, LARGE | 1 << 21, false),
        (3, 1 << 51, true),
        (3, 1 << 52, false),
        (3, 1 << 62, false),
        (3, LARGE, false),
    ] {
        let mut entries = [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007), (0x4000, 0x7007)];
        if bits & LARGE != 0 && level < 3 {
            entries[level].1 = 7;
        }
        entries[level].1 |= bits;
        let t = tables(&entries);
        let result = translate(&t.1, &RULES, 0, WRITE);
        assert_eq!(result == fault(P | W | RSVD), reserved, "{level} {bits:x}: {result:x?}");
        assert_eq!(result.is_ok(), !reserved);
    }
}

#[test]
fn tables_outside_of_ram_are_ones() {
    let t = tables(&[(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0xffff_f007)]);
    assert_eq!(translate(&t.1, &RULES, 0, READ), fault(P | RSVD));
    let root = Rules { paging: Paging { cr3: 0xd000_0000, ..LONG }, ..RULES };
    assert_eq!(translate(&t.1, &root, 0, FETCH), fault(P | RSVD | I));
    // Ones are legal where there are no reserved bits: a page of the last addresses.
    let paging = Paging { cr4: 0, cr3: 0xd000_0000, long_mode: false, ..LONG };
    let narrow = Rules { paging, ..RULES };
    assert_eq!(translate(&t.1, &narrow, 0x5678, WRITE), Ok(0xffff_f678));
    let large = Rules { paging: Paging { cr4: CR4_PSE, ..paging }, ..RULES };
    assert_eq!(translate(&t.1, &large, 0, WRITE), fault(P | W | RSVD));
}

#[test]
fn entries_are_marked_when_they_are_used() {
    let t = leading_to(0x7007);
    let marks = || [0x1000, 0x2000, 0x3000, 0x4000].map(|at| t.1.read_u64(at).unwrap() & 0x60);
    // Nothing is marked by what faults.
    let user = Rules { user: true, ..with(0, CR4_PKE, RULES) };
    let locked = Rules { keys: 1, ..user };
    assert_eq!(translate(&t.1, &locked, 0, READ), fault(P | U | PK));
    assert_eq!(marks(), [0; 4]);
    translate(&t.1, &user, 0, READ).unwrap();
    assert_eq!(marks(), [ACCESSED; 4]);
    translate(&t.1, &user, 0, WRITE).unwrap();
    assert_eq!(marks(), [ACCESSED, ACCESSED, ACCESSED, ACCESSED | DIRTY]);
    // A table that is its own entry: both uses are marked.
    let own = tables(&[(0x1000, 0x1007)]);
    assert_eq!(translate(&own.1, &RULES, 0x123, WRITE), Ok(0x1123));
    assert_eq!(own.1.read_u64(0x1000), Ok(0x1067));
}

#[test]
fn protection_keys_lock_user_pages() {
    let key = 5;
    let entry = 0x7007 | key << 59;
    let (read, write) = (1 << (2 * key), 2 << (2 * key));
    let rules = |keys, user, cr0| Rules { keys, user, ..with(cr0, CR4_PKE, RULES) };
    for (entry, rules, access, result) in [
        (entry, rules(0, true, 0), WRITE, Ok(0)),
        (entry, rules(!(read | write), true, 0), WRITE, Ok(0)),
        (entry, rules(read, true, 0), READ, Err(P | U | PK)),
        (entry, rules(read, false, 0), READ, Err(P | PK)),
        (entry, rules(read, true, 0), FETCH, Ok(0)),
        (entry, rules(write, true, 0), READ, Ok(0)),
        (entry, rules(write, true, 0), WRITE, Err(P | W | U | PK)),
        (entry, rules(write, false, 0), WRITE, Ok(0)),
        (entry, rules(write, false, CR0_WP), WRITE, Err(P | W | PK)),
        (entry & !USER, rules(read, false, 0), READ, Ok(0)),
        (entry, Rules { keys: read, user: true, ..RULES }, READ, Ok(0)),
    ] {
        let expected = result.map(|_| 0x7000).map_err(NoTranslation::Fault);
        let t = leading_to(entry);
        assert_eq!(translate(&t.1, &rules, 0, access), expected, "{rules:x?} {access:?}");
    }
}

#[test]
fn pae_has_four_pointers_without_rights() {
    let t = tables(&[(0x1020 + 8, 0x2001), (0x2000, 0x3007), (0x3000, 0x5007)]);
    let paging = Paging { cr3: 0x1020, long_mode: false, ..LONG };
    let rules = Rules { paging, user: true, ..RULES };
    assert_eq!(translate(&t.1, &rules, 1 << 30 | 7, WRITE), Ok(0x5007));
    assert_eq!(t.1.read_u64(0x1028), Ok(0x2001), "nor marks");
    assert_eq!(translate(&t.1, &rules, 7, WRITE), fault(W | U));
    t.1.write_u64(0x1028, 0x2001 | 1 << 5).unwrap();
    assert_eq!(translate(&t.1, &rules, 1 << 30 | 7, WRITE), Ok(0x5007), "QEMU's mark");
    t.1.write_u64(0x1028, 0x2001 | 1 << 6).unwrap();
    assert_eq!(translate(&t.1, &rules, 1 << 30, WRITE), fault(P | RSVD | W | U));
    t.1.write_u64(0x1028, 0x2001).unwrap();
    // Where the CPU keeps them memory does not count.
    let kept = Rules { pointers: Some([0x2001, 0, 0, 0x2003]), ..rules };
    assert_eq!(translate(&t.1, &kept, 7, WRITE), Ok(0x5007));
    assert_eq!(translate(&t.1, &kept, 1 << 30, WRITE), fault(W | U));
    assert_eq!(translate(&t.1, &kept, 3 << 30, WRITE), fault(P | RSVD | W | U));
    // Bits above the addresses are reserved, not ignored.
    t.1.write_u64(0x3000, 0x5007 | 1 << 52).unwrap();
    assert_eq!(translate(&t.1, &rules, 1 << 30, READ), fault(P | RSVD | U));
}

#[test]
fn two_levels_have_pages_of_4m() {
    let t = tables(&[]);
    for (gpa, entry) in
        [(0x1004, 0x2007u32), (0x2008, 0x5007), (0x1008, 0x0081_2087), (0x100c, 0x00a0_0087)]
    {
        t.1.write_u32(gpa, entry).unwrap();
    }
    let paging = Paging { cr4: CR4_PSE, long_mode: false, ..LONG };
    let rules = Rules { paging, user: true, ..RULES };
    assert_eq!(translate(&t.1, &rules, 1 << 22 | 2 << 12 | 9, WRITE), Ok(0x5009));
    assert_eq!(t.1.read_u32(0x2008), Ok(0x5067));
    assert_eq!(translate(&t.1, &rules, 2 << 22 | 0x1234, READ), Ok(0x9_0080_1234));
    assert_eq!(translate(&t.1, &rules, 3 << 22, READ), fault(P | RSVD | U), "bit 21");
    let narrow = Rules { physical_bits: 35, ..rules };
    assert_eq!(translate(&t.1, &narrow, 2 << 22, READ), fault(P | RSVD | U));
    // There is no execute-disable.
    assert_eq!(translate(&t.1, &rules, 0, FETCH), fault(U));
}
