//! A CPU made of tables.

use std::collections::BTreeMap;
use std::string::ToString;
use std::vec::Vec;

use super::super::controls::Controls;
use super::*;
pub use crate::hw::testing::Fake;

fn controls(must: u32, may: u32) -> u64 {
    u64::from(may) << 32 | u64::from(must)
}

impl Fake {
    /// A CPU with everything that has a name here, and with controls that have none.
    pub fn rich() -> Fake {
        Fake {
            msrs: BTreeMap::from([
                (msr::IA32_FEATURE_CONTROL, 5),
                (msr::IA32_VMX_BASIC, 1 << 55 | 0x2b),
                (msr::IA32_VMX_TRUE_PINBASED_CTLS, controls(0x16, 0xff)),
                (msr::IA32_VMX_TRUE_PROCBASED_CTLS, controls(0x0400_6172, 0xfff9_fffe)),
                (msr::IA32_VMX_TRUE_EXIT_CTLS, controls(0x0003_6dfb, 0x03ff_ffff)),
                (msr::IA32_VMX_TRUE_ENTRY_CTLS, controls(0x0000_11fb, 0x0007_ffff)),
                (msr::IA32_VMX_MISC, 5),
                (msr::IA32_VMX_CR0_FIXED0, 0x8000_0021),
                (msr::IA32_VMX_CR0_FIXED1, 0xffff_ffff),
                (msr::IA32_VMX_CR4_FIXED0, 0x2000),
                (msr::IA32_VMX_CR4_FIXED1, 0x0037_27ff),
                (msr::IA32_VMX_PROCBASED_CTLS2, controls(0, !(1 << 21))),
                (msr::IA32_VMX_EPT_VPID_CAP, EptVpid::all().bits()),
            ]),
            leaves: BTreeMap::from([
                (0, [1, 0, 0, 0]),
                (1, [0, 0, 1 << 5, 0]),
                (0x8000_0000, [0x8000_0008, 0, 0, 0]),
                (0x8000_0001, [0, 0, 0, 1 << 20]),
                (0x8000_0008, [48 << 8 | 40, 0, 0, 0]),
            ]),
        }
    }

    pub fn capabilities(&self) -> Result<Capabilities, Refusal> {
        Capabilities::read(self, self)
    }

    fn clear(mut self, msr: u32, bits: u64) -> Fake {
        *self.msrs.get_mut(&msr).unwrap() &= !bits;
        self
    }

    fn without_msrs(mut self, msrs: &[u32]) -> Fake {
        self.msrs.retain(|msr, _| !msrs.contains(msr));
        self
    }
}

#[test]
fn a_rich_cpu_is_read_whole() {
    let caps = Fake::rich().capabilities().unwrap();
    assert_eq!((caps.revision, caps.preemption_timer_shift), (0x2b, 5));
    assert_eq!(
        (caps.limits.physical_bits, caps.linear_bits, caps.limits.no_execute),
        (40, 48, true)
    );
    assert_eq!(caps.features(), Features::all());
    assert!(caps.report().all(|(.., there)| there));
    let narrow = Fake::rich().clear(msr::IA32_VMX_EPT_VPID_CAP, EptVpid::EPT_1G.bits());
    let missing = narrow.capabilities().unwrap().report().find(|(.., there)| !there);
    assert_eq!(missing, Some(("EPT and VPID", "EPT_1G", false)));
}

#[test]
fn without_widths_in_cpuid_the_old_ones_count() {
    let mut narrow = Fake::rich();
    narrow.leaves.retain(|leaf, _| *leaf < 0x8000_0001);
    narrow.leaves.insert(0x8000_0000, [0x8000_0000, 0, 0, 0]);
    let caps = narrow.capabilities().unwrap();
    assert_eq!(
        (caps.limits.physical_bits, caps.linear_bits, caps.limits.no_execute),
        (36, 48, false)
    );
}

#[test]
fn without_true_controls_the_old_msrs_count() {
    let truth = [0x48d, 0x48e, 0x48f, 0x490];
    let mut old = Fake::rich().clear(msr::IA32_VMX_BASIC, 1 << 55);
    for (old_msr, precise) in (0x481..).zip(truth) {
        let value = old.msrs[&precise];
        old.msrs.insert(old_msr, value);
    }
    let cr3_load = u64::from(Primary::CR3_LOAD_EXITING.bits());
    *old.msrs.get_mut(&msr::IA32_VMX_PROCBASED_CTLS).unwrap() |= cr3_load;
    let caps = old.without_msrs(&truth).capabilities().unwrap();
    let primary = caps.primary.adjust(Primary::empty(), Primary::empty()).unwrap();
    assert!(primary.contains(Primary::CR3_LOAD_EXITING), "default1 cannot be cleared");
}

