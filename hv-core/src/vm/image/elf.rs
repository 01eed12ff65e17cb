//! ELF executables for x86 and x86-64, as far as loading them goes (System V ABI, "Object Files").
//!
//! Addresses, offsets and sizes are words of 4 bytes in 32-bit files and of 8 in 64-bit ones; the
//! places of all other fields follow from that.

mod sections;

use core::ops::Range;

use super::room::Room;
use super::{ImageError, number, part};

const EXECUTABLE: u64 = 2;
const I386: u64 = 3;
const X86_64: u64 = 62;
const LOAD: u64 = 1;
/// The kind of a segment of notes.
pub const NOTE: u64 = 4;

/// An executable's header, checked.
#[derive(Clone, Copy)]
pub struct Elf<'a> {
    image: &'a [u8],
    word: u64,
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its kind.
    pub kind: u64,
    /// Where it is in the file.
    offset: u64,
    virtual_address: u64,
    /// Where it goes.
    address: u64,
    file_size: u64,
    memory_size: u64,
}

impl<'a> Elf<'a> {
    /// The executable in these bytes; `None` if there is none.
    pub fn find(image: &'a [u8]) -> Option<Elf<'a>> {
        let word = match image.get(..6)? {
            b"\x7fELF\x01\x01" => 4,
            b"\x7fELF\x02\x01" => 8,
            _ => return None,
        };
        let elf = Elf { image, word };
        // 64-bit files for both, since some are turned into 32-bit ones for boot loaders.
        let machine = number(image, 18, 2)?;
        let sound = number(image, 16, 2)? == EXECUTABLE
            && (machine == X86_64 || machine == I386)
            && elf.header(6)? >= elf.segment_size()
            && elf.header(14).is_some();
        sound.then_some(elf)
    }

    /// The 16-bit field of the header so far behind its three words.
    fn header(&self, field: u64) -> Option<u64> {
        number(self.image, self.word.wrapping_mul(3).wrapping_add(24).wrapping_add(field), 2)
    }

    /// What a segment's entry holds at least: the kind, seven words, and, in either order, flags.
    fn segment_size(&self) -> u64 {
        self.word.wrapping_mul(6).wrapping_add(8)
    }

    /// The segments; an error where one lies outside of the file.
    pub fn segments(&self) -> impl Iterator<Item = Result<Segment, ImageError>> {
        let elf = *self;
        let table = number(elf.image, elf.word.wrapping_add(24), elf.word);
        let [size, count] = [6, 8].map(|field| elf.header(field).unwrap_or(0));
        (0..count).map(move |i| {
            let at = table.and_then(|table| table.checked_add(i.checked_mul(size)?));
            at.and_then(|at| elf.segment(at)).ok_or(ImageError::Truncated)
        })
    }

    fn segment(&self, at: u64) -> Option<Segment> {
        part(self.image, at, self.segment_size())?;
        // Words behind the kind, aligned: offset, virtual address, address, both sizes.
        let word = |index: u64| {
            let offset = self.word.checked_mul(index.checked_add(1)?)?;
            number(self.image, at.checked_add(offset)?, self.word)
        };
        Some(Segment {
            kind: number(self.image, at, 4)?,
            offset: word(0)?,
            virtual_address: word(1)?,
            address: word(2)?,
            file_size: word(3)?,
            memory_size: word(4)?,
        })
    }

    /// What a segment has in the file.
    ///
    /// # Errors
    ///
    /// It lies outside.
    pub fn bytes(&self, segment: &Segment) -> Result<&'a [u8], ImageError> {
        part(self.image, segment.offset, segment.file_size).ok_or(ImageError::Truncated)
    }

    /// The segments that are to be loaded.
    fn loaded(&self) -> impl Iterator<Item = Result<Segment, ImageError>> {
        self.segments().filter(|segment| {
            segment.as_ref().map_or(true, |s| s.kind == LOAD && s.memory_size > 0)
        })
    }

    /// Puts what is to be loaded at its physical addresses, each `by` bytes further up.
    ///
    /// # Errors
    ///
    /// A segment is cut off, does not fit, or lies on another.
    pub fn load(&self, by: u64, room: &mut Room<'_>) -> Result<(), ImageError> {
        for segment in self.loaded() {
            let segment = segment?;
            let address = segment.address.wrapping_add(by);
            room.put(address, self.bytes(&segment)?, segment.memory_size)?;
        }
        Ok(())
    }

    /// The physical addresses from its lowest segment to the end of its highest.
    ///
    /// # Errors
    ///
    /// A segment is cut off, or there is none.
    pub fn span(&self) -> Result<Range<u64>, ImageError> {
        let (mut lowest, mut highest) = (u64::MAX, 0);
        for segment in self.loaded() {
            let Segment { address, memory_size, .. } = segment?;
            let end = address.checked_add(memory_size);
            lowest = lowest.min(address);
            highest = highest.max(end.ok_or(ImageError::Malformed("segment address"))?);
        }
        let span = lowest..highest;
        if span.is_empty() { Err(ImageError::Malformed("list of segments")) } else { Ok(span) }
    }

    /// The physical address of its entry, which the file may give as a virtual one.
    ///
    /// # Errors
    ///
    /// It lies in no segment.
    pub fn entry(&self) -> Result<u64, ImageError> {
        const NOWHERE: ImageError = ImageError::Malformed("entry address");
        let entry = number(self.image, 24, self.word).ok_or(NOWHERE)?;
        let mut physical = None;
        for segment in self.loaded() {
            let Segment { virtual_address, address, memory_size, .. } = segment?;
            let inside = |from: u64| {
                let offset = entry.checked_sub(from)?;
                (offset < memory_size).then(|| address.wrapping_add(offset))
            };
            if let Some(found) = inside(virtual_address) {
                return Ok(found);
            }
            physical = physical.or(inside(address));
        }
        physical.ok_or(NOWHERE)
    }
}

#[cfg(test)]
mod tests;
