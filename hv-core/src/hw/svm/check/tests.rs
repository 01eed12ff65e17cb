//! Sound VMCBs pass; for each rule, one that breaks it alone.

use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::hw::check::tests::{Case, Checked, each_rule_is_found_alone, sound_ones_pass};
use crate::hw::start;
use crate::vm::hardware::Kept;

struct Machine {
    vmcb: Vmcb,
    limits: Limits,
}

impl Checked for Machine {
    fn each(&self, found: &mut dyn FnMut(Violation) -> Flow) {
        each(&self.vmcb, &self.limits, found);
    }
}

/// A guest at its PVH entry: 32-bit protected mode, paging off.
fn pvh() -> Machine {
    let mut vmcb: Vmcb = zerocopy::FromZeros::new_zeroed();
    vmcb.control.misc2 = 1;
    vmcb.control.asid = 1;
    vmcb.control.iopm = 0x2000;
    vmcb.control.msrpm = 0x5000;
    vmcb.control.nested_paging = 1;
    vmcb.control.nested_cr3 = 0x7000;
    vmcb.save.cs.attributes = 0xc9b;
    vmcb.save.cr0 = 0x11;
    vmcb.save.efer = 0x1000;
    vmcb.save.dr6 = 0xffff_0ff0;
    vmcb.save.dr7 = 0x400;
    vmcb.save.pat = 0x0007_0406_0007_0406;
    Machine { vmcb, limits: Limits { physical_bits: 40, cr4_may: 0x6f8, no_execute: true } }
}

/// A 64-bit guest.
fn long() -> Machine {
    let mut machine = pvh();
    let save = &mut machine.vmcb.save;
    (save.cr0, save.cr3, save.cr4, save.efer) = (0x8001_0011, 0x1000, 0x20, 0x1d01);
    save.cs.attributes = 0xa9b;
    machine
}

#[test]
fn every_state_that_a_guest_starts_in_is_sound() {
    for start in start::tests::starts() {
        let mut machine = pvh();
        let save = &mut machine.vmcb.save;
        for (register, value) in start::registers(start) {
            match register {
                Kept::Cr0 => save.cr0 = value,
                Kept::Cr3 => save.cr3 = value,
                Kept::Cr4 => save.cr4 = value,
                Kept::Efer => save.efer = value | efer::SVME,
                _ => {}
            }
        }
        save.cs.attributes = start::state(start.mode).segments[1].rights.attributes();
        assert_eq!(machine.violations(), [], "{:?}", start.mode);
    }
}

const SOUND: &[Case<Machine>] = &[
    ("a PVH entry", pvh, |_| ()),
    ("a 64-bit guest", long, |_| ()),
    ("compatibility mode", long, |m| m.vmcb.save.cs.attributes = 0xc9b),
    ("real mode", pvh, |m| m.vmcb.save.cr0 = 0x10),
    ("paged real mode", pvh, |m| m.vmcb.save.cr0 = 1 << 31),
    ("long mode not yet active", long, |m| (m.vmcb.save.cr0, m.vmcb.save.cr4) = (0x11, 0)),
    ("CR3 of a guest without long mode", pvh, |m| m.vmcb.save.cr3 = 1 << 40),
    ("L, which means nothing without long mode", pvh, |m| m.vmcb.save.cs.attributes |= 1 << 9),
    ("no caches", pvh, |m| m.vmcb.save.cr0 |= 3 << 29),
    ("CET", long, |m| {
        m.limits.cr4_may |= 1 << 23;
        m.vmcb.save.cr4 |= 1 << 23;
    }),
    ("maps that end at the top", pvh, |m| {
        m.vmcb.control.iopm = (1 << 40) - 0x3000;
        // The low bits are ignored.
        m.vmcb.control.msrpm = (1 << 40) - 0x2000 + 0xfff;
    }),
    ("a filter of PAUSEs", pvh, |m| {
        m.vmcb.control.misc1 |= Misc1::PAUSE.bits();
        m.vmcb.control.pause_filter_count = 1;
    }),
    ("an interrupt", pvh, |m| m.vmcb.control.event_injection = 0x8000_00ff),
    ("an NMI", pvh, |m| m.vmcb.control.event_injection = 0x8000_0202),
    ("#GP", pvh, |m| m.vmcb.control.event_injection = 0x0000_0008_8000_0b0d),
    ("#VC", pvh, |m| m.vmcb.control.event_injection = 0x8000_0b1d),
    ("INT 80h", pvh, |m| m.vmcb.control.event_injection = 0x8000_0480),
    ("a field that is not valid", pvh, |m| m.vmcb.control.event_injection = 0x7fff_ffff),
    ("shadow paging", pvh, |m| {
        m.vmcb.control.nested_paging = 0;
        (m.vmcb.control.nested_cr3, m.vmcb.save.pat) = (!0, !0);
    }),
];

