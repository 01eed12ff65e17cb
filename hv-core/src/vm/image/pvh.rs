//! PVH: ELF executables with an entry note, and the start information that the entry expects (Xen,
//! "x86/HVM direct boot ABI").

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::elf::{Elf, NOTE};
use super::layout::{self, COMMAND_LINE, INFORMATION};
use super::room::Room;
use super::start::{Mode, Start};
use super::{ImageError, Parts};
use crate::vm::{Gpr, ImageKind};

const PHYS32_ENTRY: u32 = 18;
const MAGIC: u32 = 0x336e_c578;
/// The first version with a memory map.
const VERSION: u32 = 1;
/// The memory map, behind the start information.
const MEMORY_MAP: u64 = INFORMATION.wrapping_add(0x100);
/// The list of modules, behind that.
const MODULES: u64 = INFORMATION.wrapping_add(0x400);

#[derive(Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MemoryEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// The entry of an executable that has the note.
///
/// # Errors
///
/// A segment lies outside of the file.
pub fn entry(elf: Elf<'_>) -> Result<Option<u32>, ImageError> {
    for segment in elf.segments() {
        let segment = segment?;
        if segment.kind == NOTE
            && let Some(entry) = find_entry(elf.bytes(&segment)?)
        {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The PVH entry in a segment of notes: name size, descriptor size, type, then both padded to 4.
fn find_entry(mut notes: &[u8]) -> Option<u32> {
    loop {
        let ([name, descriptor, kind], rest) = <[u32; 3]>::read_from_prefix(notes).ok()?;
        let padded = |n: u32| usize::try_from(n.checked_next_multiple_of(4)?).ok();
        let (name_bytes, rest) = rest.split_at_checked(padded(name)?)?;
        let (value, rest) = rest.split_at_checked(padded(descriptor)?)?;
        if kind == PHYS32_ENTRY && name_bytes == b"Xen\0" {
            return Some(u32::read_from_prefix(value).ok()?.0);
        }
        notes = rest;
    }
}

/// Loads an executable.
pub fn load(parts: &Parts<'_>, room: &mut Room<'_>) -> Result<Start, ImageError> {
    const NOT: ImageError = ImageError::NotA(ImageKind::Pvh);
    let elf = Elf::find(parts.image).ok_or(NOT)?;
    let entry = entry(elf)?.ok_or(NOT)?;
    elf.load(0, room)?;
    let mut info = StartInfo {
        magic: MAGIC,
        version: VERSION,
        command_line: COMMAND_LINE,
        rsdp: parts.rsdp.unwrap_or(0),
        memory_map: MEMORY_MAP,
        ..StartInfo::default()
    };
    if let Some(initrd) = parts.initrd {
        let address = room.put_high(initrd, u64::MAX)?;
        let size = initrd.len() as u64;
        let module = Module { address, size, command_line: 0, reserved: 0 };
        room.write(MODULES, module.as_bytes())?;
        info.modules = 1;
        info.module_list = MODULES;
    }
    let mut at = MEMORY_MAP;
    for region in layout::memory_map(room.memory().size()) {
        let entry = MemoryEntry {
            address: region.start,
            size: region.length,
            kind: region.kind(),
            reserved: 0,
        };
        room.write(at, entry.as_bytes())?;
        at = at.wrapping_add(size_of::<MemoryEntry>() as u64);
        info.memory_map_entries = info.memory_map_entries.wrapping_add(1);
    }
    room.write(INFORMATION, info.as_bytes())?;
    Ok(Start::new(Mode::Protected, entry, Gpr::Rbx, INFORMATION))
}

#[cfg(test)]
mod tests;
