//! What the boot loader left: memory, the bundle, the ACPI root.

use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};
use zerocopy::FromBytes;

use super::entry::Protocol;
use crate::host::acpi::ReadPhysical;
use crate::hw::physical::Physical;
use crate::mem::frames::{Frames, Range};

/// The boot loader's information, read and no longer needed where it was.
pub struct BootInfo {
    /// Usable RAM below 4 GiB and above, as the firmware reports it.
    pub frames: Frames,
    /// Where the bundle is, if one was passed.
    pub bundle: Option<Range>,
    /// Where the ACPI root pointer is.
    pub rsdp: Option<u64>,
    /// The hypervisor's command line asks for a crash: see `start::crash_test`.
    pub crash_test: bool,
}

/// The one word that the hypervisor's command line knows.
const CRASH_TEST: &[u8] = b"crash-test";

fn asks_for_crash(line: &[u8]) -> bool {
    line.split(|&b| b == b' ' || b == 0).any(|word| word == CRASH_TEST)
}

/// `hvm_start_info` (Xen, "x86/HVM direct boot ABI").
#[derive(FromBytes)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    _flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    _reserved: u32,
}

const START_INFO_MAGIC: u32 = 0x336e_c578;

#[derive(FromBytes)]
#[repr(C)]
struct ModuleEntry {
    address: u64,
    size: u64,
    _command_line: u64,
    _reserved: u64,
}

#[derive(FromBytes)]
#[repr(C)]
struct MemoryEntry {
    address: u64,
    size: u64,
    kind: u32,
    _reserved: u32,
}

/// The type of usable RAM in a PVH memory map.
const RAM: u32 = 1;

impl BootInfo {
    /// Reads what `protocol` left at `address`. `None` if it is not what the protocol says, or has
    /// no memory map.
    pub fn read(protocol: Protocol, address: u64) -> Option<BootInfo> {
        let mut info = match protocol {
            Protocol::Multiboot2 => multiboot2(address)?,
            Protocol::Pvh => pvh(address)?,
        };
        if info.rsdp.is_none() {
            info.rsdp = find_rsdp();
        }
        Some(info)
    }
}

fn multiboot2(address: u64) -> Option<BootInfo> {
    // SAFETY: the loader entered by the Multiboot2 entry point, so by the protocol there is an
    // information structure, below 4 GiB and thus mapped; the parser checks what is in it.
    let info = unsafe { BootInformation::load(address as *const BootInformationHeader) }.ok()?;
    let mut frames = Frames::default();
    for area in info.memory_map_tag()?.memory_areas() {
        if area.typ() == MemoryAreaType::Available {
            frames.release(Range::new(area.start_address(), area.end_address()));
        }
    }
    let bundle = info
        .module_tags()
        .next()
        .map(|m| Range::new(u64::from(m.start_address()), u64::from(m.end_address())));
    // The tags hold copies of the RSDP itself.
    let rsdp = info
        .rsdp_v2_tag()
        .map(|t| core::ptr::from_ref(t) as u64)
        .or(info.rsdp_v1_tag().map(|t| core::ptr::from_ref(t) as u64))
        .and_then(|tag| tag.checked_add(8));
    frames.reserve(Range::sized(address, info.total_size() as u64)?);
    let line = info.command_line_tag().and_then(|tag| tag.cmdline().ok()).unwrap_or("");
    Some(BootInfo { frames, bundle, rsdp, crash_test: asks_for_crash(line.as_bytes()) })
}

fn pvh(address: u64) -> Option<BootInfo> {
    let info: StartInfo = Physical.value(address)?;
    if info.magic != START_INFO_MAGIC || info.version < 1 {
        return None;
    }
    let mut frames = Frames::default();
    for i in 0..info.memory_map_entries.min(128) {
        let offset = u64::from(i).checked_mul(size_of::<MemoryEntry>() as u64)?;
        let entry: MemoryEntry = Physical.value(info.memory_map.checked_add(offset)?)?;
        if entry.kind == RAM {
            frames.release(Range::sized(entry.address, entry.size)?);
        }
    }
    let bundle = match info.modules {
        0 => None,
        _ => {
            let module: ModuleEntry = Physical.value(info.module_list)?;
            Range::sized(module.address, module.size)
        }
    };
    let mut line = [0; 64];
    let readable = info.command_line != 0 && Physical.read(info.command_line, &mut line);
    Some(BootInfo {
        frames,
        bundle,
        rsdp: (info.rsdp != 0).then_some(info.rsdp),
        crash_test: readable && asks_for_crash(&line),
    })
}

/// Searches the BIOS area (ACPI, "Finding the RSDP on IA-PC Systems").
fn find_rsdp() -> Option<u64> {
    (0xe_0000u64..0x10_0000).step_by(16).find(|&at| {
        let mut bytes = [0; 20];
        Physical.read(at, &mut bytes)
            && bytes.starts_with(b"RSD PTR ")
            && bytes.iter().fold(0u8, |sum, &b| sum.wrapping_add(b)) == 0
    })
}
