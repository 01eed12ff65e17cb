//! IA32_APIC_BASE, reset, and what each mode answers.

use super::*;

const XAPIC: u64 = DEFAULT_BASE | 0x900;
const X2APIC: u64 = DEFAULT_BASE | 0xd00;
const DISABLED: u64 = DEFAULT_BASE | 0x100;
const INVALID: u64 = DEFAULT_BASE | 0x500;

#[test]
fn registers_after_power_up_are_those_of_the_manual() {
    let mut apic = apic_with(config());
    assert_eq!((apic.mode(), apic.base()), (Mode::XApic, XAPIC));
    for (register, value) in [
        (offset::ID, OWN_ID << 24),
        (offset::VERSION, 0x0005_0015),
        (offset::TPR, 0),
        (offset::LDR, 0),
        (offset::DFR, u32::MAX),
        (offset::SVR, 0xff),
        (offset::LVT_TIMER, 0x1_0000),
        (offset::LVT_LINT1, 0x1_0000),
        (offset::LVT_ERROR, 0x1_0000),
        (offset::TIMER_INITIAL, 0),
        (offset::TIMER_DIVIDE, 0),
        (offset::ICR_LOW, 0),
    ] {
        assert_eq!(apic.mmio_read(register, 0), value, "{register:#x}");
    }
}

#[test]
fn mode_changes_follow_the_state_diagram() {
    let legal = |path: &[u64]| {
        let mut apic = apic_with(config());
        path.iter().all(|&value| apic.write_base(value).is_ok())
    };
    for path in [
        &[XAPIC][..],
        &[X2APIC],
        &[DISABLED],
        &[X2APIC, X2APIC],
        &[X2APIC, DISABLED],
        &[DISABLED, DISABLED],
        &[DISABLED, XAPIC, X2APIC, DISABLED, XAPIC],
    ] {
        assert!(legal(path), "{path:x?}");
    }
    for path in [
        &[INVALID][..],
        &[X2APIC, XAPIC],
        &[X2APIC, INVALID],
        &[DISABLED, X2APIC],
        &[DISABLED, INVALID],
    ] {
        assert!(!legal(path), "{path:x?}");
    }
}

#[test]
fn an_illegal_mode_change_changes_nothing() {
    let mut apic = x2apic();
    assert_eq!(apic.write_base(XAPIC), Err(GeneralProtection));
    assert_eq!((apic.mode(), apic.base()), (Mode::X2Apic, X2APIC));
}

#[test]
fn reserved_bits_of_the_base_fault() {
    let mut apic = apic_with(config());
    for bit in [0, 7, 9, 40, 63] {
        assert_eq!(apic.write_base(XAPIC | 1 << bit), Err(GeneralProtection), "bit {bit}");
    }
    assert_eq!(apic.write_base(XAPIC), Ok(Effect::None));
    assert_eq!(apic.write_base(0xff_ffff_f900), Ok(Effect::Mode), "the last page there is");
    assert_eq!(apic.base_address(), 0xff_ffff_f000);
    let mut wide = apic_with(Config { physical_bits: 64, ..config() });
    assert!(wide.write_base(1 << 63 | XAPIC).is_ok());
}

#[test]
fn a_round_trip_through_disabled_resets_and_keeps_the_id() {
    let mut apic = xapic();
    let _ = apic.mmio_write(offset::TPR, 0x50, 0);
    let _ = apic.mmio_write(offset::LVT_TIMER, 0x40, 0);
    let _ = apic.mmio_write(offset::TIMER_INITIAL, 100, 0);
    let _ = apic.post(0x80, Trigger::Edge);
    assert_eq!(apic.write_base(DISABLED), Ok(Effect::Mode));
    assert_eq!((apic.timer_due(), apic.deliverable()), (None, None));
    assert_eq!(apic.post(0x80, Trigger::Edge), Effect::None, "nobody is there");
    assert_eq!(apic.mmio_read(offset::ID, 0), u32::MAX);
    assert_eq!(apic.write_base(XAPIC), Ok(Effect::Mode));
    assert_eq!(apic.mmio_read(offset::ID, 0), OWN_ID << 24);
    assert_eq!(apic.mmio_read(offset::TPR, 0), 0);
    assert_eq!(apic.mmio_read(offset::SVR, 0), 0xff);
    assert_eq!(apic.deliverable(), None);
}

#[test]
fn the_step_to_x2apic_keeps_state_and_widens_the_ids() {
    let mut apic = apic_with(Config { id: 0x123, ..config() });
    let _ = apic.mmio_write(offset::SVR, 0x1ff, 0);
    let _ = apic.mmio_write(offset::TPR, 0x20, 0);
    let _ = apic.mmio_write(offset::ICR_HIGH, 0xff00_0000, 0);
    let _ = apic.post(0x55, Trigger::Edge);
    assert_eq!(apic.write_base(X2APIC), Ok(Effect::Mode));
    assert_eq!(apic.msr_read(0x802, 0), Ok(0x123));
    assert_eq!(apic.msr_read(0x80d, 0), Ok(0x12 << 16 | 1 << 3));
    assert_eq!(apic.msr_read(0x808, 0), Ok(0x20));
    assert_eq!(apic.msr_read(0x80f, 0), Ok(0x1ff));
    assert_eq!(apic.msr_read(0x830, 0), Ok(0));
    assert_eq!(apic.deliverable(), Some(0x55));
}

#[test]
fn each_mode_has_one_way_in() {
    let mut apic = xapic();
    assert_eq!(apic.msr_read(0x802, 0), Err(GeneralProtection));
    assert_eq!(apic.msr_write(0x808, 0, 0), Err(GeneralProtection));
    let mut apic = x2apic();
    assert_eq!(apic.mmio_read(offset::ID, 0), u32::MAX);
    assert_eq!(apic.mmio_write(offset::TPR, 0x70, 0), Effect::None);
    assert_eq!(apic.tpr(), 0);
}

#[test]
fn init_keeps_mode_and_id() {
    let mut apic = x2apic();
    let _ = apic.msr_write(0x808, 0x40, 0);
    apic.init();
    assert_eq!(apic.mode(), Mode::X2Apic);
    assert_eq!(apic.msr_read(0x802, 0), Ok(OWN_ID.into()));
    assert_eq!(apic.msr_read(0x80d, 0), Ok(1 << OWN_ID));
    assert_eq!(apic.msr_read(0x808, 0), Ok(0));
    assert_eq!(apic.msr_read(0x80f, 0), Ok(0xff));
}
