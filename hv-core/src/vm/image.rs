//! Guest images: what they are, where they go in the VM's memory, and how they are started.
//!
//! A format is read by hand, field by field; whatever an image claims is checked against the file and the
//! VM's memory before it is used, and nothing is allocated by it.

mod body;
mod command_line;
mod elf;
mod error;
pub mod layout;
mod linux;
mod multiboot;
mod multiboot2;
mod pvh;
pub mod rom;
mod room;
pub mod start;

pub use command_line::command_line;
pub use error::ImageError;

use room::Room;
pub use start::{Mode, Start};

use crate::mem::guest::GuestMemory;
use crate::vm::ImageKind;

/// What a VM is loaded from.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// What the image is.
    pub kind: ImageKind,
    /// The image.
    pub image: &'a [u8],
    /// The initial ramdisk, or the first module.
    pub initrd: Option<&'a [u8]>,
    /// The command line, without a zero byte.
    pub command_line: &'a str,
    /// Where the RSDP is, in a VM that has ACPI tables. They are in its memory already.
    pub rsdp: Option<u64>,
}

/// Puts an image into a VM's memory, which is zeroed but for the BIOS area, with what its entry expects.
///
/// # Errors
///
/// [`ImageError`]; the memory may be partly written.
pub fn load(parts: &Parts<'_>, memory: &GuestMemory) -> Result<Start, ImageError> {
    let room = &mut Room::new(memory);
    let start = match kind(parts)? {
        ImageKind::Auto => return Err(ImageError::Unknown),
        ImageKind::Pvh => pvh::load(parts, room)?,
        kind @ (ImageKind::Linux | ImageKind::Linux32) => linux::load(parts, kind, room)?,
        ImageKind::Multiboot => multiboot::load(parts, room)?,
        ImageKind::Multiboot2 => multiboot2::load(parts, room)?,
        // A PC has no place for a command line.
        ImageKind::Rom => return rom::load(parts, room),
    };
    write_command_line(parts.command_line, room)?;
    start::write_tables(start.mode, memory)
        .map_err(|bad| ImageError::DoesNotFit { address: bad.gpa, length: bad.length })?;
    Ok(start)
}

/// What the image is, by its bytes if nobody says; [`ImageKind::Auto`] if they do not say it either.
fn kind(parts: &Parts<'_>) -> Result<ImageKind, ImageError> {
    if parts.kind != ImageKind::Auto {
        return Ok(parts.kind);
    }
    if linux::is_one(parts.image) {
        return Ok(ImageKind::Linux);
    }
    // A kernel that has several entries is entered by the first of these.
    if elf::Elf::find(parts.image).map(pvh::entry).transpose()?.flatten().is_some() {
        return Ok(ImageKind::Pvh);
    }
    Ok(if multiboot2::find(parts.image).is_some() {
        ImageKind::Multiboot2
    } else if multiboot::find(parts.image).is_some() {
        ImageKind::Multiboot
    } else {
        ImageKind::Auto
    })
}

/// The memory is zeroed, so the line ends in a zero byte.
fn write_command_line(line: &str, room: &Room<'_>) -> Result<(), ImageError> {
    const MOST: usize = (layout::IMAGE_FLOOR - layout::COMMAND_LINE - 1) as usize;
    if line.len() > MOST {
        return Err(ImageError::CommandLine { length: line.len(), most: MOST });
    }
    room.write(layout::COMMAND_LINE, line.as_bytes())
}

/// A part of a file.
fn part(image: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    image.get(start..end)
}

/// A little-endian number of so many bytes, at most 8, in a file.
fn number(image: &[u8], offset: u64, size: u64) -> Option<u64> {
    let bytes = part(image, offset, size)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
