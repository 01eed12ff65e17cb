use std::boxed::Box;
use std::vec::Vec;

use super::super::apic::{Config, Mode, TimerRatio, Vectors, offset};
use super::*;

fn read(io_apic: &mut IoApic, register: u8) -> u32 {
    assert_eq!(io_apic.write(IOREGSEL, register.into()).count(), 0);
    io_apic.read(IOWIN)
}

fn write(io_apic: &mut IoApic, register: u8, value: u32) -> Vec<Message> {
    assert_eq!(io_apic.write(IOREGSEL, register.into()).count(), 0);
    io_apic.write(IOWIN, value).collect()
}

/// Writes an entry, its upper half first.
fn program(io_apic: &mut IoApic, pin: u8, entry: u64) -> Vec<Message> {
    let mut sent = write(io_apic, TABLE + 2 * pin + 1, (entry >> 32) as u32);
    sent.extend(write(io_apic, TABLE + 2 * pin, entry as u32));
    sent
}

fn entry(io_apic: &mut IoApic, pin: u8) -> u64 {
    let upper = read(io_apic, TABLE + 2 * pin + 1);
    u64::from(upper) << 32 | u64::from(read(io_apic, TABLE + 2 * pin))
}

fn fixed(vector: u8, trigger: Trigger) -> Message {
    Message { destination: 0, logical: false, mode: DeliveryMode::Fixed, vector, trigger }
}

const EDGE_40: Message = Message {
    destination: 0,
    logical: false,
    mode: DeliveryMode::Fixed,
    vector: 0x40,
    trigger: Trigger::Edge,
};

#[test]
fn registers_after_reset_are_those_of_the_data_sheet() {
    let mut io_apic = IoApic::new();
    assert_eq!(read(&mut io_apic, ID), 0);
    assert_eq!(read(&mut io_apic, VERSION), 0x0017_0020, "24 entries, version 20h");
    assert_eq!(read(&mut io_apic, ARBITRATION), 0);
    for pin in 0..PINS {
        assert_eq!(entry(&mut io_apic, pin), 1 << 16, "pin {pin}");
    }
}

#[test]
fn the_arbitration_id_follows_the_id_and_neither_has_more_than_four_bits() {
    let mut io_apic = IoApic::new();
    write(&mut io_apic, ID, u32::MAX);
    assert_eq!(read(&mut io_apic, ID), 0x0f00_0000);
    assert_eq!(read(&mut io_apic, ARBITRATION), 0x0f00_0000);
    write(&mut io_apic, ARBITRATION, 0);
    write(&mut io_apic, VERSION, 0);
    assert_eq!(read(&mut io_apic, ARBITRATION), 0x0f00_0000, "read-only");
    assert_eq!(read(&mut io_apic, VERSION), 0x0017_0020, "read-only");
}

#[test]
fn only_eight_bits_select_a_register() {
    let mut io_apic = IoApic::new();
    assert_eq!(io_apic.write(IOREGSEL, 0xffff_ff01).count(), 0);
    assert_eq!((io_apic.read(IOREGSEL), io_apic.read(IOWIN)), (0x01, 0x0017_0020));
}

#[test]
fn offsets_and_registers_that_do_not_exist_read_zero_and_take_nothing() {
    let mut io_apic = IoApic::new();
    for offset in (0..0x1000).filter(|&o| o != IOREGSEL && o != IOWIN) {
        assert_eq!(io_apic.write(offset, u32::MAX).count(), 0);
        assert_eq!(io_apic.read(offset), 0, "{offset:#x}");
    }
    for register in (3..TABLE).chain(TABLE + 2 * PINS..=0xff) {
        assert_eq!(write(&mut io_apic, register, u32::MAX), []);
        assert_eq!(read(&mut io_apic, register), 0, "{register:#x}");
    }
    assert_eq!((read(&mut io_apic, ID), entry(&mut io_apic, 23)), (0, MASKED));
}

#[test]
fn status_bits_and_reserved_bits_of_an_entry_are_not_written() {
    let mut io_apic = IoApic::new();
    program(&mut io_apic, 5, u64::MAX);
    assert_eq!(entry(&mut io_apic, 5), 0xff00_0000_0001_afff);
    assert_eq!(entry(&mut io_apic, 4), MASKED);
    program(&mut io_apic, 5, 0);
    assert_eq!(entry(&mut io_apic, 5), 0);
}

#[test]
fn an_edge_sends_one_message_and_only_when_it_rises() {
    let mut io_apic = IoApic::new();
    assert_eq!(program(&mut io_apic, 4, 0x40), []);
    assert_eq!(io_apic.set_pin(4, true), Some(EDGE_40));
    assert_eq!(entry(&mut io_apic, 4) & REMOTE_IRR, 0, "edges have none");
    assert_eq!(io_apic.set_pin(4, true), None);
    assert_eq!(io_apic.end_of_interrupt(0x40).count(), 0);
    assert_eq!(io_apic.set_pin(4, false), None);
    assert_eq!(io_apic.set_pin(4, true), Some(EDGE_40));
}

