use std::vec::Vec;

use proptest::prelude::*;
use pv_abi::area::VcpuShared;
use pv_abi::call::{EXTENSIONS, area, base, console, sched, stat, sys, timer};
use pv_abi::exit::Reason;
use pv_abi::ring::{CAPACITY, ConsoleRing};
use pv_abi::stat::Class;

use super::*;
use crate::device::apic::{Trigger, Vectors};
use crate::host::link::Channel;
use crate::host::report::{CALLS, Cause, Mark, MarkCounter};
use crate::vm::hardware::Kept;
use crate::vm::run::run;
use crate::vm::testing::{
    Fake, INFO_GPA, RAM, RFLAGS_IF, STARTED, Setup, snapshot, vcpu, with_timer,
};
use crate::vm::{Event, Exit, Options, Policy, Vm};
use core::mem::offset_of;
use zerocopy::FromBytes;

mod event;
mod smp;

const PAGE: u64 = 4096;
const AREA: u64 = 0x5000;
const RING: u64 = 0x6000;

fn prepare(v: &mut Vcpu, number: Number, arguments: &[u64]) {
    v.registers.set(Gpr::Rax, number.0);
    for (register, &argument) in
        [Gpr::Rdi, Gpr::Rsi, Gpr::Rdx, Gpr::Rcx, Gpr::R8].iter().zip(arguments)
    {
        v.registers.set(*register, argument);
    }
}

/// Makes a call; returns how the instruction ends, the status and the value.
fn make(v: &mut Vcpu, h: &mut Fake, number: Number, arguments: &[u64]) -> (Outcome, Status, u64) {
    prepare(v, number, arguments);
    let outcome = hypercall(v, h);
    let status = Status::from_code(v.registers.get(Gpr::Rax)).expect("a status");
    (outcome, status, v.registers.get(Gpr::Rdx))
}

/// As [`make`], for a call that just returns.
fn returns(v: &mut Vcpu, h: &mut Fake, number: Number, arguments: &[u64]) -> (Status, u64) {
    let (outcome, status, value) = make(v, h, number, arguments);
    assert_eq!(outcome, Outcome::Advance);
    (status, value)
}

fn value(v: &mut Vcpu, h: &mut Fake, number: Number, arguments: &[u64]) -> u64 {
    let (status, value) = returns(v, h, number, arguments);
    assert_eq!(status, Status::Success);
    value
}

/// A call that must end in an error and change nothing.
#[track_caller]
fn refused(v: &mut Vcpu, h: &mut Fake, number: Number, arguments: &[u64]) -> Status {
    prepare(v, number, arguments);
    if arguments.len() < 3 {
        v.registers.set(Gpr::Rdx, 0xdead);
    }
    let before = snapshot(v, h);
    let outcome = hypercall(v, h);
    assert_eq!(outcome, Outcome::Advance);
    assert!(before == snapshot(v, h), "a refused call changed something");
    assert_eq!(v.registers.get(Gpr::Rdx), 0, "the value of an error is 0");
    let status = Status::from_code(v.registers.get(Gpr::Rax)).expect("a status");
    assert_ne!(status, Status::Success);
    status
}

fn shared(field: usize) -> u64 {
    AREA + field as u64
}

fn armed(v: &Vcpu) -> u64 {
    v.vm.memory.read_u64(shared(offset_of!(VcpuShared, armed))).unwrap()
}

fn store_deadline(v: &Vcpu, deadline: u64) {
    v.vm.memory.write_u64(shared(offset_of!(VcpuShared, deadline)), deadline).unwrap();
}

fn flag(v: &Vcpu) -> u32 {
    v.vm.memory.read_u32(shared(offset_of!(VcpuShared, eoi))).unwrap()
}

/// The guest's half of the end-of-interrupt protocol: whether the flag was enough.
fn swap_flag(v: &Vcpu) -> bool {
    let old = flag(v);
    v.vm.memory.write_u32(shared(offset_of!(VcpuShared, eoi)), 0).unwrap();
    old == 1
}

/// A vCPU with an area and its timer in TSC-deadline mode.
fn with_area() -> (Vcpu, Fake) {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    assert_eq!(value(&mut v, &mut h, area::REGISTER, &[AREA]), INFO_GPA);
    (v, h)
}

fn in_service(v: &Vcpu, vector: u8) -> bool {
    v.apic.page().has(Vectors::Isr, vector)
}

fn requested(v: &Vcpu, vector: u8) -> bool {
    v.apic.page().has(Vectors::Irr, vector)
}

/// Runs until the script ends: one look at what is due, then each exit of the script.
fn go(v: &mut Vcpu, h: &mut Fake) -> Leave {
    v.attend();
    run(v, h)
}

/// The guest runs until the TSC of the guest is `now`, and its time slice then ends.
fn until(v: &mut Vcpu, h: &mut Fake, now: u64) {
    let host = STARTED + now;
    h.then(move |_, h| {
        h.time.set(host);
        Exit::TimeSlice
    });
    h.then(|_, _| Exit::Pause);
    assert_eq!(go(v, h), Leave::Ended);
    assert_eq!(v.ending.unwrap().cause, Cause::EntryFailure);
}

#[test]
fn only_64_bit_code_at_cpl_0_can_call() {
    for number in [base::NOP, area::REGISTER, sys::SHUTDOWN, Number(u64::MAX)] {
        let mut cases: Vec<(&str, Vcpu, Fake)> = Vec::new();
        for cpl in 1..=3 {
            let (v, mut h) = vcpu();
            h.cpl = cpl;
            cases.push(("user mode", v, h));
        }
        let (v, mut h) = vcpu();
        h.long_code = false;
        cases.push(("compatibility mode", v, h));
        let (mut v, h) = vcpu();
        // A code segment may have the L bit in protected mode, where it means nothing.
        v.set_long_mode(false);
        cases.push(("protected mode", v, h));
        let v = Setup { options: Options::UART, ..Setup::default() }.vcpu();
        cases.push(("a VM without the ABI", v, Fake::new()));
        for (what, mut v, mut h) in cases {
            prepare(&mut v, number, &[AREA]);
            v.registers.set(Gpr::Rdx, 7);
            let before = (v.registers, snapshot(&mut v, &mut h));
            assert!(null(&mut v, &mut h).is_none() && yields(&mut v, &mut h).is_none(), "{what}");
            assert_eq!(hypercall(&mut v, &mut h), Outcome::UNDEFINED, "{what}");
            assert!(before == (v.registers, snapshot(&mut v, &mut h)), "{what}: something changed");
            assert_eq!(v.call, 0, "{what}: it counts in no call slot");
        }
    }
}