#[test]
fn each_thing_that_is_missing_is_refused_by_name() {
    let secondary = |flag: Secondary| {
        let bit = u64::from(flag.bits()) << 32;
        Fake::rich().clear(msr::IA32_VMX_PROCBASED_CTLS2, bit)
    };
    let ept = |flag: EptVpid| Fake::rich().clear(msr::IA32_VMX_EPT_VPID_CAP, flag.bits());
    let cases: Vec<(Fake, Refusal)> = [
        (Fake::rich().clear(msr::IA32_FEATURE_CONTROL, 4), Refusal::LockedOff),
        (
            Fake::rich()
                .clear(msr::IA32_VMX_TRUE_PROCBASED_CTLS, 1 << 63)
                .without_msrs(&[msr::IA32_VMX_PROCBASED_CTLS2, msr::IA32_VMX_EPT_VPID_CAP]),
            Refusal::NoSecondaryControls,
        ),
        (
            secondary(Secondary::ENABLE_EPT).without_msrs(&[msr::IA32_VMX_EPT_VPID_CAP]),
            Refusal::NoEpt,
        ),
        (ept(EptVpid::EPT_WRITE_BACK), Refusal::NoEptWriteBack),
        (ept(EptVpid::EPT_WALK_4), Refusal::NoEptWalk4),
        (ept(EptVpid::INVEPT_SINGLE_CONTEXT), Refusal::NoInvept),
        (secondary(Secondary::UNRESTRICTED_GUEST), Refusal::NoUnrestrictedGuest),
        (Fake::rich().clear(msr::IA32_VMX_TRUE_PINBASED_CTLS, 1 << 38), Refusal::NoPreemptionTimer),
    ]
    .into();
    let mut texts = std::collections::BTreeSet::new();
    for (cpu, refusal) in cases {
        assert_eq!(cpu.capabilities(), Err(refusal));
        assert!(texts.insert(refusal.to_string()), "two refusals read the same");
    }
}

#[test]
fn firmware_that_left_the_lock_open_is_helped() {
    let open = Fake::rich().clear(msr::IA32_FEATURE_CONTROL, !0);
    assert_eq!(open.capabilities().unwrap().feature_control_to_write(), Some(5));
    assert_eq!(Fake::rich().capabilities().unwrap().feature_control_to_write(), None);
}

#[test]
fn features_follow_the_controls_they_need() {
    let no_tpr = u64::from(Primary::USE_TPR_SHADOW.bits()) << 32;
    let caps = Fake::rich().clear(msr::IA32_VMX_TRUE_PROCBASED_CTLS, no_tpr);
    let apic = Features::APIC_REGISTERS | Features::VIRTUAL_INTERRUPTS;
    assert_eq!(caps.capabilities().unwrap().features(), Features::all() - apic);
    let no_invvpid = EptVpid::INVVPID_SINGLE_CONTEXT.bits();
    let caps = Fake::rich().clear(msr::IA32_VMX_EPT_VPID_CAP, no_invvpid);
    assert_eq!(caps.capabilities().unwrap().features(), Features::all() - Features::VPID);
}

#[test]
fn controls_are_adjusted_to_what_the_cpu_allows() {
    let always = Primary::ALWAYS.bits();
    let allowed = Allowed::<Primary>::from_msr(controls(0x172, 0x172 | always | 1 << 9));
    let value = allowed.adjust(Primary::INVLPG_EXITING, Primary::USE_IO_BITMAPS).unwrap();
    assert_eq!(value.bits(), 0x172 | always | 1 << 9, "wanted and absent is left out");
    assert_eq!(allowed.wrong(value.bits()), 0);
    let missing = allowed.adjust(Primary::USE_MSR_BITMAPS, Primary::empty()).unwrap_err();
    assert_eq!((missing.bits, missing.first), (1 << 28, "USE_MSR_BITMAPS"));
    assert!(missing.to_string().contains("USE_MSR_BITMAPS"));
    let none = Allowed::<Primary>::from_msr(controls(0x172, 0x172));
    let missing = none.adjust(Primary::empty(), Primary::empty()).unwrap_err();
    assert_eq!((missing.bits, missing.first), (always, "USE_TSC_OFFSETTING"));
}