const BROKEN: &[Case<Machine>] = &[
    ("EferSvme", pvh, |m| m.vmcb.save.efer = 0),
    ("Cr0Caching", pvh, |m| m.vmcb.save.cr0 |= 1 << 29),
    ("Cr0Upper", pvh, |m| m.vmcb.save.cr0 |= 1 << 32),
    ("Cr0Upper", pvh, |m| m.vmcb.save.cr0 |= 1 << 63),
    ("Cr3Width", long, |m| m.vmcb.save.cr3 |= 1 << 40),
    ("Cr3Width", long, |m| m.vmcb.save.cr3 |= 1 << 63),
    ("Cr4Reserved", pvh, |m| m.vmcb.save.cr4 = 1 << 11),
    ("Cr4Reserved", pvh, |m| m.vmcb.save.cr4 = 1 << 32),
    ("Dr6Upper", pvh, |m| m.vmcb.save.dr6 |= 1 << 32),
    ("Dr7Upper", pvh, |m| m.vmcb.save.dr7 |= 1 << 32),
    ("EferReserved", pvh, |m| m.vmcb.save.efer |= 1 << 1),
    ("EferReserved", pvh, |m| m.vmcb.save.efer |= 1 << 63),
    ("EferReserved", long, |m| {
        m.limits.no_execute = false;
        m.vmcb.save.efer |= 1 << 11;
    }),
    ("LongModePae", long, |m| m.vmcb.save.cr4 = 0),
    ("LongModeProtected", long, |m| m.vmcb.save.cr0 &= !1),
    ("CodeLongAndBig", long, |m| m.vmcb.save.cs.attributes = 0xe9b),
    ("VmrunIntercept", pvh, |m| m.vmcb.control.misc2 = !1),
    ("MapWidth", pvh, |m| m.vmcb.control.iopm = (1 << 40) - 0x2000),
    ("MapWidth", pvh, |m| m.vmcb.control.msrpm = (1 << 40) - 0x1000),
    ("MapWidth", pvh, |m| m.vmcb.control.msrpm = !0),
    ("AsidZero", pvh, |m| m.vmcb.control.asid = 0),
    ("CetWriteProtect", long, |m| {
        m.limits.cr4_may |= 1 << 23;
        m.vmcb.save.cr4 |= 1 << 23;
        m.vmcb.save.cr0 &= !(1 << 16);
    }),
    ("PauseFilter", pvh, |m| m.vmcb.control.pause_filter_count = 1),
    ("EventType", pvh, |m| m.vmcb.control.event_injection = 0x8000_0120),
    ("EventType", pvh, |m| m.vmcb.control.event_injection = 0x8000_0501),
    ("EventType", pvh, |m| m.vmcb.control.event_injection = 0x8000_0700),
    ("EventVector", pvh, |m| m.vmcb.control.event_injection = 0x8000_0302),
    ("EventVector", pvh, |m| m.vmcb.control.event_injection = 0x8000_0309),
    ("EventVector", pvh, |m| m.vmcb.control.event_injection = 0x8000_0320),
    ("NestedCr3Width", pvh, |m| m.vmcb.control.nested_cr3 |= 1 << 40),
    ("GuestPat", pvh, |m| m.vmcb.save.pat = 2 << 56),
    ("GuestPat", pvh, |m| m.vmcb.save.pat = 8),
];

#[test]
fn sound_vmcbs_pass() {
    sound_ones_pass(SOUND);
}

#[test]
fn each_rule_is_found_alone_when_it_alone_is_broken() {
    each_rule_is_found_alone(&[NAMES], BROKEN);
}

#[test]
fn exceptions_are_the_manuals() {
    for vector in 0..=u8::MAX {
        let mut machine = pvh();
        machine.vmcb.control.event_injection = 0x8000_0300 | u64::from(vector);
        let there = matches!(vector, 0 | 1 | 3..=8 | 10..=14 | 16..=19 | 21 | 28..=30);
        assert_eq!(machine.violations().is_empty(), there, "vector {vector}");
    }
}

#[test]
fn a_violation_tells_the_values_and_the_section() {
    let mut machine = long();
    machine.vmcb.save.cr4 = 1 << 30;
    let text: Vec<_> = machine.violations().iter().map(|v| v.to_string()).collect();
    let section = "(APM vol. 2, Canonicalization and Consistency Checks)";
    let cr4 = "save.cr4 = 0x40000000";
    assert_eq!(
        text,
        [
            std::format!(
                "Cr4Reserved: {cr4}, wrong bits 0x40000000: CR4 must have no bit that the CPU has \
                 not {section}"
            ),
            std::format!(
                "LongModePae: {cr4}, save.efer = 0x1d01: EFER.LME with CR0.PG needs CR4.PAE \
                 {section}"
            ),
        ]
    );
}

proptest! {
    #[test]
    fn rubbish_is_survived(bytes in prop::collection::vec(any::<u8>(), 0x1000)) {
        let vmcb = Vmcb::read_from_bytes(&bytes).unwrap();
        let machine = Machine { vmcb, ..pvh() };
        prop_assert!(!machine.violations().is_empty());
    }
}