#[test]
fn reserved_comes_before_everything() {
    let (mut v, mut h) = vcpu();
    for number in
        [base::NOP.0, 0xffff_0000, 0x0001_ffff, sys::SHUTDOWN.0, sys::CRASH.0, stat::MARK.0]
    {
        assert_eq!(refused(&mut v, &mut h, Number(number | 1 << 32), &[]), Status::Reserved);
        assert_eq!(refused(&mut v, &mut h, Number(number | 1 << 63), &[]), Status::Reserved);
        v.registers.set(Gpr::R9, 1 << 63);
        prepare(&mut v, Number(number), &[]);
        assert!(null(&mut v, &mut h).is_none() && yields(&mut v, &mut h).is_none());
        assert_eq!(refused(&mut v, &mut h, Number(number), &[]), Status::Reserved);
        v.registers.set(Gpr::R9, 0);
    }
}

#[test]
fn unknown_numbers_are_told_apart_and_counted_in_the_last_slot_or_their_own() {
    let (mut v, mut h) = vcpu();
    for (number, status, slot) in [
        (10 << 16, Status::UnknownExtension, 10 * 8),
        (0xffff_0000, Status::UnknownExtension, 127),
        (0x8000_0001, Status::UnknownExtension, 127),
        (0x0000_0004, Status::UnknownFunction, 4),
        (0x0006_0002, Status::UnknownFunction, 6 * 8 + 2),
        (0x0000_ffff, Status::UnknownFunction, 127),
    ] {
        assert_eq!(refused(&mut v, &mut h, Number(number), &[]), status, "{number:#x}");
        assert_eq!(v.call, slot + 1, "{number:#x}");
    }
    for extension in EXTENSIONS {
        for call in extension.calls {
            v.registers = Default::default();
            prepare(&mut v, call.number, &[]);
            if let Outcome::Leave(_) = hypercall(&mut v, &mut h) {
                continue;
            }
            let status = Status::from_code(v.registers.get(Gpr::Rax)).expect("a status");
            let unknown = [Status::UnknownExtension, Status::UnknownFunction];
            assert!(!unknown.contains(&status), "{} is listed and unknown", call.name);
            assert!(
                status == Status::Success || call.errors.contains(&status),
                "{}: {status:?}",
                call.name
            );
        }
        let next = Number::new(extension.number, extension.calls.len() as u16);
        assert_eq!(refused(&mut v, &mut h, next, &[]), Status::UnknownFunction);
    }
}

#[test]
fn a_call_preserves_every_register_but_rax_and_rdx() {
    let (mut v, mut h) = vcpu();
    for number in 0..16 {
        v.registers.set_by_number(number, 0x1111_0000_0000_0000 | u64::from(number));
    }
    v.registers.set(Gpr::R9, 0);
    for (number, arguments) in [
        (base::VERSION_CALL, [0, 0]),
        (base::NOP, [0, 0]),
        (area::REGISTER, [AREA, 0]),
        (console::WRITE, [0, 4]),
        (console::READ, [0, 4]),
        (timer::ARM, [9, 0]),
        (stat::READ, [0, 0]),
    ] {
        prepare(&mut v, number, &arguments);
        let before = v.registers.all();
        let _ = hypercall(&mut v, &mut h);
        let after = v.registers.all();
        for register in (0..16).filter(|r| !matches!(r, 0 | 2)) {
            assert_eq!(before[register], after[register], "{number:x?}: register {register}");
        }
        assert_eq!(h.get(Kept::Rflags), 2);
    }
}

#[test]
fn the_short_way_answers_as_the_long_one() {
    for number in [base::NOP, sched::YIELD] {
        let (mut v, mut h) = vcpu();
        v.slice_end = STARTED + 1;
        prepare(&mut v, number, &[1, 2, 3]);
        let mut expected = v.registers;
        expected.set(Gpr::Rax, 0);
        expected.set(Gpr::Rdx, 0);
        let (slot, outcome) = match null(&mut v, &mut h) {
            Some(slot) => (slot, Outcome::Advance),
            None => {
                let slot = yields(&mut v, &mut h).unwrap();
                (slot, Outcome::AdvanceAndLeave(Leave::Yielded))
            }
        };
        assert_eq!(v.registers, expected);
        prepare(&mut v, number, &[1, 2, 3]);
        assert_eq!(hypercall(&mut v, &mut h), outcome);
        assert_eq!((v.registers, v.call), (expected, slot));
    }
    let (mut v, mut h) = vcpu();
    prepare(&mut v, base::PROBE, &[]);
    assert!(null(&mut v, &mut h).is_none() && yields(&mut v, &mut h).is_none());
}

#[test]
fn a_yield_for_which_nobody_waits_goes_on() {
    let (mut v, mut h) = vcpu();
    prepare(&mut v, sched::YIELD, &[]);
    assert_eq!(yields(&mut v, &mut h), None);
    assert_eq!(value(&mut v, &mut h, sched::YIELD, &[]), 0);
}

#[test]
fn versions_and_presence() {
    let (mut v, mut h) = vcpu();
    let version = u64::from(pv_abi::VERSION);
    assert_eq!(value(&mut v, &mut h, base::VERSION_CALL, &[]), version);
    for extension in EXTENSIONS {
        let number = u64::from(extension.number);
        assert_eq!(value(&mut v, &mut h, base::PROBE, &[number]), u64::from(extension.version));
    }
    assert_eq!(value(&mut v, &mut h, base::PROBE, &[0x8000]), 0, "absence is an answer");
    assert_eq!(refused(&mut v, &mut h, base::PROBE, &[0x1_0000]), Status::InvalidArgument);
    assert_eq!(refused(&mut v, &mut h, base::PROBE, &[1 << 32]), Status::InvalidArgument);
    assert_eq!(value(&mut v, &mut h, base::ACKNOWLEDGE, &[version]), version);
    for other in [0, version + 1, 1 << 16, version | 1 << 32] {
        assert_eq!(refused(&mut v, &mut h, base::ACKNOWLEDGE, &[other]), Status::InvalidArgument);
    }
}

