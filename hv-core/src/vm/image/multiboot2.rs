//! Multiboot2 ("Multiboot2 Specification", version 2.0).

mod information;

use zerocopy::FromBytes;

use super::body::{Addresses, Body};
use super::multiboot;
use super::room::Room;
use super::start::Start;
use super::{ImageError, Parts, number, part};
use crate::vm::ImageKind;
use information::Asked;

/// The header lies in this much of the file.
const SEARCHED: usize = 32 << 10;
const MAGIC: u32 = 0xe852_50d6;
const LOADER_MAGIC: u64 = 0x36d7_6289;
/// The architecture that means 32-bit protected mode of x86.
const I386: u32 = 0;

#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
struct Header {
    magic: u32,
    architecture: u32,
    length: u32,
    checksum: u32,
}

#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
struct Tag {
    kind: u16,
    flags: u16,
    size: u32,
}

/// Tags of the header.
mod tag {
    pub const END: u16 = 0;
    pub const INFORMATION_REQUEST: u16 = 1;
    pub const ADDRESSES: u16 = 2;
    pub const ENTRY: u16 = 3;
    pub const CONSOLE: u16 = 4;
    pub const MODULE_ALIGNMENT: u16 = 6;
    pub const EFI_ENTRIES: core::ops::RangeInclusive<u16> = 8..=9;
    pub const RELOCATABLE: u16 = 10;
    /// [`Tag::flags`](super::Tag): who does not know the tag may go on.
    pub const OPTIONAL: u16 = 1 << 0;
}

/// Where a kernel can be moved to.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
struct Relocation {
    lowest: u32,
    /// Where it ends at the latest.
    highest_end: u32,
    align: u32,
    /// 0 for none, 1 for the lowest address, 2 for the highest.
    preference: u32,
}

/// What the header says.
#[derive(Clone, Copy, Default)]
struct Wanted {
    addresses: Option<Addresses>,
    entry: Option<u32>,
    relocation: Option<Relocation>,
    sections: bool,
}

/// Where the header is in the file, and its length.
pub fn find(image: &[u8]) -> Option<(u64, u32)> {
    let searched = image.get(..SEARCHED).unwrap_or(image);
    (0..searched.len()).step_by(8).find_map(|offset| {
        let (header, _) = Header::read_from_prefix(searched.get(offset..)?).ok()?;
        let Header { magic, architecture, length, checksum } = header;
        let sum = [magic, architecture, length].into_iter().fold(checksum, u32::wrapping_add);
        (magic == MAGIC && architecture == I386 && sum == 0).then_some((offset as u64, length))
    })
}

/// Loads a kernel.
pub fn load(parts: &Parts<'_>, room: &mut Room<'_>) -> Result<Start, ImageError> {
    const NOT: ImageError = ImageError::NotA(ImageKind::Multiboot2);
    let (offset, length) = find(parts.image).ok_or(NOT)?;
    let header = part(parts.image, offset, length.into()).ok_or(ImageError::Truncated)?;
    let wanted = wanted(header)?;
    let body = Body::find(parts.image, offset, wanted.addresses)?;
    let by = match wanted.relocation {
        Some(relocation) => by(&body, relocation, room)?,
        None => 0,
    };
    body.load(by, room)?;
    let asked = Asked {
        load_base: match wanted.relocation {
            Some(_) => Some(body.span()?.start.wrapping_add(by) as u32),
            None => None,
        },
        sections: match &body {
            Body::Elf(elf) if wanted.sections => Some(*elf),
            _ => None,
        },
    };
    information::write(parts, asked, room)?;
    multiboot::start(body.entry(wanted.entry)?.wrapping_add(by), LOADER_MAGIC)
}

/// Goes through the tags.
fn wanted(header: &[u8]) -> Result<Wanted, ImageError> {
    const MALFORMED: ImageError = ImageError::Malformed("list of Multiboot2 header tags");
    let mut wanted = Wanted::default();
    let mut at = size_of::<Header>();
    loop {
        let rest = header.get(at..).ok_or(MALFORMED)?;
        let (tag, _) = Tag::read_from_prefix(rest).map_err(|_| MALFORMED)?;
        let size = tag.size as usize;
        let content = rest.get(size_of::<Tag>()..size).ok_or(MALFORMED)?;
        let optional = tag.flags & tag::OPTIONAL != 0;
        let word = || number(content, 0, 4).map(|n| n as u32).ok_or(MALFORMED);
        match tag.kind {
            tag::END => return Ok(wanted),
            tag::INFORMATION_REQUEST => {
                for kind in content.chunks_exact(4).filter_map(|kind| number(kind, 0, 4)) {
                    let kind = kind as u32;
                    wanted.sections |= kind == information::SECTIONS;
                    if kind > information::LAST && !optional {
                        return Err(ImageError::Information(kind));
                    }
                }
            }
            tag::ADDRESSES => {
                let (addresses, _) = Addresses::read_from_prefix(content).map_err(|_| MALFORMED)?;
                wanted.addresses = Some(addresses);
            }
            tag::ENTRY => wanted.entry = Some(word()?),
            // Bit 0: a console that both know must be there. There is none.
            tag::CONSOLE if word()? & 1 == 0 || optional => {}
            tag::CONSOLE => return Err(ImageError::Unsupported("a text or graphics console")),
            // Modules always begin on page boundaries.
            tag::MODULE_ALIGNMENT => {}
            tag::RELOCATABLE => {
                let (relocation, _) =
                    Relocation::read_from_prefix(content).map_err(|_| MALFORMED)?;
                wanted.relocation = Some(relocation);
            }
            // Entries for a loader that is an EFI application, which this one is not.
            kind if optional || tag::EFI_ENTRIES.contains(&kind) => {}
            kind => return Err(ImageError::Tag(kind)),
        }
        at = size.checked_next_multiple_of(8).and_then(|n| at.checked_add(n)).ok_or(MALFORMED)?;
    }
}

/// How far up a kernel that can be moved goes, modulo 2^64: not at all, if it prefers nothing and fits.
fn by(body: &Body<'_>, relocation: Relocation, room: &Room<'_>) -> Result<u64, ImageError> {
    const NO_PREFERENCE: u32 = 0;
    const HIGHEST: u32 = 2;
    let Relocation { lowest, highest_end, align, preference } = relocation;
    if !align.is_power_of_two() {
        return Err(ImageError::Malformed("Multiboot2 alignment"));
    }
    let within = lowest.into()..u64::from(highest_end).saturating_add(1);
    let span = body.span()?;
    let length = span.end.saturating_sub(span.start);
    let stays = preference == NO_PREFERENCE
        && within.start <= span.start
        && span.end <= within.end
        && room.lowest(length, 1, span.clone()).is_some();
    let place = match preference {
        _ if stays => Some(span.start),
        HIGHEST => room.highest(length, align.into(), within),
        _ => room.lowest(length, align.into(), within),
    };
    let place = place.ok_or(ImageError::DoesNotFit { address: lowest.into(), length })?;
    Ok(place.wrapping_sub(span.start))
}

#[cfg(test)]
mod tests;
