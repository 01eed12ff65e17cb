use super::*;
use crate::device::apic::Trigger;
use crate::vm::Exit;
use crate::vm::handle::handle;
use crate::vm::testing::{CR0_LONG, CR4_PAE, EFER_LONG, Fake, vcpu, with_timer};
use crate::vm::vcpu::EVENTS;

const CR0: u8 = 0;
const CR3: u8 = 3;
const CR4: u8 = 4;
const RBX: u8 = 3;

fn write(v: &mut Vcpu, h: &mut Fake, cr: u8, value: u64) -> Outcome {
    v.registers.set(Gpr::Rbx, value);
    handle(v, h, Exit::Cr(CrAccess::Write { cr, gpr: RBX }))
}

/// A write that must raise #GP(0) and change nothing.
#[track_caller]
fn refused(v: &mut Vcpu, h: &mut Fake, cr: u8, value: u64) {
    let before = (h.kept, v.long_mode, h.pdptes);
    assert_eq!(write(v, h, cr, value), Outcome::PROTECTION, "CR{cr} = {value:#x}");
    assert_eq!((h.kept, v.long_mode, h.pdptes), before, "CR{cr} = {value:#x}");
}

#[track_caller]
fn accepted(v: &mut Vcpu, h: &mut Fake, cr: u8, value: u64) {
    assert_eq!(write(v, h, cr, value), Outcome::Advance, "CR{cr} = {value:#x}");
}

/// In 32-bit protected mode without paging.
fn protected() -> (Vcpu, Fake) {
    let (mut v, mut h) = vcpu();
    v.set_long_mode(false);
    h.long_code = false;
    h.set(Kept::Cr0, 0x31);
    h.set(Kept::Cr4, 0);
    h.set(Kept::Efer, 0);
    (v, h)
}

#[test]
fn impossible_values_of_cr0_are_refused() {
    let (mut v, mut h) = vcpu();
    for value in [CR0_LONG & !1, CR0_LONG | 1 << 29, CR0_LONG | 1 << 32, CR0_LONG | 1 << 63] {
        refused(&mut v, &mut h, CR0, value);
    }
    accepted(&mut v, &mut h, CR0, CR0_LONG | 3 << 29);
    assert_eq!(h.get(Kept::Cr0), CR0_LONG | 3 << 29, "CD with NW is a mode");
    accepted(&mut v, &mut h, CR0, CR0_LONG | 1 << 30);
    // Bits without a meaning are dropped, ET is fixed.
    accepted(&mut v, &mut h, CR0, (CR0_LONG | 1 << 6 | 1 << 28) & !(1 << 4));
    assert_eq!(h.get(Kept::Cr0), CR0_LONG);
    for bit in [1u64, 2, 3, 5, 16, 18] {
        accepted(&mut v, &mut h, CR0, CR0_LONG ^ 1 << bit);
        assert_eq!(h.get(Kept::Cr0), CR0_LONG ^ 1 << bit);
    }
}

#[test]
fn long_mode_begins_with_paging() {
    let (mut v, mut h) = protected();
    h.set(Kept::Efer, 1 << 8);
    refused(&mut v, &mut h, CR0, 0x8000_0031);
    h.set(Kept::Cr4, CR4_PAE);
    h.long_code = true;
    refused(&mut v, &mut h, CR0, 0x8000_0031);
    h.long_code = false;
    accepted(&mut v, &mut h, CR0, 0x8000_0031);
    assert!(v.long_mode && v.may_call);
    assert_eq!((h.get(Kept::Efer), h.get(Kept::Cr0)), (EFER_LONG, 0x8000_0031));
    assert_eq!((h.pdptes, h.flushes.len()), (None, 1));
    // And ends with it.
    accepted(&mut v, &mut h, CR0, 0x31);
    assert!(!v.long_mode && !v.may_call);
    assert_eq!((h.get(Kept::Efer), h.get(Kept::Cr0)), (1 << 8, 0x31));
    assert_eq!(h.flushes.len(), 2);
}

#[test]
fn long_mode_cannot_be_left_where_it_would_break() {
    let (mut v, mut h) = vcpu();
    refused(&mut v, &mut h, CR0, 0x31);
    h.long_code = false;
    h.set(Kept::Cr4, CR4_PAE | CR4_PCIDE);
    refused(&mut v, &mut h, CR0, 0x31);
    h.set(Kept::Cr4, CR4_PAE);
    accepted(&mut v, &mut h, CR0, 0x31);
}

#[test]
fn paging_without_long_mode() {
    let (mut v, mut h) = protected();
    accepted(&mut v, &mut h, CR0, 0x8000_0031);
    assert!(!v.long_mode);
    assert_eq!((h.get(Kept::Efer), h.pdptes), (0, None));
}