#[test]
fn pages_that_cannot_be_registered_are_refused() {
    for number in [area::REGISTER, console::RING_REGISTER] {
        let (mut v, mut h) = vcpu();
        for (gpa, status) in [
            (AREA + 1, Status::Misaligned),
            (AREA + 2048, Status::Misaligned),
            (u64::MAX, Status::Misaligned),
            (RAM + 8, Status::Misaligned),
            (RAM, Status::BadAddress),
            (u64::MAX - 4095, Status::BadAddress),
            (0xfee0_0000, Status::BadAddress),
            (INFO_GPA, Status::BadAddress),
        ] {
            assert_eq!(refused(&mut v, &mut h, number, &[gpa]), status, "{gpa:#x}");
        }
        let (status, _) = returns(&mut v, &mut h, number, &[RAM - PAGE]);
        assert_eq!(status, Status::Success, "the last page is RAM");
        for gpa in [RAM - PAGE, AREA] {
            assert_eq!(refused(&mut v, &mut h, number, &[gpa]), Status::AlreadyDone);
        }
        assert_eq!(refused(&mut v, &mut h, number, &[AREA + 1]), Status::Misaligned);
        assert_eq!(refused(&mut v, &mut h, number, &[RAM]), Status::BadAddress);
    }
}

#[test]
fn the_area_comes_and_goes_with_its_read_only_half() {
    let (mut v, mut h) = vcpu();
    v.vm.memory.write(AREA, &[0x5a; 4096]).unwrap();
    assert_eq!(refused(&mut v, &mut h, area::UNREGISTER, &[]), Status::NotReady);
    assert_eq!(value(&mut v, &mut h, area::REGISTER, &[AREA]), INFO_GPA);
    assert!(h.info_shown);
    let mut page = [0; 4096];
    v.vm.memory.read(AREA, &mut page).unwrap();
    assert_eq!(page, [0x5a; 4096], "the page is the guest's to zero");
    let generation = v.vm.generation.current();
    assert_eq!(value(&mut v, &mut h, area::UNREGISTER, &[]), 0);
    assert!(!h.info_shown);
    assert_ne!(v.vm.generation.current(), generation, "translations are flushed");
    assert_eq!(refused(&mut v, &mut h, area::UNREGISTER, &[]), Status::NotReady);
    assert_eq!(value(&mut v, &mut h, area::REGISTER, &[AREA + PAGE]), INFO_GPA);
    v.unregister();
    assert_eq!(refused(&mut v, &mut h, area::UNREGISTER, &[]), Status::NotReady, "after a reset");
}

#[test]
fn the_clock_tells_the_time_since_the_start() {
    let (mut v, mut h) = vcpu();
    h.pass(12_345);
    v.tsc_offset = v.tsc_offset.wrapping_add(1 << 40);
    assert_eq!(value(&mut v, &mut h, area::REGISTER, &[AREA]), INFO_GPA);
    let clock = v.info.clock;
    assert_eq!((clock.sequence % 2, clock.ns_base), (0, 0));
    assert_eq!(clock.tsc_base, 1 << 40, "by the guest's TSC");
    let ns = |ticks: u64| (u128::from(ticks) * u128::from(clock.multiplier)) >> clock.shift;
    assert!(ns(3_600_000_000_000).abs_diff(3_600_000_000_000) < 1000, "an hour later");
}

#[test]
fn after_unregistering_nothing_touches_the_page() {
    let (mut v, mut h) = with_area();
    value(&mut v, &mut h, timer::ARM, &[10_000]);
    value(&mut v, &mut h, area::UNREGISTER, &[]);
    assert_eq!(v.apic.timer_due(), Some(10_000), "an armed timer stays armed");
    v.vm.memory.write(AREA, &[0x5a; 4096]).unwrap();
    h.set(Kept::Rflags, RFLAGS_IF);
    until(&mut v, &mut h, 10_000);
    assert_eq!(h.delivered, [Event::interrupt(0x40)]);
    value(&mut v, &mut h, timer::ARM, &[20_000]);
    until(&mut v, &mut h, 15_000);
    let mut page = [0; 4096];
    v.vm.memory.read(AREA, &mut page).unwrap();
    assert_eq!(page, [0x5a; 4096]);
}

#[test]
fn the_timer_fires_at_its_deadline() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    assert_eq!(value(&mut v, &mut h, timer::ARM, &[10_000]), 0);
    until(&mut v, &mut h, 9_999);
    assert!(!requested(&v, 0x40));
    until(&mut v, &mut h, 10_000);
    assert!(requested(&v, 0x40));
    assert_eq!(v.apic.timer_due(), None);
}

#[test]
fn a_past_deadline_fires_at_once_and_zero_disarms() {
    let (mut v, mut h) = with_area();
    h.pass(5_000);
    store_deadline(&v, 50_000);
    value(&mut v, &mut h, timer::ARM, &[5_000]);
    assert!(requested(&v, 0x40), "what the area says does not count");
    assert_eq!((armed(&v), v.due), (0, 0));
    let (mut v, mut h) = with_area();
    value(&mut v, &mut h, timer::ARM, &[5_000]);
    assert_eq!(armed(&v), 5_000);
    value(&mut v, &mut h, timer::ARM, &[0]);
    assert_eq!((armed(&v), v.apic.timer_due()), (0, None));
    until(&mut v, &mut h, 6_000);
    assert!(!requested(&v, 0x40));
}

#[test]
fn arming_does_nothing_outside_of_deadline_mode() {
    let (mut v, mut h) = with_area();
    let _ = v.apic.mmio_write(0x320, 0x40, 0);
    value(&mut v, &mut h, timer::ARM, &[5_000]);
    assert_eq!((armed(&v), v.apic.timer_due()), (0, None));
}

