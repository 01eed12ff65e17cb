use super::*;
use std::vec::Vec;

/// Bit 0 present, bit 1 writable.
const PLAIN: Format = Format {
    table: 1,
    leaf: 1,
    full: 2,
    read_only: 0,
    read_write: 1 << 3,
    read_execute: 1 << 2,
    present: 1,
};

#[derive(Default)]
struct Memory {
    tables: Vec<[u64; 512]>,
    limit: usize,
}

impl Tables for Memory {
    fn allocate(&mut self) -> Option<u64> {
        if self.tables.len() >= self.limit {
            return None;
        }
        self.tables.push([0; 512]);
        Some(self.tables.len() as u64 * PAGE)
    }
    fn get(&self, table: u64, index: u64) -> u64 {
        self.tables[(table / PAGE - 1) as usize][index as usize]
    }
    fn set(&mut self, table: u64, index: u64, entry: u64) {
        self.tables[(table / PAGE - 1) as usize][index as usize] = entry;
    }
}

const G: u64 = 1 << 30;
const M2: u64 = 2 << 20;

fn space(largest: u32) -> (Memory, NestedTable) {
    let mut memory = Memory { limit: 100, ..Memory::default() };
    let table = NestedTable::new(&PLAIN, &mut memory, largest).unwrap();
    (memory, table)
}

#[test]
fn the_largest_pages_that_fit_are_used() {
    let (mut m, mut t) = space(3);
    t.map(&mut m, 0, 4 * G, G + M2 + PAGE, Access::Full).unwrap();
    assert_eq!(t.translate(&m, 5), Some((4 * G + 5, Access::Full, 3)));
    assert_eq!(t.translate(&m, G + 5), Some((5 * G + 5, Access::Full, 2)));
    assert_eq!(t.translate(&m, G + M2 + 5), Some((5 * G + M2 + 5, Access::Full, 1)));
    assert_eq!(t.translate(&m, G + M2 + PAGE), None);
    assert_eq!(m.tables.len(), 4, "root, PDPT, one PD, one PT");
}

#[test]
fn pages_are_no_larger_than_the_cpu_has() {
    for (largest, tables) in [(2, 3), (1, 2 + 1 + 512)] {
        let (mut m, mut t) = space(largest);
        m.limit = 1000;
        t.map(&mut m, 0, 0, G, Access::Full).unwrap();
        assert_eq!(t.translate(&m, G - 1), Some((G - 1, Access::Full, largest)));
        assert_eq!(m.tables.len(), tables);
    }
}

#[test]
fn misaligned_pairs_fall_back_to_small_pages() {
    let (mut m, mut t) = space(3);
    t.map(&mut m, 0, PAGE, M2, Access::Full).unwrap();
    assert_eq!(t.translate(&m, 0), Some((PAGE, Access::Full, 1)));
}

#[test]
fn removing_a_page_splits_what_it_is_part_of_and_leaves_the_rest() {
    let (mut m, mut t) = space(3);
    t.map(&mut m, 0, 4 * G, G, Access::ReadOnly).unwrap();
    let gpa = 3 * M2 + 7 * PAGE;
    let _owed = t.unmap_page(&mut m, gpa).unwrap();
    assert_eq!(t.translate(&m, gpa), None);
    assert_eq!(t.translate(&m, gpa - 1), Some((4 * G + gpa - 1, Access::ReadOnly, 1)));
    assert_eq!(t.translate(&m, gpa + PAGE), Some((4 * G + gpa + PAGE, Access::ReadOnly, 1)));
    assert_eq!(t.translate(&m, 4 * M2), Some((4 * G + 4 * M2, Access::ReadOnly, 2)));
}

#[test]
fn refused_ranges_are_named() {
    let (mut m, mut t) = space(3);
    for (gpa, hpa, length) in
        [(1, 0, PAGE), (0, 1, PAGE), (0, 0, 0), (0, 0, 5), (GPA_LIMIT, 0, PAGE)]
    {
        assert_eq!(t.map(&mut m, gpa, hpa, length, Access::Full), Err(MapError::BadRange));
    }
    assert_eq!(t.map(&mut m, !0xfff, 0, PAGE, Access::Full), Err(MapError::BadRange));
    t.map(&mut m, 0, 0, G, Access::Full).unwrap();
    assert_eq!(
        t.map(&mut m, M2, 0, PAGE, Access::Full),
        Err(MapError::Occupied { gpa: M2 }),
        "inside of a larger page"
    );
    m.limit = m.tables.len();
    assert_eq!(t.map(&mut m, 512 * G, 0, PAGE, Access::Full), Err(MapError::NoMemory));
}
