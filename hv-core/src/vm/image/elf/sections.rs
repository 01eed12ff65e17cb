//! Sections of an ELF file: what debuggers and linkers see, and some kernels want to find in memory.

use core::ops::Range;

use super::Elf;
use crate::vm::image::{ImageError, number, part};

/// Where the section headers are.
#[derive(Clone, Copy, Debug)]
pub struct Sections {
    at: u64,
    /// How many there are.
    pub count: u64,
    /// The size of one.
    pub entry_size: u64,
    /// The index of the one that has their names.
    pub names: u64,
}

/// A section.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// Its header.
    pub header: &'a [u8],
    /// Where in the header its address is.
    pub address: Range<u64>,
    /// Its contents, if the executable does not run with them in memory.
    pub unloaded: Option<&'a [u8]>,
}

impl<'a> Elf<'a> {
    /// The section headers.
    ///
    /// # Errors
    ///
    /// They are too small to be any.
    pub fn sections(&self) -> Result<Sections, ImageError> {
        const MALFORMED: ImageError = ImageError::Malformed("ELF header");
        let at = number(self.image, self.word.wrapping_mul(2).wrapping_add(24), self.word);
        let [Some(entry_size), Some(count), Some(names), Some(at)] =
            [self.header(10), self.header(12), self.header(14), at]
        else {
            return Err(MALFORMED);
        };
        // Four words of 32 bits, and six of the file's own.
        if entry_size < self.word.wrapping_mul(6).wrapping_add(16) && count > 0 {
            return Err(MALFORMED);
        }
        Ok(Sections { at, count, entry_size, names })
    }

    /// The section of this number.
    ///
    /// # Errors
    ///
    /// It, or its header, lies outside of the file.
    pub fn section(&self, sections: &Sections, index: u64) -> Result<Section<'a>, ImageError> {
        const NULL: u64 = 0;
        const NO_BITS: u64 = 8;
        let find = || {
            let at = sections.at.checked_add(index.checked_mul(sections.entry_size)?)?;
            let header = part(self.image, at, sections.entry_size)?;
            // Name and kind; then flags, address, offset and size.
            let at = |index: u64| self.word.wrapping_mul(index).wrapping_add(8);
            let kind = number(header, 4, 4)?;
            let [address, offset, size] = [1, 2, 3].map(|i| number(header, at(i), self.word));
            let here = kind != NULL && kind != NO_BITS && size? > 0 && address? == 0;
            let unloaded = if here { Some(part(self.image, offset?, size?)?) } else { None };
            Some(Section { header, address: at(1)..at(2), unloaded })
        };
        find().ok_or(ImageError::Truncated)
    }
}