#[test]
fn a_later_deadline_moves_the_timer_without_a_call() {
    let (mut v, mut h) = with_area();
    store_deadline(&v, 10_000);
    value(&mut v, &mut h, timer::ARM, &[10_000]);
    assert_eq!(armed(&v), 10_000);
    store_deadline(&v, 30_000);
    until(&mut v, &mut h, 10_000);
    assert!(!requested(&v, 0x40), "it moved");
    assert_eq!((armed(&v), v.apic.timer_due()), (30_000, Some(30_000)));
    // Not later than now: it fires.
    store_deadline(&v, 30_005);
    until(&mut v, &mut h, 30_005);
    assert!(requested(&v, 0x40));
    assert_eq!((armed(&v), v.apic.timer_due()), (0, None));
}

#[test]
fn a_shared_deadline_of_zero_disarms() {
    let (mut v, mut h) = with_area();
    store_deadline(&v, 10_000);
    value(&mut v, &mut h, timer::ARM, &[10_000]);
    store_deadline(&v, 0);
    until(&mut v, &mut h, 10_000);
    assert!(!requested(&v, 0x40));
    assert_eq!((armed(&v), v.apic.timer_due()), (0, None));
}

#[test]
fn a_timer_armed_by_the_msr_fires_when_the_msr_says() {
    let (mut v, mut h) = with_area();
    store_deadline(&v, 90_000);
    value(&mut v, &mut h, timer::ARM, &[90_000]);
    v.registers.set(Gpr::Rcx, 0x6e0);
    v.registers.set_edx_eax(10_000);
    assert_eq!(crate::emulate::msr::wrmsr(&mut v, &mut h), Outcome::Advance);
    assert_eq!(armed(&v), 0, "the shared deadline counts no longer");
    until(&mut v, &mut h, 10_000);
    assert!(requested(&v, 0x40));
}

#[test]
fn registering_leaves_an_armed_timer_outside_of_the_protocol() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    value(&mut v, &mut h, timer::ARM, &[10_000]);
    value(&mut v, &mut h, area::REGISTER, &[AREA]);
    assert_eq!(armed(&v), 0);
    store_deadline(&v, 90_000);
    until(&mut v, &mut h, 10_000);
    assert!(requested(&v, 0x40));
}

#[test]
fn a_timer_that_the_guest_stops_by_its_lvt_entry_is_not_armed() {
    for lvt in [0x40, 2 << 17 | 1 << 16 | 0x40] {
        let (mut v, mut h) = with_area();
        store_deadline(&v, 10_000);
        value(&mut v, &mut h, timer::ARM, &[10_000]);
        h.then(move |v, h| {
            let effect = v.apic.mmio_write(0x320, lvt, 0);
            let _ = v.apply(effect, h);
            Exit::Pause
        });
        assert_eq!(go(&mut v, &mut h), Leave::Ended);
        assert_eq!(armed(&v), 0, "a guest that believes it stores a deadline that nobody reads");
    }
}

/// Injects the interrupt that waits, and checks that its end may be signalled by the flag.
fn inject_with_flag(v: &mut Vcpu, h: &mut Fake, vector: u8) {
    h.set(Kept::Rflags, RFLAGS_IF);
    let _ = v.apic.post(vector, Trigger::Edge);
    h.then(|_, _| Exit::Pause);
    go(v, h);
    assert_eq!(h.delivered.pop(), Some(Event::interrupt(vector)));
    assert!(in_service(v, vector));
}

#[test]
fn the_end_of_an_interrupt_can_be_signalled_by_the_flag() {
    let (mut v, mut h) = with_area();
    inject_with_flag(&mut v, &mut h, 0x50);
    assert_eq!(flag(&v), 1);
    assert!(swap_flag(&v));
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    assert!(!in_service(&v, 0x50));
    // The next one gets a flag of its own.
    inject_with_flag(&mut v, &mut h, 0x50);
    assert_eq!(flag(&v), 1);
}

#[test]
fn without_an_area_no_flag_is_set() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    inject_with_flag(&mut v, &mut h, 0x50);
    assert_eq!((flag(&v), v.registered.eoi), (0, None));
}

#[test]
fn the_flag_is_taken_back_when_another_interrupt_waits() {
    for other in [0x50 - 0x10, 0x51, 0x70] {
        let (mut v, mut h) = with_area();
        inject_with_flag(&mut v, &mut h, 0x50);
        h.set(Kept::Rflags, 2);
        let _ = v.apic.post(other, Trigger::Edge);
        h.then(|_, _| Exit::Pause);
        go(&mut v, &mut h);
        assert!(!swap_flag(&v), "{other:#x}: the guest must write the register");
        assert!(in_service(&v, 0x50), "{other:#x}: it has not ended");
        let _ = v.apic.eoi();
        assert!(!in_service(&v, 0x50));
    }
}

#[test]
fn an_end_signalled_before_the_flag_is_taken_back_is_done_once() {
    let (mut v, mut h) = with_area();
    inject_with_flag(&mut v, &mut h, 0x50);
    assert!(swap_flag(&v));
    // The next is injected in the same breath, with a flag again.
    inject_with_flag(&mut v, &mut h, 0x40);
    assert!(!in_service(&v, 0x50));
    assert!(in_service(&v, 0x40), "its end was not the other's");
    assert_eq!(flag(&v), 1);
}

#[test]
fn an_interrupt_with_others_behind_it_gets_no_flag() {
    let (mut v, mut h) = with_area();
    let _ = v.apic.post(0x45, Trigger::Edge);
    inject_with_flag(&mut v, &mut h, 0x50);
    assert_eq!(flag(&v), 0);
    // Nested above another.
    let (mut v, mut h) = with_area();
    inject_with_flag(&mut v, &mut h, 0x50);
    inject_with_flag(&mut v, &mut h, 0x70);
    assert_eq!(flag(&v), 0);
}