#[test]
fn the_message_says_what_the_entry_says() {
    let mut io_apic = IoApic::new();
    program(&mut io_apic, 2, 0xa5 << 56 | 1 << 11 | 1 << 8 | 1 << 15 | 0x91);
    assert_eq!(
        io_apic.set_pin(2, true),
        Some(Message {
            destination: 0xa5,
            logical: true,
            mode: DeliveryMode::LowestPriority,
            vector: 0x91,
            trigger: Trigger::Level,
        })
    );
}

#[test]
fn an_edge_while_masked_is_lost() {
    let mut io_apic = IoApic::new();
    program(&mut io_apic, 4, 0x40 | MASKED);
    assert_eq!(io_apic.set_pin(4, true), None);
    assert_eq!(program(&mut io_apic, 4, 0x40), []);
    assert_eq!(io_apic.set_pin(4, false), None);
    assert_eq!(io_apic.set_pin(4, true), Some(EDGE_40));
}

#[test]
fn a_level_while_masked_is_sent_when_it_is_unmasked_and_still_there() {
    let mut io_apic = IoApic::new();
    let level = fixed(0x50, Trigger::Level);
    program(&mut io_apic, 9, 0x50 | LEVEL | MASKED);
    assert_eq!(io_apic.set_pin(9, true), None);
    assert_eq!(io_apic.set_pin(9, false), None);
    assert_eq!(program(&mut io_apic, 9, 0x50 | LEVEL), [], "gone");
    program(&mut io_apic, 9, 0x50 | LEVEL | MASKED);
    assert_eq!(io_apic.set_pin(9, true), None);
    assert_eq!(program(&mut io_apic, 9, 0x50 | LEVEL), [level]);
}

#[test]
fn a_level_is_sent_once_until_its_end_and_again_while_it_holds() {
    let mut io_apic = IoApic::new();
    let level = fixed(0x50, Trigger::Level);
    program(&mut io_apic, 9, 0x50 | LEVEL);
    assert_eq!(io_apic.set_pin(9, true), Some(level));
    assert_eq!(entry(&mut io_apic, 9), 0x50 | LEVEL | REMOTE_IRR);
    for high in [true, false, true] {
        assert_eq!(io_apic.set_pin(9, high), None);
    }
    assert_eq!(program(&mut io_apic, 9, 0x50 | LEVEL), [], "remote IRR is not written");
    assert_eq!(io_apic.end_of_interrupt(0x51).count(), 0, "of another vector");
    assert_eq!(io_apic.end_of_interrupt(0x50).collect::<Vec<_>>(), [level]);
    assert_eq!(entry(&mut io_apic, 9) & REMOTE_IRR, REMOTE_IRR);
    assert_eq!(io_apic.set_pin(9, false), None);
    assert_eq!(io_apic.end_of_interrupt(0x50).count(), 0);
    assert_eq!(entry(&mut io_apic, 9) & REMOTE_IRR, 0);
    assert_eq!(io_apic.set_pin(9, true), Some(level));
}

#[test]
fn the_end_of_a_masked_level_is_taken_and_nothing_sent() {
    let mut io_apic = IoApic::new();
    program(&mut io_apic, 9, 0x50 | LEVEL);
    assert!(io_apic.set_pin(9, true).is_some());
    program(&mut io_apic, 9, 0x50 | LEVEL | MASKED);
    assert_eq!(entry(&mut io_apic, 9), 0x50 | LEVEL | MASKED | REMOTE_IRR);
    assert_eq!(io_apic.end_of_interrupt(0x50).count(), 0);
    assert_eq!(entry(&mut io_apic, 9), 0x50 | LEVEL | MASKED);
    assert_eq!(program(&mut io_apic, 9, 0x50 | LEVEL), [fixed(0x50, Trigger::Level)]);
}

#[test]
fn the_eoi_register_ends_every_pin_with_that_vector() {
    let mut io_apic = IoApic::new();
    for pin in [0, 11, 15] {
        program(&mut io_apic, pin, u64::from(pin) << 56 | 0x60 | LEVEL);
        assert!(io_apic.set_pin(pin, true).is_some(), "pin {pin}");
    }
    let _ = io_apic.set_pin(11, false);
    let sent: Vec<u8> = io_apic.write(EOI, 0xffff_ff60).map(|m| m.destination).collect();
    assert_eq!(sent, [0, 15]);
    assert_eq!(entry(&mut io_apic, 11) & REMOTE_IRR, 0);
    assert_eq!(io_apic.read(EOI), 0, "write-only");
}

