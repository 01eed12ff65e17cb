//! Interprocessor interrupts: who sends what to whom.

use super::*;

fn sent(low: u32, destination: u8) -> Effect {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::ICR_HIGH, u32::from(destination) << 24, 0);
    apic.mmio_write(offset::ICR_LOW, low, 0)
}

fn ipi(effect: Effect) -> Ipi {
    match effect {
        Effect::Ipi(ipi) => ipi,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_delivery_mode_and_destination_is_decoded() {
    use DeliveryMode::*;
    use Destination::*;
    for (low, high, vector, mode, destination) in [
        (0x0_0041, 1, 0x41, Fixed, Physical(1)),
        (0x0_0841, 1, 0x41, Fixed, Logical(1)),
        (0x0_0141, 1, 0x41, LowestPriority, Physical(1)),
        (0x0_0400, 1, 0x00, Nmi, Physical(1)),
        (0x0_4500, 1, 0x00, Init, Physical(1)),
        (0x0_c500, 1, 0x00, Init, Physical(1)),
        (0x0_0500, 1, 0x00, Init, Physical(1)),
        (0x0_0699, 1, 0x99, Startup, Physical(1)),
        (0x0_0041, 0xff, 0x41, Fixed, All),
        (0x0_0841, 0xff, 0x41, Fixed, All),
        (0x8_0041, 1, 0x41, Fixed, All),
        (0xc_0041, 1, 0x41, Fixed, Others),
        (0xc_0608, 1, 0x08, Startup, Others),
    ] {
        assert_eq!(ipi(sent(low, high)), Ipi { vector, mode, destination }, "{low:#x}");
    }
}

#[test]
fn messages_without_effect_are_dropped() {
    for (low, what) in [
        (0x0_8500, "INIT level de-assert"),
        (0x0_0200, "SMI"),
        (0x0_0341, "reserved mode"),
        (0x0_0741, "ExtINT"),
        (0x4_0400, "NMI to self"),
        (0x4_0500, "INIT to self"),
        (0x8_0500, "INIT to all including self"),
    ] {
        assert_eq!(sent(low, 1), Effect::None, "{what}");
    }
}

#[test]
fn illegal_vectors_are_noted_and_not_sent() {
    for (low, errors) in
        [(0x0_000f, 0x20), (0x0_0100, 0x20), (0xc_000f, 0x20), (0x4_000f, 0x60), (0x0_0400, 0)]
    {
        let mut apic = xapic();
        let effect = apic.mmio_write(offset::ICR_LOW, low, 0);
        assert_eq!(effect == Effect::None, errors != 0);
        let _ = apic.mmio_write(offset::ESR, 0, 0);
        assert_eq!(apic.mmio_read(offset::ESR, 0), errors, "{low:#x}");
    }
    let mut apic = x2apic();
    assert_eq!(apic.msr_write(0x83f, 0x0f, 0), Ok(Effect::None));
    assert_eq!(apic.msr_write(0x828, 0, 0), Ok(Effect::None));
    assert_eq!(apic.msr_read(0x828, 0), Ok(0x60));
}

#[test]
fn the_command_register_reads_back_idle() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::ICR_LOW, 0xffff_ffff, 0);
    assert_eq!(apic.mmio_read(offset::ICR_LOW, 0), 0x000c_cfff);
    let mut apic = x2apic();
    assert!(apic.msr_write(0x830, 0x1234_5678_0000_1041, 0).is_ok());
    assert_eq!(apic.msr_read(0x830, 0), Ok(0x1234_5678_0000_0041));
    let high = apic.page().get(offset::ICR_LOW + 4);
    assert_eq!(high, 0x1234_5678, "where the CPU reads the upper half of MSR 830h");
}

#[test]
fn x2apic_destinations_are_32_bits_wide() {
    let mut apic = x2apic();
    let mut send = |value| ipi(apic.msr_write(0x830, value, 0).unwrap()).destination;
    assert_eq!(send(0x0000_00ff_0000_0041), Destination::Physical(0xff), "no broadcast here");
    assert_eq!(send(0xffff_ffff_0000_0041), Destination::All);
    assert_eq!(send(0x0001_0002_0000_0841), Destination::Logical(0x1_0002));
}