#[test]
fn a_guest_that_ignores_the_flag_ends_each_interrupt_once() {
    let (mut v, mut h) = with_area();
    inject_with_flag(&mut v, &mut h, 0x50);
    v.vm.memory.write(0x1000, &[0xc7, 0x04, 0x25, 0xb0, 0, 0xe0, 0xfe, 0, 0, 0, 0]).unwrap();
    // mov dword [0xfee000b0], 0, unpaged.
    h.set(Kept::Cr0, 0x31);
    h.set(Kept::Rip, 0x1000);
    h.then(|_, _| Exit::ApicAccess { offset: 0xb0, access: 2 });
    go(&mut v, &mut h);
    assert!(!in_service(&v, 0x50));
    assert_eq!((flag(&v), v.registered.eoi), (0, None));
}

#[test]
fn the_flag_and_the_msr_end_each_interrupt_once() {
    let msr = |v: &mut Vcpu, h: &mut Fake, number: u64, value: u64| {
        v.registers.set(Gpr::Rcx, number);
        v.registers.set_edx_eax(value);
        assert_eq!(crate::emulate::msr::wrmsr(v, h), Outcome::Advance);
    };
    let (mut v, mut h) = with_area();
    let base = v.apic.base();
    msr(&mut v, &mut h, 0x1b, base | 1 << 10);
    inject_with_flag(&mut v, &mut h, 0x50);
    msr(&mut v, &mut h, 0x80b, 0);
    assert!(!in_service(&v, 0x50));
    assert_eq!((flag(&v), v.registered.eoi), (0, None), "the flag is taken back");
    // What reads the in-service bits sees what the flag has ended.
    inject_with_flag(&mut v, &mut h, 0x50);
    swap_flag(&v);
    v.registers.set(Gpr::Rcx, 0x812);
    assert_eq!(crate::emulate::msr::rdmsr(&mut v, &mut h), Outcome::Advance);
    assert_eq!(v.registers.get(Gpr::Rax), 0);
}

#[test]
fn unregistering_does_the_end_that_the_flag_signalled() {
    for signalled in [true, false] {
        let (mut v, mut h) = with_area();
        inject_with_flag(&mut v, &mut h, 0x50);
        if signalled {
            swap_flag(&v);
        }
        value(&mut v, &mut h, area::UNREGISTER, &[]);
        assert_eq!(in_service(&v, 0x50), !signalled);
        assert_eq!(flag(&v), 0);
    }
}

#[test]
fn console_transfers_have_bounds() {
    for number in [console::WRITE, console::READ] {
        let (mut v, mut h) = vcpu();
        h.input.extend(b"typed");
        for (gpa, length, status) in [
            (0, 0, Status::BadLength),
            (u64::MAX, 4097, Status::BadLength),
            (0, u64::MAX, Status::BadLength),
            (RAM, 1, Status::BadAddress),
            (RAM - 3, 4, Status::BadAddress),
            (u64::MAX - 1, 4, Status::BadAddress),
            (u64::MAX, 1, Status::BadAddress),
            (0xfee0_0000, 4, Status::BadAddress),
            (INFO_GPA, 4, Status::BadAddress),
        ] {
            assert_eq!(
                refused(&mut v, &mut h, number, &[gpa, length]),
                status,
                "{gpa:#x}+{length:#x}"
            );
        }
    }
}

#[test]
fn bytes_go_to_the_console_in_order() {
    let (mut v, mut h) = vcpu();
    let text: Vec<u8> = (0..4096u32).map(|i| b'a' + (i % 23) as u8).collect();
    v.vm.memory.write(RAM - 4096, &text).unwrap();
    assert_eq!(value(&mut v, &mut h, console::WRITE, &[RAM - 4096, 4096]), 4096);
    assert_eq!(value(&mut v, &mut h, console::WRITE, &[RAM - 4096, 2]), 2);
    assert_ne!(v.send_at, u64::MAX, "it will be sent");
    let console = h.console(&mut v);
    assert_eq!(&console.as_bytes()[..4096], text);
    assert_eq!(&console[4096..], "ab");
}

#[test]
fn input_is_stored_up_to_the_length_and_no_further() {
    let (mut v, mut h) = vcpu();
    v.vm.memory.write(0x100, &[0xee; 16]).unwrap();
    assert_eq!(value(&mut v, &mut h, console::READ, &[0x100, 4]), 0, "it does not wait");
    h.input.extend(b"abcdef");
    assert_eq!(value(&mut v, &mut h, console::READ, &[0x100, 4]), 4);
    assert_eq!(value(&mut v, &mut h, console::READ, &[0x104, 12]), 2);
    let mut bytes = [0; 8];
    v.vm.memory.read(0x100, &mut bytes).unwrap();
    assert_eq!(&bytes, b"abcdef\xee\xee");
}

fn ring_write(v: &Vcpu, head: u32, text: &[u8]) -> u32 {
    let data = RING + offset_of!(ConsoleRing, data) as u64;
    for (&byte, n) in text.iter().zip(u64::from(head)..) {
        v.vm.memory.write(data + n % CAPACITY as u64, &[byte]).unwrap();
    }
    let head = head.wrapping_add(text.len() as u32);
    v.vm.memory.write_u32(RING, head).unwrap();
    head
}

fn tail(v: &Vcpu) -> u32 {
    v.vm.memory.read_u32(RING + offset_of!(ConsoleRing, tail) as u64).unwrap()
}

fn with_ring() -> (Vcpu, Fake) {
    let (mut v, mut h) = vcpu();
    assert_eq!(refused(&mut v, &mut h, console::RING_FLUSH, &[]), Status::NotReady);
    assert_eq!(value(&mut v, &mut h, console::RING_REGISTER, &[RING]), CAPACITY as u64);
    (v, h)
}

#[test]
fn the_ring_is_drained_around_its_end() {
    let (mut v, mut h) = with_ring();
    let mut head = 0;
    let mut all = std::string::String::new();
    for i in 0..7 {
        let text: std::string::String =
            (0..700).map(|n| char::from(b'A' + ((n + i) % 26) as u8)).collect();
        head = ring_write(&v, head, text.as_bytes());
        all.push_str(&text);
        assert_eq!(value(&mut v, &mut h, console::RING_FLUSH, &[]), 700);
        assert_eq!(tail(&v), head);
    }
    assert_eq!(value(&mut v, &mut h, console::RING_FLUSH, &[]), 0);
    ring_write(&v, head, &[b'f'; CAPACITY]);
    assert_eq!(value(&mut v, &mut h, console::RING_FLUSH, &[]), CAPACITY as u64, "a full ring");
    assert_eq!(h.console(&mut v), all + &"f".repeat(CAPACITY));
}

