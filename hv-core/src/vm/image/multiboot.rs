//! Multiboot ("Multiboot Specification", version 0.6.96).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::body::{Addresses, Body};
use super::layout::{self, COMMAND_LINE, HIGH_RAM, INFORMATION, LOW_RAM_END};
use super::room::Room;
use super::start::{Mode, Start};
use super::{ImageError, Parts, number, part};
use crate::vm::{Gpr, ImageKind};

/// The header lies in this much of the file.
const SEARCHED: usize = 8192;
const MAGIC: u32 = 0x1bad_b002;
const LOADER_MAGIC: u64 = 0x2bad_b002;

/// Modules begin on page boundaries: they always do.
const PAGE_ALIGN: u32 = 1 << 0;
/// The amount of memory is told: it always is.
const MEMORY_INFO: u32 = 1 << 1;
/// Flags that a loader must understand to go on.
const REQUIRED: u32 = 0xffff;
/// [`Addresses`] and an entry are behind the header.
const HAS_ADDRESSES: u32 = 1 << 16;

/// The name of the loader, as guests are told.
pub const LOADER: &[u8] = b"Paravane\0";
/// Behind the boot information: the memory map, the list of modules, the loader's name.
const MEMORY_MAP: u64 = INFORMATION.wrapping_add(0x100);
const MODULES: u64 = INFORMATION.wrapping_add(0x200);
const LOADER_NAME: u64 = INFORMATION.wrapping_add(0x300);
/// An empty string, for the module: the zero behind the loader's name.
const NO_STRING: u64 = LOADER_NAME.wrapping_add(LOADER.len() as u64 - 1);

#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
struct Header {
    magic: u32,
    flags: u32,
    checksum: u32,
}

/// The boot information, up to the last field that is given.
#[derive(Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Information {
    /// Which of the fields are given: [`GIVEN`].
    flags: u32,
    lower_kib: u32,
    upper_kib: u32,
    boot_device: u32,
    command_line: u32,
    module_count: u32,
    modules: u32,
    symbols: [u32; 4],
    memory_map_length: u32,
    memory_map: u32,
    drives: [u32; 2],
    configuration: u32,
    loader_name: u32,
}

/// Flags of the boot information: memory, command line, modules, memory map, loader's name.
const GIVEN: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    start: u32,
    end: u32,
    string: u32,
    reserved: u32,
}

/// An entry of the memory map.
#[derive(IntoBytes, Immutable)]
#[repr(C, packed)]
struct MemoryEntry {
    size: u32,
    address: u64,
    length: u64,
    kind: u32,
}

/// What [`MemoryEntry::size`] says: it does not count itself.
const ENTRY_SIZE: u32 = (size_of::<MemoryEntry>() - size_of::<u32>()) as u32;

/// Where the header is in the file, and its flags.
pub fn find(image: &[u8]) -> Option<(u64, u32)> {
    let searched = image.get(..SEARCHED).unwrap_or(image);
    (0..searched.len()).step_by(4).find_map(|offset| {
        let (header, _) = Header::read_from_prefix(searched.get(offset..)?).ok()?;
        let sum = header.magic.wrapping_add(header.flags).wrapping_add(header.checksum);
        (header.magic == MAGIC && sum == 0).then_some((offset as u64, header.flags))
    })
}

/// Loads a kernel.
pub fn load(parts: &Parts<'_>, room: &mut Room<'_>) -> Result<Start, ImageError> {
    let (offset, flags) = find(parts.image).ok_or(ImageError::NotA(ImageKind::Multiboot))?;
    if flags & REQUIRED & !(PAGE_ALIGN | MEMORY_INFO) != 0 {
        return Err(ImageError::Unsupported(
            "Multiboot flags beside page alignment and memory sizes",
        ));
    }
    let mut fields = (None, None);
    if flags & HAS_ADDRESSES != 0 {
        let behind = offset.saturating_add(size_of::<Header>() as u64);
        let bytes = part(parts.image, behind, size_of::<Addresses>() as u64);
        let addresses = bytes.and_then(|bytes| Addresses::read_from_bytes(bytes).ok());
        let entry = number(parts.image, behind.saturating_add(size_of::<Addresses>() as u64), 4);
        fields = (
            Some(addresses.ok_or(ImageError::Truncated)?),
            Some(entry.ok_or(ImageError::Truncated)? as u32),
        );
    }
    let (addresses, entry) = fields;
    let body = Body::find(parts.image, offset, addresses)?;
    body.load(0, room)?;
    write_information(parts, room)?;
    start(body.entry(entry)?, LOADER_MAGIC)
}

/// How both versions enter a kernel: the magic number in EAX, the boot information in EBX.
pub fn start(entry: u64, magic: u64) -> Result<Start, ImageError> {
    let entry = u32::try_from(entry).map_err(|_| ImageError::Malformed("entry address"))?;
    let registers = [(Gpr::Rax, magic), (Gpr::Rbx, INFORMATION)];
    Ok(Start { mode: Mode::Protected, entry: entry.into(), registers })
}

/// KiB of RAM from address 0, and from 1 MiB to the first gap.
pub fn kib(memory: u64) -> [u32; 2] {
    [LOW_RAM_END, memory.saturating_sub(HIGH_RAM)].map(|bytes| (bytes >> 10) as u32)
}

fn write_information(parts: &Parts<'_>, room: &mut Room<'_>) -> Result<(), ImageError> {
    let memory = room.memory().size();
    let [lower_kib, upper_kib] = kib(memory);
    let mut info = Information {
        flags: GIVEN,
        lower_kib,
        upper_kib,
        command_line: COMMAND_LINE as u32,
        memory_map: MEMORY_MAP as u32,
        loader_name: LOADER_NAME as u32,
        modules: MODULES as u32,
        ..Information::default()
    };
    if let Some(initrd) = parts.initrd {
        let start = room.put_high(initrd, u64::MAX)? as u32;
        let end = start.wrapping_add(initrd.len() as u32);
        let module = Module { start, end, string: NO_STRING as u32, reserved: 0 };
        room.write(MODULES, module.as_bytes())?;
        info.module_count = 1;
    }
    for region in layout::memory_map(memory) {
        let entry = MemoryEntry {
            size: ENTRY_SIZE,
            address: region.start,
            length: region.length,
            kind: region.kind(),
        };
        let at = MEMORY_MAP.wrapping_add(info.memory_map_length.into());
        room.write(at, entry.as_bytes())?;
        info.memory_map_length =
            info.memory_map_length.wrapping_add(size_of::<MemoryEntry>() as u32);
    }
    room.write(LOADER_NAME, LOADER)?;
    room.write(INFORMATION, info.as_bytes())
}

#[cfg(test)]
mod tests;
