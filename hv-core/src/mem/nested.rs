//! Nested page tables: one walker for EPT and NPT, which differ in the bits of an entry.

use super::frames::PAGE;
use super::tlb::MustFlush;

/// Levels of a nested page table.
const LEVELS: u32 = 4;
/// Entries of a table.
const ENTRIES: u64 = 512;
/// Guest-physical addresses that the tables can translate.
pub const GPA_LIMIT: u64 = 1 << 48;

/// What a guest may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read, write and execute.
    Full,
    /// Read only.
    ReadOnly,
    /// Read and write.
    ReadWrite,
    /// Read and execute: a ROM.
    ReadExecute,
}

/// The host-physical address in an entry, whatever the format.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry of level 2 or 3 that maps a page, not a table, whatever the format.
const LARGE: u64 = 1 << 7;

/// The format of an entry, as bits; the address stands where long mode has it.
#[derive(Debug)]
pub struct Format {
    /// What an entry that points to a table has beside the address.
    pub table: u64,
    /// What one that maps a page has, whatever the access.
    pub leaf: u64,
    /// What a page that may be written has beside that.
    pub full: u64,
    /// What a page that may only be read has instead.
    pub read_only: u64,
    /// What a page that may be read and written has instead.
    pub read_write: u64,
    /// What a page that may be read and executed has instead.
    pub read_execute: u64,
    /// An entry with one of these is in use.
    pub present: u64,
}

impl Format {
    /// An entry that points to a table.
    pub fn table(&self, hpa: u64) -> u64 {
        hpa | self.table
    }

    /// An entry that maps a page of the level (1: 4 KiB, 2: 2 MiB, 3: 1 GiB).
    pub fn leaf(&self, hpa: u64, level: u32, access: Access) -> u64 {
        let rights = match access {
            Access::Full => self.full,
            Access::ReadOnly => self.read_only,
            Access::ReadWrite => self.read_write,
            Access::ReadExecute => self.read_execute,
        };
        hpa | self.leaf | rights | if level > 1 { LARGE } else { 0 }
    }

    /// Whether an entry is in use.
    pub fn present(&self, entry: u64) -> bool {
        entry & self.present != 0
    }

    /// Whether an entry of the level in use maps a page.
    pub fn is_leaf(&self, entry: u64, level: u32) -> bool {
        level == 1 || entry & LARGE != 0
    }

    /// The host-physical address in an entry.
    pub fn address(&self, entry: u64) -> u64 {
        entry & ADDRESS
    }

    /// The access that a leaf grants.
    pub fn access(&self, entry: u64) -> Access {
        let all = self.full | self.read_only | self.read_write | self.read_execute;
        let rights = entry & all;
        if rights == self.full {
            Access::Full
        } else if rights == self.read_execute {
            Access::ReadExecute
        } else if rights == self.read_write {
            Access::ReadWrite
        } else {
            Access::ReadOnly
        }
    }
}

/// The memory that the tables themselves stand in.
pub trait Tables {
    /// A zeroed table, or `None` if memory is short.
    fn allocate(&mut self) -> Option<u64>;
    /// Reads entry `index` (0 to 511) of the table at `table`.
    fn get(&self, table: u64, index: u64) -> u64;
    /// Writes an entry.
    fn set(&mut self, table: u64, index: u64, entry: u64);
}

/// Why a mapping cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// Not aligned to pages, empty, or beyond [`GPA_LIMIT`].
    BadRange,
    /// There is no memory for a table.
    NoMemory,
    /// Something is mapped there.
    Occupied {
        /// At this guest-physical address.
        gpa: u64,
    },
}

/// One address space.
#[derive(Debug)]
pub struct NestedTable {
    root: u64,
    /// The highest level whose entries may map pages.
    largest: u32,
    format: &'static Format,
}

const fn shift(level: u32) -> u32 {
    12u32.wrapping_add(9u32.wrapping_mul(level.wrapping_sub(1)))
}

const fn page_size(level: u32) -> u64 {
    PAGE << shift(level).wrapping_sub(12)
}

const fn index(gpa: u64, level: u32) -> u64 {
    (gpa >> shift(level)) & (ENTRIES - 1)
}

impl NestedTable {
    /// An empty address space of this format, whose pages are at most those of level `largest` (1: 4 KiB, 2: 2 MiB,
    /// 3: 1 GiB). `None` if memory is short.
    pub fn new(
        format: &'static Format,
        tables: &mut dyn Tables,
        largest: u32,
    ) -> Option<NestedTable> {
        let root = tables.allocate()?;
        Some(NestedTable { root, largest: largest.clamp(1, 3), format })
    }

