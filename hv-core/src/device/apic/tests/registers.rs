//! What each register keeps, refuses and does.

use std::vec::Vec;

use super::*;

fn msr(offset: u16) -> u32 {
    0x800 + u32::from(offset >> 4)
}

#[test]
fn xapic_registers_keep_their_writable_bits_only() {
    let mut apic = xapic();
    for (register, kept) in [
        (offset::ID, OWN_ID << 24),
        (offset::VERSION, 0x0005_0015),
        (offset::TPR, 0xff),
        (offset::LDR, 0xff00_0000),
        (offset::DFR, 0xffff_ffff),
        (offset::ICR_HIGH, 0xff00_0000),
        (offset::LVT_TIMER, 0x0007_00ff),
        (offset::LVT_THERMAL, 0x0001_07ff),
        (offset::LVT_PMC, 0x0001_07ff),
        (offset::LVT_LINT0, 0x0001_a7ff),
        (offset::LVT_LINT1, 0x0001_a7ff),
        (offset::LVT_ERROR, 0x0001_00ff),
        (offset::TIMER_DIVIDE, 0x0b),
        (offset::IRR, 0),
        (offset::ISR + 0x70, 0),
    ] {
        let _ = apic.mmio_write(register, u32::MAX, 0);
        assert_eq!(apic.mmio_read(register, 0), kept, "{register:#x}");
    }
    let _ = apic.mmio_write(offset::DFR, 0, 0);
    assert_eq!(apic.mmio_read(offset::DFR, 0), 0x0fff_ffff);
}

#[test]
fn reserved_xapic_registers_read_zero_and_are_noted() {
    for register in [0x000, 0x010, 0x040, 0x2f0, 0x3f0, 0x3d0, 0x400, 0xff0] {
        let mut apic = xapic();
        assert_eq!(apic.mmio_read(register, 0), 0);
        assert_eq!(apic.mmio_read(offset::ESR, 0), 0, "not before a write");
        let _ = apic.mmio_write(offset::ESR, 0, 0);
        assert_eq!(apic.mmio_read(offset::ESR, 0), 0x80, "{register:#x}");
        let _ = apic.mmio_write(register, 1, 0);
        let _ = apic.mmio_write(offset::ESR, 0, 0);
        assert_eq!(apic.mmio_read(offset::ESR, 0), 0x80, "{register:#x}");
        let _ = apic.mmio_write(offset::ESR, 0, 0);
        assert_eq!(apic.mmio_read(offset::ESR, 0), 0, "the write cleared it");
    }
}

#[test]
fn odd_offsets_do_nothing() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::TPR, 0x30, 0);
    assert_eq!(apic.mmio_write(offset::TPR + 4, 0x70, 0), Effect::None);
    assert_eq!(apic.mmio_write(offset::TPR + 1, 0x70, 0), Effect::None);
    assert_eq!(apic.mmio_read(offset::TPR + 4, 0), 0);
    assert_eq!(apic.mmio_read(0xffff, 0), 0);
    assert_eq!(apic.tpr(), 0x30);
    let _ = apic.mmio_write(offset::ESR, 0, 0);
    assert_eq!(apic.mmio_read(offset::ESR, 0), 0);
}

#[test]
fn x2apic_registers_are_those_of_the_manual() {
    let vectors = (0x810..=0x827).collect::<Vec<u32>>();
    let both = [0x808, 0x80f, 0x828, 0x830, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837, 0x838, 0x83e];
    let read = [&[0x802, 0x803, 0x80a, 0x80d, 0x839][..], &vectors, &both].concat();
    let write = [&[0x80b, 0x83f][..], &both].concat();
    for msr in MSR_X2APIC {
        let mut apic = x2apic();
        assert_eq!(apic.msr_read(msr, 0).is_ok(), read.contains(&msr), "read of {msr:#x}");
        assert_eq!(apic.msr_write(msr, 0, 0).is_ok(), write.contains(&msr), "write to {msr:#x}");
    }
    assert_eq!(x2apic().msr_read(0x7ff, 0), Err(GeneralProtection));
    assert_eq!(x2apic().msr_read(0x900, 0), Err(GeneralProtection));
}

