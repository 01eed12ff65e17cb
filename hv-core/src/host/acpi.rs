//! Which CPUs the machine has, from the ACPI tables.
//!
//! Only what bring-up needs: RSDP, RSDT or XSDT, and the MADT's local APIC entries (ACPI, "Multiple
//! APIC Description Table"). Tables are read through a function, so that this is plain code.

/// The most CPUs that are brought up.
pub const MAX_CPUS: usize = 32;

/// Local APIC IDs of the CPUs that the firmware enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    ids: [u32; MAX_CPUS],
    count: usize,
}

impl Cpus {
    /// No CPU.
    pub const NONE: Cpus = Cpus { ids: [0; MAX_CPUS], count: 0 };

    /// The IDs, in the order of the table.
    pub fn ids(&self) -> &[u32] {
        self.ids.get(..self.count).unwrap_or(&[])
    }

    fn push(&mut self, id: u32) {
        if let Some(slot) = self.ids.get_mut(self.count) {
            *slot = id;
            self.count = self.count.wrapping_add(1);
        }
    }
}

/// Bytes of physical memory: fills the slice from an address, or answers `false`.
pub trait ReadPhysical {
    /// Reads `into.len()` bytes at `address`.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
}

fn value<const N: usize>(memory: &impl ReadPhysical, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    memory.read(address, &mut bytes).then_some(bytes)
}

fn u32_at(memory: &impl ReadPhysical, address: u64) -> Option<u32> {
    value(memory, address).map(u32::from_le_bytes)
}

/// The enabled CPUs, given where the RSDP is; `None` if the tables are not there or not sound.
pub fn cpus(memory: &impl ReadPhysical, rsdp: u64) -> Option<Cpus> {
    if &value::<8>(memory, rsdp)? != b"RSD PTR " {
        return None;
    }
    let revision = value::<1>(memory, rsdp.checked_add(15)?)?[0];
    let (root, width) = if revision >= 2 {
        (u64::from_le_bytes(value(memory, rsdp.checked_add(24)?)?), 8)
    } else {
        (u64::from(u32_at(memory, rsdp.checked_add(16)?)?), 4)
    };
    let end = root.checked_add(table_length(memory, root)?)?;
    let mut at = root.checked_add(HEADER)?;
    while at.checked_add(width)? <= end {
        let table = match width {
            8 => u64::from_le_bytes(value(memory, at)?),
            _ => u64::from(u32_at(memory, at)?),
        };
        if &value::<4>(memory, table)? == b"APIC" {
            return madt(memory, table);
        }
        at = at.checked_add(width)?;
    }
    None
}

/// Size of the header that every table starts with.
const HEADER: u64 = 36;

fn table_length(memory: &impl ReadPhysical, table: u64) -> Option<u64> {
    let length = u64::from(u32_at(memory, table.checked_add(4)?)?);
    (HEADER..=0x10_0000).contains(&length).then_some(length)
}

fn madt(memory: &impl ReadPhysical, table: u64) -> Option<Cpus> {
    let end = table.checked_add(table_length(memory, table)?)?;
    // Local APIC address and flags stand before the entries.
    let mut at = table.checked_add(HEADER)?.checked_add(8)?;
    let mut cpus = Cpus::NONE;
    while at.checked_add(2)? <= end {
        let [kind, length] = value(memory, at)?;
        if length < 2 {
            return None;
        }
        // Processor Local APIC (0): ID at 3, flags at 4. Local x2APIC (9): ID at 4, flags at 8.
        let (id, flags) = match (kind, length) {
            (0, 8..) => (
                u32::from(value::<1>(memory, at.checked_add(3)?)?[0]),
                u32_at(memory, at.checked_add(4)?)?,
            ),
            (9, 16..) => (u32_at(memory, at.checked_add(4)?)?, u32_at(memory, at.checked_add(8)?)?),
            _ => (0, 0),
        };
        if flags & 1 != 0 {
            cpus.push(id);
        }
        at = at.checked_add(u64::from(length))?;
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    struct Memory(Vec<u8>);

    impl ReadPhysical for Memory {
        fn read(&self, address: u64, into: &mut [u8]) -> bool {
            let start = address as usize;
            let Some(bytes) = self.0.get(start..start.wrapping_add(into.len())) else {
                return false;
            };
            into.copy_from_slice(bytes);
            true
        }
    }

    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut t = signature.to_vec();
        t.extend(((HEADER as usize + body.len()) as u32).to_le_bytes());
        t.resize(HEADER as usize, 0);
        t.extend(body);
        t
    }

    /// RSDP at 0, root table at 64, a table that is not the MADT at 128, the MADT at 256.
    fn machine(revision: u8, entries: &[u8]) -> Memory {
        let mut m = std::vec![0; 1024];
        let mut put = |at: usize, bytes: &[u8]| m[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"RSD PTR ");
        put(15, &[revision]);
        put(16, &64u32.to_le_bytes());
        put(24, &64u64.to_le_bytes());
        let pointers: Vec<u8> = match revision {
            0 => [128u32, 256].iter().flat_map(|p| p.to_le_bytes()).collect(),
            _ => [128u64, 256].iter().flat_map(|p| p.to_le_bytes()).collect(),
        };
        put(64, &table(b"XSDT", &pointers));
        put(128, &table(b"FACP", &[]));
        put(256, &table(b"APIC", &[&[0; 8], entries].concat()));
        Memory(m)
    }

    #[test]
    fn enabled_cpus_are_found_by_both_kinds_of_entry_and_root() {
        let entries = [
            &[0, 8, 0, 0, 1, 0, 0, 0][..],
            &[0, 8, 1, 7, 1, 0, 0, 0],
            &[0, 8, 2, 9, 0, 0, 0, 0],
            &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        for revision in [0, 2] {
            let found = cpus(&machine(revision, &entries), 0).unwrap();
            assert_eq!(found.ids(), [0, 7, 256], "the disabled one is left alone");
        }
    }

    #[test]
    fn tables_that_are_not_sound_are_not_believed() {
        assert_eq!(cpus(&Memory(Vec::new()), 0), None);
        assert_eq!(cpus(&machine(2, &[0, 0, 0, 0]), 0), None, "an entry of length 0 never ends");
        let mut cut = machine(2, &[]);
        cut.0[256 + 4..256 + 8].copy_from_slice(&2000u32.to_le_bytes());
        assert_eq!(cpus(&cut, 0), None, "past the end of memory");
    }

    #[test]
    fn more_cpus_than_there_is_room_for_are_left_out() {
        let entries: Vec<u8> = (0..40u8).flat_map(|i| [0, 8, i, i, 1, 0, 0, 0]).collect();
        assert_eq!(cpus(&machine(2, &entries), 0).unwrap().ids().len(), MAX_CPUS);
    }
}
