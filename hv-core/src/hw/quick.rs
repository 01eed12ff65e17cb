//! Answers to frequent exits that no vendor's have to differ in. There is one function for each
//! reason, so that the caller itself needs no stack.

use pv_abi::exit::Reason;

use crate::emulate::{cpuid, msr};
use crate::hypercall;
use crate::vm::exit::Exit;
use crate::vm::hardware::Backend;
use crate::vm::run::{Frame, answer, finish, leave_behind};
use crate::vm::{Gpr, Leave};

/// A hypercall, whose length is known.
#[inline(always)]
pub fn hypercall<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    let Frame { vcpu, hardware, left } = &mut *frame;
    let (vcpu, hardware) = (&mut **vcpu, &mut **hardware);
    match hypercall::null(vcpu, hardware) {
        Some(slot) => finish(vcpu, hardware, left, Reason::Hypercall, slot),
        None => any_hypercall(frame),
    }
}

/// CPUID.
#[inline(always)]
pub fn cpuid<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    let Frame { vcpu, hardware, left } = &mut *frame;
    let (vcpu, hardware) = (&mut **vcpu, &mut **hardware);
    match cpuid::simple(vcpu) {
        true => finish(vcpu, hardware, left, Reason::Cpuid, 0),
        false => any_cpuid(frame),
    }
}

#[inline(never)]
fn any_hypercall<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    match hypercall::yields(frame.vcpu, frame.hardware) {
        Some(slot) => {
            (frame.vcpu.reason, frame.vcpu.call) = (Reason::Hypercall, slot);
            leave_behind(frame.hardware, frame.left, Leave::Yielded)
        }
        None => other_hypercall(frame),
    }
}

#[inline(never)]
fn other_hypercall<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    answer(frame, Exit::Hypercall)
}

#[inline(never)]
fn any_cpuid<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    answer(frame, Exit::Cpuid)
}

/// RDMSR.
#[inline(never)]
pub fn rdmsr<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    answer(frame, Exit::Rdmsr)
}

/// WRMSR.
#[inline(always)]
pub fn wrmsr<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    match msr::is_frequent(frame.vcpu.registers.get(Gpr::Rcx) as u32) {
        true => frequent_wrmsr(frame),
        false => any_wrmsr(frame),
    }
}

#[inline(never)]
fn frequent_wrmsr<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    let Frame { vcpu, hardware, left } = &mut *frame;
    let (vcpu, hardware) = (&mut **vcpu, &mut **hardware);
    match msr::wrmsr_frequent(vcpu, hardware) {
        true => finish(vcpu, hardware, left, Reason::MsrWrite, 0),
        false => any_wrmsr(frame),
    }
}

#[inline(never)]
fn any_wrmsr<B: Backend>(frame: &mut Frame<'_, B>) -> bool {
    answer(frame, Exit::Wrmsr)
}