/// PAE paging with page-directory pointers at 1020h.
fn pae(pdptes: [u64; 4]) -> (Vcpu, Fake) {
    let (v, mut h) = protected();
    h.set(Kept::Cr4, CR4_PAE);
    h.set(Kept::Cr3, 0x1020);
    for (pdpte, gpa) in pdptes.into_iter().zip((0x1020..).step_by(8)) {
        v.vm.memory.write_u64(gpa, pdpte).unwrap();
    }
    (v, h)
}

#[test]
fn page_directory_pointers_are_loaded_and_checked() {
    let sound = [0x2001, 0x1e6, 1 << 50, 0xff_ffff_f001];
    let (mut v, mut h) = pae(sound);
    accepted(&mut v, &mut h, CR0, 0x8000_0031);
    assert_eq!(h.pdptes, Some(sound), "what is not present is not looked at");
    for bad in [0x2001 | 1 << 1, 0x2001 | 1 << 5, 0x2001 | 1 << 8, 0x2001 | 1 << 40, 1 << 63 | 1] {
        let (mut v, mut h) = pae([0, 0, 0, bad]);
        refused(&mut v, &mut h, CR0, 0x8000_0031);
        // The same with MOV to CR3 and MOV to CR4.
        h.set(Kept::Cr0, 0x8000_0031);
        refused(&mut v, &mut h, CR3, 0x1020);
        h.set(Kept::Cr4, 0);
        refused(&mut v, &mut h, CR4, CR4_PAE);
        h.set(Kept::Cr0, 0x31);
        accepted(&mut v, &mut h, CR3, 0x1020);
        accepted(&mut v, &mut h, CR4, CR4_PAE);
    }
    let (mut v, mut h) = pae(sound);
    h.set(Kept::Cr0, 0x8000_0031);
    refused(&mut v, &mut h, CR3, 0xf000_0000);
    accepted(&mut v, &mut h, CR3, 0x1020);
    assert_eq!((h.pdptes, h.get(Kept::Cr3)), (Some(sound), 0x1020));
    h.pdptes = None;
    accepted(&mut v, &mut h, CR4, CR4_PAE | CR4_PGE);
    assert_eq!(h.pdptes, Some(sound));
}

#[test]
fn cr3_has_reserved_bits_and_pcids() {
    let (mut v, mut h) = vcpu();
    accepted(&mut v, &mut h, CR3, 0xff_ffff_f018);
    assert_eq!((h.get(Kept::Cr3), h.flushes.as_slice()), (0xff_ffff_f018, &[None][..]));
    for value in [1 << 40, 1 << 63, 1 << 62] {
        refused(&mut v, &mut h, CR3, value);
    }
    h.flushes.clear();
    h.set(Kept::Cr4, CR4_PAE | CR4_PCIDE);
    accepted(&mut v, &mut h, CR3, 1 << 63 | 0x5001);
    assert_eq!(h.get(Kept::Cr3), 0x5001);
    assert!(h.flushes.is_empty(), "the guest asked for its translations to stay");
    accepted(&mut v, &mut h, CR3, 0x6001);
    assert_eq!(h.flushes, [None]);
    refused(&mut v, &mut h, CR3, 1 << 62 | 0x5001);
}

#[test]
fn only_64_bit_code_moves_64_bits() {
    let (mut v, mut h) = vcpu();
    h.long_code = false;
    accepted(&mut v, &mut h, CR3, 0xffff_ffff_0000_5000);
    assert_eq!(h.get(Kept::Cr3), 0x5000, "compatibility mode");
    let (mut v, mut h) = protected();
    accepted(&mut v, &mut h, CR0, 0xffff_ffff_0000_0031);
    h.set(Kept::Cr0, 0x31);
    accepted(&mut v, &mut h, CR4, 0xffff_ffff_0000_0010);
    assert_eq!(h.get(Kept::Cr4), 0x10);
}

