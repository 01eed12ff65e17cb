//! CPUs made of tables.

use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::hw::limits::CR4_KNOWN;
use crate::hw::testing::{Fake, cpu};

/// A CPU with everything that this file has names for.
pub fn rich() -> Fake {
    let mut cpu = cpu();
    cpu.msrs.insert(VM_CR, 0);
    cpu.leaves.extend([
        (0, [0xd, 0, 0, 0]),
        (0xd, [1 << 3, 0, 0, 0]),
        (0x8000_0000, [0x8000_000a, 0, 0, 0]),
        (0x8000_0001, [0, 0, 1 << 2, 1 << 20 | 1 << 26 | 1 << 27]),
        (SVM_LEAF, [1, 64, 0, SvmFeatures::all().bits()]),
    ]);
    cpu
}

/// `rich` without these bits of a register of a leaf.
fn without(leaf: u32, register: usize, bits: u32) -> Fake {
    rich().without(leaf, register, bits)
}

fn with_vm_cr(mut cpu: Fake, value: u64) -> Fake {
    cpu.msrs.insert(VM_CR, value);
    cpu
}

fn with_asids(count: u32) -> Fake {
    let mut cpu = rich();
    cpu.leaves.get_mut(&SVM_LEAF).unwrap()[1] = count;
    cpu
}

fn read(cpu: &Fake) -> Result<Capabilities, Refusal> {
    Capabilities::read(cpu, cpu)
}

/// What SVM has no counterpart of.
const VMX_ONLY: Features =
    Features::APIC_REGISTERS.union(Features::VIRTUAL_INTERRUPTS).union(Features::PREEMPTION_TIMER);

#[test]
fn a_rich_cpu_is_read_whole() {
    assert!(announced(&rich()) && !announced(&without(0x8000_0001, 2, 1 << 2)));
    let caps = read(&rich()).unwrap();
    assert_eq!((caps.revision, caps.asids), (1, 64));
    assert_eq!(caps.limits, Limits { physical_bits: 44, cr4_may: CR4_KNOWN, no_execute: true });
    assert_eq!(caps.features(), Features::all() - VMX_ONLY);
    assert!(caps.report().all(|(.., there)| there));
}

#[test]
fn what_cpuid_does_not_show_is_not_there() {
    let none = read(&without(SVM_LEAF, 3, !1)).unwrap();
    let announced = Features::NEXT_RIP | Features::PAUSE_LOOP_EXITING;
    assert_eq!(none.features(), Features::all() - VMX_ONLY - announced);
    let there: Vec<_> =
        none.report().filter(|(.., there)| *there).map(|(_, name, _)| name).collect();
    assert_eq!(there, ["NESTED_PAGING"]);

    let cases = [
        (without(0x8000_0001, 3, 1 << 26), Features::NESTED_1G),
        (without(0x8000_0001, 3, 1 << 27), Features::RDTSCP),
        (without(7, 1, 1 << 10), Features::INVPCID),
        (without(0xd, 0, 1 << 3), Features::XSAVES),
    ];
    for (cpu, feature) in cases {
        assert_eq!(read(&cpu).unwrap().features(), Features::all() - VMX_ONLY - feature);
    }
}

#[test]
fn each_thing_that_is_missing_is_refused_by_name() {
    let cases = [
        (with_vm_cr(without(SVM_LEAF, 3, 1 << 2), 0x18), Refusal::LockedOff, "SVM off"),
        (with_vm_cr(rich(), 0x18), Refusal::LockedWithKey, "key"),
        (without(SVM_LEAF, 3, 1), Refusal::NoNestedPaging, "nested paging"),
        (with_asids(1), Refusal::NoAsids, "ASID"),
    ];
    let mut texts = std::collections::BTreeSet::new();
    assert_eq!(read(&with_asids(2)).unwrap().asids, 2, "the host's and one more");
    for (cpu, refusal, word) in cases {
        assert_eq!(read(&cpu), Err(refusal));
        assert!(refusal.to_string().contains(word));
        assert!(texts.insert(refusal.to_string()), "two refusals read the same");
    }
}

#[test]
fn firmware_that_left_the_lock_open_is_helped() {
    assert!(read(&with_vm_cr(rich(), 0x12)).is_ok());
    assert_eq!(unlocked(0x12), Some(0x02), "its other bits stay");
    assert_eq!(unlocked(0x08), Some(0x08), "locked, and on");
    assert_eq!(unlocked(0x18), None);
}
