//! Running a guest: the quick path of frequent exits, and the rest of the neutral backend.

use core::fmt;

use super::check;
use super::enter::enter;
use super::exit_code::{canonical, code};
use super::guest::Guest;
use crate::host::report::Vendor;
use crate::hw::check::list;
use crate::hw::common::{Common, HasCommon};
use crate::hw::instructions::tsc;
use crate::hw::local_apic;
use crate::hw::quick;
use crate::hw::speculation::Speculation;
use crate::vm::exit::Exit;
use crate::vm::hardware::{Backend, VendorExit};
use crate::vm::run::{Frame, Left, answer};
use crate::vm::{Gpr, Vcpu};

/// Bytes of VMMCALL. Where the CPU does not say where the next instruction starts, the ABI's form is
/// taken for granted, which has no prefix.
const VMMCALL_LENGTH: u64 = 3;

/// Called by the world switch at every exit, with the guest's RBP and R12 to R15, and what VMLOAD
/// loads, still in the CPU; `true` to enter again.
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
    let Frame { vcpu, hardware, .. } = &mut *frame;
    vcpu.exited = tsc();
    let exit_code = hardware.state.vmcb.control.exit_code;
    match exit_code {
        code::VMMCALL => {
            if !hardware.next_rip {
                hardware.ends_behind(VMMCALL_LENGTH);
            }
            quick::hypercall(frame)
        }
        code::CPUID => hardware.measured(vcpu, exit_code) && quick::cpuid(frame),
        code::MSR => {
            let msr = vcpu.registers.get(Gpr::Rcx) as u32;
            if in_vmcb(msr) || !hardware.measured(vcpu, exit_code) {
                return false;
            }
            match hardware.state.vmcb.control.exit_info_1 {
                0 => quick::rdmsr(frame),
                _ => quick::wrmsr(frame),
            }
        }
        code::IOIO => answer_port(frame),
        _ => false,
    }
}

/// MSRs that VMLOAD loads: the VMCB has their values only when the world switch has returned.
fn in_vmcb(msr: u32) -> bool {
    matches!(msr, 0x174..=0x176 | 0xc000_0081..=0xc000_0084 | 0xc000_0100..=0xc000_0102)
}

#[inline(never)]
fn answer_port(frame: &mut Frame<'_, Guest<'_>>) -> bool {
    let access = frame.hardware.port();
    // INS and OUTS need more registers than are saved here.
    !access.string && answer(frame, Exit::Port(access))
}

impl HasCommon for Guest<'_> {
    fn common(&mut self) -> &mut Common {
        &mut self.state.common
    }
}

impl Backend for Guest<'_> {
    #[inline(always)]
    fn set_slice(&mut self, due: u64, now: u64) -> bool {
        Speculation::before_entry();
        due == self.armed || self.arm(due, now)
    }

    #[inline(always)]
    fn has_halted(&mut self) {
        self.armed = 0;
    }

    fn enter(&mut self, vcpu: &mut Vcpu, left: &mut Left) -> bool {
        let (vmcb, host) = (self.state.vmcb.address(), self.cpu.host);
        let mut frame = Frame { vcpu, hardware: self, left };
        let registers = &raw mut frame.vcpu.registers;
        // SAFETY: the VMCB is this vCPU's and was set up for it; `host` was saved on this CPU when SVM
        // was turned on. The frame, with all that it borrows, outlives the call.
        unsafe { enter(registers, vmcb, host, (&raw mut frame).cast()) };
        self.state.common.refused = canonical(self.state.vmcb.control.exit_code) == code::INVALID;
        if self.state.common.refused {
            self.cpu.tags.forget();
        }
        !self.state.common.refused
    }

    fn exit(&mut self, vcpu: &Vcpu) -> Exit {
        self.decode(vcpu)
    }

    fn port(&mut self) -> u16 {
        (self.state.vmcb.control.exit_info_1 >> 16) as u16
    }

    fn vendor_exit(&mut self) -> VendorExit {
        let control = &self.state.vmcb.control;
        // The checker refuses before the CPU does: what is in the VMCB is of the exit before.
        let (code, detail) = match self.state.common.refused {
            true => (code::INVALID, [0; 2]),
            false => (control.exit_code, [control.exit_info_1, control.exit_info_2]),
        };
        VendorExit { vendor: Vendor::Svm, code, detail }
    }

    fn check(&mut self) -> bool {
        self.state.common.refused = check::first(&self.state.vmcb, &self.caps.limits).is_some();
        !self.state.common.refused
    }

    fn explain(&mut self, to: &mut dyn fmt::Write) -> fmt::Result {
        list(to, |found| check::each(&self.state.vmcb, &self.caps.limits, found))
    }
}

impl Guest<'_> {
    /// `false` if interrupts were taken.
    #[cold]
    fn arm(&mut self, due: u64, now: u64) -> bool {
        let fired = self.armed.wrapping_sub(1) < now;
        if fired {
            // Its interrupt would end guest mode once more for nothing.
            local_apic::take_interrupts();
        }
        self.armed = due;
        self.timer.arm(if self.state.hurry.is_some() { now } else { due }, now);
        !fired
    }
}
