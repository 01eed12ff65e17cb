//! The VM's memory while it is filled: what is put there is in RAM, and nothing lies on anything else.

use core::ops::Range;

use super::ImageError;
use super::layout::{self, HIGH_RAM, IMAGE_FLOOR};
use crate::mem::guest::GuestMemory;

/// The most parts that are kept apart. Their number comes from the image.
const PARTS: usize = 64;
const PAGE: u64 = 4096;

/// The VM's memory, zeroed, and what has been put there.
pub struct Room<'a> {
    memory: &'a GuestMemory,
    taken: [Range<u64>; PARTS],
    parts: usize,
}

impl<'a> Room<'a> {
    /// All of it, with nothing in it.
    pub fn new(memory: &'a GuestMemory) -> Room<'a> {
        Room { memory, taken: [const { 0..0 }; PARTS], parts: 0 }
    }

    /// The memory.
    pub fn memory(&self) -> &'a GuestMemory {
        self.memory
    }

    /// Takes a range for a part of the image.
    ///
    /// # Errors
    ///
    /// It is not RAM, or taken.
    pub fn take(&mut self, address: u64, length: u64) -> Result<(), ImageError> {
        let does_not_fit = ImageError::DoesNotFit { address, length };
        let mut map = layout::memory_map(self.memory.size());
        if address < IMAGE_FLOOR || !map.any(|r| r.ram && r.contains(address, length)) {
            return Err(does_not_fit);
        }
        let end = address.checked_add(length).ok_or(does_not_fit)?;
        if self.in_the_way(address, length).next().is_some() {
            return Err(ImageError::Overlap { address, length });
        }
        *self.taken.get_mut(self.parts).ok_or(ImageError::TooManySegments)? = address..end;
        self.parts = self.parts.wrapping_add(1);
        Ok(())
    }

    /// Takes a range and fills it: first these bytes, then zeros.
    ///
    /// # Errors
    ///
    /// As [`Room::take`]; more bytes than `length` do not fit.
    pub fn put(&mut self, address: u64, bytes: &[u8], length: u64) -> Result<(), ImageError> {
        if bytes.len() as u64 > length {
            return Err(ImageError::DoesNotFit { address, length });
        }
        if length == 0 {
            return Ok(());
        }
        self.take(address, length)?;
        self.write(address, bytes)
    }

    /// Writes what the loader itself has a place for.
    ///
    /// # Errors
    ///
    /// The VM's memory is too small even for that.
    #[inline(never)]
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), ImageError> {
        self.memory
            .write(address, bytes)
            .map_err(|bad| ImageError::DoesNotFit { address: bad.gpa, length: bad.length })
    }

    /// Puts bytes into the highest free pages of RAM that end at `limit` or below, and says where.
    ///
    /// # Errors
    ///
    /// There is no room for them.
    pub fn put_high(&mut self, bytes: &[u8], limit: u64) -> Result<u64, ImageError> {
        let length = bytes.len() as u64;
        let address = self.highest(length, PAGE, HIGH_RAM..limit);
        let address = address.ok_or(ImageError::NoRoom { length })?;
        self.put(address, bytes, length)?;
        Ok(address)
    }

    /// The highest free place within a range, in RAM above 1 MiB, for so many bytes.
    pub fn highest(&self, length: u64, align: u64, within: Range<u64>) -> Option<u64> {
        let mut end = within.end.min(self.memory.size());
        // Each turn but the last goes below a part.
        for _ in 0..=PARTS {
            let start = end.checked_sub(length)? & !align.wrapping_sub(1);
            if start < within.start.max(HIGH_RAM) {
                return None;
            }
            match self.in_the_way(start, length).map(|other| other.start).min() {
                Some(below) => end = below,
                None => return Some(start),
            }
        }
        None
    }

    /// The lowest such place.
    pub fn lowest(&self, length: u64, align: u64, within: Range<u64>) -> Option<u64> {
        let mut start = within.start.max(HIGH_RAM);
        for _ in 0..=PARTS {
            start = start.checked_next_multiple_of(align)?;
            if start.checked_add(length)? > within.end.min(self.memory.size()) {
                return None;
            }
            match self.in_the_way(start, length).map(|other| other.end).max() {
                Some(above) => start = above,
                None => return Some(start),
            }
        }
        None
    }

    /// What lies where these bytes would.
    fn in_the_way(&self, start: u64, length: u64) -> impl Iterator<Item = &Range<u64>> {
        let end = start.saturating_add(length);
        self.taken.iter().take(self.parts).filter(move |o| start < o.end && o.start < end)
    }
}

#[cfg(test)]
mod tests;
