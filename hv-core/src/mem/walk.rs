//! The guest's own page tables: from linear to guest-physical addresses, for fetching the
//! instruction that exited.

use super::guest::GuestMemory;

const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;

/// What decides how linear addresses are translated.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.LMA.
    pub long_mode: bool,
}

/// Translates a linear address; `None` if it is not mapped, or a table is not in RAM. Rights are
/// not checked: the CPU has just fetched from there.
pub fn translate(memory: &GuestMemory, paging: Paging, linear: u64) -> Option<u64> {
    if paging.cr0 & CR0_PG == 0 {
        return Some(linear & 0xffff_ffff);
    }
    if paging.cr4 & CR4_PAE == 0 {
        return translate_32(memory, paging, linear & 0xffff_ffff);
    }
    // Four levels, or three whose top has four entries.
    let (levels, root) =
        if paging.long_mode { (4u32, paging.cr3 & ADDRESS) } else { (3, paging.cr3 & 0xffff_ffe0) };
    let mut table = root;
    for level in (1..=levels).rev() {
        let shift = 12u32.wrapping_add(9u32.wrapping_mul(level.wrapping_sub(1)));
        let mask = if level == 3 && !paging.long_mode { 3 } else { 511 };
        let index = (linear >> shift) & mask;
        let entry = memory.read_u64(table.wrapping_add(index.wrapping_mul(8))).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        let leaf = level == 1 || entry & LARGE != 0 && level < levels;
        if leaf {
            let offset = (1u64 << shift).wrapping_sub(1);
            return Some(entry & ADDRESS & !offset | linear & offset);
        }
        table = entry & ADDRESS;
    }
    None
}

fn translate_32(memory: &GuestMemory, paging: Paging, linear: u64) -> Option<u64> {
    let index = linear >> 22;
    let directory = (paging.cr3 & 0xffff_f000).wrapping_add(index.wrapping_mul(4));
    let entry = u64::from(memory.read_u32(directory).ok()?);
    if entry & PRESENT == 0 {
        return None;
    }
    if entry & LARGE != 0 && paging.cr4 & CR4_PSE != 0 {
        // PSE-36: bits 20:13 are address bits 39:32.
        let high = (entry >> 13 & 0xff) << 32;
        return Some(high | entry & 0xffc0_0000 | linear & 0x3f_ffff);
    }
    let index = linear >> 12 & 1023;
    let table = (entry & 0xffff_f000).wrapping_add(index.wrapping_mul(4));
    let entry = u64::from(memory.read_u32(table).ok()?);
    (entry & PRESENT != 0).then_some(entry & 0xffff_f000 | linear & 0xfff)
}

/// Reads instruction bytes at a linear address, as many as are mapped; returns how many.
pub fn fetch(memory: &GuestMemory, paging: Paging, linear: u64, into: &mut [u8]) -> usize {
    let mut count = 0usize;
    for byte in into {
        let at = linear.wrapping_add(count as u64);
        let mut one = [0];
        match translate(memory, paging, at).map(|gpa| memory.read(gpa, &mut one)) {
            Some(Ok(())) => *byte = one[0],
            _ => break,
        }
        count = count.wrapping_add(1);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec;

    fn memory(entries: &[(u64, u64)], width: usize) -> (Box<[u64]>, GuestMemory) {
        let mut ram = vec![0u64; 8 * 512].into_boxed_slice();
        // SAFETY: the box outlives the value in every test and is used through it alone.
        let m = unsafe { GuestMemory::new(ram.as_mut_ptr().cast(), 8 * 4096) };
        for &(gpa, value) in entries {
            m.write(gpa, &value.to_le_bytes()[..width]).unwrap();
        }
        (ram, m)
    }

    const LONG: Paging = Paging { cr0: CR0_PG, cr3: 0x1000, cr4: CR4_PAE, long_mode: true };

    #[test]
    fn without_paging_addresses_are_physical() {
        let (_r, m) = memory(&[], 8);
        let paging = Paging { cr0: 0, ..LONG };
        assert_eq!(translate(&m, paging, 0x1234), Some(0x1234));
    }

    #[test]
    fn four_levels_and_large_pages_are_walked() {
        let (_r, m) = memory(
            &[
                (0x1000 + 8, 0x2003),
                (0x2000 + 16, 0x3003),
                (0x3000 + 24, 0x4003),
                (0x4000 + 32, 0x7003),
                (0x3000, 0x20_0083),
            ],
            8,
        );
        let linear = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 5;
        assert_eq!(translate(&m, LONG, linear), Some(0x7005));
        assert_eq!(translate(&m, LONG, 1 << 39 | 2 << 30 | 0x1_2345), Some(0x21_2345));
        assert_eq!(translate(&m, LONG, 0), None);
    }

    #[test]
    fn pae_takes_four_pointers_from_an_unaligned_cr3() {
        let (_r, m) = memory(&[(0x1020 + 8, 0x2001), (0x2000, 0x3001), (0x3000, 0x5001)], 8);
        let paging = Paging { cr3: 0x1020, long_mode: false, ..LONG };
        assert_eq!(translate(&m, paging, 1 << 30 | 7), Some(0x5007));
    }

    #[test]
    fn two_levels_and_4m_pages_are_walked() {
        let (_r, m) = memory(&[(0x1004, 0x2001), (0x2008, 0x5001), (0x1008, 0x0080_0081)], 4);
        let paging = Paging { cr4: CR4_PSE, long_mode: false, ..LONG };
        assert_eq!(translate(&m, paging, 1 << 22 | 2 << 12 | 9), Some(0x5009));
        assert_eq!(translate(&m, paging, 2 << 22 | 0x1234), Some(0x80_1234));
    }

    #[test]
    fn tables_outside_of_ram_end_the_walk() {
        let (_r, m) = memory(&[(0x1000, 0xffff_f003)], 8);
        assert_eq!(translate(&m, LONG, 0), None);
        assert_eq!(fetch(&m, LONG, 0, &mut [0; 15]), 0);
    }
}