#[test]
fn reserved_bits_of_x2apic_registers_fault_and_change_nothing() {
    // Which bits may be written, by register.
    for (register, allowed) in [
        (offset::TPR, 0xff),
        (offset::EOI, 0),
        (offset::SVR, 0x3ff),
        (offset::ESR, 0),
        (offset::ICR_LOW, 0xffff_ffff_000c_dfff),
        (offset::LVT_TIMER, 0x0007_10ff),
        (offset::LVT_THERMAL, 0x0001_17ff),
        (offset::LVT_PMC, 0x0001_17ff),
        (offset::LVT_LINT0, 0x0001_f7ff),
        (offset::LVT_LINT1, 0x0001_f7ff),
        (offset::LVT_ERROR, 0x0001_10ff),
        (offset::TIMER_INITIAL, 0xffff_ffff),
        (offset::TIMER_DIVIDE, 0xb),
        (offset::SELF_IPI, 0xff_u64),
    ] {
        for bit in 0..64 {
            let mut apic = x2apic();
            let before = apic.msr_read(msr(register), 0);
            let legal = apic.msr_write(msr(register), 1 << bit, 0).is_ok();
            assert_eq!(legal, allowed >> bit & 1 != 0, "{register:#x} bit {bit}");
            if !legal {
                assert_eq!(apic.msr_read(msr(register), 0), before);
            }
        }
    }
}

#[test]
fn software_disable_masks_every_entry_and_holds_the_masks() {
    let mut apic = xapic();
    for lvt in LocalInterrupt::ALL {
        let _ = apic.mmio_write(lvt.offset(), 0x41, 0);
        assert_eq!(apic.mmio_read(lvt.offset(), 0), 0x41);
    }
    let _ = apic.mmio_write(offset::TIMER_INITIAL, 100, 0);
    let _ = apic.post(0x60, Trigger::Edge);
    assert_eq!(apic.mmio_write(offset::SVR, 0xff, 0), Effect::Mode);
    assert_eq!(apic.timer_due(), None);
    assert!(!apic.may_be_virtualized());
    for lvt in LocalInterrupt::ALL {
        assert_eq!(apic.mmio_read(lvt.offset(), 0), 0x1_0041);
        let _ = apic.mmio_write(lvt.offset(), 0x42, 0);
        assert_eq!(apic.mmio_read(lvt.offset(), 0), 0x1_0042);
    }
    assert_eq!(apic.post(0x70, Trigger::Edge), Effect::None, "no new interrupts");
    assert_eq!(apic.deliverable(), Some(0x60), "those accepted before stay");
    assert_eq!(apic.mmio_write(offset::SVR, 0x1ff, 0), Effect::Mode);
    assert_eq!(apic.mmio_read(offset::LVT_LINT0, 0), 0x1_0042, "enabling unmasks nothing");
}

#[test]
fn an_error_interrupts_once_until_the_status_is_written() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::LVT_ERROR, 0xe1, 0);
    assert_eq!(apic.mmio_write(0x40, 0, 0), Effect::Posted(0xe1));
    apic.acknowledge(0xe1);
    let _ = apic.eoi();
    assert_eq!(apic.mmio_write(0x40, 0, 0), Effect::None);
    assert_eq!(apic.post(3, Trigger::Edge), Effect::None);
    let _ = apic.mmio_write(offset::ESR, 0, 0);
    assert_eq!(apic.mmio_read(offset::ESR, 0), 0xc0, "both errors");
    assert_eq!(apic.mmio_write(0x40, 0, 0), Effect::Posted(0xe1), "armed again");
}

#[test]
fn an_illegal_vector_for_errors_is_itself_an_error_and_the_end_of_it() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::LVT_ERROR, 0x0f, 0);
    assert_eq!(apic.mmio_write(0x40, 0, 0), Effect::None);
    let _ = apic.mmio_write(offset::ESR, 0, 0);
    assert_eq!(apic.mmio_read(offset::ESR, 0), 0xc0);
    assert_eq!(apic.page().highest(Vectors::Irr), None);
}

#[test]
fn vectors_below_16_are_never_accepted() {
    for vector in 0..=255 {
        let mut apic = xapic();
        let legal = vector >= 16;
        assert_eq!(apic.post(vector, Trigger::Edge) == Effect::Posted(vector), legal);
        assert_eq!(apic.page().has(Vectors::Irr, vector), legal);
        let _ = apic.mmio_write(offset::ESR, 0, 0);
        assert_eq!(apic.mmio_read(offset::ESR, 0), if legal { 0 } else { 0x40 });
    }
}

