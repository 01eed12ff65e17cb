//! The guest's own page tables: from linear to guest-physical addresses, for fetching the
//! instruction that exited. What it accesses is translated by [`super::paging`].

use super::guest::{BadAddress, GuestMemory};

pub(super) const PRESENT: u64 = 1 << 0;
pub(super) const LARGE: u64 = 1 << 7;
pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

pub(super) const CR0_PG: u64 = 1 << 31;
pub(super) const CR4_PSE: u64 = 1 << 4;
pub(super) const CR4_PAE: u64 = 1 << 5;

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

/// Translates a linear address; `None` if it is not mapped, or a table is not in RAM. Rights and
/// reserved bits are not checked: the CPU has just fetched from there.
#[inline]
pub fn translate(memory: &GuestMemory, paging: Paging, linear: u64) -> Option<u64> {
    if paging.cr0 & CR0_PG == 0 {
        return Some(linear & 0xffff_ffff);
    }
    if paging.cr4 & CR4_PAE == 0 {
        return translate_32(memory, paging, linear & 0xffff_ffff);
    }
    // Four levels, or three whose top has four entries.
    let mut at = if paging.long_mode {
        let entry = present(memory.read_u64(paging.cr3 & ADDRESS | entry_offset(linear, 39)))?;
        entry & ADDRESS | entry_offset(linear, 30)
    } else {
        paging.cr3 & 0xffff_ffe0 | entry_offset(linear, 30) & 0x18
    };
    for shift in [30u32, 21, 12] {
        let entry = present(memory.read_u64(at))?;
        if shift == 12 || entry & LARGE != 0 {
            let offset = (1u64 << shift).wrapping_sub(1);
            return Some(entry & ADDRESS & !offset | linear & offset);
        }
        at = entry & ADDRESS | entry_offset(linear, shift.wrapping_sub(9));
    }
    None
}

/// Where the entry is in a table whose entries map `1 << shift` bytes each.
#[inline(always)]
fn entry_offset(linear: u64, shift: u32) -> u64 {
    linear >> shift.wrapping_sub(3) & 0xff8
}

#[inline(always)]
fn present(entry: Result<u64, BadAddress>) -> Option<u64> {
    entry.ok().filter(|entry| entry & PRESENT != 0)
}

#[cold]
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

/// The longest instruction in bytes.
pub const MAX_LENGTH: usize = 15;

/// Instruction bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The aligned words that they are in.
    words: [[u8; 8]; 3],
    start: u8,
    end: u8,
}

impl Fetched {
    /// Bytes that the CPU has fetched by itself.
    pub fn by_cpu(bytes: &[u8]) -> Fetched {
        let mut fetched = Fetched { end: bytes.len().min(MAX_LENGTH) as u8, ..Fetched::default() };
        for (to, from) in fetched.words.as_flattened_mut().iter_mut().zip(bytes) {
            *to = *from;
        }
        fetched
    }

    /// The first 8 bytes as a number, and how many bytes there are in all; those that are not there are
    /// anything.
    #[inline]
    pub fn first(&self) -> (u64, u8) {
        let [low, high, _] = self.words.map(u64::from_le_bytes);
        let shift = u32::from(self.start & 7).wrapping_mul(8);
        let above = high.wrapping_shl(1).wrapping_shl(63u32.wrapping_sub(shift));
        (low.wrapping_shr(shift) | above, self.end.wrapping_sub(self.start))
    }

    /// The bytes: [`MAX_LENGTH`], or fewer if what follows is not mapped.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        let range = usize::from(self.start)..usize::from(self.end);
        self.words.as_flattened().get(range).unwrap_or(&[])
    }
}

/// Reads instruction bytes at a linear address, as many as are mapped.
#[inline]
pub fn instruction(memory: &GuestMemory, paging: Paging, linear: u64) -> Fetched {
    /// Where the last of a page's [`Fetched::words`] begin.
    const LAST: u64 = 0xfe8;
    let start = linear & 7;
    let at = linear & !7;
    let gpa = translate(memory, paging, at);
    if at & 0xfff <= LAST
        && let Some(Ok(words)) = gpa.map(|gpa| memory.read_words(gpa))
    {
        let end = start.wrapping_add(MAX_LENGTH as u64) as u8;
        return Fetched { words: words.map(u64::to_le_bytes), start: start as u8, end };
    }
    by_word(memory, paging, linear, gpa)
}

/// The same by words, none of which crosses a page: each page is translated once.
#[cold]
#[inline(never)]
fn by_word(memory: &GuestMemory, paging: Paging, linear: u64, mut gpa: Option<u64>) -> Fetched {
    let start = linear & 7;
    let mut fetched = Fetched { start: start as u8, ..Fetched::default() };
    let mut at = linear & !7;
    let mut end = 0u64;
    for word in &mut fetched.words {
        if at & 0xfff == 0 && end != 0 {
            gpa = translate(memory, paging, at);
        }
        let Some(value) = gpa.and_then(|gpa| memory.read_u64(gpa).ok()) else { break };
        *word = value.to_le_bytes();
        gpa = gpa.map(|gpa| gpa.wrapping_add(8));
        at = at.wrapping_add(8);
        end = end.wrapping_add(8);
    }
    fetched.end = end.min(start.wrapping_add(MAX_LENGTH as u64)) as u8;
    fetched
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
    fn what_the_cpu_has_fetched_is_taken_as_it_is() {
        assert_eq!(Fetched::by_cpu(&[1, 2, 3]).as_slice(), [1, 2, 3]);
        assert_eq!(Fetched::by_cpu(&[7; 20]).as_slice(), [7; MAX_LENGTH]);
    }

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
        assert_eq!(instruction(&m, LONG, 0).as_slice(), []);
    }

    #[test]
    fn instructions_are_fetched_as_far_as_they_are_mapped() {
        // Linear page 5 is at 0x7000, page 6 at 0x5000, and page 7 is not mapped.
        let tables = [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003)];
        let (_r, m) = memory(&tables, 8);
        m.write_u64(0x4000 + 8 * 5, 0x7003).unwrap();
        m.write_u64(0x4000 + 8 * 6, 0x5003).unwrap();
        let byte = |linear: u64| linear as u8 ^ (linear >> 8) as u8;
        for linear in 0x5000..0x7000 {
            let gpa = translate(&m, LONG, linear).unwrap();
            m.write(gpa, &[byte(linear)]).unwrap();
        }
        for start in (0x5000..0x5010).chain(0x5fe0..0x6010).chain(0x6fe0..0x7000) {
            let fetched = instruction(&m, LONG, start);
            let expected: vec::Vec<u8> = (start..(start + 15).min(0x7000)).map(byte).collect();
            assert_eq!(fetched.as_slice(), expected, "{start:#x}");
        }
        for start in [0x4fff, 0x7000, 0x7003] {
            assert_eq!(instruction(&m, LONG, start).as_slice(), [], "{start:#x}");
        }
        let paging = Paging { cr0: 0, ..LONG };
        assert_eq!(instruction(&m, paging, 0x7ffe).as_slice().len(), 2, "the end of RAM");
    }

    #[test]
    fn pages_of_1g_and_entries_that_are_not_present_end_the_walk() {
        let (_r, m) = memory(&[(0x1000, 0x2003), (0x2008, 0x4000_0083), (0x2010, 0x3002)], 8);
        assert_eq!(translate(&m, LONG, 0x7234_5678), Some(0x7234_5678));
        assert_eq!(translate(&m, LONG, 2 << 30), None);
    }
}
