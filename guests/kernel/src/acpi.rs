//! The machine's CPUs, as ACPI's Multiple APIC Description Table lists them (ACPI Specification, MADT).

/// The length of a table's header, and where the MADT's list begins.
const HEADER: usize = 36;
const LIST: usize = 44;
/// Entries of the MADT: a processor by its local APIC, and by its x2APIC.
const LOCAL_APIC: u8 = 0;
const LOCAL_X2APIC: u8 = 9;
/// A processor that can be used. One that is only online capable is not there yet.
const ENABLED: u32 = 1;

/// Physical memory, by address and length.
pub trait Memory<'a> {
    /// The bytes; `None` where there are none to be read.
    fn bytes(&self, address: u64, length: usize) -> Option<&'a [u8]>;
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte)) == 0
}

fn table<'a>(memory: &impl Memory<'a>, address: u64) -> Option<&'a [u8]> {
    let length = word(memory.bytes(address, HEADER)?, 4)? as usize;
    memory.bytes(address, length).filter(|table| length >= HEADER && sums_to_zero(table))
}

/// The MADT, by the root pointer's address; `None` without one, or if a table on the way is damaged.
pub fn madt<'a>(memory: &impl Memory<'a>, root_pointer: u64) -> Option<&'a [u8]> {
    const FIRST_VERSION: usize = 20;
    let pointer = memory.bytes(root_pointer, FIRST_VERSION)?;
    if !pointer.starts_with(b"RSD PTR ") || !sums_to_zero(pointer) {
        return None;
    }
    // From its second revision on the pointer names a table of 64-bit addresses too.
    let extended = (pointer[15] >= 2).then(|| memory.bytes(root_pointer, 36)).flatten();
    let wide = extended.and_then(|p| number(p, 24)).map(u64::from_le_bytes).filter(|&a| a != 0);
    let (root, size) = match wide {
        Some(address) => (address, 8),
        None => (word(pointer, 16)?.into(), 4),
    };
    let entries = table(memory, root)?[HEADER..]
        .chunks_exact(size)
        .map(|entry| entry.iter().rev().fold(0, |address, &byte| address << 8 | u64::from(byte)));
    entries.filter_map(|address| table(memory, address)).find(|table| table.starts_with(b"APIC"))
}

/// The APIC IDs of the processors that a MADT says are there, in its order.
pub fn apic_ids(madt: &[u8]) -> impl Iterator<Item = u32> {
    let mut rest = madt.get(LIST..).unwrap_or_default();
    let entries = core::iter::from_fn(move || {
        let length = usize::from(*rest.get(1)?);
        // An entry without length would never end.
        let (entry, behind) = (length >= 2).then(|| rest.split_at_checked(length)).flatten()?;
        rest = behind;
        Some(entry)
    });
    entries.filter_map(|entry| {
        let (id, flags) = match entry[0] {
            LOCAL_APIC => (u32::from(*entry.get(3)?), word(entry, 4)?),
            LOCAL_X2APIC => (word(entry, 4)?, word(entry, 8)?),
            _ => return None,
        };
        (flags & ENABLED != 0).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// Tables one behind the other, from address 0.
    struct Tables(&'static [u8]);

    impl Memory<'static> for Tables {
        fn bytes(&self, address: u64, length: usize) -> Option<&'static [u8]> {
            self.0.get(address as usize..)?.get(..length)
        }
    }

    fn seal(bytes: &mut [u8], at: usize) {
        bytes[at] = 0;
        bytes[at] = bytes.iter().fold(0u8, |sum, &b| sum.wrapping_sub(b));
    }

    fn sealed(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut table = signature.to_vec();
        table.extend(((HEADER + body.len()) as u32).to_le_bytes());
        table.resize(HEADER, 0);
        table.extend(body);
        seal(&mut table, 9);
        table
    }

    fn madt_of(entries: &[&[u8]]) -> Vec<u8> {
        sealed(b"APIC", &[&[0; LIST - HEADER][..], &entries.concat()].concat())
    }

    fn x2apic(id: u32, flags: u32) -> Vec<u8> {
        let mut entry = std::vec![LOCAL_X2APIC, 16, 0, 0];
        entry.extend([id.to_le_bytes(), flags.to_le_bytes(), [0; 4]].concat());
        entry
    }

    /// A root pointer, its table at 64, another table, and the MADT.
    fn machine(revision: u8) -> Vec<u8> {
        let mut pointer = b"RSD PTR \0OEMID.".to_vec();
        pointer.push(revision);
        pointer.extend(64u32.to_le_bytes());
        seal(&mut pointer, 8);
        pointer.extend([36, 0, 0, 0]);
        pointer.extend(64u64.to_le_bytes());
        pointer.resize(64, 0);
        let size = if revision >= 2 { 8 } else { 4 };
        let other = sealed(b"FACP", &[1, 2, 3]);
        let first = 64 + HEADER + 2 * size;
        let addresses = [first as u64, (first + other.len()) as u64];
        let entries: Vec<u8> =
            addresses.iter().flat_map(|a| a.to_le_bytes()[..size].to_vec()).collect();
        pointer.extend(sealed(if size == 8 { b"XSDT" } else { b"RSDT" }, &entries));
        pointer.extend(other);
        pointer.extend(madt_of(&[&[LOCAL_APIC, 8, 0, 0, 1, 0, 0, 0]]));
        pointer
    }

    fn found(bytes: Vec<u8>) -> Option<Vec<u32>> {
        madt(&Tables(bytes.leak()), 0).map(|madt| apic_ids(madt).collect())
    }

    #[test]
    fn both_forms_of_the_root_lead_to_the_madt() {
        assert_eq!(found(machine(0)), Some([0].into()));
        assert_eq!(found(machine(2)), Some([0].into()));
    }

    #[test]
    fn damaged_tables_are_as_good_as_none() {
        for at in [3, 10, 70, machine(2).len() - 1] {
            let mut bytes = machine(2);
            bytes[at] ^= 1;
            assert_eq!(found(bytes), None, "byte {at}");
        }
        let mut bytes = machine(2);
        bytes.pop();
        assert_eq!(found(bytes), None, "the last byte is missing");
    }

    #[test]
    fn processors_that_are_there_are_listed_in_order() {
        let madt = madt_of(&[
            &[LOCAL_APIC, 8, 0, 7, 1, 0, 0, 0],
            &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[LOCAL_APIC, 8, 1, 8, 0, 0, 0, 0],
            &[LOCAL_APIC, 8, 1, 9, 2, 0, 0, 0],
            &x2apic(0x1234, 1),
            &x2apic(0x1235, 0),
        ]);
        assert_eq!(apic_ids(&madt).collect::<Vec<_>>(), [7, 0x1234]);
    }

    #[test]
    fn a_list_that_is_cut_off_or_stands_still_ends() {
        let good: &[u8] = &[LOCAL_APIC, 8, 0, 7, 1, 0, 0, 0];
        for bad in [&[LOCAL_APIC, 8, 0, 7][..], &[LOCAL_APIC, 0, 0, 0], &[LOCAL_APIC]] {
            assert_eq!(apic_ids(&madt_of(&[good, bad])).collect::<Vec<_>>(), [7]);
        }
        assert_eq!(apic_ids(&[0; 8]).count(), 0);
    }
}