    /// The host-physical address of the top table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps `length` bytes from `gpa` to `hpa`, with the largest pages that alignment allows.
    /// Nothing may be mapped there yet, so no flush is owed.
    ///
    /// # Errors
    ///
    /// [`MapError`]; after [`MapError::NoMemory`] and [`MapError::Occupied`] a part may be mapped.
    pub fn map(
        &mut self,
        tables: &mut dyn Tables,
        mut gpa: u64,
        mut hpa: u64,
        mut length: u64,
        access: Access,
    ) -> Result<(), MapError> {
        let end = gpa.checked_add(length).ok_or(MapError::BadRange)?;
        if length == 0 || (gpa | hpa | length) & PAGE.wrapping_sub(1) != 0 || end > GPA_LIMIT {
            return Err(MapError::BadRange);
        }
        while length > 0 {
            let fits = |&level: &u32| {
                let size = page_size(level);
                length >= size && (gpa | hpa) & size.wrapping_sub(1) == 0
            };
            let level = (1..=self.largest).rev().find(fits).unwrap_or(1);
            let (table, index) = self.descend(tables, gpa, level)?;
            if self.format.present(tables.get(table, index)) {
                return Err(MapError::Occupied { gpa });
            }
            tables.set(table, index, self.format.leaf(hpa, level, access));
            let size = page_size(level);
            gpa = gpa.wrapping_add(size);
            hpa = hpa.wrapping_add(size);
            length = length.saturating_sub(size);
        }
        Ok(())
    }

    /// Removes one 4 KiB page's mapping, if there is one, and splits a larger page that it is part
    /// of.
    ///
    /// # Errors
    ///
    /// [`MapError::NoMemory`] if a page cannot be split.
    pub fn unmap_page(&mut self, tables: &mut dyn Tables, gpa: u64) -> Result<MustFlush, MapError> {
        let mut table = self.root;
        for level in (1..=LEVELS).rev() {
            let at = index(gpa, level);
            let entry = tables.get(table, at);
            if !self.format.present(entry) {
                break;
            }
            if level == 1 {
                tables.set(table, at, 0);
                break;
            }
            if self.format.is_leaf(entry, level) {
                let below = level.wrapping_sub(1);
                let split = tables.allocate().ok_or(MapError::NoMemory)?;
                for i in 0..ENTRIES {
                    let hpa =
                        self.format.address(entry).wrapping_add(i.wrapping_mul(page_size(below)));
                    tables.set(split, i, self.format.leaf(hpa, below, self.format.access(entry)));
                }
                tables.set(table, at, self.format.table(split));
                table = split;
            } else {
                table = self.format.address(entry);
            }
        }
        Ok(MustFlush::new())
    }

    /// What a guest-physical address is mapped to: the host-physical address, the access, and the
    /// level of the page.
    pub fn translate(&self, tables: &dyn Tables, gpa: u64) -> Option<(u64, Access, u32)> {
        let mut table = self.root;
        for level in (1..=LEVELS).rev() {
            let entry = tables.get(table, index(gpa, level));
            if gpa >= GPA_LIMIT || !self.format.present(entry) {
                return None;
            }
            if self.format.is_leaf(entry, level) {
                let offset = gpa & page_size(level).wrapping_sub(1);
                return Some((
                    self.format.address(entry) | offset,
                    self.format.access(entry),
                    level,
                ));
            }
            table = self.format.address(entry);
        }
        None
    }

    /// The table and index of the entry of `level` for `gpa`, making tables on the way.
    fn descend(
        &self,
        tables: &mut dyn Tables,
        gpa: u64,
        level: u32,
    ) -> Result<(u64, u64), MapError> {
        let mut table = self.root;
        for above in (level.wrapping_add(1)..=LEVELS).rev() {
            let at = index(gpa, above);
            let entry = tables.get(table, at);
            table = if !self.format.present(entry) {
                let fresh = tables.allocate().ok_or(MapError::NoMemory)?;
                tables.set(table, at, self.format.table(fresh));
                fresh
            } else if self.format.is_leaf(entry, above) {
                return Err(MapError::Occupied { gpa });
            } else {
                self.format.address(entry)
            };
        }
        Ok((table, index(gpa, level)))
    }
}

#[cfg(test)]
mod tests;