#[test]
fn self_ipis_need_no_routing() {
    assert_eq!(sent(0x4_0041, 0), Effect::Posted(0x41));
    assert_eq!(x2apic().msr_write(0x83f, 0x41, 0), Ok(Effect::Posted(0x41)));
    assert_eq!(x2apic().msr_write(0x830, 0x4_0041, 0), Ok(Effect::Posted(0x41)));
}

fn reaches(apic: &VirtualApic<Box<ApicPage>>, destination: Destination, sender: bool) -> bool {
    apic.is_addressed(&Ipi { vector: 0x41, mode: DeliveryMode::Fixed, destination }, sender)
}

#[test]
fn physical_destinations_and_shorthands_are_matched() {
    for apic in [xapic(), x2apic()] {
        assert!(reaches(&apic, Destination::Physical(OWN_ID), true));
        assert!(!reaches(&apic, Destination::Physical(OWN_ID + 1), false));
        assert!(reaches(&apic, Destination::All, true));
        assert!(reaches(&apic, Destination::Others, false));
        assert!(!reaches(&apic, Destination::Others, true));
    }
    let mut off = xapic();
    let _ = off.write_base(DEFAULT_BASE);
    assert!(!reaches(&off, Destination::All, false));
}

#[test]
fn logical_destinations_match_by_the_model_in_force() {
    const FLAT: u32 = 0xf << 28;
    const CLUSTER: u32 = 0;
    for (dfr, ldr, destination, matches) in [
        (FLAT, 0x04, 0x04, true),
        (FLAT, 0x04, 0x0c, true),
        (FLAT, 0x04, 0x03, false),
        (FLAT, 0x00, 0x7f, false),
        (CLUSTER, 0x24, 0x24, true),
        (CLUSTER, 0x24, 0x26, true),
        (CLUSTER, 0x24, 0x34, false),
        (CLUSTER, 0x24, 0x22, false),
        (CLUSTER, 0x24, 0xf4, true),
        (CLUSTER, 0x24, 0xf1, false),
        (0x5 << 28, 0x24, 0x24, false),
    ] {
        let mut apic = xapic();
        let _ = apic.mmio_write(offset::DFR, dfr, 0);
        let _ = apic.mmio_write(offset::LDR, ldr << 24, 0);
        let hit = reaches(&apic, Destination::Logical(destination), false);
        assert_eq!(hit, matches, "DFR {dfr:#x} LDR {ldr:#x} MDA {destination:#x}");
    }
    let mut apic = apic_with(Config { id: 0x25, ..config() });
    let _ = apic.write_base(DEFAULT_BASE | 0xc00);
    for (destination, matches) in
        [(0x2_0020, true), (0x2_ffff, true), (0x2_0010, false), (0x3_0020, false), (0x20, false)]
    {
        assert_eq!(reaches(&apic, Destination::Logical(destination), false), matches);
    }
}

#[test]
fn what_arrives_is_accepted_by_kind() {
    let mut apic = xapic();
    let mut accept = |mode, vector| {
        apic.accept(&Ipi { vector, mode, destination: Destination::Physical(OWN_ID) })
    };
    assert_eq!(accept(DeliveryMode::Fixed, 0x41), Effect::Posted(0x41));
    assert_eq!(accept(DeliveryMode::LowestPriority, 0x42), Effect::Posted(0x42));
    assert_eq!(accept(DeliveryMode::Nmi, 0), Effect::Nmi);
    assert_eq!(accept(DeliveryMode::Init, 0), Effect::Init);
    assert_eq!(accept(DeliveryMode::Startup, 9), Effect::Startup(9));
    let _ = apic.mmio_write(offset::SVR, 0xff, 0);
    let mut accept =
        |mode| apic.accept(&Ipi { vector: 0x50, mode, destination: Destination::Physical(OWN_ID) });
    assert_eq!(accept(DeliveryMode::Fixed), Effect::None, "disabled by software");
    assert_eq!(accept(DeliveryMode::Nmi), Effect::Nmi);
    assert_eq!(accept(DeliveryMode::Init), Effect::Init);
}