#[test]
fn the_counters_of_the_ring_wrap() {
    let (mut v, mut h) = with_ring();
    v.registered.ring_tail = u32::MAX - 1;
    ring_write(&v, u32::MAX - 1, b"");
    let data = RING + offset_of!(ConsoleRing, data) as u64;
    v.vm.memory.write(data + 2046, b"ab").unwrap();
    v.vm.memory.write(data, b"cd").unwrap();
    v.vm.memory.write_u32(RING, 2).unwrap();
    assert_eq!(value(&mut v, &mut h, console::RING_FLUSH, &[]), 4);
    assert_eq!((tail(&v), h.console(&mut v).as_str()), (2, "abcd"));
}

#[test]
fn a_head_too_far_ahead_is_skipped_to() {
    for absurd in [CAPACITY as u32 + 1, 1 << 31, u32::MAX] {
        let (mut v, mut h) = with_ring();
        v.vm.memory.write_u32(RING, absurd).unwrap();
        assert_eq!(value(&mut v, &mut h, console::RING_FLUSH, &[]), 0);
        assert_eq!((tail(&v), h.console(&mut v).as_str()), (absurd, ""));
        ring_write(&v, absurd, b"on");
        assert_eq!(value(&mut v, &mut h, console::RING_FLUSH, &[]), 2);
        assert_eq!(h.console(&mut v), "on");
    }
}

#[test]
fn the_tail_in_the_page_is_for_the_guest_alone() {
    let (mut v, mut h) = with_ring();
    let head = ring_write(&v, 0, b"once");
    value(&mut v, &mut h, console::RING_FLUSH, &[]);
    v.vm.memory.write_u32(RING + 64, 0).unwrap();
    assert_eq!(value(&mut v, &mut h, console::RING_FLUSH, &[]), 0);
    ring_write(&v, head, b"!");
    value(&mut v, &mut h, console::RING_FLUSH, &[]);
    assert_eq!(h.console(&mut v), "once!");
}

#[test]
fn bytes_of_the_ring_come_before_those_of_the_call() {
    let (mut v, mut h) = with_ring();
    ring_write(&v, 0, b"ring ");
    v.vm.memory.write(0x100, b"call").unwrap();
    value(&mut v, &mut h, console::WRITE, &[0x100, 4]);
    assert_eq!(h.console(&mut v), "ring call");
    ring_write(&v, 5, b" read");
    value(&mut v, &mut h, console::READ, &[0x100, 4]);
    assert_eq!(h.console(&mut v), "ring call read");
    ring_write(&v, 10, b" crash: ");
    ends(&mut v, &mut h, sys::CRASH, &[0x100, 4]);
    assert_eq!(h.console(&mut v), "ring call read crash: call");
}

#[test]
fn the_ring_is_drained_however_the_vcpu_leaves() {
    type Last = fn(&mut Vcpu) -> Exit;
    let ways: [(&str, Last); 6] = [
        ("hlt", |_| Exit::Hlt),
        ("triple fault", |_| Exit::TripleFault),
        ("shutdown", |v| {
            prepare(v, sys::SHUTDOWN, &[0]);
            Exit::Hypercall
        }),
        ("reset", |v| {
            prepare(v, sys::RESET, &[]);
            Exit::Hypercall
        }),
        ("halt_until", |v| {
            prepare(v, sched::HALT_UNTIL, &[0, 1]);
            Exit::Hypercall
        }),
        ("yield", |v| {
            prepare(v, sched::YIELD, &[]);
            Exit::Hypercall
        }),
    ];
    for (what, exit) in ways {
        let mut v =
            Setup { options: Options::all() & !Options::CHECK_ENTRIES, ..Setup::default() }.vcpu();
        let mut h = Fake::new();
        h.set(Kept::Rflags, RFLAGS_IF);
        value(&mut v, &mut h, console::RING_REGISTER, &[RING]);
        h.then(move |v, _| {
            ring_write(v, 0, b"last words");
            exit(v)
        });
        let _ = go(&mut v, &mut h);
        assert_eq!(h.console(&mut v), "last words", "{what}");
    }
}

#[test]
fn other_exits_drain_the_ring_in_time() {
    let (mut v, mut h) = with_ring();
    h.then(|v, _| {
        ring_write(v, 0, b"text");
        Exit::TimeSlice
    });
    go(&mut v, &mut h);
    assert_eq!(h.console(&mut v), "text");
}

#[test]
fn halting_arms_the_timer_and_enables_interrupts_if_asked() {
    let (mut v, mut h) = with_area();
    let halted = Outcome::AdvanceAndLeave(Leave::Halted);
    assert_eq!(make(&mut v, &mut h, sched::HALT_UNTIL, &[9_000, 0]), (halted, Status::Success, 0));
    assert_eq!((v.apic.timer_due(), armed(&v)), (Some(9_000), 9_000));
    assert_eq!(h.get(Kept::Rflags), 2, "unchanged without the flag");
    assert_eq!(make(&mut v, &mut h, sched::HALT_UNTIL, &[0, 1]), (halted, Status::Success, 0));
    assert_eq!(v.apic.timer_due(), Some(9_000), "0 does not disarm here");
    assert_eq!(h.get(Kept::Rflags), 2 | RFLAGS_IF);
    for flags in [2, 3, 1 << 63] {
        assert_eq!(refused(&mut v, &mut h, sched::HALT_UNTIL, &[8_000, flags]), Status::Reserved);
    }
}

