//! Running a guest: the quick path of frequent exits, and the rest of the neutral backend.

use core::fmt;

use super::check;
use super::enter::enter;
use super::exit_reason::code;
use super::field::{self, VmcsWrite};
use super::guest::Guest;
use crate::host::report::Vendor;
use crate::hw::check::list;
use crate::hw::common::{Common, HasCommon};
use crate::hw::instructions::tsc;
use crate::hw::quick;
use crate::hw::speculation::Speculation;
use crate::vm::Vcpu;
use crate::vm::exit::Exit;
use crate::vm::hardware::{Backend, VendorExit};
use crate::vm::run::{Frame, Left, answer};

/// Called by the world switch at every exit, with the guest's RBP and R12 to R15 still in the CPU;
/// `true` to enter again.
///
/// What is answered here needs no call and so no register beyond those already saved. The rest goes
/// on in a function of its own.
///
/// # Safety
///
/// `frame` is the one that [`Backend::enter`] passed to the switch, which nobody else uses now.
pub(super) unsafe extern "C" fn quick_exit(frame: *mut Frame<'_, Guest<'_>>) -> bool {
    // SAFETY: as the caller vouches.
    let frame = unsafe { &mut *frame };
    frame.vcpu.exited = tsc();
    match u64::from(frame.hardware.vmcs.get(field::EXIT_REASON)) {
        code::VMCALL => quick::hypercall(frame),
        code::CPUID => quick::cpuid(frame),
        code::RDMSR => quick::rdmsr(frame),
        code::WRMSR => quick::wrmsr(frame),
        code::IO => answer_port(frame),
        _ => false,
    }
}

#[inline(never)]
fn answer_port(frame: &mut Frame<'_, Guest<'_>>) -> bool {
    match frame.hardware.port() {
        // INS and OUTS need more registers than are saved here.
        Exit::Port(access) if !access.string => answer(frame, Exit::Port(access)),
        _ => false,
    }
}

impl HasCommon for Guest<'_> {
    fn common(&mut self) -> &mut Common {
        &mut self.state.common
    }
}

impl Backend for Guest<'_> {
    #[inline(always)]
    fn set_slice(&mut self, due: u64, now: u64) -> bool {
        // The value is as wide as 32 bits allow: what is due is never further away.
        let value = due.wrapping_sub(now) >> self.timer_shift;
        self.vmcs.write(field::PREEMPTION_TIMER_VALUE, value as u32);
        Speculation::before_entry();
        true
    }

    fn enter(&mut self, vcpu: &mut Vcpu, left: &mut Left) -> bool {
        let mut frame = Frame { vcpu, hardware: self, left };
        let registers = &raw mut frame.vcpu.registers;
        let switch = &raw mut frame.hardware.state.switch;
        // SAFETY: the VMCS is current, and was set up for this vCPU and this CPU when it was
        // activated. The frame, with all that it borrows, outlives the call.
        let entered = unsafe { enter(registers, switch, (&raw mut frame).cast()) };
        if !entered {
            self.state.common.refused = true;
        }
        entered
    }

    fn exit(&mut self, _: &Vcpu) -> Exit {
        self.decode()
    }

    fn port(&mut self) -> u16 {
        (self.qualification() >> 16) as u16
    }

    #[inline(always)]
    fn counts(&self) -> (u64, u64) {
        self.vmcs.counts()
    }

    fn set_counts(&mut self, counts: (u64, u64)) {
        self.vmcs.set_counts(counts);
    }

    fn vendor_exit(&mut self) -> VendorExit {
        let (code, detail) = if self.state.common.refused {
            (u64::MAX, [0, self.vmcs.get(field::VM_INSTRUCTION_ERROR).into()])
        } else {
            (self.vmcs.get(field::EXIT_REASON).into(), [self.qualification(), 0])
        };
        VendorExit { vendor: Vendor::Vmx, code, detail }
    }

    fn check(&mut self) -> bool {
        self.state.common.refused = check::first(&self.vmcs, self.caps).is_some();
        !self.state.common.refused
    }

    fn explain(&mut self, to: &mut dyn fmt::Write) -> fmt::Result {
        list(to, |found| check::each(&self.vmcs, self.caps, found))
    }
}
