use std::vec::Vec;

use super::*;
use crate::device::apic::{Trigger, Vectors};
use crate::vm::MachineType;
use crate::vm::exit::PortAccess;
use crate::vm::testing::{CR0_LONG, Fake, STARTED, Setup, vcpu, with_timer};
use crate::vm::vcpu::EVENTS;

const PF: Event = Event::exception(14, 2);
const GP: Event = Event::exception(13, 0);
const DF: Event = Event::exception(8, 0);
const UNPAGED: u64 = 0x31;

/// Delivers `event` on top of `pending`.
fn on_top(pending: Option<Event>, event: Event) -> (Result<(), Leave>, Vcpu, Fake) {
    let (mut v, mut h) = vcpu();
    v.due = 1000;
    h.pending = pending;
    let result = inject(&mut v, &mut h, event);
    (result, v, h)
}

#[test]
fn exceptions_combine_on_their_way() {
    for (pending, event, delivered) in [
        (None, GP, GP),
        (Some(GP), GP, DF),
        (Some(PF), PF, DF),
        (Some(GP), PF, PF),
        (Some(Event::exception(6, 0)), GP, GP),
    ] {
        let (result, v, h) = on_top(pending, event);
        assert_eq!((result, h.pending), (Ok(()), Some(delivered)));
        assert_eq!((v.delayed, v.nmi), (None, false));
    }
    let (result, v, _) = on_top(Some(DF), PF);
    assert_eq!((result, v.ending.unwrap().cause), (Err(Leave::Ended), Cause::TripleFault));
}

#[test]
fn what_an_exception_displaces_is_delivered_later() {
    let (result, v, h) = on_top(Some(Event::interrupt(0x41)), PF);
    assert_eq!((result, h.pending), (Ok(()), Some(PF)));
    assert_eq!((v.delayed, v.due), (Some(Event::interrupt(0x41)), 0));
    let (_, v, h) = on_top(Some(Event::nmi()), PF);
    assert_eq!((h.pending, v.nmi, v.delayed, v.due), (Some(PF), true, None, 0));
}

#[test]
fn what_a_fault_pushes_has_the_resume_flag() {
    const RF: u64 = 1 << 16;
    for (event, is_fault) in [
        (GP, true),
        (PF, true),
        (Event::exception(6, 0), true),
        (Event::exception(0, 0), true),
        (Event::exception(1, 0), false),
        (DF, false),
    ] {
        let (_, _, h) = on_top(None, event);
        assert_eq!(h.get(Kept::Rflags), if is_fault { 2 | RF } else { 2 }, "{event:?}");
    }
    let (_, _, h) = on_top(Some(GP), GP);
    assert_eq!(h.get(Kept::Rflags), 2, "a double fault is none");
}

#[test]
fn real_mode_pushes_no_error_codes() {
    let (mut v, mut h) = vcpu();
    h.set(Kept::Cr0, 0x30);
    inject(&mut v, &mut h, GP).unwrap();
    assert_eq!(h.pending.unwrap().error_code, None);
    h.pending = Some(GP.in_real_mode());
    inject(&mut v, &mut h, GP).unwrap();
    assert_eq!(h.pending, Some(DF.in_real_mode()));
}

#[test]
fn intercepted_exceptions_reach_the_guest_with_their_registers() {
    let (mut v, mut h) = vcpu();
    let exit = Exit::Exception { event: PF, detail: 0xdead_b000 };
    assert_eq!(handle(&mut v, &mut h, exit), Outcome::Inject(PF));
    assert_eq!(h.cr2, 0xdead_b000);
    let db = Event::exception(1, 0);
    h.dr[6] = 0xffff_0ff0;
    h.set(Kept::Dr7, 1 << 13 | 0x400);
    assert_eq!(
        handle(&mut v, &mut h, Exit::Exception { event: db, detail: 1 << 14 }),
        Outcome::Inject(db)
    );
    assert_eq!((h.dr[6], h.cr2), (0xffff_4ff0, 0xdead_b000));
    assert_eq!(h.get(Kept::Dr7), 0x400, "delivery clears GD");
    let ud = Event::exception(6, 0);
    assert_eq!(
        handle(&mut v, &mut h, Exit::Exception { event: ud, detail: 5 }),
        Outcome::Inject(ud)
    );
    assert_eq!((h.dr[6], h.cr2), (0xffff_4ff0, 0xdead_b000));
}

