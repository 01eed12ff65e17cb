use std::string::String;

use super::*;
use crate::device::power::{
    Effect, FixedHardware, ReducedHardware, ResetControl, S5, TIMER_WIDTH, TimerWidth,
};
use crate::device::{apic, ioapic};
use crate::host::acpi::{ReadPhysical, cpus};

const PLACE: u32 = 0xe_0000;

/// Tables as they lie in memory.
struct Tables(Vec<u8>);

impl ReadPhysical for Tables {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let start = (address as usize).wrapping_sub(PLACE as usize);
        let bytes = self.0.get(start..start.saturating_add(into.len()));
        if let Some(bytes) = bytes {
            into.copy_from_slice(bytes);
        }
        bytes.is_some()
    }
}

fn facts(machine: MachineType, apic_ids: &[u32]) -> Facts<'_> {
    let com1 = match machine {
        MachineType::Minimal => Com1::Polled,
        MachineType::Pc => Com1::Irq(COM1_IRQ),
    };
    Facts { machine, place: PLACE, apic_ids, com1 }
}

fn tables(machine: MachineType, apic_ids: &[u32]) -> Tables {
    Tables(build(&facts(machine, apic_ids)).unwrap())
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().copied().fold(0, u8::wrapping_add)
}

impl Tables {
    /// What lies at an address, for as long as the length in it says.
    fn at(&self, address: u64) -> &[u8] {
        let bytes = &self.0[address as usize - PLACE as usize..];
        &bytes[..number(bytes, 4, 4) as usize]
    }

    /// A table that the XSDT names.
    fn named(&self, signature: &[u8; 4]) -> &[u8] {
        let xsdt = self.at(number(&self.0, 24, 8));
        let entries = xsdt[36..].chunks_exact(8).map(|entry| self.at(number(entry, 0, 8)));
        entries.into_iter().find(|table| &table[..4] == signature).unwrap()
    }

    fn dsdt(&self) -> &[u8] {
        self.at(number(self.named(b"FACP"), 140, 8))
    }

    /// The entries of the MADT.
    fn madt(&self) -> Vec<&[u8]> {
        let mut rest = &self.named(b"APIC")[44..];
        let mut entries = Vec::new();
        while let [_, length, ..] = *rest {
            let (entry, behind) = rest.split_at(length.into());
            entries.push(entry);
            rest = behind;
        }
        entries
    }
}