#[test]
fn cr4_follows_the_cpu_and_the_mode() {
    let (mut v, mut h) = vcpu();
    for bit in [6, 12, 13, 14, 15, 19, 23, 32, 63] {
        refused(&mut v, &mut h, CR4, CR4_PAE | 1 << bit);
    }
    refused(&mut v, &mut h, CR4, 0);
    h.set(Kept::Cr3, 0x1008);
    refused(&mut v, &mut h, CR4, CR4_PAE | CR4_PCIDE);
    h.set(Kept::Cr3, 0x1000);
    accepted(&mut v, &mut h, CR4, CR4_PAE | CR4_PCIDE);
    assert_eq!(h.flushes.len(), 1);
    h.set(Kept::Cr3, 0x1008);
    accepted(&mut v, &mut h, CR4, CR4_PAE | CR4_PCIDE | 1 << 18);
    assert_eq!(h.flushes.len(), 1, "nothing that translations depend on changed");
    accepted(&mut v, &mut h, CR4, CR4_PAE | 1 << 18);
    assert_eq!((h.get(Kept::Cr4), h.flushes.len()), (CR4_PAE | 1 << 18, 2));
    let (mut v, mut h) = protected();
    refused(&mut v, &mut h, CR4, CR4_PCIDE);
    accepted(&mut v, &mut h, CR4, CR4_PSE);
}

#[test]
fn clts_and_lmsw_change_the_low_bits_alone() {
    let (mut v, mut h) = vcpu();
    h.set(Kept::Cr0, CR0_LONG | 1 << 3 | 1 << 1);
    assert_eq!(access(&mut v, &mut h, CrAccess::Clts), Outcome::Advance);
    assert_eq!(h.get(Kept::Cr0), CR0_LONG | 1 << 1);
    assert_eq!(access(&mut v, &mut h, CrAccess::Lmsw(0xfff0)), Outcome::Advance);
    assert_eq!(h.get(Kept::Cr0), CR0_LONG, "LMSW cannot clear PE");
    let (mut v, mut h) = protected();
    h.set(Kept::Cr0, 0x30);
    assert_eq!(access(&mut v, &mut h, CrAccess::Lmsw(0xf)), Outcome::Advance);
    assert_eq!(h.get(Kept::Cr0), 0x3f);
}

#[test]
fn cr8_is_the_task_priority_and_cr3_can_be_read() {
    let (mut v, mut h) = vcpu();
    accepted(&mut v, &mut h, 8, 9);
    assert_eq!(v.apic.tpr(), 0x90);
    with_timer(&mut v);
    let _ = v.apic.post(0x85, Trigger::Edge);
    for (class, due) in [(10, 1000), (8, 1000), (7, EVENTS)] {
        v.due = 1000;
        accepted(&mut v, &mut h, 8, class);
        assert_eq!(v.due, due, "class {class}: looked at when something can be delivered");
    }
    accepted(&mut v, &mut h, 8, 9);
    refused(&mut v, &mut h, 8, 16);
    assert_eq!(access(&mut v, &mut h, CrAccess::Read { cr: 8, gpr: 1 }), Outcome::Advance);
    assert_eq!(v.registers.get(Gpr::Rcx), 9);
    h.set(Kept::Cr3, 0x7000);
    assert_eq!(access(&mut v, &mut h, CrAccess::Read { cr: 3, gpr: 4 }), Outcome::Advance);
    assert_eq!(h.get(Kept::Rsp), 0x7000, "RSP is not with the others");
    h.set(Kept::Rsp, 0x8000);
    assert_eq!(access(&mut v, &mut h, CrAccess::Write { cr: 3, gpr: 4 }), Outcome::Advance);
    assert_eq!(h.get(Kept::Cr3), 0x8000);
}

#[test]
fn xcr0_takes_what_the_manual_allows() {
    let (mut v, mut h) = vcpu();
    let xsetbv = |ecx: u64, cpl: u8, value: u64| {
        let (mut v, mut h) = vcpu();
        v.xcr0_may = 0x2ff;
        h.cpl = cpl;
        v.registers.set(Gpr::Rcx, ecx);
        v.registers.set_edx_eax(value);
        let outcome = handle(&mut v, &mut h, Exit::Xsetbv);
        let done = outcome == Outcome::Advance;
        assert_eq!((v.xcr0, h.xcr0), if done { (value, Some(value)) } else { (1, None) });
        assert!(done || outcome == Outcome::PROTECTION);
        done
    };
    for value in [1, 3, 7, 0xe7, 0x1b, 0x201, 0x2ff] {
        assert!(xsetbv(0, 0, value), "{value:#x}");
    }
    for value in [0, 2, 6, 5, 0x9, 0x11, 0x27, 0x67, 0xe3, 0x101, 1 << 32 | 1, 1 << 63 | 1] {
        assert!(!xsetbv(0, 0, value), "{value:#x}");
    }
    assert!(!xsetbv(1, 0, 7), "there is no XCR1");
    assert!(xsetbv(1 << 32, 0, 7), "only ECX counts");
    assert!(!xsetbv(0, 3, 7));
    v.registers.set_edx_eax(0x19);
    assert_eq!(super::xsetbv(&mut v, &mut h), Outcome::PROTECTION, "the CPU has no MPX");
}
