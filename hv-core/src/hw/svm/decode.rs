//! Why a guest exited: from EXITCODE and its fields to the neutral [`Exit`].

use core::arch::asm;

use super::capability::SvmFeatures;
use super::detail::{self, opcode};
use super::exit_code::{code, neutral};
use super::guest::{Guest, State};
use super::intercept::Clean;
use super::vmcb::Vmcb;
use crate::emulate::instruction::{self, Decoded};
use crate::hw::check::rflags;
use crate::hw::instructions::tsc;
use crate::vm::exit::{Exit, PortAccess};
use crate::vm::{Event, Hardware, Vcpu};

const DEBUG: u64 = 1;
/// #NP, #SS, #GP, #PF, #AC.
const IRET_FAULTS: u32 = 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17;
const MACHINE_CHECK: u64 = 18;
const PAGE_FAULT: u64 = 14;

/// Exit codes that QEMU 7.2 has for another instruction as well, and the code of that one.
const SHARED: [(u64, u64); 2] = [(code::RDTSC, code::RDTSCP), (code::WBINVD, code::INVD)];

impl Guest<'_> {
    /// The instruction that exited is this long.
    #[inline(always)]
    pub(super) fn ends_behind(&mut self, length: u64) {
        let mut next = self.state.vmcb.save.rip.wrapping_add(length);
        if !self.code_is_long() {
            // EIP wraps at 4 GiB.
            next &= 0xffff_ffff;
        }
        self.state.vmcb.control.next_rip = next;
    }

    /// Sees to it that the end of the instruction is known; `false` if it cannot be.
    #[inline(always)]
    pub(super) fn measured(&mut self, vcpu: &Vcpu, exit_code: u64) -> bool {
        self.next_rip || self.measure(vcpu, exit_code)
    }

    #[inline(never)]
    fn measure(&mut self, vcpu: &Vcpu, exit_code: u64) -> bool {
        let write = self.state.vmcb.control.exit_info_1 != 0;
        if opcode(exit_code, write).is_none() {
            return true;
        }
        let mode = self.mode();
        let fetched = instruction::fetch(vcpu, self);
        let length = |code: u64| {
            let opcode = opcode(code, write)?;
            Some((code, instruction::length(fetched.as_slice(), mode, opcode)?))
        };
        let other = || SHARED.iter().find(|(code, _)| *code == exit_code);
        let found = length(exit_code).or_else(|| length(other()?.1));
        if let Some((code, length)) = found {
            self.state.vmcb.control.exit_code = code;
            self.ends_behind(length.into());
        }
        found.is_some()
    }

    /// Control and debug registers, INVLPG: what the CPU does not say is in the instruction.
    fn operands(&mut self, vcpu: &Vcpu, exit_code: u64) -> Exit {
        if self.next_rip && self.has(SvmFeatures::DECODE_ASSISTS) {
            let info = self.state.vmcb.control.exit_info_1;
            if let Some(exit) = detail::assisted(exit_code, info) {
                return exit;
            }
        }
        let fetched = instruction::fetch(vcpu, self);
        let Some((decoded, length)) = instruction::control(&fetched, vcpu, self) else {
            return Exit::Undecoded;
        };
        self.ends_behind(length.into());
        match decoded {
            Decoded::Cr(access) => Exit::Cr(access),
            Decoded::Dr { number, gpr, read } => Exit::Dr { number, gpr, read },
            Decoded::Invlpg { linear } => Exit::Invlpg { linear: Some(linear) },
        }
    }

    /// An exit that came while an event was being delivered: the event is injected again, unless what
    /// is done about the exit takes its place.
    fn reinject(&mut self) {
        let info = self.state.vmcb.control.exit_interrupt_info;
        if let Some(event) = detail::interrupted(info) {
            self.inject(event);
        }
    }

    fn exception(&mut self, vector: u64) -> Exit {
        if vector == MACHINE_CHECK {
            // SAFETY: the handler of vector 18 reports the machine check and stops.
            unsafe { asm!("int 18") };
        }
        if let Some(dr6) = self.state.stepping.take() {
            let State { vmcb, controls, .. } = &mut *self.state;
            vmcb.control.exceptions = controls.exceptions;
            vmcb.control.changed(Clean::INTERCEPTS);
            if vector == DEBUG {
                return self.stepped(dr6);
            }
            // IRET itself failed: the flag is not the guest's.
            vmcb.save.rflags &= !rflags::TF;
        }
        let control = &self.state.vmcb.control;
        let event = Event::exception(vector as u8, control.exit_info_1 as u32);
        // DR6 has been written already.
        let detail = if vector == PAGE_FAULT { control.exit_info_2 } else { 0 };
        Exit::Exception { event, detail }
    }

    /// INT1 is a trap, so its #DB is delivered behind it.
    fn icebp(&mut self) -> Exit {
        self.state.vmcb.save.rip = self.state.vmcb.control.next_rip;
        self.state.vmcb.control.interrupt_shadow = 0;
        Exit::Exception { event: Event::exception(1, 0), detail: 0 }
    }

    fn nested_fault(&mut self) -> Exit {
        let control = &self.state.vmcb.control;
        detail::nested(control.exit_info_1, control.exit_info_2)
    }

    pub(super) fn port(&mut self) -> PortAccess {
        let control = &mut self.state.vmcb.control;
        // Every CPU says where IN and OUT end.
        control.next_rip = control.exit_info_2;
        detail::port(control.exit_info_1)
    }

    /// The end of an NMI's handler. NMIs are blocked until IRET has been executed, which nothing but a
    /// single step tells.
    fn iret(&mut self) -> Exit {
        let save = &mut self.state.vmcb.save;
        if save.rflags & rflags::TF == 0 {
            save.rflags |= rflags::TF;
            self.state.stepping = Some(save.dr6);
            self.state.vmcb.control.exceptions |= IRET_FAULTS;
        }
        self.state.nmi_blocked = false;
        self.set_intercepts(self.window());
        Exit::SingleStep
    }

    /// The step behind IRET has been taken: it was the hypervisor's, and the guest sees nothing of it.
    fn stepped(&mut self, dr6: u64) -> Exit {
        self.state.vmcb.save.dr6 = dr6;
        self.state.vmcb.control.changed(Clean::DR);
        Exit::NmiWindow
    }

    /// Whether the guest is between STI and HLT. VMRUN restores that, but not QEMU's: the guest would take its
    /// interrupt before the HLT, and then sleep past it. So the HLT is executed here, which is the same.
    fn is_before_halt(&mut self, vcpu: &Vcpu) -> bool {
        const HLT: u8 = 0xf4;
        let Vmcb { control, save } = &*self.state.vmcb;
        let shadow = control.interrupt_shadow & 1 != 0 && save.rflags & rflags::IF != 0;
        if !shadow || self.state.hurry.is_some() || self.cpl() != 0 {
            return false;
        }
        let halts = instruction::fetch(vcpu, self).as_slice().first() == Some(&HLT);
        if halts {
            self.ends_behind(1);
        }
        halts
    }

    fn interrupt(&mut self) -> Exit {
        let exit = match self.state.hurry.take() {
            Some(window) => window,
            None if tsc() >= self.armed => Exit::TimeSlice,
            None => return Exit::ExternalInterrupt,
        };
        self.serve_host();
        exit
    }

    /// Why the guest exited.
    pub(super) fn decode(&mut self, vcpu: &Vcpu) -> Exit {
        self.reinject();
        if !self.measured(vcpu, self.state.vmcb.control.exit_code) {
            return Exit::Undecoded;
        }
        let exit_code = self.state.vmcb.control.exit_code;
        match exit_code {
            code::VMMCALL => Exit::Hypercall,
            code::CPUID => Exit::Cpuid,
            code::MSR if self.state.vmcb.control.exit_info_1 == 0 => Exit::Rdmsr,
            code::MSR => Exit::Wrmsr,
            code::IOIO => Exit::Port(self.port()),
            code::CR_READ..code::EXCEPTION | code::CR0_SEL_WRITE | code::INVLPG => {
                self.operands(vcpu, exit_code)
            }
            code::EXCEPTION..code::INTR => self.exception(exit_code.wrapping_sub(code::EXCEPTION)),
            code::NPF => self.nested_fault(),
            code::ICEBP => self.icebp(),
            code::INTR if self.is_before_halt(vcpu) => {
                self.serve_host();
                Exit::Hlt
            }
            code::INTR => self.interrupt(),
            code::IRET => self.iret(),
            code::RDTSCP => Exit::Rdtsc { with_aux: true },
            // Its length depends on an operand in memory.
            code::INVPCID if !self.next_rip => Exit::Undecoded,
            _ => Exit::plain(neutral(exit_code)),
        }
    }
}
