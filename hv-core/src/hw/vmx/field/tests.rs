//! Encodings against the manual, and a VMCS for other tests.

use std::collections::BTreeMap;

use super::*;

/// A VMCS for tests: fields that were never written read as 0.
#[derive(Clone, Default)]
pub struct Model(pub BTreeMap<u32, u64>);

impl VmcsRead for Model {
    fn read<W: Width, A: Access>(&self, field: Field<W, A>) -> W::Value {
        W::from_register(self.0.get(&field.encoding()).copied().unwrap_or(0))
    }
}

impl VmcsWrite for Model {
    fn write<W: Width>(&mut self, field: Field<W, ReadWrite>, value: W::Value) {
        self.0.insert(field.encoding(), value.into());
    }
}

impl Model {
    /// What the CPU does with exit information.
    pub fn set<W: Width, A: Access>(&mut self, field: Field<W, A>, value: u64) {
        self.0.insert(field.encoding(), value);
    }
}

/// Encodings as the tables of the appendix print them.
const GOLDEN: &[(&str, u32)] = &[
    ("VIRTUAL_PROCESSOR_IDENTIFIER", 0x0000),
    ("GUEST_ES_SELECTOR", 0x0800),
    ("GUEST_CS_SELECTOR", 0x0802),
    ("GUEST_TR_SELECTOR", 0x080e),
    ("GUEST_INTERRUPT_STATUS", 0x0810),
    ("HOST_ES_SELECTOR", 0x0c00),
    ("HOST_TR_SELECTOR", 0x0c0c),
    ("IO_BITMAP_A_ADDRESS", 0x2000),
    ("MSR_BITMAPS_ADDRESS", 0x2004),
    ("ENTRY_MSR_LOAD_ADDRESS", 0x200a),
    ("PML_ADDRESS", 0x200e),
    ("TSC_OFFSET", 0x2010),
    ("VIRTUAL_APIC_ADDRESS", 0x2012),
    ("APIC_ACCESS_ADDRESS", 0x2014),
    ("VM_FUNCTION_CONTROLS", 0x2018),
    ("EPT_POINTER", 0x201a),
    ("EOI_EXIT_BITMAP_0", 0x201c),
    ("EOI_EXIT_BITMAP_3", 0x2022),
    ("EPTP_LIST_ADDRESS", 0x2024),
    ("VMREAD_BITMAP_ADDRESS", 0x2026),
    ("XSS_EXITING_BITMAP", 0x202c),
    ("TSC_MULTIPLIER", 0x2032),
    ("GUEST_PHYSICAL_ADDRESS", 0x2400),
    ("VMCS_LINK_POINTER", 0x2800),
    ("GUEST_IA32_DEBUGCTL", 0x2802),
    ("GUEST_IA32_PAT", 0x2804),
    ("GUEST_IA32_EFER", 0x2806),
    ("GUEST_PDPTE0", 0x280a),
    ("GUEST_PDPTE3", 0x2810),
    ("GUEST_IA32_BNDCFGS", 0x2812),
    ("HOST_IA32_PAT", 0x2c00),
    ("HOST_IA32_EFER", 0x2c02),
    ("PIN_BASED_CONTROLS", 0x4000),
    ("PRIMARY_CONTROLS", 0x4002),
    ("EXCEPTION_BITMAP", 0x4004),
    ("CR3_TARGET_COUNT", 0x400a),
    ("EXIT_CONTROLS", 0x400c),
    ("ENTRY_CONTROLS", 0x4012),
    ("ENTRY_INTERRUPTION_INFORMATION", 0x4016),
    ("ENTRY_INSTRUCTION_LENGTH", 0x401a),
    ("TPR_THRESHOLD", 0x401c),
    ("SECONDARY_CONTROLS", 0x401e),
    ("VM_INSTRUCTION_ERROR", 0x4400),
    ("EXIT_REASON", 0x4402),
    ("IDT_VECTORING_INFORMATION", 0x4408),
    ("EXIT_INSTRUCTION_LENGTH", 0x440c),
    ("GUEST_ES_LIMIT", 0x4800),
    ("GUEST_IDTR_LIMIT", 0x4812),
    ("GUEST_ES_ACCESS_RIGHTS", 0x4814),
    ("GUEST_TR_ACCESS_RIGHTS", 0x4822),
    ("GUEST_INTERRUPTIBILITY_STATE", 0x4824),
    ("GUEST_ACTIVITY_STATE", 0x4826),
    ("GUEST_IA32_SYSENTER_CS", 0x482a),
    ("PREEMPTION_TIMER_VALUE", 0x482e),
    ("HOST_IA32_SYSENTER_CS", 0x4c00),
    ("CR0_GUEST_HOST_MASK", 0x6000),
    ("CR4_READ_SHADOW", 0x6006),
    ("EXIT_QUALIFICATION", 0x6400),
    ("GUEST_CR0", 0x6800),
    ("GUEST_CR4", 0x6804),
    ("GUEST_ES_BASE", 0x6806),
    ("GUEST_TR_BASE", 0x6814),
    ("GUEST_IDTR_BASE", 0x6818),
    ("GUEST_DR7", 0x681a),
    ("GUEST_RSP", 0x681c),
    ("GUEST_RIP", 0x681e),
    ("GUEST_RFLAGS", 0x6820),
    ("GUEST_PENDING_DEBUG_EXCEPTIONS", 0x6822),
    ("GUEST_IA32_SYSENTER_EIP", 0x6826),
    ("HOST_CR0", 0x6c00),
    ("HOST_TR_BASE", 0x6c0a),
    ("HOST_IA32_SYSENTER_ESP", 0x6c10),
    ("HOST_RSP", 0x6c14),
    ("HOST_RIP", 0x6c16),
];

#[test]
fn encodings_are_those_of_the_manual() {
    for &(expected, encoding) in GOLDEN {
        assert_eq!(name(encoding), Some(expected), "{encoding:#x}");
    }
}

#[test]
fn no_two_fields_share_an_encoding() {
    let encodings: std::collections::BTreeSet<u32> = ALL.iter().map(|(_, e)| *e).collect();
    assert_eq!(encodings.len(), ALL.len());
}

#[test]
fn rows_of_fields_are_reached_by_number() {
    for segment in Segment::ALL {
        let named = |suffix: &str| {
            let wanted = std::format!("GUEST_{segment:?}_{suffix}").to_uppercase();
            ALL.iter().find(|(n, _)| *n == wanted).unwrap().1
        };
        assert_eq!(segment.selector().encoding(), named("SELECTOR"));
        assert_eq!(segment.limit().encoding(), named("LIMIT"));
        assert_eq!(segment.access_rights().encoding(), named("ACCESS_RIGHTS"));
        assert_eq!(segment.base().encoding(), named("BASE"));
    }
    assert_eq!(guest_pdpte(3).encoding(), GUEST_PDPTE3.encoding());
    assert_eq!(eoi_exit_bitmap(2).encoding(), EOI_EXIT_BITMAP_2.encoding());
}

#[test]
fn the_upper_half_of_a_wide_field_has_its_name() {
    assert_eq!(name(0x201b), Some("EPT_POINTER"));
    assert_eq!(name(0x4001), None, "a 32-bit field has no upper half");
    assert_eq!(name(0x7ffe), None);
}
