//! One exit, one answer.

use super::event::combine;
use super::exit::{Ending, Exit, Leave, NestedFault, Outcome};
use super::hardware::{Kept, LiveMsr};
use super::vcpu::Halt;
use super::{Combined, Event, EventKind, Features, Gpr, Hardware, Vcpu};
use crate::emulate::execute::{Guest, Stop};
use crate::emulate::{cpuid, cr, debug, msr, port, step};
use crate::host::report::Cause;
use crate::hypercall;
use crate::mem::paging::Access;

const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
const DR7_GD: u64 = 1 << 13;

/// Does what the exit asks for. Every reason has its arm: a CPU that the guest takes for hardware
/// answers as hardware would, or the VM ends with a report.
#[inline(always)]
pub fn handle(vcpu: &mut Vcpu, hardware: &mut impl Hardware, exit: Exit) -> Outcome {
    vcpu.reason = exit.reason();
    match exit {
        Exit::Hypercall => hypercall::hypercall(vcpu, hardware),
        Exit::Cpuid => cpuid::cpuid(vcpu, hardware),
        Exit::Rdmsr => msr::rdmsr(vcpu, hardware),
        Exit::Wrmsr => msr::wrmsr(vcpu, hardware),
        Exit::Port(access) => port::port(vcpu, hardware, access),
        _ => rare(vcpu, hardware, exit),
    }
}

#[inline(never)]
fn rare(vcpu: &mut Vcpu, hardware: &mut impl Hardware, exit: Exit) -> Outcome {
    match exit {
        Exit::Hypercall | Exit::Cpuid | Exit::Rdmsr | Exit::Wrmsr | Exit::Port(_) => {
            Outcome::Resume
        }
        Exit::Cr(access) => cr::access(vcpu, hardware, access),
        Exit::Xsetbv => cr::xsetbv(vcpu, hardware),
        Exit::Dr { number, gpr, read } => debug::mov_dr(vcpu, hardware, number, gpr, read),
        Exit::NestedFault(fault) => nested_fault(vcpu, hardware, fault),
        Exit::ApicAccess { offset, access } => {
            let gpa = vcpu.apic.base_address().wrapping_add(u64::from(offset));
            nested_fault(vcpu, hardware, NestedFault { gpa, access, walk: false })
        }
        Exit::ApicWrite { offset } => {
            let now = vcpu.now(hardware);
            vcpu.take_back_eoi();
            let effect = vcpu.apic.complete_write(offset, now);
            // The instruction is complete already.
            match vcpu.apply(effect, hardware) {
                Outcome::AdvanceAndLeave(leave) => Outcome::Leave(leave),
                _ => Outcome::Resume,
            }
        }
        Exit::EoiInduced { vector } => {
            let effect = vcpu.apic.eoi_exit(vector);
            let _ = vcpu.apply(effect, hardware);
            vcpu.look_at_events();
            Outcome::Resume
        }
        Exit::Hlt => halt(vcpu, hardware),
        Exit::ExternalInterrupt | Exit::Nmi => {
            hardware.serve_host();
            vcpu.attend();
            Outcome::Resume
        }
        Exit::InterruptWindow
        | Exit::NmiWindow
        | Exit::TimeSlice
        | Exit::TprThreshold
        | Exit::SingleStep => {
            vcpu.attend();
            Outcome::Resume
        }
        Exit::Exception { event, detail } => {
            if event.vector == 14 {
                hardware.set_cr2(detail);
            } else if event.vector == 1 {
                let dr6 = hardware.debug_register(6);
                hardware.set_debug_register(6, dr6 | detail);
                // Delivery clears GD, an injection does not (SDM vol. 3, Details of Vectored-Event
                // Injection).
                let dr7 = hardware.kept(Kept::Dr7);
                hardware.keep(Kept::Dr7, dr7 & !DR7_GD);
            }
            Outcome::Inject(event)
        }
        Exit::Invlpg { linear } => {
            hardware.flush_guest(linear);
            Outcome::Advance
        }
        Exit::Invpcid => {
            hardware.flush_guest(None);
            Outcome::Advance
        }
        Exit::Rdtsc { with_aux } => {
            let now = vcpu.now(hardware);
            vcpu.registers.set_edx_eax(now);
            if with_aux {
                let aux = hardware.live_msr(LiveMsr::TscAux);
                vcpu.registers.set32(Gpr::Rcx, aux as u32);
            }
            Outcome::Advance
        }
        // Whoever loops waits for another, which may be waiting for this CPU.
        Exit::Pause
            if vcpu.contended() && vcpu.vm.features.contains(Features::PAUSE_LOOP_EXITING) =>
        {
            Outcome::AdvanceAndLeave(Leave::Yielded)
        }
        // Guest memory is coherent, whatever the guest does to its caches.
        Exit::Pause | Exit::Wbinvd => Outcome::Advance,
        Exit::Rdpmc => msr::rdpmc(vcpu, hardware),
        // CPUID says that these do not exist.
        Exit::VirtInstruction | Exit::Mwait | Exit::Random => Outcome::UNDEFINED,
        Exit::TripleFault => Outcome::Leave(vcpu.ends(
            Cause::TripleFault,
            0,
            "the guest had an exception that it could not deliver",
        )),
        Exit::TaskSwitch => unsupported(vcpu, "hardware task switches are not emulated"),
        Exit::DescriptorTable => {
            unsupported(vcpu, "descriptor-table accesses were not asked to exit")
        }
        Exit::Reset => unsupported(vcpu, "an INIT, SIPI or SMI reached the guest"),
        Exit::NestedMisconfig { gpa } => Outcome::Leave(vcpu.ends_at(Ending {
            cause: Cause::Unsupported,
            code: 0,
            address: gpa,
            message: "the CPU rejects an entry of the nested page table: a fault of the hypervisor",
        })),
        Exit::EntryFailure => Outcome::Leave(vcpu.ends(Cause::EntryFailure, 0, "")),
        Exit::Undecoded => step::fetch_again(vcpu, hardware),
        Exit::Other => unsupported(vcpu, "an exit that this hypervisor does not know"),
    }
}

