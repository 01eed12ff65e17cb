//! Firmware: a raw image that ends at 4 GiB, of which RAM below 1 MiB has a copy of the end, as PCs do.

use core::ops::{Range, RangeInclusive};

use super::layout::HIGH_RAM;
use super::room::Room;
use super::start::{Mode, Start};
use super::{ImageError, Parts};
use crate::mem::frames::PAGE;
use crate::vm::Gpr;

/// How large a ROM may be in bytes.
pub const SIZE: RangeInclusive<u64> = 64 << 10..=16 << 20;
/// The most that is copied to the end of the first MiB.
const SHADOW: u64 = 128 << 10;
/// Where a ROM ends.
const END: u64 = 4 << 30;
/// The first instruction, in the code segment that a reset leaves (SDM vol. 3, First Instruction
/// Executed).
const RESET_VECTOR: u64 = 0xfff0;

/// Where a ROM goes.
///
/// # Errors
///
/// [`ImageError::RomSize`].
pub fn place(image: &[u8]) -> Result<Range<u64>, ImageError> {
    let size = image.len() as u64;
    if SIZE.contains(&size) && size.is_multiple_of(PAGE) {
        Ok(END.saturating_sub(size)..END)
    } else {
        Err(ImageError::RomSize(size))
    }
}

/// Copies the end of a ROM, which stands in the VM's memory already. It gets neither a ramdisk nor a
/// command line: a PC has no place for them.
pub fn load(parts: &Parts<'_>, room: &Room<'_>) -> Result<Start, ImageError> {
    let place = place(parts.image)?;
    if parts.initrd.is_some() {
        return Err(ImageError::NoPlace("an initial ramdisk"));
    }
    if !parts.command_line.is_empty() {
        return Err(ImageError::NoPlace("a command line"));
    }
    if room.memory().rom() != place {
        let length = parts.image.len() as u64;
        return Err(ImageError::DoesNotFit { address: place.start, length });
    }
    let shadow = parts.image.len().saturating_sub(SHADOW as usize);
    let shadow = parts.image.get(shadow..).unwrap_or(parts.image);
    room.write(HIGH_RAM.saturating_sub(shadow.len() as u64), shadow)?;
    // RDX is the CPU's signature, of which nothing is promised.
    Ok(Start::new(Mode::Real, RESET_VECTOR, Gpr::Rdx, 0))
}

#[cfg(test)]
mod tests;