#[test]
fn polarity_says_which_level_is_active() {
    let mut io_apic = IoApic::new();
    assert_eq!(io_apic.set_pin(10, true), None);
    assert_eq!(program(&mut io_apic, 10, 0x70 | LEVEL | ACTIVE_LOW), []);
    assert_eq!(io_apic.set_pin(10, false), Some(fixed(0x70, Trigger::Level)));
    program(&mut io_apic, 4, 0x40 | ACTIVE_LOW);
    assert_eq!(io_apic.set_pin(4, true), None);
    assert_eq!(io_apic.set_pin(4, false), Some(EDGE_40), "a falling edge");
}

#[test]
fn pins_that_nobody_drives_are_idle_as_isa_and_pci_have_them() {
    let mut io_apic = IoApic::new();
    for pin in 0..PINS {
        let polarity = if pin < 16 { 0 } else { ACTIVE_LOW };
        assert_eq!(program(&mut io_apic, pin, 0x40 | LEVEL | polarity), [], "pin {pin}");
    }
}

#[test]
fn becoming_edge_triggered_clears_remote_irr() {
    let mut io_apic = IoApic::new();
    program(&mut io_apic, 9, 0x50 | LEVEL);
    assert!(io_apic.set_pin(9, true).is_some());
    program(&mut io_apic, 9, 0x50 | MASKED);
    assert_eq!(entry(&mut io_apic, 9), 0x50 | MASKED);
    assert_eq!(program(&mut io_apic, 9, 0x50 | LEVEL), [fixed(0x50, Trigger::Level)]);
}

#[test]
fn modes_without_a_vector_of_their_own_are_triggered_by_edges() {
    for (mode, bits) in [
        (DeliveryMode::Smi, 2 << 8),
        (DeliveryMode::Nmi, 4 << 8),
        (DeliveryMode::Init, 5 << 8),
        (DeliveryMode::ExtInt, 7 << 8),
    ] {
        let mut io_apic = IoApic::new();
        program(&mut io_apic, 1, bits | LEVEL);
        let message = io_apic.set_pin(1, true).unwrap();
        assert_eq!((message.mode, message.trigger), (mode, Trigger::Edge));
        assert_eq!(entry(&mut io_apic, 1) & REMOTE_IRR, 0, "{mode:?}");
    }
}

#[test]
fn modes_without_a_meaning_send_nothing() {
    for mode in [3, 6] {
        for trigger in [0, LEVEL] {
            let mut io_apic = IoApic::new();
            program(&mut io_apic, 1, mode << 8 | trigger | 0x40);
            assert_eq!(io_apic.set_pin(1, true), None, "mode {mode}");
        }
    }
}

#[test]
fn a_pin_that_does_not_exist_does_nothing() {
    let mut io_apic = IoApic::new();
    program(&mut io_apic, 0, 0x40);
    for pin in [PINS, 32, 0xff] {
        assert_eq!(io_apic.set_pin(pin, true), None);
    }
    assert_eq!(io_apic.set_pin(0, true), Some(EDGE_40));
}

#[test]
fn a_local_apic_takes_the_message_with_its_trigger_and_ends_it_by_broadcast() {
    let config = Config {
        id: 3,
        bootstrap: true,
        physical_bits: 40,
        timer: TimerRatio::ONE,
        shortest_period: 0,
    };
    let mut apic = VirtualApic::new(Box::new(ApicPage::new()), config);
    assert_eq!(apic.mmio_write(offset::SVR, 0x1ff, 0), Effect::Mode);
    assert_eq!(apic.mode(), Mode::XApic);

    let mut io_apic = IoApic::new();
    program(&mut io_apic, 9, 3 << 56 | 0x50 | LEVEL);
    let message = io_apic.set_pin(9, true).unwrap();
    assert!(apic.is_addressed(&message.ipi(), false));
    assert_eq!(message.deliver(&mut apic), Effect::Posted(0x50));
    assert!(apic.page().has(Vectors::Tmr, 0x50));
    apic.acknowledge(0x50);
    assert_eq!(apic.eoi(), Effect::Eoi { vector: 0x50, broadcast: true });

    assert_eq!(fixed(0x51, Trigger::Edge).deliver(&mut apic), Effect::Posted(0x51));
    assert!(!apic.page().has(Vectors::Tmr, 0x51));
    for (mode, effect) in [
        (DeliveryMode::Nmi, Effect::Nmi),
        (DeliveryMode::Init, Effect::Init),
        (DeliveryMode::ExtInt, Effect::ExtInt),
        (DeliveryMode::Smi, Effect::None),
    ] {
        assert_eq!(Message { mode, ..EDGE_40 }.deliver(&mut apic), effect);
    }
}

#[test]
fn destinations_are_those_of_xapic_mode() {
    let to = |destination, logical| Message { destination, logical, ..EDGE_40 }.ipi().destination;
    assert_eq!(to(5, false), Destination::Physical(5));
    assert_eq!(to(5, true), Destination::Logical(5));
    assert_eq!(to(0xff, false), Destination::All);
    assert_eq!(to(0xff, true), Destination::All);
}