fn unsupported(vcpu: &mut Vcpu, message: &'static str) -> Outcome {
    Outcome::Leave(vcpu.ends(Cause::Unsupported, 0, message))
}

fn halt(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Outcome {
    let rflags = hardware.kept(Kept::Rflags);
    if rflags & RFLAGS_TF != 0 {
        // The single step behind HLT ends it at once.
        return Outcome::Advance;
    }
    vcpu.halt = if rflags & RFLAGS_IF == 0 { Halt::Nmi } else { Halt::Interrupt };
    if vcpu.halt == Halt::Nmi
        && vcpu.vm.posts.len() == 1
        && (hardware.nmi_blocked() || !vcpu.nmi_may_come())
    {
        return Outcome::Leave(vcpu.ends(
            Cause::HaltedForEver,
            0,
            "HLT with interrupts disabled, and no NMI can come",
        ));
    }
    Outcome::AdvanceAndLeave(Leave::Halted)
}

/// An access where there is no RAM, or none that may be written.
fn nested_fault(vcpu: &mut Vcpu, hardware: &mut impl Hardware, fault: NestedFault) -> Outcome {
    if hardware.pending_event().is_some() {
        return delivery_fault(vcpu, hardware, fault);
    }
    step::access(vcpu, hardware, fault)
}

/// The same while an event was being delivered: there is no instruction.
#[cold]
fn delivery_fault(vcpu: &mut Vcpu, hardware: &mut impl Hardware, fault: NestedFault) -> Outcome {
    if fault.walk
        && let Some(linear) = hardware.delivery_address()
    {
        let mode = hardware.mode();
        let mut guest = Guest::new(vcpu, hardware, mode, None);
        for access in [Access::IMPLICIT, Access::IMPLICIT_WRITE] {
            if let Err(Stop::Fault(event)) = guest.translate(linear, access) {
                return Outcome::Inject(event);
            }
        }
    }
    Outcome::Leave(vcpu.ends_at(Ending {
        cause: Cause::BadMemory,
        code: u64::from(fault.access),
        address: fault.gpa,
        message: "an event was delivered by way of memory where there is no RAM",
    }))
}

/// Delivers an exception that an instruction raised, or that was intercepted, together with what
/// was being delivered when it came.
pub fn inject(vcpu: &mut Vcpu, hardware: &mut impl Hardware, event: Event) -> Result<(), Leave> {
    let pending = hardware.pending_event();
    let event = match combine(pending, event) {
        Combined::Deliver(event) => event,
        Combined::TripleFault => {
            return Err(vcpu.ends(
                Cause::TripleFault,
                u64::from(event.vector),
                "an exception while a double fault was being delivered",
            ));
        }
    };
    if let Some(pending) = pending {
        match pending.kind {
            EventKind::Nmi => vcpu.nmi = true,
            EventKind::ExternalInterrupt => vcpu.delayed = Some(pending),
            _ => {}
        }
        vcpu.attend();
    }
    if event.is_fault() {
        // What a fault pushes keeps the instruction from meeting its breakpoint again (SDM vol. 3, Masking
        // Exceptions and Interrupts in RFLAGS); an injection pushes RFLAGS as they are.
        const RF: u64 = 1 << 16;
        let flags = hardware.kept(Kept::Rflags);
        hardware.keep(Kept::Rflags, flags | RF);
    }
    // Real mode pushes no error codes.
    const CR0_PE: u64 = 1 << 0;
    let real = event.error_code.is_some() && hardware.kept(Kept::Cr0) & CR0_PE == 0;
    hardware.inject(if real { event.in_real_mode() } else { event });
    Ok(())
}

#[cfg(test)]
mod tests;
