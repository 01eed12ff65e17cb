//! The MADT: the interrupt controllers.

extern crate alloc;

use alloc::vec::Vec;

use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink, aml_as_bytes};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes, Unaligned};

use super::{Facts, put, table};
use crate::device::power::FixedHardware;
use crate::device::{apic, ioapic};
use crate::vm::MachineType;

/// There are two 8259A as well.
const PCAT_COMPAT: u32 = 1 << 0;
/// The highest APIC ID that an entry of one byte can name: the next means everybody.
const MOST_XAPIC: u8 = 254;

/// Flags of an override: what the bus conforms to, and level-triggered and active high.
const AS_ISA: u16 = 0;
const LEVEL_HIGH: u16 = 0b11 << 2 | 0b01;

/// ACPI specification, Interrupt Source Override Structure.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Override {
    kind: u8,
    length: u8,
    bus: u8,
    source: u8,
    pin: U32,
    flags: U16,
}

aml_as_bytes!(Override);

impl Override {
    const fn new(source: u8, pin: u8, flags: u16) -> Override {
        let (pin, flags) = (U32::new(pin as u32), U16::new(flags));
        Override { kind: 2, length: size_of::<Override>() as u8, bus: 0, source, pin, flags }
    }
}

/// ISA interrupts that are not where or what they are elsewhere. The timer is at pin 2, because the PICs
/// are at pin 0.
const OVERRIDES: [Override; 2] = [
    Override::new(0, 2, AS_ISA),
    Override::new(FixedHardware::SCI, FixedHardware::SCI, LEVEL_HIGH),
];

/// ACPI specification, Processor Local x2APIC Structure.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct LocalX2Apic {
    kind: u8,
    length: u8,
    reserved: [u8; 2],
    id: U32,
    flags: U32,
    uid: U32,
}

aml_as_bytes!(LocalX2Apic);

impl LocalX2Apic {
    const fn new(id: u32) -> LocalX2Apic {
        let (id, flags) = (U32::new(id), U32::new(EnabledStatus::Enabled as u32));
        let length = size_of::<LocalX2Apic>() as u8;
        LocalX2Apic { kind: 9, length, reserved: [0; 2], id, flags, uid: id }
    }
}

/// The table. The UID of a vCPU is its APIC ID.
pub fn madt(facts: &Facts<'_>) -> Sdt {
    let pc = facts.machine == MachineType::Pc;
    let flags = if pc { PCAT_COMPAT } else { 0 };
    let mut content = Vec::new();
    content.extend([apic::DEFAULT_BASE as u32, flags].map(u32::to_le_bytes).as_flattened());
    for &id in facts.apic_ids {
        match u8::try_from(id) {
            Ok(id @ ..=MOST_XAPIC) => {
                put(&ProcessorLocalApic::new(id, id, EnabledStatus::Enabled), &mut content);
            }
            _ => put(&LocalX2Apic::new(id), &mut content),
        }
    }
    if pc {
        put(&IoApic::new(0, ioapic::DEFAULT_BASE as u32, 0), &mut content);
        OVERRIDES.iter().for_each(|entry| put(entry, &mut content));
    }
    table(*b"APIC", 5, &content)
}
