//! Linux (Linux, "The Linux/x86 Boot Protocol", 64-bit and 32-bit boot protocol).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout::{self, COMMAND_LINE, HIGH_RAM, INFORMATION};
use super::room::Room;
use super::start::{Mode, Start};
use super::{ImageError, Kind, Parts, part};
use crate::vm::Gpr;

/// Where the setup header starts, in the file and in `boot_params`.
const HEADER: u64 = 0x1f1;
/// Where the header's jump instruction ends, in the header. Its second byte says how far behind that the
/// header ends.
const JUMP_END: usize = 0x202 - HEADER as usize;
const SECTOR: u64 = 512;
/// The 64-bit entry, from where the kernel is loaded.
const ENTRY_64: u64 = 0x200;

/// The first version with `cmdline_size`, and a 32-bit entry for a loader that sets up no real mode.
const WITH_COMMAND_LINE_SIZE: u16 = 0x206;
/// The first version with `pref_address` and `init_size`.
const WITH_INIT_SIZE: u16 = 0x20a;
/// The first version with `xloadflags`.
const WITH_XLOADFLAGS: u16 = 0x20c;

const LOADED_HIGH: u8 = 1 << 0;
const XLF_KERNEL_64: u16 = 1 << 0;
/// A loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xff;

/// The setup header. What a kernel's version does not have reads as 0.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SetupHeader {
    setup_sectors: u8,
    root_flags: U16,
    /// The protected-mode part in units of 16 bytes.
    system_size: U32,
    ram_size: U16,
    video_mode: U16,
    root_device: U16,
    boot_flag: U16,
    jump: [u8; 2],
    magic: [u8; 4],
    version: U16,
    real_mode_switch: U32,
    start_segment: U16,
    kernel_version: U16,
    loader: u8,
    load_flags: u8,
    setup_move_size: U16,
    code32_start: U32,
    ramdisk_image: U32,
    ramdisk_size: U32,
    boot_sector: U32,
    heap_end: U16,
    loader_extension: [u8; 2],
    command_line: U32,
    initrd_address_max: U32,
    kernel_alignment: U32,
    relocatable: u8,
    min_alignment: u8,
    xload_flags: U16,
    command_line_size: U32,
    hardware_subarch: U32,
    hardware_subarch_data: U64,
    payload: [U32; 2],
    setup_data: U64,
    preferred_address: U64,
    init_size: U32,
    handover_offset: U32,
    kernel_info_offset: U32,
    later: [u8; 36],
}

const _: () = assert!(size_of::<SetupHeader>() == 0x290 - 0x1f1);

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

/// Whether these bytes are a bzImage, or an older format with the same marks.
pub fn is_one(image: &[u8]) -> bool {
    image.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && image.get(0x202..0x206) == Some(b"HdrS")
}

/// Loads a kernel: by its 64-bit entry if `kind` leaves that open and it has one.
pub fn load(parts: &Parts<'_>, kind: Kind, room: &mut Room<'_>) -> Result<Start, ImageError> {
    let mut header = header(parts.image)?;
    let code = code(parts.image, &header)?;
    let most = header.command_line_size.get() as usize;
    let length = parts.command_line.len();
    if length > most {
        return Err(ImageError::CommandLine { length, most });
    }
    let place = place(&header)?;
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
    let has_64 =
        header.version.get() >= WITH_XLOADFLAGS && header.xload_flags.get() & XLF_KERNEL_64 != 0;
    Ok(if has_64 && kind != Kind::Linux32 {
        let entry = u64::from(place).wrapping_add(ENTRY_64);
        Start::new(Mode::Long, entry, Gpr::Rsi, INFORMATION)
    } else {
        Start::new(Mode::Protected, place, Gpr::Rsi, INFORMATION)
    })
}

/// The header, checked but for what depends on the VM.
fn header(image: &[u8]) -> Result<SetupHeader, ImageError> {
    if !is_one(image) {
        return Err(ImageError::NotA(Kind::Linux));
    }
    let bytes = part(image, HEADER, size_of::<SetupHeader>() as u64);
    let mut header = bytes
        .and_then(|bytes| SetupHeader::read_from_bytes(bytes).ok())
        .ok_or(ImageError::Truncated)?;
    let [_, behind] = header.jump;
    let end = JUMP_END.wrapping_add(behind.into());
    if let Some(code) = header.as_mut_bytes().get_mut(end..) {
        code.fill(0);
    }
    let version = header.version.get();
    if version < WITH_COMMAND_LINE_SIZE {
        return Err(ImageError::Version { found: version, least: WITH_COMMAND_LINE_SIZE });
    }
    if header.load_flags & LOADED_HIGH == 0 {
        return Err(ImageError::Unsupported("being loaded below 1 MiB (a zImage)"));
    }
    for (field, value) in [
        ("syssize", header.system_size.get()),
        ("cmdline_size", header.command_line_size.get()),
        ("initrd_addr_max", header.initrd_address_max.get()),
        ("init_size", header.init_size.get() | u32::from(version < WITH_INIT_SIZE)),
    ] {
        if value == 0 {
            return Err(ImageError::Malformed(field));
        }
    }
    Ok(header)
}

/// The part of the file that runs in protected mode.
fn code<'a>(image: &'a [u8], header: &SetupHeader) -> Result<&'a [u8], ImageError> {
    // 0 stands for 4; the boot sector comes on top.
    let sectors = match header.setup_sectors {
        0 => 5,
        n => u64::from(n).saturating_add(1),
    };
    let length = u64::from(header.system_size.get()).saturating_mul(16);
    part(image, sectors.saturating_mul(SECTOR), length).ok_or(ImageError::Truncated)
}

/// Where the kernel goes: where it prefers to run, so that it need not move itself. A relocatable one
/// gains nothing below: it would move up there before anything else.
fn place(header: &SetupHeader) -> Result<u32, ImageError> {
    let preferred = if header.version.get() >= WITH_INIT_SIZE {
        u32::try_from(header.preferred_address.get())
            .map_err(|_| ImageError::Malformed("pref_address"))?
    } else {
        header.code32_start.get()
    };
    if header.relocatable == 0 {
        return Ok(preferred);
    }
    let alignment = header.kernel_alignment.get();
    if !alignment.is_power_of_two() {
        return Err(ImageError::Malformed("kernel_alignment"));
    }
    let lowest = preferred.max(HIGH_RAM as u32);
    lowest.checked_next_multiple_of(alignment).ok_or(ImageError::Malformed("pref_address"))
}

fn write_params(
    header: &SetupHeader,
    rsdp: Option<u64>,
    room: &Room<'_>,
) -> Result<(), ImageError> {
    let at = |field: u64| INFORMATION.wrapping_add(field);
    let memory = room.memory().size();
    room.write(at(HEADER), header.as_bytes())?;
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
