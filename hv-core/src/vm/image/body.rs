//! What of a Multiboot kernel's file is loaded: ELF segments, or the piece that its header describes.

use core::ops::Range;

use zerocopy::FromBytes;

use super::elf::Elf;
use super::room::Room;
use super::{ImageError, part};

/// The address fields of a header, the same in both versions.
#[derive(Clone, Copy, Debug, FromBytes)]
#[repr(C)]
pub struct Addresses {
    /// Where the header itself goes.
    pub header: u32,
    /// Where the piece starts in memory; all ones: the file is loaded from its beginning.
    pub load: u32,
    /// Where what the file has of it ends; 0: the file's end is the end.
    pub load_end: u32,
    /// Where it ends with the zeros behind; 0: there are none.
    pub bss_end: u32,
}

/// What is loaded.
pub enum Body<'a> {
    /// The segments of an executable.
    Elf(Elf<'a>),
    /// One piece.
    Piece {
        /// What the file has of it.
        bytes: &'a [u8],
        /// Where it goes, with the zeros behind.
        span: Range<u64>,
    },
}

impl<'a> Body<'a> {
    /// What is loaded of a file whose header, at this offset, has these fields or none.
    ///
    /// # Errors
    ///
    /// The fields contradict each other or the file, or there are none and it is no ELF file.
    pub fn find(
        image: &'a [u8],
        header: u64,
        addresses: Option<Addresses>,
    ) -> Result<Body<'a>, ImageError> {
        match addresses {
            Some(addresses) => Body::piece(image, header, addresses),
            None => Ok(Body::Elf(Elf::find(image).ok_or(ImageError::NoAddresses)?)),
        }
    }

    fn piece(image: &'a [u8], header: u64, addresses: Addresses) -> Result<Body<'a>, ImageError> {
        const MALFORMED: ImageError = ImageError::Malformed("set of Multiboot address fields");
        let at = u64::from(addresses.header);
        let load = match addresses.load {
            u32::MAX => at.checked_sub(header),
            load => Some(load.into()),
        }
        .ok_or(MALFORMED)?;
        let before = at.checked_sub(load).ok_or(MALFORMED)?;
        let offset = header.checked_sub(before).ok_or(MALFORMED)?;
        let length = match addresses.load_end {
            0 => (image.len() as u64).checked_sub(offset),
            end => u64::from(end).checked_sub(load),
        }
        .ok_or(MALFORMED)?;
        let bytes = part(image, offset, length).ok_or(ImageError::Truncated)?;
        let file_end = load.checked_add(length).ok_or(MALFORMED)?;
        let end = match addresses.bss_end {
            0 => file_end,
            end => end.into(),
        };
        if end < file_end || end == load {
            return Err(MALFORMED);
        }
        Ok(Body::Piece { bytes, span: load..end })
    }

    /// The physical addresses that it asks for.
    ///
    /// # Errors
    ///
    /// See [`Elf::span`].
    pub fn span(&self) -> Result<Range<u64>, ImageError> {
        match self {
            Body::Elf(elf) => elf.span(),
            Body::Piece { span, .. } => Ok(span.clone()),
        }
    }

    /// Loads it `by` bytes further up than it asks for.
    ///
    /// # Errors
    ///
    /// It does not fit, or lies on something else.
    pub fn load(&self, by: u64, room: &mut Room<'_>) -> Result<(), ImageError> {
        match self {
            Body::Elf(elf) => elf.load(by, room),
            Body::Piece { bytes, span } => {
                let length = span.end.saturating_sub(span.start);
                room.put(span.start.wrapping_add(by), bytes, length)
            }
        }
    }

    /// Its entry: what the header says, or the ELF file.
    ///
    /// # Errors
    ///
    /// Neither says one that is an address.
    pub fn entry(&self, said: Option<u32>) -> Result<u64, ImageError> {
        match (said, self) {
            (Some(entry), _) => Ok(entry.into()),
            (None, Body::Elf(elf)) => elf.entry(),
            (None, Body::Piece { .. }) => Err(ImageError::Malformed("lack of an entry address")),
        }
    }
}

#[cfg(test)]
mod tests;
