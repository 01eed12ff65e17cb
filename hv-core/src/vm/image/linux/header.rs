//! The setup header of a bzImage (Linux, "The Linux/x86 Boot Protocol", The Real-Mode Kernel Header).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::vm::ImageKind;
use crate::vm::image::layout::HIGH_RAM;
use crate::vm::image::{ImageError, part};

/// Where the setup header starts, in the file and in `boot_params`.
pub const PLACE: u64 = 0x1f1;
/// Where the header's jump instruction ends, in the header. Its second byte says how far behind that the
/// header ends.
const JUMP_END: usize = 0x202 - PLACE as usize;
const SECTOR: u64 = 512;

/// The first version with `cmdline_size`, and a 32-bit entry for a loader that sets up no real mode.
const WITH_COMMAND_LINE_SIZE: u16 = 0x206;
/// The first version with `pref_address` and `init_size`.
const WITH_INIT_SIZE: u16 = 0x20a;
/// The first version with `xloadflags`.
const WITH_XLOADFLAGS: u16 = 0x20c;

const LOADED_HIGH: u8 = 1 << 0;
const XLF_KERNEL_64: u16 = 1 << 0;

/// The setup header. What a kernel's version does not have reads as 0.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SetupHeader {
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
    /// The loader.
    pub loader: u8,
    load_flags: u8,
    setup_move_size: U16,
    /// Where the protected-mode part is.
    pub code32_start: U32,
    /// Where the initial ramdisk is.
    pub ramdisk_image: U32,
    /// Its length.
    pub ramdisk_size: U32,
    boot_sector: U32,
    heap_end: U16,
    /// More of the loader's number.
    pub loader_extension: [u8; 2],
    /// Where the command line is.
    pub command_line: U32,
    /// The last address that the initial ramdisk may occupy.
    pub initrd_address_max: U32,
    kernel_alignment: U32,
    relocatable: u8,
    min_alignment: u8,
    xload_flags: U16,
    /// The longest command line in bytes.
    pub command_line_size: U32,
    hardware_subarch: U32,
    hardware_subarch_data: U64,
    payload: [U32; 2],
    /// A list of more data for the kernel.
    pub setup_data: U64,
    preferred_address: U64,
    /// How much memory the kernel needs from where it runs.
    pub init_size: U32,
    handover_offset: U32,
    kernel_info_offset: U32,
    later: [u8; 36],
}

const _: () = assert!(size_of::<SetupHeader>() == 0x290 - 0x1f1);

/// Whether these bytes are a bzImage, or an older format with the same marks.
pub fn is_one(image: &[u8]) -> bool {
    image.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && image.get(0x202..0x206) == Some(b"HdrS")
}

impl SetupHeader {
    /// The header, checked but for what depends on the VM.
    ///
    /// # Errors
    ///
    /// It is none, is cut off, or has a field that is no good.
    pub fn read(image: &[u8]) -> Result<SetupHeader, ImageError> {
        if !is_one(image) {
            return Err(ImageError::NotA(ImageKind::Linux));
        }
        let bytes = part(image, PLACE, size_of::<SetupHeader>() as u64);
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
    ///
    /// # Errors
    ///
    /// It is cut off.
    pub fn code<'a>(&self, image: &'a [u8]) -> Result<&'a [u8], ImageError> {
        // 0 stands for 4; the boot sector comes on top.
        let sectors = match self.setup_sectors {
            0 => 5,
            n => u64::from(n).saturating_add(1),
        };
        let length = u64::from(self.system_size.get()).saturating_mul(16);
        part(image, sectors.saturating_mul(SECTOR), length).ok_or(ImageError::Truncated)
    }

    /// Where the kernel goes: where it prefers to run, so that it need not move itself. A relocatable one
    /// gains nothing below: it would move up there before anything else.
    ///
    /// # Errors
    ///
    /// A field is no good.
    pub fn place(&self) -> Result<u32, ImageError> {
        let preferred = if self.version.get() >= WITH_INIT_SIZE {
            u32::try_from(self.preferred_address.get())
                .map_err(|_| ImageError::Malformed("pref_address"))?
        } else {
            self.code32_start.get()
        };
        if self.relocatable == 0 {
            return Ok(preferred);
        }
        let alignment = self.kernel_alignment.get();
        if !alignment.is_power_of_two() {
            return Err(ImageError::Malformed("kernel_alignment"));
        }
        let lowest = preferred.max(HIGH_RAM as u32);
        lowest.checked_next_multiple_of(alignment).ok_or(ImageError::Malformed("pref_address"))
    }

    /// Whether the kernel has a 64-bit entry.
    pub fn has_64_bit_entry(&self) -> bool {
        self.version.get() >= WITH_XLOADFLAGS && self.xload_flags.get() & XLF_KERNEL_64 != 0
    }
}
