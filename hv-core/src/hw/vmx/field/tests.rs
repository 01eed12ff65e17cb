//! Fields by number and by name, and a VMCS for other tests.

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

#[test]
fn rows_end_where_the_manual_has_their_last_field() {
    for (last, encoding) in [
        ("GUEST_INTERRUPT_STATUS", 0x0810),
        ("HOST_TR_SELECTOR", 0x0c0c),
        ("EOI_EXIT_BITMAP_3", 0x2022),
        ("GUEST_PDPTE3", 0x2810),
        ("SECONDARY_CONTROLS", 0x401e),
        ("EXIT_INSTRUCTION_LENGTH", 0x440c),
        ("GUEST_IDTR_LIMIT", 0x4812),
        ("GUEST_TR_ACCESS_RIGHTS", 0x4822),
        ("GUEST_IDTR_BASE", 0x6818),
        ("GUEST_IA32_SYSENTER_EIP", 0x6826),
        ("HOST_RIP", 0x6c16),
    ] {
        assert_eq!(name(encoding), Some(last), "{encoding:#x}");
    }
}
