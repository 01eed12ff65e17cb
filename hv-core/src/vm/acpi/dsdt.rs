//! The DSDT: the devices that software does not find by probing, and how to turn the machine off.

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;

use acpi_tables::aml::{Device, IO, Name, Package, Path, ResourceTemplate, Scope};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};

use super::{Com1, Facts, put, table};
use crate::device::power::S5;
use crate::vm::MachineType;

/// An ISA device.
struct Isa {
    name: &'static str,
    id: &'static str,
    /// First ports, and how many.
    ports: &'static [(u16, u8)],
    irq: Option<u8>,
}

const COM1: Isa = Isa { name: "COM1", id: "PNP0501", ports: &[(0x3f8, 8)], irq: None };
const PC: [Isa; 5] = [
    // With the edge/level control registers.
    Isa { name: "PIC_", id: "PNP0000", ports: &[(0x20, 2), (0xa0, 2), (0x4d0, 2)], irq: Some(2) },
    Isa { name: "PIT_", id: "PNP0100", ports: &[(0x40, 4)], irq: Some(0) },
    Isa { name: "RTC_", id: "PNP0B00", ports: &[(0x70, 2)], irq: Some(8) },
    // Both ports of the keyboard controller: without the second, Linux takes it for switched off.
    Isa { name: "KBD_", id: "PNP0303", ports: &[(0x60, 1), (0x64, 1)], irq: Some(1) },
    Isa { name: "AUX_", id: "PNP0F13", ports: &[], irq: Some(12) },
];

/// The table.
pub fn dsdt(facts: &Facts<'_>) -> Sdt {
    let mut devices = Vec::new();
    for (index, &id) in facts.apic_ids.iter().enumerate() {
        processor(index, id, &mut devices);
    }
    let com1 = match facts.com1 {
        Com1::Absent => None,
        Com1::Polled => Some(COM1),
        Com1::Irq(irq) => Some(Isa { irq: Some(irq), ..COM1 }),
    };
    let pc = if facts.machine == MachineType::Pc { &PC[..] } else { &[] };
    for device in com1.iter().chain(pc) {
        isa(device, &mut devices);
    }
    let devices = Raw(&devices);
    let mut code = Vec::new();
    put(&Scope::new(Path::new("\\_SB_"), vec![&devices]), &mut code);
    name("_S5_", &Package::new(vec![&S5, &S5, &0u8, &0u8]), &mut code);
    table(*b"DSDT", 2, &code)
}

/// A vCPU. It is matched with its entry in the MADT by `_UID`.
fn processor(index: usize, id: u32, sink: &mut Vec<u8>) {
    let digit = |shift: u32| match (index >> shift & 0xf) as u8 {
        digit @ ..10 => b'0'.wrapping_add(digit),
        digit => b'A'.wrapping_sub(10).wrapping_add(digit),
    };
    let bytes = [b'C', digit(8), digit(4), digit(0)];
    device(core::str::from_utf8(&bytes).unwrap_or("C___"), "ACPI0007", ("_UID", &id), sink);
}

fn isa(isa: &Isa, sink: &mut Vec<u8>) {
    let mut resources = Vec::new();
    for &(port, count) in isa.ports {
        put(&IO::new(port, port, 1, count), &mut resources);
    }
    if let Some(irq) = isa.irq {
        // ACPI specification, IRQ Descriptor: edge-triggered, active high, not shared. The extended
        // descriptor would be for a pin of the I/O APIC, past the overrides in the MADT.
        resources.push(0x22);
        resources.extend(1u16.wrapping_shl(irq.into()).to_le_bytes());
    }
    let resources = Raw(&resources);
    let resources = ResourceTemplate::new(vec![&resources]);
    device(isa.name, isa.id, ("_CRS", &resources), sink);
}

/// A device with its ID and one more object.
#[inline(never)]
fn device(path: &str, id: &'static str, (object, value): (&str, &dyn Aml), sink: &mut Vec<u8>) {
    let mut objects = Vec::new();
    name("_HID", &id, &mut objects);
    name(object, value, &mut objects);
    let objects = Raw(&objects);
    put(&Device::new(Path::new(path), vec![&objects]), sink);
}

#[inline(never)]
fn name(path: &str, value: &dyn Aml, sink: &mut Vec<u8>) {
    put(&Name::new(Path::new(path), value), sink);
}

/// What is encoded already.
struct Raw<'a>(&'a [u8]);

impl Aml for Raw<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.0);
    }
}