#[test]
fn an_interrupt_ends_a_halt_whether_or_not_it_can_be_taken() {
    let (mut v, mut h) = with_area();
    store_deadline(&v, 9_000);
    let _ = make(&mut v, &mut h, sched::HALT_UNTIL, &[9_000, 0]);
    assert!(!v.wakes(&mut h, STARTED + 8_999));
    assert!(v.wakes(&mut h, STARTED + 9_000), "RFLAGS.IF is clear");
    // One below the priority does not.
    let (mut v, _) = with_area();
    let _ = v.apic.write_cr8(5);
    let _ = v.apic.post(0x5f, Trigger::Edge);
    assert!(!v.wakes(&mut h, STARTED));
    let _ = v.apic.post(0x60, Trigger::Edge);
    assert!(v.wakes(&mut h, STARTED));
    // Neither does a masked timer, but an NMI.
    let (mut v, mut h) = with_area();
    let _ = v.apic.mmio_write(0x320, 2 << 17 | 1 << 16 | 0x40, 0);
    let _ = make(&mut v, &mut h, sched::HALT_UNTIL, &[9_000, 0]);
    assert!(!v.wakes(&mut h, STARTED + 10_000));
    v.nmi = true;
    assert!(v.wakes(&mut h, STARTED + 10_000));
}

#[test]
fn a_halted_guest_whose_interrupt_has_ended_by_the_flag_wakes_for_the_next() {
    let (mut v, mut h) = with_area();
    inject_with_flag(&mut v, &mut h, 0x50);
    swap_flag(&v);
    let _ = v.apic.post(0x51, Trigger::Edge);
    assert!(v.wakes(&mut h, STARTED));
}

#[test]
fn yield_stays_runnable() {
    let (mut v, mut h) = vcpu();
    v.slice_end = STARTED + 1;
    let yielded = Outcome::AdvanceAndLeave(Leave::Yielded);
    assert_eq!(make(&mut v, &mut h, sched::YIELD, &[]), (yielded, Status::Success, 0));
}