#[test]
fn hlt_waits_only_for_what_can_come() {
    let (mut v, mut h) = vcpu();
    let outcome = handle(&mut v, &mut h, Exit::Hlt);
    assert_eq!(outcome, Outcome::Leave(Leave::Ended));
    assert_eq!(v.ending.unwrap().cause, Cause::HaltedForEver);
    h.set(Kept::Rflags, RFLAGS_IF);
    assert_eq!(handle(&mut v, &mut h, Exit::Hlt), Outcome::AdvanceAndLeave(Leave::Halted));
}

#[test]
fn hlt_with_interrupts_disabled_waits_for_an_nmi_alone() {
    let mut v = Setup { machine: MachineType::Pc, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    let ends = |outcome| outcome == Outcome::Leave(Leave::Ended);
    v.settle_board(&mut h, STARTED);
    assert!(ends(handle(&mut v, &mut h, Exit::Hlt)), "no pin makes NMIs");
    // Pin 2 sends an NMI when counter 0 has counted down, in about a millisecond.
    v.write_io_apic(0x00, 0x14, &mut h);
    v.write_io_apic(0x10, 0x400, &mut h);
    v.settle_board(&mut h, STARTED);
    assert!(ends(handle(&mut v, &mut h, Exit::Hlt)), "nothing moves the pin");
    for (port, value) in [(0x43, 0x30), (0x40, 0xa9), (0x40, 0x04)] {
        let _ = v.vm.board.lock().write(port, 1, value, 0);
    }
    v.settle_board(&mut h, STARTED);
    h.nmi_blocked = true;
    assert!(ends(handle(&mut v, &mut h, Exit::Hlt)), "NMIs are blocked");
    h.nmi_blocked = false;
    // That of MOV SS ends with the HLT.
    h.shadow = true;
    let halted = Outcome::AdvanceAndLeave(Leave::Halted);
    assert_eq!(handle(&mut v, &mut h, Exit::Hlt), halted);
    v.delayed = Some(Event::interrupt(0x60));
    assert!(!v.wakes(&mut h, STARTED + 900_000), "an interrupt does not end it");
    assert!(v.wakes(&mut h, STARTED + 1_100_000), "the NMI does");
    h.set(Kept::Rflags, RFLAGS_IF);
    v.nmi = false;
    assert_eq!(handle(&mut v, &mut h, Exit::Hlt), halted);
    assert!(v.wakes(&mut h, STARTED + 1_100_000), "with interrupts enabled it ends");
}

#[test]
fn every_exit_has_an_answer_of_its_kind() {
    for (exit, outcome) in [
        (Exit::Pause, Outcome::Advance),
        (Exit::Wbinvd, Outcome::Advance),
        (Exit::Rdpmc, Outcome::PROTECTION),
        (Exit::VirtInstruction, Outcome::UNDEFINED),
        (Exit::Mwait, Outcome::UNDEFINED),
        (Exit::SingleStep, Outcome::Resume),
        (Exit::Invlpg { linear: Some(0x5000) }, Outcome::Advance),
        (Exit::Invpcid, Outcome::Advance),
    ] {
        let (mut v, mut h) = vcpu();
        assert_eq!(handle(&mut v, &mut h, exit), outcome, "{exit:?}");
        assert_eq!(v.reason, exit.reason());
        match exit {
            Exit::Invlpg { linear } => assert_eq!(h.flushes, [linear]),
            Exit::Invpcid => assert_eq!(h.flushes, [None]),
            _ => assert!(h.flushes.is_empty()),
        }
    }
    for exit in [
        Exit::ExternalInterrupt,
        Exit::Nmi,
        Exit::InterruptWindow,
        Exit::NmiWindow,
        Exit::TimeSlice,
        Exit::TprThreshold,
    ] {
        let (mut v, mut h) = vcpu();
        v.due = 1000;
        assert_eq!(handle(&mut v, &mut h, exit), Outcome::Resume);
        assert_eq!(v.due, 0, "{exit:?}: it is looked at");
        assert_eq!(h.served > 0, matches!(exit, Exit::ExternalInterrupt | Exit::Nmi));
    }
    for (exit, cause) in [
        (Exit::TripleFault, Cause::TripleFault),
        (Exit::TaskSwitch, Cause::Unsupported),
        (Exit::DescriptorTable, Cause::Unsupported),
        (Exit::Reset, Cause::Unsupported),
        (Exit::NestedMisconfig { gpa: 0x5000 }, Cause::Unsupported),
        (Exit::EntryFailure, Cause::EntryFailure),
        (Exit::Other, Cause::Unsupported),
    ] {
        let (mut v, mut h) = vcpu();
        let outcome = handle(&mut v, &mut h, exit);
        assert_eq!(outcome, Outcome::Leave(Leave::Ended), "{exit:?}");
        assert_eq!(v.ending.unwrap().cause, cause, "{exit:?}");
    }
}

#[test]
fn a_loop_of_pauses_gives_way_if_somebody_waits() {
    let without = Features::all() - Features::PAUSE_LOOP_EXITING;
    let yields = Outcome::AdvanceAndLeave(Leave::Yielded);
    for (features, contended, outcome) in [
        (Features::all(), true, yields),
        (Features::all(), false, Outcome::Advance),
        (without, true, Outcome::Advance),
    ] {
        let mut v = Setup { features, ..Setup::default() }.vcpu();
        v.slice_end = if contended { STARTED + 1 } else { u64::MAX };
        assert_eq!(handle(&mut v, &mut Fake::new(), Exit::Pause), outcome, "{contended}");
        assert_eq!(v.reason, pv_abi::exit::Reason::Pause);
    }
}

#[test]
fn rdtsc_is_the_guest_s() {
    let (mut v, mut h) = vcpu();
    v.tsc_offset = 0u64.wrapping_sub(STARTED).wrapping_add(1 << 40 | 5);
    h.live.insert(0xc000_0103, 0x1_0000_0007);
    v.registers.set(Gpr::Rcx, 99);
    assert_eq!(handle(&mut v, &mut h, Exit::Rdtsc { with_aux: false }), Outcome::Advance);
    let r = |v: &Vcpu| [Gpr::Rax, Gpr::Rdx, Gpr::Rcx].map(|g| v.registers.get(g));
    assert_eq!(r(&v), [5, 1 << 8, 99]);
    handle(&mut v, &mut h, Exit::Rdtsc { with_aux: true });
    assert_eq!(r(&v), [5, 1 << 8, 7]);
}

/// A vCPU in unpaged protected mode with these bytes where it stands.
fn at_instruction(bytes: &[u8]) -> (Vcpu, Fake) {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    h.set(Kept::Cr0, UNPAGED);
    v.set_long_mode(false);
    h.set(Kept::Efer, 0);
    h.long_code = false;
    h.set(Kept::Rip, 0x1000);
    h.bases[1] = 0x2000;
    v.vm.memory.write(0x3000, bytes).unwrap();
    v.due = 1000;
    (v, h)
}

fn page(offset: u64) -> Exit {
    Exit::NestedFault(NestedFault { gpa: 0xfee0_0000 + offset, access: 3, walk: false })
}

#[test]
fn the_apic_s_page_is_reached_by_instructions() {
    // mov eax, [edx] and mov [edx], esp, by both kinds of exit.
    for exit in [page(0x30), Exit::ApicAccess { offset: 0x30, access: 1 }] {
        let (mut v, mut h) = at_instruction(&[0x8b, 0x02]);
        v.registers.set(Gpr::Rax, u64::MAX);
        assert_eq!(handle(&mut v, &mut h, exit), Outcome::AdvanceBy(2));
        assert_eq!((v.registers.get(Gpr::Rax), v.due), (0x5_0015, 0));
    }
    for exit in [page(0x80), Exit::ApicAccess { offset: 0x80, access: 2 }] {
        let (mut v, mut h) = at_instruction(&[0x89, 0x22]);
        h.set(Kept::Rsp, 0x70);
        assert_eq!(handle(&mut v, &mut h, exit), Outcome::AdvanceBy(2));
        assert_eq!((v.apic.tpr(), v.due), (0x70, 1000), "nothing waits for it");
    }
    let (mut v, mut h) = at_instruction(&[0x8b, 0x22]);
    assert_eq!(handle(&mut v, &mut h, page(0x30)), Outcome::AdvanceBy(2));
    assert_eq!(h.get(Kept::Rsp), 0x5_0015, "RSP is the backend's");
}

#[test]
fn the_apic_s_page_is_reached_through_page_tables() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    h.set(Kept::Cr0, CR0_LONG);
    h.set(Kept::Cr3, 0x1000);
    for (gpa, entry) in
        [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003), (0x4000 + 8 * 5, 0x8003)]
    {
        v.vm.memory.write_u64(gpa, entry).unwrap();
    }
    h.set(Kept::Rip, 0x5ffe);
    // mov r9d, [rdi], of which the last byte is on a page that is not mapped, and was not needed.
    v.vm.memory.write(0x8ffd, &[0x44, 0x8b, 0x0f]).unwrap();
    h.set(Kept::Rip, 0x5ffd);
    assert_eq!(handle(&mut v, &mut h, page(0x30)), Outcome::AdvanceBy(3));
    assert_eq!(v.registers.get(Gpr::R9), 0x5_0015);
    h.set(Kept::Rip, 0x5ffe);
    let outcome = handle(&mut v, &mut h, page(0x30));
    assert_eq!(outcome, Outcome::AdvanceBy(2), "mov ecx, [rdi] without the prefix");
    h.set(Kept::Rip, 0x7000);
    let fault = Outcome::Inject(Event::exception(14, 0));
    assert_eq!(handle(&mut v, &mut h, page(0x80)), fault, "it is gone");
}

