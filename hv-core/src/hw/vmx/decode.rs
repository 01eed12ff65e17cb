//! Why a guest exited: from the exit reason and its fields to the neutral [`Exit`].

use core::arch::asm;

use super::controls::Interruptibility;
use super::exit_reason::{basic, code, neutral};
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

    /// Why the guest exited.
    pub(super) fn decode(&mut self) -> Exit {
        let reason = basic(self.vmcs.get(field::EXIT_REASON).into());
        match reason {
            code::VMCALL => Exit::Hypercall,
            code::CPUID => Exit::Cpuid,
            code::RDMSR => Exit::Rdmsr,
            code::WRMSR => Exit::Wrmsr,
            code::IO => self.port(),
            code::EXCEPTION_OR_NMI => self.exception_or_nmi(),
            code::INVLPG => Exit::Invlpg { linear: Some(self.qualification()) },
            code::RDTSCP => Exit::Rdtsc { with_aux: true },
            code::CONTROL_REGISTER => {
                Exit::Cr(qualification::control_register(self.qualification()))
            }
            code::MOV_DR => qualification::debug_register(self.qualification()),
            code::APIC_ACCESS => {
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
            code::APIC_WRITE => Exit::ApicWrite { offset: self.qualification() as u16 },
            code::VIRTUALIZED_EOI => Exit::EoiInduced { vector: self.qualification() as u8 },
            code::EPT_VIOLATION => self.ept_violation(),
            code::EPT_MISCONFIGURATION => {
                Exit::NestedMisconfig { gpa: self.vmcs.get(field::GUEST_PHYSICAL_ADDRESS) }
            }
            _ => Exit::plain(neutral(reason)),
        }
    }
}
