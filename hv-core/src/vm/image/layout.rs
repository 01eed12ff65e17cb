//! Where things are in a VM's memory before it starts, and the map of it that guests are given.

/// The GDT that a guest starts with.
pub const GDT: u64 = 0x1000;
/// What the boot protocol hands over: it ends at [`COMMAND_LINE`].
pub const INFORMATION: u64 = 0x2000;
/// The command line, which ends in a zero byte before [`IMAGE_FLOOR`].
pub const COMMAND_LINE: u64 = 0x6000;
/// No image lies below this.
pub const IMAGE_FLOOR: u64 = 0x8000;
/// The page tables of a guest that starts in 64-bit mode.
pub const PAGE_TABLES: u64 = 0x9000;
/// Where low RAM ends, as if an extended BIOS data area came behind.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// The BIOS area, with the ACPI tables of a VM that has any; it ends at [`HIGH_RAM`].
pub const BIOS_AREA: u64 = 0xe_0000;
/// Where RAM goes on, up to the end of memory.
pub const HIGH_RAM: u64 = 0x10_0000;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it starts.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// RAM that the guest may use; otherwise it must leave it alone.
    pub ram: bool,
}

impl Region {
    /// Its type as every protocol counts: that of a BIOS memory map (ACPI specification, System Address
    /// Map Interfaces).
    pub const fn kind(self) -> u32 {
        if self.ram { 1 } else { 2 }
    }

    /// Whether all of these bytes are in it.
    pub fn contains(self, address: u64, length: u64) -> bool {
        let offset = address.checked_sub(self.start);
        let end = offset.and_then(|offset| offset.checked_add(length));
        end.is_some_and(|end| end <= self.length)
    }
}

/// The map of a VM with this much memory, by ascending address.
pub fn memory_map(memory: u64) -> impl Iterator<Item = Region> + Clone {
    const IO_APIC: u64 = 0xfec0_0000;
    const LOCAL_APIC: u64 = 0xfee0_0000;
    [
        (0, LOW_RAM_END.min(memory), true),
        (LOW_RAM_END, 0x400, false),
        (BIOS_AREA, HIGH_RAM.wrapping_sub(BIOS_AREA), false),
        (HIGH_RAM, memory.saturating_sub(HIGH_RAM), true),
        (IO_APIC, 0x1000, false),
        (LOCAL_APIC, 0x1000, false),
    ]
    .into_iter()
    .map(|(start, length, ram)| Region { start, length, ram })
    .filter(|region| region.length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_map_is_in_order_and_its_ram_is_memory_alone() {
        for memory in [1 << 20, 2 << 20, 3 << 30] {
            let map: Vec<Region> = memory_map(memory).collect();
            assert!(map.windows(2).all(|w| w[0].start + w[0].length <= w[1].start), "{map:x?}");
            assert!(map.iter().filter(|r| r.ram).all(|r| r.start + r.length <= memory));
            let usable: u64 = map.iter().filter(|r| r.ram).map(|r| r.length).sum();
            assert_eq!(usable, memory - (HIGH_RAM - LOW_RAM_END), "of {memory:#x}");
        }
    }

    #[test]
    fn video_memory_and_the_bios_area_are_not_ram() {
        let in_ram = |address, length| {
            memory_map(64 << 20).any(|region| region.ram && region.contains(address, length))
        };
        assert!(in_ram(0, 0x9_fc00) && in_ram(0x10_0000, 63 << 20));
        for (address, length) in [(0x9_fc00, 1), (0xa_0000, 1), (0xe_0000, 1), (0xf_ffff, 1)] {
            assert!(!in_ram(address, length), "{address:#x}");
        }
        assert!(!in_ram(0x9_fbff, 2) && !in_ram(0x10_0000, (63 << 20) + 1));
        assert!(!in_ram(u64::MAX, 1) && !in_ram(0x10_0000, u64::MAX));
    }
}
