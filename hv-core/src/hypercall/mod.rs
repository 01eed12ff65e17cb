//! Hypercalls: the calling convention here, one file for each extension.

mod area;
mod base;
pub mod console;
mod event;
mod sched;
mod share;
mod smp;
mod stat;
mod sys;
pub mod timer;

use pv_abi::Status;
use pv_abi::area::call_slot;
use pv_abi::call::{self, Number};

use crate::mem::guest::BadAddress;
use crate::vm::{Gpr, Hardware, Leave, Outcome, Vcpu};

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// With a value.
    Value(u64),
    /// With an error that changed nothing.
    Error(Status),
    /// With a part of the work done.
    Again(u64),
    /// With a value; the call is not counted.
    Uncounted(u64),
    /// With a value, after which the vCPU leaves.
    Leave(u64, Leave),
    /// It does not return.
    Never(Leave),
}

impl From<Result<u64, Status>> for Reply {
    fn from(result: Result<u64, Status>) -> Reply {
        match result {
            Ok(value) => Reply::Value(value),
            Err(status) => Reply::Error(status),
        }
    }
}

impl From<BadAddress> for Reply {
    fn from(_: BadAddress) -> Reply {
        Reply::Error(Status::BadAddress)
    }
}

/// The arguments, in the order of the convention. No function has a fifth.
struct Arguments(u64, u64, u64, u64);

/// Only 64-bit code at CPL 0 of a VM with the ABI has the instruction; elsewhere it is undefined, as
/// without a hypervisor.
#[inline(always)]
fn is_legal(vcpu: &Vcpu, hardware: &mut impl Hardware) -> bool {
    vcpu.may_call && hardware.is_long_kernel()
}

/// The null call: its price is that of the convention, so it takes no detour. Returns its slot, or
/// `None`, and nothing done, if it is another call or not a legal one.
#[inline(always)]
pub fn null(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Option<u32> {
    simple(vcpu, hardware, call::base::NOP)
}

/// The yield where others wait, likewise: its price is that of a turn.
#[inline(always)]
pub fn yields(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Option<u32> {
    if vcpu.contended() { simple(vcpu, hardware, call::sched::YIELD) } else { None }
}

/// Answers this call, which succeeds and has no value, if it is that.
#[inline(always)]
fn simple(vcpu: &mut Vcpu, hardware: &mut impl Hardware, number: Number) -> Option<u32> {
    const { assert!(Status::Success as u64 == 0) };
    let is_it = vcpu.registers.get(Gpr::Rax) == number.0
        && vcpu.registers.get(Gpr::R9) == 0
        && is_legal(vcpu, hardware);
    if !is_it {
        return None;
    }
    vcpu.registers.set(Gpr::Rax, 0);
    vcpu.registers.set(Gpr::Rdx, 0);
    Some(slot(number))
}

/// A hypercall.
pub fn hypercall(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Outcome {
    if !is_legal(vcpu, hardware) {
        return Outcome::UNDEFINED;
    }
    let number = Number(vcpu.registers.get(Gpr::Rax));
    dispatch(vcpu, hardware, number)
}

#[inline(never)]
fn dispatch(vcpu: &mut Vcpu, hardware: &mut impl Hardware, number: Number) -> Outcome {
    let reply = if vcpu.registers.get(Gpr::R9) != 0 || !number.is_well_formed() {
        vcpu.call = LAST_SLOT;
        Reply::Error(Status::Reserved)
    } else {
        vcpu.call = slot(number);
        call(vcpu, hardware, number)
    };
    let (status, value, outcome) = match reply {
        Reply::Value(value) => (Status::Success, value, Outcome::Advance),
        Reply::Error(status) => (status, 0, Outcome::Advance),
        Reply::Again(value) => (Status::Again, value, Outcome::Advance),
        Reply::Leave(value, leave) => (Status::Success, value, Outcome::AdvanceAndLeave(leave)),
        Reply::Uncounted(value) => (Status::Success, value, Outcome::AdvanceUncounted),
        Reply::Never(leave) => return Outcome::Leave(leave),
    };
    vcpu.registers.set(Gpr::Rax, u64::from(status));
    vcpu.registers.set(Gpr::Rdx, value);
    outcome
}

/// The counter of a call, as [`Vcpu::call`] holds it.
const fn slot(number: Number) -> u32 {
    (call_slot(number.extension(), number.function()) as u32).wrapping_add(1)
}

/// The counter of calls that have none of their own.
const LAST_SLOT: u32 = pv_abi::area::CALL_SLOTS as u32;

fn call(vcpu: &mut Vcpu, hardware: &mut impl Hardware, number: Number) -> Reply {
    let argument = |register| vcpu.registers.get(register);
    let arguments =
        Arguments(argument(Gpr::Rdi), argument(Gpr::Rsi), argument(Gpr::Rdx), argument(Gpr::Rcx));
    match number.extension() {
        call::base::EXTENSION => base::call(number, &arguments),
        call::area::EXTENSION => area::call(vcpu, hardware, number, &arguments),
        call::console::EXTENSION => console::call(vcpu, hardware, number, &arguments),
        call::timer::EXTENSION => timer::call(vcpu, hardware, number, &arguments),
        call::sched::EXTENSION => sched::call(vcpu, hardware, number, &arguments),
        call::sys::EXTENSION => sys::call(vcpu, hardware, number, &arguments),
        call::stat::EXTENSION => stat::call(vcpu, hardware, number, &arguments),
        call::smp::EXTENSION => smp::call(vcpu, hardware, number, &arguments),
        call::event::EXTENSION => event::call(vcpu, hardware, number, &arguments),
        call::share::EXTENSION => share::call(vcpu, hardware, number, &arguments),
        _ => Reply::Error(Status::UnknownExtension),
    }
}

const UNKNOWN: Reply = Reply::Error(Status::UnknownFunction);

/// A page of RAM that a guest may register.
fn page(vcpu: &Vcpu, gpa: u64) -> Result<u64, Status> {
    const PAGE: u64 = crate::mem::frames::PAGE;
    if gpa & PAGE.wrapping_sub(1) != 0 {
        return Err(Status::Misaligned);
    }
    vcpu.vm.memory.locate(gpa, PAGE).map_err(|_| Status::BadAddress)?;
    Ok(gpa)
}

#[cfg(test)]
mod tests;