/// A GAS for a port: width, access, address.
fn port(fadt: &[u8], at: usize) -> (u8, u8, u16) {
    assert_eq!((fadt[at], fadt[at + 2]), (1, 0), "system I/O");
    (fadt[at + 1], fadt[at + 3], number(fadt, at + 4, 8) as u16)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn every_table_is_found_whole_and_sums_up_to_zero() {
    for machine in MachineType::ALL {
        let tables = tables(machine, &[0, 1]);
        let rsdp = &tables.0[..36];
        assert_eq!((&rsdp[..8], rsdp[15]), (&b"RSD PTR "[..], 2));
        assert_eq!((number(rsdp, 20, 4), sum(&rsdp[..20]), sum(rsdp)), (36, 0, 0));
        let xsdt = tables.at(number(rsdp, 24, 8));
        for table in [xsdt, tables.named(b"FACP"), tables.named(b"APIC"), tables.dsdt()] {
            let name = String::from_utf8_lossy(&table[..4]);
            assert_eq!(sum(table), 0, "{name}");
            assert_eq!(&table[10..16], &rsdp[9..15], "{name}: OEM");
        }
        assert_eq!((&xsdt[..4], &tables.dsdt()[..4]), (&b"XSDT"[..], &b"DSDT"[..]));
        assert_eq!(xsdt.len(), 36 + 2 * 8);
    }
}

#[test]
fn the_fadt_of_a_minimal_machine_is_hardware_reduced() {
    let tables = tables(MachineType::Minimal, &[0]);
    let fadt = tables.named(b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (276, 6), "the size of revision 6");
    let flags = number(fadt, 112, 4);
    assert_eq!(flags & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10, "HW_REDUCED_ACPI, RESET_REG_SUP");
    assert_eq!(number(fadt, 109, 2), 1 << 5 | 1 << 3 | 1 << 2, "no RTC, no MSI, no VGA");
    assert_eq!((number(fadt, 36, 4), number(fadt, 132, 8)), (0, 0), "no FACS");
    assert!(fadt[46..92].iter().all(|&byte| byte == 0), "no fixed hardware");

    let mut hardware = ReducedHardware::new();
    let (width, access, reset) = port(fadt, 116);
    assert_eq!((width, access), (8, 1));
    assert_eq!(hardware.write(reset, 1, fadt[128].into()), Effect::Reset);
    let (width, access, control) = port(fadt, 244);
    assert_eq!((width, access), (8, 1));
    let off = u32::from(S5) << 2 | 1 << 5;
    assert_eq!(hardware.write(control, 1, off), Effect::PowerOff);
    let (width, access, status) = port(fadt, 256);
    assert_eq!((width, access, hardware.read(status, 1)), (8, 1, 0));
}

#[test]
fn the_fadt_of_a_pc_names_the_fixed_hardware() {
    let tables = tables(MachineType::Pc, &[0]);
    let fadt = tables.named(b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    assert_eq!(number(fadt, 46, 2), 9, "SCI");
    assert_eq!(number(fadt, 48, 4), 0, "no SMI command port: ACPI mode is always on");
    assert_eq!(number(fadt, 109, 2), 0x0f, "legacy devices, 8042, no VGA, no MSI");
    let flags = number(fadt, 112, 4);
    assert_eq!(flags & 1 << 20, 0, "not hardware-reduced");
    assert_eq!(flags & 0x70, 0x70, "neither buttons nor RTC in the fixed hardware");
    assert_eq!(flags >> 8 & 1 == 1, TIMER_WIDTH == TimerWidth::Bits32);

    let mut hardware = FixedHardware::new(TIMER_WIDTH, 0);
    for (block, length, extended, width, access) in
        [(56, 88, 148, 32, 2), (64, 89, 172, 16, 2), (76, 91, 208, 32, 3)]
    {
        let address = number(fadt, block, 4) as u16;
        assert_eq!(port(fadt, extended), (width, access, address));
        assert_eq!(fadt[length], width / 8);
        assert!(FixedHardware::PORTS.contains(&address));
    }
    let control = number(fadt, 64, 4) as u16;
    let off = u32::from(S5) << 10 | 1 << 13;
    assert_eq!(hardware.write(control, 2, off, 0), Effect::PowerOff);
    let timer = number(fadt, 76, 4) as u16;
    assert_eq!(hardware.read(timer, 4, 1_000_000_000), 3_579_545);
    assert_eq!(port(fadt, 116), (8, 1, ResetControl::PORT));
    assert_eq!(ResetControl::new().write(fadt[128]), Effect::Reset);
}

#[test]
fn a_pc_has_a_facs_where_the_global_lock_can_be() {
    let tables = tables(MachineType::Pc, &[0]);
    let address = number(tables.named(b"FACP"), 36, 4);
    let facs = tables.at(address);
    assert_eq!((&facs[..4], facs.len(), address % 64), (&b"FACS"[..], 64, 0));
    assert_eq!(number(facs, 16, 4), 0, "not taken");
}

#[test]
fn each_vcpu_has_an_entry_that_can_hold_its_apic_id() {
    let ids = [0, 254, 255, 256, 70_000];
    for machine in MachineType::ALL {
        let tables = tables(machine, &ids);
        assert_eq!(cpus(&tables, PLACE.into()).unwrap().ids(), ids, "{machine:?}");
        let entries = tables.madt();
        assert_eq!(entries[1], [0, 8, 254, 254, 1, 0, 0, 0]);
        assert_eq!(entries[2], [9, 16, 0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 255, 0, 0, 0]);
        assert_eq!(number(tables.named(b"APIC"), 36, 4), apic::DEFAULT_BASE);
    }
}

#[test]
fn a_minimal_machine_has_no_other_interrupt_controller() {
    let tables = tables(MachineType::Minimal, &[0]);
    assert_eq!(tables.madt(), [[0, 8, 0, 0, 1, 0, 0, 0]]);
    assert_eq!(number(tables.named(b"APIC"), 40, 4), 0, "no 8259A");
}

#[test]
fn a_pc_has_an_io_apic_and_says_where_timer_and_sci_are() {
    let tables = tables(MachineType::Pc, &[0]);
    assert_eq!(number(tables.named(b"APIC"), 40, 4), 1, "two 8259A");
    let entries = tables.madt();
    assert_eq!(entries.len(), 4);
    assert_eq!((entries[1][0], number(entries[1], 4, 4)), (1, ioapic::DEFAULT_BASE));
    assert_eq!(number(entries[1], 8, 4), 0, "from interrupt 0");
    assert_eq!(entries[2], [2, 10, 0, 0, 2, 0, 0, 0, 0, 0], "IRQ 0 at pin 2");
    assert_eq!(entries[3], [2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0], "level, active high");
}

#[test]
fn the_dsdt_turns_the_machine_off_by_the_type_that_its_hardware_takes() {
    for machine in MachineType::ALL {
        // Name, _S5, package of 4 elements; 0 and 1 are opcodes of their own.
        const { assert!(S5 < 2) };
        let s5 = [b"\x08_S5_\x12\x06\x04", &[S5, S5, 0, 0][..]].concat();
        assert!(contains(tables(machine, &[0]).dsdt(), &s5), "{machine:?}");
    }
}

#[test]
fn com1_has_an_interrupt_only_if_the_facts_say_so() {
    let id = b"PNP0501\0";
    let io = b"\x47\x01\xf8\x03\xf8\x03\x01\x08";
    for machine in MachineType::ALL {
        let of = |com1| Tables(build(&Facts { com1, ..facts(machine, &[0]) }).unwrap());
        let with = |irq: &[u8]| [io, irq, b"\x79\x00"].concat();
        let polled = of(Com1::Polled);
        assert!(contains(polled.dsdt(), id) && contains(polled.dsdt(), &with(b"")));
        let irq = of(Com1::Irq(COM1_IRQ));
        assert!(contains(irq.dsdt(), id) && contains(irq.dsdt(), &with(b"\x22\x10\x00")));
        assert!(!contains(of(Com1::Absent).dsdt(), id));
    }
}

#[test]
fn only_a_pc_has_its_devices() {
    let (pc, minimal) = (tables(MachineType::Pc, &[0]), tables(MachineType::Minimal, &[0]));
    for (name, id, irq) in [
        ("PIC_", "PNP0000", 2),
        ("PIT_", "PNP0100", 0),
        ("RTC_", "PNP0B00", 8),
        ("KBD_", "PNP0303", 1),
        ("AUX_", "PNP0F13", 12),
    ] {
        let start = [name, "\x08_HID\x0d", id, "\0"].concat().into_bytes();
        let at = pc.dsdt().windows(start.len()).position(|window| window == start).unwrap();
        let resources = &pc.dsdt()[at..];
        let end = resources.windows(2).position(|window| window == b"\x79\x00").unwrap();
        let descriptor = [&b"\x22"[..], &u16::to_le_bytes(1 << irq)].concat();
        assert!(resources[..end].ends_with(&descriptor), "{name}");
        assert!(!contains(minimal.dsdt(), name.as_bytes()), "{name}");
    }
}

#[test]
fn each_vcpu_is_a_device_with_its_own_name_and_uid() {
    let ids: Vec<u32> = (0..MOST_VCPUS as u32).map(|n| n * 3).collect();
    let tables = tables(MachineType::Pc, &ids);
    for (name, id) in
        [(&b"C000"[..], &b"\x00"[..]), (b"C001", b"\x0a\x03"), (b"C3FF", b"\x0b\xfd\x0b")]
    {
        let device = [name, b"\x08_HID\x0dACPI0007\x00\x08_UID", id].concat();
        assert!(contains(tables.dsdt(), &device));
    }
}

#[test]
fn the_most_vcpus_fit_below_one_megabyte_and_more_are_refused() {
    let ids = [300; MOST_VCPUS + 1];
    let most = build(&facts(MachineType::Pc, &ids[..MOST_VCPUS])).unwrap();
    assert!(most.len() <= 0x2_0000);
    assert_eq!(build(&facts(MachineType::Pc, &ids)), Err(TooManyVcpus(MOST_VCPUS + 1)));
}