#[test]
fn local_interrupts_are_delivered_as_their_entry_says() {
    for (entry, effect) in [
        (0x0031, Effect::Posted(0x31)),
        (0x0400, Effect::Nmi),
        (0x0500, Effect::Init),
        (0x0700, Effect::ExtInt),
        (0x0200, Effect::None),
        (0x1_0031, Effect::None),
    ] {
        let mut apic = xapic();
        let _ = apic.mmio_write(offset::LVT_LINT0, entry, 0);
        assert_eq!(apic.raise(LocalInterrupt::Lint0), effect, "{entry:#x}");
    }
}

#[test]
fn a_counter_interrupt_masks_its_entry() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::LVT_PMC, 0x400, 0);
    assert_eq!(apic.raise(LocalInterrupt::Performance), Effect::Nmi);
    assert_eq!(apic.mmio_read(offset::LVT_PMC, 0), 0x1_0400);
    assert_eq!(apic.raise(LocalInterrupt::Performance), Effect::None);
}

#[test]
fn cr8_is_the_upper_half_of_the_task_priority() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::TPR, 0x5c, 0);
    assert_eq!(apic.cr8(), 5);
    assert_eq!(apic.write_cr8(0xa), Ok(Effect::Priority));
    assert_eq!(apic.mmio_read(offset::TPR, 0), 0xa0);
    assert_eq!(apic.write_cr8(0x10), Err(GeneralProtection));
    assert_eq!(apic.write_cr8(1 << 32), Err(GeneralProtection));
    assert_eq!(apic.tpr(), 0xa0);
}

#[test]
fn the_processor_priority_is_the_higher_class_of_task_and_service() {
    // (TPR, in service, PPR): the sub-class survives only if the task's class is not the lower.
    for (tpr, service, ppr) in [
        (0x00, None, 0x00),
        (0x2c, None, 0x2c),
        (0x2c, Some(0x31), 0x30),
        (0x3c, Some(0x31), 0x3c),
        (0x4c, Some(0x31), 0x4c),
    ] {
        let mut apic = xapic();
        if let Some(vector) = service {
            let _ = apic.post(vector, Trigger::Edge);
            apic.acknowledge(vector);
        }
        let _ = apic.mmio_write(offset::TPR, tpr, 0);
        assert_eq!(apic.mmio_read(offset::PPR, 0), ppr);
    }
}

#[test]
fn the_end_of_an_interrupt_may_wait_only_if_nothing_depends_on_it() {
    let serving = |prepare: fn(&mut VirtualApic<_>)| {
        let mut apic = xapic();
        let _ = apic.post(0x51, Trigger::Edge);
        apic.acknowledge(0x51);
        prepare(&mut apic);
        apic.eoi_may_wait(0x51)
    };
    assert!(serving(|_| {}));
    assert!(!serving(|apic| _ = apic.eoi()), "not in service");
    assert!(!serving(|apic| _ = apic.post(0x31, Trigger::Edge)), "a lower one waits");
    assert!(!serving(|apic| _ = apic.post(0x91, Trigger::Edge)), "a higher one waits");
    assert!(!serving(|apic| _ = apic.post(0x51, Trigger::Edge)), "it waits again itself");
    assert!(!serving(|apic| {
        let _ = apic.post(0x91, Trigger::Edge);
        apic.acknowledge(0x91);
    }));
    assert!(!serving(|apic| {
        let _ = apic.eoi();
        let _ = apic.post(0x51, Trigger::Level);
        apic.acknowledge(0x51);
    }));
}

#[test]
fn the_threshold_lets_the_guest_run_until_its_priority_matters() {
    let mut apic = xapic();
    assert_eq!(apic.tpr_threshold(), 0);
    let _ = apic.post(0x55, Trigger::Edge);
    assert_eq!(apic.tpr_threshold(), 0, "not held back by the task priority");
    let _ = apic.write_cr8(5);
    assert_eq!(apic.tpr_threshold(), 5);
    let _ = apic.write_cr8(4);
    assert_eq!((apic.tpr_threshold(), apic.deliverable()), (0, Some(0x55)));
}
