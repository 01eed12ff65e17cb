//! Guest images: ELF64 with a PVH note, and the start information that the entry expects (Xen,
//! "x86/HVM direct boot ABI").

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mem::guest::GuestMemory;

/// Where the start information is put; images must lie above [`IMAGE_FLOOR`].
const START_INFO: u64 = 0x6000;
const MEMORY_MAP: u64 = 0x6100;
const COMMAND_LINE: u64 = 0x6200;
const IMAGE_FLOOR: u64 = 0x8000;

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is not a 64-bit little-endian x86-64 ELF executable.
    NotElf,
    /// A header or segment lies outside of the file.
    Truncated,
    /// It has no PVH entry note.
    NoEntry,
    /// A segment does not fit into the VM's RAM, or lies below `IMAGE_FLOOR`.
    DoesNotFit {
        /// Where the segment starts.
        address: u64,
        /// Its length in memory.
        length: u64,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ImageError::NotElf => write!(f, "the image is not an x86-64 ELF executable"),
            ImageError::Truncated => write!(f, "the image is cut off"),
            ImageError::NoEntry => {
                write!(f, "the image has no PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY)")
            }
            ImageError::DoesNotFit { address, length } => write!(
                f,
                "a segment of {length} bytes at {address:#x} does not fit: give the VM more memory, \
                 or link it above {IMAGE_FLOOR:#x}"
            ),
        }
    }
}

#[derive(FromBytes)]
#[repr(C)]
struct FileHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    _version: u32,
    _entry: u64,
    program_headers: u64,
    _section_headers: u64,
    _flags: u32,
    _header_size: u16,
    entry_size: u16,
    entry_count: u16,
    _rest: [u16; 3],
}

#[derive(FromBytes)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    _flags: u32,
    offset: u64,
    _virtual_address: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    _align: u64,
}

const EXECUTABLE: u16 = 2;
const X86_64: u16 = 62;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
const PHYS32_ENTRY: u32 = 18;

#[derive(IntoBytes, Immutable, KnownLayout)]
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
struct MemoryEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Where a guest starts: in 32-bit protected mode, flat segments, paging off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// EIP.
    pub entry: u32,
    /// EBX: the start information.
    pub information: u32,
}

fn part(image: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    image.get(start..end)
}

fn program_headers(
    image: &[u8],
) -> Result<impl Iterator<Item = Option<ProgramHeader>>, ImageError> {
    let (header, _) = FileHeader::read_from_prefix(image).map_err(|_| ImageError::NotElf)?;
    // Magic, 64-bit, little endian.
    if !header.ident.starts_with(b"\x7fELF\x02\x01")
        || header.kind != EXECUTABLE
        || header.machine != X86_64
        || usize::from(header.entry_size) < size_of::<ProgramHeader>()
    {
        return Err(ImageError::NotElf);
    }
    let size = u64::from(header.entry_size);
    Ok((0..u64::from(header.entry_count)).map(move |i| {
        let offset = header.program_headers.checked_add(i.checked_mul(size)?)?;
        let bytes = part(image, offset, size_of::<ProgramHeader>() as u64)?;
        ProgramHeader::read_from_bytes(bytes).ok()
    }))
}

/// Copies an image into a VM's zeroed RAM and prepares what its entry expects.
///
/// # Errors
///
/// [`ImageError`]; the RAM may be partly written.
pub fn load(image: &[u8], command_line: &str, memory: &GuestMemory) -> Result<Start, ImageError> {
    let mut entry = None;
    for header in program_headers(image)? {
        let header = header.ok_or(ImageError::Truncated)?;
        match header.kind {
            LOAD => load_segment(image, &header, memory)?,
            NOTE => {
                let notes = part(image, header.offset, header.file_size);
                entry = entry.or(find_entry(notes.ok_or(ImageError::Truncated)?));
            }
            _ => {}
        }
    }
    let entry = entry.ok_or(ImageError::NoEntry)?;
    write_start_info(command_line, memory)
        .map_err(|bad| ImageError::DoesNotFit { address: bad.gpa, length: bad.length })?;
    Ok(Start { entry, information: START_INFO as u32 })
}

fn load_segment(
    image: &[u8],
    header: &ProgramHeader,
    memory: &GuestMemory,
) -> Result<(), ImageError> {
    let &ProgramHeader { address, memory_size: length, .. } = header;
    let does_not_fit = ImageError::DoesNotFit { address, length };
    if length == 0 {
        return Ok(());
    }
    if address < IMAGE_FLOOR || header.file_size > length {
        return Err(does_not_fit);
    }
    memory.locate(address, length).map_err(|_| does_not_fit)?;
    let bytes = part(image, header.offset, header.file_size).ok_or(ImageError::Truncated)?;
    memory.write(address, bytes).map_err(|_| does_not_fit)
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

fn write_start_info(
    command_line: &str,
    memory: &GuestMemory,
) -> Result<(), crate::mem::guest::BadAddress> {
    const RAM: u32 = 1;
    let info = StartInfo {
        magic: 0x336e_c578,
        version: 1,
        flags: 0,
        modules: 0,
        module_list: 0,
        command_line: COMMAND_LINE,
        rsdp: 0,
        memory_map: MEMORY_MAP,
        memory_map_entries: 1,
        reserved: 0,
    };
    let ram = MemoryEntry { address: 0, size: memory.size(), kind: RAM, reserved: 0 };
    memory.write(START_INFO, info.as_bytes())?;
    memory.write(MEMORY_MAP, ram.as_bytes())?;
    memory.write(COMMAND_LINE, command_line.as_bytes())?;
    // The RAM was zeroed, so the line ends in a zero.
    Ok(())
}

#[cfg(test)]
mod tests;
