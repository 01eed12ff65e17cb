//! Why a guest exited: from the exit reason and its fields to the neutral [`Exit`].

use core::arch::asm;

use super::controls::Interruptibility;
use super::exit_reason::{Basic, ExitReason};
use super::field;
use super::guest::Guest;
use super::qualification::{self, NMI_UNBLOCKED};
use crate::device::apic;
use crate::hw::check::rflags;
use crate::vm::exit::{Exit, NestedFault};
use crate::vm::{Event, EventKind, Hardware};

impl Guest<'_> {
    /// Exits that can come while an event is being delivered: the event is injected again, unless
    /// what is done about the exit takes its place (SDM vol. 3, Information for VM Exits During
    /// Event Delivery).
    fn reinject(&mut self) {
        let information = self.vmcs.get(field::IDT_VECTORING_INFORMATION);
        let event = Event::decode(
            information,
            || self.vmcs.get(field::IDT_VECTORING_ERROR_CODE),
            || self.vmcs.get(field::EXIT_INSTRUCTION_LENGTH),
        );
        if let Some(event) = event {
            let state = self.interruptibility();
            self.set_interruptibility(state.for_injection(event));
            self.inject(event);
        }
    }

    fn exception_or_nmi(&mut self) -> Exit {
        let information = self.vmcs.get(field::EXIT_INTERRUPTION_INFORMATION);
        let event = Event::decode(
            information,
            || self.vmcs.get(field::EXIT_INTERRUPTION_ERROR_CODE),
            || self.vmcs.get(field::EXIT_INSTRUCTION_LENGTH),
        );
        match event {
            Some(Event { kind: EventKind::Nmi, .. }) => Exit::Nmi,
            Some(Event { vector: 18, .. }) => {
                // SAFETY: the handler of vector 18 reports the machine check and stops.
                unsafe { asm!("int 18") };
                Exit::Other
            }
            Some(event) => {
                if event.vector == 1 {
                    self.step_in_shadow();
                }
                self.restore_nmi_blocking(information);
                self.reinject();
                Exit::Exception { event, detail: self.qualification() }
            }
            None => Exit::Other,
        }
    }

    /// An entry with TF in the shadow of STI or MOV SS needs the pending single step, which a #DB exit
    /// does not leave set (SDM vol. 3, Checks on Guest Non-Register State).
    pub(super) fn step_in_shadow(&mut self) {
        let stepping = self.vmcs.get(field::GUEST_RFLAGS) & rflags::TF != 0;
        if stepping && self.interruptibility().intersects(Interruptibility::SHADOW) {
            self.single_step();
        }
    }

    /// An IRET that faulted had ended NMI blocking already: bit 12 says so (SDM vol. 3, Information
    /// for VM Exits Due to Vectored Events).
    fn restore_nmi_blocking(&mut self, information: u32) {
        if information & NMI_UNBLOCKED != 0 {
            let state = self.interruptibility() | Interruptibility::BLOCKING_BY_NMI;
            self.set_interruptibility(state);
        }
    }

    fn ept_violation(&mut self) -> Exit {
        let qualification = self.qualification();
        self.restore_nmi_blocking(qualification as u32);
        self.reinject();
        let gpa = self.vmcs.get(field::GUEST_PHYSICAL_ADDRESS);
        Exit::NestedFault(qualification::ept_violation(qualification, gpa))
    }

    pub(super) fn port(&mut self) -> Exit {
        qualification::port(self.qualification()).map_or(Exit::Other, Exit::Port)
    }

    fn rare_exit(&mut self, basic: Basic) -> Exit {
        match basic {
            Basic::ExceptionOrNmi => self.exception_or_nmi(),
            Basic::Invlpg => Exit::Invlpg { linear: Some(self.qualification()) },
            Basic::Rdtscp => Exit::Rdtsc { with_aux: true },
            Basic::ControlRegister => {
                Exit::Cr(qualification::control_register(self.qualification()))
            }
            Basic::MovDr => qualification::debug_register(self.qualification()),
            Basic::ApicAccess => {
                self.reinject();
                match qualification::apic_access(self.qualification()) {
                    Some((offset, access)) => Exit::ApicAccess { offset, access },
                    None => Exit::NestedFault(NestedFault {
                        gpa: apic::DEFAULT_BASE,
                        access: 1,
                        walk: true,
                    }),
                }
            }
            Basic::ApicWrite => Exit::ApicWrite { offset: self.qualification() as u16 },
            Basic::VirtualizedEoi => Exit::EoiInduced { vector: self.qualification() as u8 },
            Basic::EptViolation => self.ept_violation(),
            Basic::EptMisconfiguration => {
                Exit::NestedMisconfig { gpa: self.vmcs.get(field::GUEST_PHYSICAL_ADDRESS) }
            }
            _ => Exit::plain(basic.neutral()),
        }
    }

    /// Why the guest exited.
    pub(super) fn decode(&mut self) -> Exit {
        let reason = ExitReason(self.vmcs.get(field::EXIT_REASON));
        match reason.basic() {
            Ok(Basic::Vmcall) => Exit::Hypercall,
            Ok(Basic::Cpuid) => Exit::Cpuid,
            Ok(Basic::Rdmsr) => Exit::Rdmsr,
            Ok(Basic::Wrmsr) => Exit::Wrmsr,
            Ok(Basic::Io) => self.port(),
            Ok(basic) => self.rare_exit(basic),
            Err(_) => Exit::Other,
        }
    }
}