fn ends(v: &mut Vcpu, h: &mut Fake, number: Number, arguments: &[u64]) -> Leave {
    prepare(v, number, arguments);
    match hypercall(v, h) {
        Outcome::Leave(leave) => leave,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_machine_ends_when_the_guest_says_so() {
    let (mut v, mut h) = vcpu();
    for code in [0, 7, 255] {
        let leave = ends(&mut v, &mut h, sys::SHUTDOWN, &[code]);
        let ending = v.ending.unwrap();
        assert_eq!((leave, ending.cause, ending.code), (Leave::Ended, Cause::Shutdown, code));
    }
    for code in [256, u64::MAX] {
        assert_eq!(refused(&mut v, &mut h, sys::SHUTDOWN, &[code]), Status::InvalidArgument);
    }
    assert_eq!(refused(&mut v, &mut h, sys::RESET, &[]), Status::Denied);
    let mut may = Setup { options: Options::ABI | Options::MAY_RESET, ..Setup::default() }.vcpu();
    assert_eq!(ends(&mut may, &mut h, sys::RESET, &[]), Leave::Reset);
}

#[test]
fn a_crash_brings_its_message() {
    let (mut v, mut h) = vcpu();
    for (gpa, length, status) in [
        (u64::MAX, 4097, Status::BadLength),
        (RAM - 1, 2, Status::BadAddress),
        (u64::MAX, 2, Status::BadAddress),
    ] {
        assert_eq!(refused(&mut v, &mut h, sys::CRASH, &[gpa, length]), status);
    }
    v.vm.memory.write(0x100, b"oops").unwrap();
    let leave = ends(&mut v, &mut h, sys::CRASH, &[0x100, 4]);
    assert_eq!((leave, v.ending.unwrap().cause), (Leave::Ended, Cause::Crash));
    assert_eq!(h.console(&mut v), "oops");
    for gpa in [0, RAM, u64::MAX] {
        let leave = ends(&mut v, &mut h, sys::CRASH, &[gpa, 0]);
        let cause = v.ending.unwrap().cause;
        assert_eq!((leave, cause), (Leave::Ended, Cause::Crash), "the address is ignored");
    }
    assert_eq!(h.console(&mut v), "oops");
}

#[test]
fn counters_are_read_by_class_and_index() {
    let (mut v, mut h) = vcpu();
    v.info.exits[4].count = 10;
    v.info.exits[4].ticks = 11;
    v.info.exits[63].count = 12;
    v.info.calls[127].count = 13;
    v.info.calls[9].ticks = 14;
    (v.info.vmreads, v.info.vmwrites) = (15, 16);
    for (class, index, expected) in [
        (Class::ExitCount, 4, 10),
        (Class::ExitTicks, 4, 11),
        (Class::ExitCount, 63, 12),
        (Class::CallCount, 127, 13),
        (Class::CallTicks, 9, 14),
        (Class::Vmcs, 0, 15),
        (Class::Vmcs, 1, 16),
    ] {
        assert_eq!(value(&mut v, &mut h, stat::READ, &[class.selector(index)]), expected);
    }
    for selector in [64, 1 << 32 | 64, 2 << 32 | 128, 3 << 32 | 128, 4 << 32 | 2, 5 << 32, u64::MAX]
    {
        assert_eq!(refused(&mut v, &mut h, stat::READ, &[selector]), Status::InvalidArgument);
    }
}

#[test]
fn a_vm_that_may_not_see_statistics_is_denied_what_is_well_formed() {
    let mut v = Setup { options: Options::ABI, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    for phase in [0, 1] {
        assert_eq!(refused(&mut v, &mut h, stat::MARK, &[7, phase]), Status::Denied);
    }
    assert_eq!(refused(&mut v, &mut h, stat::READ, &[0]), Status::Denied);
    assert_eq!(refused(&mut v, &mut h, stat::MARK, &[7, 2]), Status::InvalidArgument);
    assert_eq!(refused(&mut v, &mut h, stat::READ, &[64]), Status::InvalidArgument);
    assert!(h.frames().is_empty());
}

#[test]
fn a_mark_is_not_counted_and_its_exits_are() {
    let (mut v, mut h) = vcpu();
    h.tick = 1;
    for quick in [false, true] {
        fn then_call(
            number: Number,
            arguments: [u64; 2],
        ) -> impl FnOnce(&mut Vcpu, &mut Fake) -> Exit {
            move |v: &mut Vcpu, _: &mut Fake| {
                prepare(v, number, &arguments);
                Exit::Hypercall
            }
        }
        let before = (v.exits(), v.info.exits[Reason::Hypercall as usize], v.info.calls);
        h.sent.clear();
        let steps: [(Number, [u64; 2]); 4] =
            [(stat::MARK, [7, 0]), (base::NOP, [0, 0]), (stat::MARK, [7, 2]), (stat::MARK, [7, 1])];
        for (number, arguments) in steps {
            if quick {
                h.then_quick(then_call(number, arguments));
            } else {
                h.then(then_call(number, arguments));
            }
        }
        h.then(|v, _| {
            v.info.entered = v.registers.get(Gpr::Rdx);
            Exit::TripleFault
        });
        let leave = go(&mut v, &mut h);
        assert_eq!((leave, v.ending.unwrap().cause), (Leave::Ended, Cause::TripleFault));
        // A mark of an unknown phase is an ordinary call.
        assert_eq!(v.exits() - before.0, 2);
        assert_eq!(v.info.entered - before.0, 2, "what the last mark returned");
        let hypercalls = v.info.exits[Reason::Hypercall as usize];
        assert_eq!(hypercalls.count - before.1.count, 2);
        assert!(hypercalls.ticks > before.1.ticks);
        assert_eq!(v.info.calls[3].count - before.2[3].count, 1);
        let mark = pv_abi::area::call_slot(6, 0);
        assert_eq!(v.info.calls[mark].count - before.2[mark].count, 1, "the refused one");
        let marks: Vec<_> = h.frames().into_iter().filter(|(c, _)| *c == Channel::Mark).collect();
        assert_eq!(marks.len(), 2);
        let counters: Vec<Vec<MarkCounter>> = marks
            .iter()
            .map(|(_, payload)| {
                let (head, tail) = Mark::read_from_prefix(payload).unwrap();
                assert_eq!(head.id, 7);
                tail.chunks(size_of::<MarkCounter>())
                    .map(|c| MarkCounter::read_from_bytes(c).unwrap())
                    .collect()
            })
            .collect();
        let count = |at: usize, slot: u64| {
            counters[at].iter().find(|c| c.slot == slot).map_or(0, |c| c.count)
        };
        assert_eq!(count(1, Reason::Hypercall as u64) - count(0, Reason::Hypercall as u64), 2);
        assert_eq!(count(1, CALLS + 3) - count(0, CALLS + 3), 1);
        assert!(counters.iter().flatten().all(|c| c.slot != Reason::Mark as u64 && c.count != 0));
        // The vCPU leaves by an exit that is counted when it runs again.
        v.open = false;
    }
}

#[test]
fn marks_are_stamped_outside_of_the_section() {
    let (mut v, mut h) = vcpu();
    h.tick = 10;
    v.exited = STARTED + 77;
    v.vm.memory.write(0x100, b"before").unwrap();
    value(&mut v, &mut h, console::WRITE, &[0x100, 6]);
    let due = v.send_at;
    assert_eq!(make(&mut v, &mut h, stat::MARK, &[1, 0]).0, Outcome::AdvanceUncounted);
    assert!(!h.sent.is_empty(), "what waited went out before the section");
    assert!(v.slice_due > due, "and the guest does not exit for it");
    let during = h.time.get();
    v.exited = during + 500;
    h.time.set(during + 900);
    let _ = make(&mut v, &mut h, stat::MARK, &[1, 1]);
    let stamps: Vec<(u64, u64)> = h
        .frames()
        .into_iter()
        .filter(|(c, _)| *c == Channel::Mark)
        .map(|(_, p)| Mark::read_from_prefix(&p).unwrap().0)
        .map(|mark| (mark.phase, mark.tsc))
        .collect();
    assert_eq!(stamps, [(0, during - STARTED), (1, during + 500 - STARTED)], "guest TSC");
}

#[test]
fn marks_and_calls_work_under_every_policy() {
    for policy in Policy::ALL {
        let mut v = Setup { policy, ..Setup::default() }.vcpu();
        let mut h = Fake::new();
        assert_eq!(make(&mut v, &mut h, stat::MARK, &[1, 0]).1, Status::Success);
        assert_eq!(value(&mut v, &mut h, area::REGISTER, &[AREA]), INFO_GPA);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No sequence of calls, whatever their arguments, ends or stops the hypervisor; errors have
    /// the value 0, and the statuses are those that the ABI lists.
    #[test]
    fn any_sequence_of_calls_is_answered(
        calls in prop::collection::vec(
            (0u64..10, 0u64..10, prop::sample::select(&[0u64, 1, 4, 0x5000, 0x5001, 0x6000, RAM - 4, RAM, 4096, 4097, 1 << 32, u64::MAX][..]),
             prop::sample::select(&[0u64, 1, 2, 4, 4096, 4097, u64::MAX][..]), any::<u32>()),
            1..40),
    ) {
        let (mut v, mut h) = vcpu();
        with_timer(&mut v);
        for (extension, function, first, second, noise) in calls {
            h.pass(100);
            // The guest scribbles over what it shares.
            let _ = v.vm.memory.write_u32(u64::from(noise) % (RAM / 4) * 4, noise);
            let _ = v.vm.memory.write_u32(AREA + u64::from(noise & 0xc0), noise);
            let _ = v.vm.memory.write_u32(RING + u64::from(noise & 0x40), noise);
            prepare(&mut v, Number(extension << 16 | function), &[first, second, noise.into()]);
            if let Outcome::Leave(_) = hypercall(&mut v, &mut h) {
                continue;
            }
            let status = Status::from_code(v.registers.get(Gpr::Rax)).expect("a status");
            if status != Status::Success {
                prop_assert_eq!(v.registers.get(Gpr::Rdx), 0);
                if let Ok(call) = call::find(Number(extension << 16 | function)) {
                    prop_assert!(call.errors.contains(&status), "{}: {:?}", call.name, status);
                }
            }
            h.then(|_, _| Exit::TimeSlice);
            h.then(|_, _| Exit::Pause);
            go(&mut v, &mut h);
        }
    }
}
