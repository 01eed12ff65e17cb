//! What the loader left: the command line and the memory map of `hvm_start_info` (Xen, "x86/HVM
//! direct boot ABI"), copied before anything else uses memory.

use core::ops::Range;

use spin::Once;

use crate::options::Options;

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

#[repr(C)]
struct MemoryEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;
const COMMAND_LINE: usize = 1024;
const REGIONS: usize = 16;

#[derive(Default)]
struct Info {
    command_line: Line,
    regions: [Range<u64>; REGIONS],
    root_pointer: u64,
}

struct Line {
    bytes: [u8; COMMAND_LINE],
    length: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; COMMAND_LINE], length: 0 }
    }
}

static INFO: Once<Info> = Once::new();

/// Copies what is at `address`; false if that is no `hvm_start_info` with a memory map.
pub(crate) fn init(address: u64) -> bool {
    let mut info = Info::default();
    // SAFETY: by the PVH protocol the register holds the structure's address, below 4 GiB and thus
    // identity mapped; a wrong address reads RAM or floating bus, which the magic number tells.
    let start = unsafe { (address as *const StartInfo).read_unaligned() };
    let found = start.magic == MAGIC && start.version >= 1 && start.memory_map != 0;
    if found {
        if start.command_line != 0 {
            info.command_line = line(start.command_line as *const u8);
        }
        info.root_pointer = start.rsdp;
        let ram = (0..start.memory_map_entries as usize).map(|i| {
            // SAFETY: the map has this many entries, and the loader put it below 4 GiB.
            unsafe { (start.memory_map as *const MemoryEntry).add(i).read_unaligned() }
        });
        let ram = ram.filter(|entry| entry.kind == RAM);
        for (region, entry) in info.regions.iter_mut().zip(ram) {
            *region = entry.address..entry.address + entry.size;
        }
    }
    INFO.call_once(|| info);
    found
}

fn line(from: *const u8) -> Line {
    let mut line = Line::default();
    for byte in &mut line.bytes {
        // SAFETY: the command line is a string that ends with a zero byte, where this stops.
        *byte = unsafe { from.add(line.length).read() };
        if *byte == 0 {
            break;
        }
        line.length += 1;
    }
    line
}

/// The command line.
pub fn options() -> Options<'static> {
    let text = INFO.get().map(|info| &info.command_line.bytes[..info.command_line.length]);
    Options(text.and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default())
}

/// The ranges of RAM, by physical address.
pub fn memory() -> impl Iterator<Item = Range<u64>> {
    INFO.get().into_iter().flat_map(|info| info.regions.iter().cloned()).filter(|r| !r.is_empty())
}

/// Where ACPI's root pointer is; `None` if the loader names none.
pub fn root_pointer() -> Option<u64> {
    INFO.get().map(|info| info.root_pointer).filter(|&address| address != 0)
}
