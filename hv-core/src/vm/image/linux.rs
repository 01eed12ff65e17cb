//! Linux (Linux, "The Linux/x86 Boot Protocol", 64-bit and 32-bit boot protocol).

mod header;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

use header::SetupHeader;
pub use header::is_one;

use super::layout::{self, COMMAND_LINE, HIGH_RAM, INFORMATION};
use super::room::Room;
use super::start::{Mode, Start};
use super::{ImageError, Parts};
use crate::vm::{Gpr, ImageKind};

/// The 64-bit entry, from where the kernel is loaded.
const ENTRY_64: u64 = 0x200;
/// A loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xff;

/// An entry of the memory map in `boot_params`.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct E820 {
    address: U64,
    size: U64,
    kind: U32,
}

/// Fields of `boot_params` outside of the header: their places.
mod params {
    pub const ACPI_RSDP: u64 = 0x070;
    pub const ALT_MEM_K: u64 = 0x1e0;
    pub const E820_ENTRIES: u64 = 0x1e8;
    pub const E820_TABLE: u64 = 0x2d0;
}

/// Loads a kernel: by its 64-bit entry if `kind` leaves that open and it has one.
pub fn load(parts: &Parts<'_>, kind: ImageKind, room: &mut Room<'_>) -> Result<Start, ImageError> {
    let mut header = SetupHeader::read(parts.image)?;
    let code = header.code(parts.image)?;
    let most = header.command_line_size.get() as usize;
    let length = parts.command_line.len();
    if length > most {
        return Err(ImageError::CommandLine { length, most });
    }
    let place = header.place()?;
    let size = u64::from(header.init_size.get()).max(code.len() as u64);
    room.put(place.into(), code, size)?;
    if let Some(initrd) = parts.initrd {
        let limit = u64::from(header.initrd_address_max.get()).saturating_add(1);
        header.ramdisk_image = (room.put_high(initrd, limit)? as u32).into();
        header.ramdisk_size = (initrd.len() as u32).into();
    }
    header.loader = UNKNOWN_LOADER;
    header.loader_extension = [0; 2];
    header.code32_start = place.into();
    header.command_line = (COMMAND_LINE as u32).into();
    header.setup_data = 0.into();
    write_params(&header, parts.rsdp, room)?;
    Ok(if header.has_64_bit_entry() && kind != ImageKind::Linux32 {
        let entry = u64::from(place).wrapping_add(ENTRY_64);
        Start::new(Mode::Long, entry, Gpr::Rsi, INFORMATION)
    } else {
        Start::new(Mode::Protected, place, Gpr::Rsi, INFORMATION)
    })
}

fn write_params(
    header: &SetupHeader,
    rsdp: Option<u64>,
    room: &Room<'_>,
) -> Result<(), ImageError> {
    let at = |field: u64| INFORMATION.wrapping_add(field);
    let memory = room.memory().size();
    room.write(at(header::PLACE), header.as_bytes())?;
    room.write(at(params::ACPI_RSDP), rsdp.unwrap_or(0).as_bytes())?;
    let high_kib = memory.saturating_sub(HIGH_RAM) >> 10;
    room.write(at(params::ALT_MEM_K), (high_kib as u32).as_bytes())?;
    let mut entries = 0u8;
    let mut table = at(params::E820_TABLE);
    for region in layout::memory_map(memory) {
        let entry = E820 {
            address: region.start.into(),
            size: region.length.into(),
            kind: region.kind().into(),
        };
        room.write(table, entry.as_bytes())?;
        table = table.wrapping_add(size_of::<E820>() as u64);
        entries = entries.wrapping_add(1);
    }
    room.write(at(params::E820_ENTRIES), &[entries])
}

#[cfg(test)]
mod tests;