#[test]
fn the_page_follows_the_apic() {
    let (mut v, mut h) = at_instruction(&[0x8b, 0x02]);
    let base = v.apic.base();
    let _ = v.apic.write_base(base & !0xfee0_0000 | 0x1_0000_0000).unwrap();
    v.registers.set(Gpr::Rdx, 0xfee0_0030);
    assert_eq!(handle(&mut v, &mut h, page(0x30)), Outcome::AdvanceBy(2));
    assert_eq!(v.registers.get(Gpr::Rax), 0xffff_ffff, "there is nothing any more");
    let moved = NestedFault { gpa: 0x1_0000_0030, access: 1, walk: false };
    assert_eq!(handle(&mut v, &mut h, Exit::NestedFault(moved)), Outcome::AdvanceBy(2));
    assert_eq!(v.registers.get(Gpr::Rax), 0x5_0015);
    let _ = v.apic.write_base(base | 1 << 10).unwrap();
    assert_eq!(handle(&mut v, &mut h, page(0x30)), Outcome::AdvanceBy(2));
    assert_eq!(v.registers.get(Gpr::Rax), 0xffff_ffff, "x2APIC mode has none");
}

#[test]
fn writes_that_the_cpu_has_done_are_completed() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    v.due = 1000;
    v.apic.page().set(0x300, 0x4_0055);
    assert_eq!(handle(&mut v, &mut h, Exit::ApicWrite { offset: 0x300 }), Outcome::Resume);
    assert!(v.apic.page().has(Vectors::Irr, 0x55));
    assert_eq!(v.due, EVENTS);
    let _ = v.apic.post(0x60, Trigger::Level);
    v.due = 1000;
    assert_eq!(handle(&mut v, &mut h, Exit::EoiInduced { vector: 0x60 }), Outcome::Resume);
    assert_eq!(v.due, EVENTS);
    // INIT to itself, by the ICR.
    v.apic.page().set(0x310, 0);
    v.apic.page().set(0x300, 0x4500);
    let outcome = handle(&mut v, &mut h, Exit::ApicWrite { offset: 0x300 });
    assert_eq!(outcome, Outcome::Leave(Leave::Ended));
    assert_eq!(v.ending.unwrap().cause, Cause::HaltedForEver);
}

