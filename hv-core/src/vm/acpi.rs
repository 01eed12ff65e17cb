//! The ACPI tables of a VM (ACPI specification, ACPI Software Programming Model).
//!
//! RSDP, XSDT, FADT, MADT and DSDT, and for a machine with the fixed hardware a FACS: one piece of
//! memory, which the guest finds by the RSDP at its start. What is in them follows from a few facts, and
//! the ports from the devices themselves.

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;

use super::MachineType;

mod dsdt;
mod fadt;
mod madt;
#[cfg(test)]
mod tests;

/// The most vCPUs that the tables can name. Their tables end within 128 KiB.
pub const MOST_VCPUS: usize = 1024;
/// What a place for the tables is a multiple of. The FACS needs the most.
pub const ALIGNMENT: u32 = 64;

/// The interrupt of COM1 on a PC.
pub const COM1_IRQ: u8 = 4;

/// The length of the header that tables start with.
const HEADER: u32 = 36;
const OEM: [u8; 6] = *b"PARAVN";
const OEM_TABLE: [u8; 8] = *b"PARAVANE";
const OEM_REVISION: u32 = 1;

/// What the tables say of the UART at COM1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Com1 {
    /// It is not there.
    Absent,
    /// It is there without an interrupt. Declaring one that never comes would make guests wait for it.
    Polled,
    /// It is there, with this interrupt: [`COM1_IRQ`] on a PC.
    Irq(u8),
}

/// What the tables follow from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What devices there are.
    pub machine: MachineType,
    /// Where the tables are put: a guest-physical address, and a multiple of [`ALIGNMENT`]. Guests look
    /// for the RSDP from E0000h to FFFFFh.
    pub place: u32,
    /// The APIC ID of each vCPU.
    pub apic_ids: &'a [u32],
    /// COM1.
    pub com1: Com1,
}

/// There are more vCPUs than [`MOST_VCPUS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyVcpus(
    /// How many there are.
    pub usize,
);

impl fmt::Display for TooManyVcpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vCPUs: give the VM {MOST_VCPUS} at most", self.0)
    }
}

/// The tables, to be put at `facts.place`. The RSDP comes first.
///
/// # Errors
///
/// There are too many vCPUs.
pub fn build(facts: &Facts<'_>) -> Result<Vec<u8>, TooManyVcpus> {
    if facts.apic_ids.len() > MOST_VCPUS {
        return Err(TooManyVcpus(facts.apic_ids.len()));
    }
    let mut area = Area { place: facts.place, bytes: vec![0; Rsdp::len()] };
    let dsdt = area.add(&dsdt::dsdt(facts));
    let facs = match facts.machine {
        MachineType::Minimal => 0,
        MachineType::Pc => area.add(&FACS::new()),
    };
    let fadt = area.add(&fadt::fadt(facts.machine, dsdt, facs));
    let madt = area.add(&madt::madt(facts));
    let entries = [u64::from(fadt).to_le_bytes(), u64::from(madt).to_le_bytes()];
    let xsdt = area.add(&table(*b"XSDT", 1, entries.as_flattened()));
    let mut rsdp = Vec::new();
    put(&Rsdp::new(OEM, xsdt.into()), &mut rsdp);
    for (to, from) in area.bytes.iter_mut().zip(rsdp) {
        *to = from;
    }
    Ok(area.bytes)
}

/// A table with what comes after its header.
// Out of line, as all functions here with several callers: this runs once for each VM, and is for size.
#[inline(never)]
fn table(signature: [u8; 4], revision: u8, content: &[u8]) -> Sdt {
    let mut table = Sdt::new(signature, HEADER, revision, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(content);
    table
}

/// Adds what a value is encoded as.
#[inline(never)]
fn put(value: &dyn Aml, sink: &mut Vec<u8>) {
    value.to_aml_bytes(sink);
}

/// The tables so far.
struct Area {
    place: u32,
    bytes: Vec<u8>,
}

impl Area {
    /// Adds one, and says where it is.
    #[inline(never)]
    fn add(&mut self, table: &dyn Aml) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
        let address = self.place.wrapping_add(self.bytes.len() as u32);
        put(table, &mut self.bytes);
        address
    }
}