#[test]
fn reasons_are_distinct() {
    let port =
        |input| Exit::Port(PortAccess { port: 0, size: 1, input, string: false, repeated: false });
    let exits = [
        Exit::Cpuid,
        Exit::Hypercall,
        Exit::Rdmsr,
        Exit::Wrmsr,
        port(true),
        port(false),
        Exit::Hlt,
        Exit::TimeSlice,
        Exit::InterruptWindow,
        Exit::NmiWindow,
        Exit::ExternalInterrupt,
        Exit::Nmi,
        Exit::Pause,
        Exit::Xsetbv,
        Exit::Wbinvd,
        Exit::ApicAccess { offset: 0, access: 1 },
        Exit::ApicWrite { offset: 0 },
        Exit::EoiInduced { vector: 0 },
        Exit::TripleFault,
        Exit::Other,
    ];
    let reasons: Vec<_> = exits.iter().map(Exit::reason).collect();
    for (i, reason) in reasons.iter().enumerate() {
        assert!(!reasons[..i].contains(reason), "{reason:?}");
    }
}

#[test]
fn no_instruction_is_emulated_for_an_access_of_event_delivery() {
    let (mut v, mut h) = vcpu();
    h.inject(Event::exception(14, 2));
    let outcome = handle(&mut v, &mut h, Exit::ApicAccess { offset: 0x30, access: 1 });
    assert_eq!(outcome, Outcome::Leave(Leave::Ended));
    let Ending { cause, address, .. } = v.ending.unwrap();
    assert_eq!((cause, address), (Cause::BadMemory, 0xfee0_0030));
}
