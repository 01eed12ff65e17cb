//! The neutral interface to the vCPU that exited, over its VMCB.

use core::arch::asm;

use super::capability::SvmFeatures;
use super::exit_code::code;
use super::guest::Guest;
use super::intercept::Clean;
use super::vmcb::{ATTRIBUTE_BIG, ATTRIBUTE_LONG, Save, Segment};
use crate::hw::check::{DEBUGCTL_BTF, cr0, efer, rflags};
use crate::hw::common::common_hardware;
use crate::hw::instructions::{rdmsr, wrmsr};
use crate::hw::output::OfVm;
use crate::hw::segment::{AccessRights, mode};
use crate::hw::{live, local_apic};
use crate::mem::walk::Fetched;
use crate::vm::hardware::{self as vm, Kept, LiveMsr, Mode};
use crate::vm::{Event, EventKind, Exit, Hardware};

const DR6_BS: u64 = 1 << 14;
const DR7_GD: u64 = 1 << 13;

/// The field of a register that needs no care, and the clean bit that covers it.
pub(super) fn place(save: &mut Save, register: Kept) -> (&mut u64, Clean) {
    match register {
        Kept::Rip => (&mut save.rip, Clean::empty()),
        Kept::Rsp => (&mut save.rsp, Clean::empty()),
        Kept::Rflags => (&mut save.rflags, Clean::empty()),
        Kept::Cr0 => (&mut save.cr0, Clean::CR),
        Kept::Cr3 => (&mut save.cr3, Clean::CR),
        Kept::Cr4 => (&mut save.cr4, Clean::CR),
        Kept::Efer => (&mut save.efer, Clean::CR),
        Kept::Dr7 => (&mut save.dr7, Clean::DR),
        Kept::FsBase => (&mut save.fs.base, Clean::empty()),
        Kept::GsBase => (&mut save.gs.base, Clean::empty()),
        Kept::Pat => (&mut save.pat, Clean::NESTED),
        Kept::SysenterCs => (&mut save.sysenter_cs, Clean::empty()),
        Kept::SysenterEsp => (&mut save.sysenter_esp, Clean::empty()),
        Kept::SysenterEip => (&mut save.sysenter_eip, Clean::empty()),
        Kept::Debugctl => (&mut save.debugctl, Clean::LBR),
    }
}

fn segment(save: &mut Save, number: u8) -> &mut Segment {
    match number {
        0 => &mut save.es,
        1 => &mut save.cs,
        2 => &mut save.ss,
        3 => &mut save.ds,
        4 => &mut save.fs,
        5 => &mut save.gs,
        _ => &mut save.ldtr,
    }
}

fn live(save: &mut Save, msr: LiveMsr) -> Option<&mut u64> {
    Some(match msr {
        LiveMsr::Star => &mut save.star,
        LiveMsr::Lstar => &mut save.lstar,
        LiveMsr::Cstar => &mut save.cstar,
        LiveMsr::Fmask => &mut save.sfmask,
        LiveMsr::KernelGsBase => &mut save.kernel_gs_base,
        LiveMsr::TscAux => return None,
    })
}

impl Hardware for Guest<'_> {
    common_hardware!();

    #[inline(always)]
    fn kept(&mut self, register: Kept) -> u64 {
        let value = *place(&mut self.state.vmcb.save, register).0;
        match register {
            Kept::Cr0 => value | self.state.hidden_cr0,
            Kept::Efer => value & !efer::SVME,
            _ => value,
        }
    }

    #[inline(always)]
    fn keep(&mut self, register: Kept, value: u64) {
        let real = match register {
            Kept::Cr0 => value & !cr0::CACHE,
            Kept::Efer => value | efer::SVME,
            _ => value,
        };
        let vmcb = &mut *self.state.vmcb;
        let (field, clean) = place(&mut vmcb.save, register);
        *field = real;
        vmcb.control.changed(clean);
        if register == Kept::Cr0 && value & cr0::CACHE != self.state.hidden_cr0 {
            self.state.hidden_cr0 = value & cr0::CACHE;
            self.set_intercepts(self.window());
        }
    }

    fn live_msr(&mut self, msr: LiveMsr) -> u64 {
        match live(&mut self.state.vmcb.save, msr) {
            Some(field) => *field,
            // SAFETY: TSC_AUX, which comes with RDTSCP, without which it is not asked for.
            None => unsafe { rdmsr(msr as u32) },
        }
    }

    fn set_live_msr(&mut self, msr: LiveMsr, value: u64) {
        match live(&mut self.state.vmcb.save, msr) {
            Some(field) => *field = value,
            None => {
                self.state.common.live.set_tsc_aux(value);
                // SAFETY: as above; the hypervisor does not use it, and the caller has checked the value.
                unsafe { wrmsr(msr as u32, value) }
            }
        }
    }

    fn cpl(&mut self) -> u8 {
        self.state.vmcb.save.cpl
    }

    fn code_is_long(&mut self) -> bool {
        self.state.vmcb.save.cs.attributes & ATTRIBUTE_LONG != 0
    }

    #[inline(always)]
    fn is_long_kernel(&mut self) -> bool {
        self.state.vmcb.save.cpl == 0 && self.code_is_long()
    }

    fn mode(&mut self) -> Mode {
        let save = &self.state.vmcb.save;
        let flags = [ATTRIBUTE_LONG, ATTRIBUTE_BIG].map(|flag| save.cs.attributes & flag != 0);
        mode(save.cr0, save.efer, save.rflags, flags)
    }

    fn fetched(&mut self) -> Option<Fetched> {
        let control = &self.state.vmcb.control;
        let bytes = control.instruction.get(..usize::from(control.fetched))?;
        let there = self.has(SvmFeatures::DECODE_ASSISTS) && control.exit_code == code::NPF;
        (there && !bytes.is_empty()).then(|| Fetched::by_cpu(bytes))
    }

    fn segment(&mut self, number: u8) -> vm::Segment {
        let segment = segment(&mut self.state.vmcb.save, number);
        vm::Segment {
            selector: segment.selector,
            rights: AccessRights::from_attributes(segment.attributes).bits(),
            limit: segment.limit,
            base: segment.base,
        }
    }

    fn set_segment(&mut self, number: u8, value: &vm::Segment) {
        let rights = AccessRights::from_bits_retain(value.rights);
        *segment(&mut self.state.vmcb.save, number) = Segment {
            selector: value.selector,
            attributes: rights.attributes(),
            limit: value.limit,
            base: value.base,
        };
        self.state.vmcb.control.changed(Clean::SEGMENTS);
    }

    fn gdt(&mut self) -> (u64, u32) {
        let gdtr = &self.state.vmcb.save.gdtr;
        (gdtr.base, gdtr.limit)
    }

    fn delivery_address(&mut self) -> Option<u64> {
        let event = self.pending_event()?;
        let save = &self.state.vmcb.save;
        let size = if save.efer & efer::LMA != 0 { 16 } else { 8 };
        Some(save.idtr.base.wrapping_add(u64::from(event.vector).wrapping_mul(size)))
    }

    fn shadow(&mut self) {
        self.state.vmcb.control.interrupt_shadow = 1;
    }

    fn protection_keys(&mut self) -> u32 {
        live::protection_keys()
    }

    fn code_and_stack(&mut self) -> ([u64; 2], u64) {
        let describe = |segment: &Segment| {
            let rights = AccessRights::from_attributes(segment.attributes);
            u64::from(rights.bits()) << 32 | u64::from(segment.selector)
        };
        let save = &self.state.vmcb.save;
        ([describe(&save.cs), describe(&save.ss)], save.cs.base)
    }

    #[inline(always)]
    fn advance_plainly(&mut self) -> bool {
        let vmcb = &mut *self.state.vmcb;
        if vmcb.control.interrupt_shadow & 1 != 0 || vmcb.save.rflags & rflags::TF != 0 {
            return false;
        }
        vmcb.save.rip = vmcb.control.next_rip;
        true
    }

    fn advance(&mut self) {
        let vmcb = &mut *self.state.vmcb;
        vmcb.save.rip = vmcb.control.next_rip;
        let shadow = core::mem::take(&mut vmcb.control.interrupt_shadow) & 1 != 0;
        if shadow && self.window() && self.state.hurry.is_none() && self.interruptible() {
            self.hurry(Some(Exit::InterruptWindow));
        }
        let vmcb = &mut *self.state.vmcb;
        // There is no field for a debug exception that is pending: it is delivered itself.
        if vmcb.save.rflags & rflags::TF != 0 && vmcb.save.debugctl & DEBUGCTL_BTF == 0 {
            vmcb.save.dr6 |= DR6_BS;
            vmcb.save.dr7 &= !DR7_GD;
            vmcb.control.changed(Clean::DR);
            self.inject(Event::exception(1, 0));
        }
    }

    fn advance_by(&mut self, length: u32) {
        self.ends_behind(length.into());
        self.advance();
    }

    fn inject(&mut self, event: Event) {
        let pending = self.pending_event().map(|event| event.kind);
        let code = u64::from(event.error_code.unwrap_or(0));
        self.state.vmcb.control.event_injection = code << 32 | u64::from(event.information());
        // Its delivery starts the blocking; what takes its place before that does not.
        let nmi = event.kind == EventKind::Nmi;
        if nmi || pending == Some(EventKind::Nmi) {
            self.state.nmi_blocked = nmi;
            self.set_intercepts(self.window());
        }
    }

    fn pending_event(&mut self) -> Option<Event> {
        let injection = self.state.vmcb.control.event_injection;
        Event::decode(injection as u32, || (injection >> 32) as u32, || 0)
    }

    fn interruptible(&mut self) -> bool {
        let vmcb = &self.state.vmcb;
        vmcb.save.rflags & rflags::IF != 0 && vmcb.control.interrupt_shadow & 1 == 0
    }

    fn nmi_blocked(&mut self) -> bool {
        self.state.nmi_blocked || self.state.stepping.is_some()
    }

    fn nmi_allowed(&mut self) -> bool {
        !self.nmi_blocked() && self.state.vmcb.control.interrupt_shadow & 1 == 0
    }

    fn request_window(&mut self, interrupt: bool, nmi: bool) {
        // Where only a shadow or another event is in the way, Bochs does not look at V_IRQ when it
        // enters the guest: the timer ends guest mode there. The end of an NMI's handler exits by
        // itself.
        let handling = self.state.nmi_blocked || self.state.stepping.is_some();
        let enabled = self.state.vmcb.save.rflags & rflags::IF != 0;
        let hurry = if nmi && !handling {
            Some(Exit::NmiWindow)
        } else if interrupt && enabled {
            Some(Exit::InterruptWindow)
        } else {
            None
        };
        if hurry != self.state.hurry {
            self.hurry(hurry);
        }
        if interrupt != self.window() {
            self.set_intercepts(interrupt);
        }
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.state.vmcb.control.tsc_offset = offset;
        self.state.vmcb.control.changed(Clean::INTERCEPTS);
    }

    fn changed_xcr0(&mut self) -> Option<u64> {
        // QEMU 7.2 does not know the intercept of XSETBV.
        // SAFETY: it is asked for vCPUs that have XSAVE; CR4.OSXSAVE is set wherever it exists.
        Some(unsafe { live::get_xcr0() })
    }

    fn debug_register(&mut self, number: u8) -> u64 {
        match number {
            6 => self.state.vmcb.save.dr6,
            _ => live::debug_register(number),
        }
    }

    fn set_debug_register(&mut self, number: u8, value: u64) {
        if number == 6 {
            self.state.vmcb.save.dr6 = value;
            self.state.vmcb.control.changed(Clean::DR);
        } else {
            live::set_debug_register(number, value);
        }
    }

    fn set_cr2(&mut self, value: u64) {
        self.state.vmcb.save.cr2 = value;
        self.state.vmcb.control.changed(Clean::CR2);
        // VMRUN loads it from the VMCB, but Bochs leaves the one in the CPU.
        live::set_cr2(value);
    }

    fn cr2(&mut self) -> u64 {
        self.state.vmcb.save.cr2
    }

    fn flush_guest(&mut self, linear: Option<u64>) {
        let Some(linear) = linear else { return self.flush() };
        let asid = self.state.vmcb.control.asid;
        // SAFETY: invalidates one translation of the guest's.
        unsafe {
            asm!("invlpga rax, ecx", in("rax") linear, in("ecx") asid, options(nostack, nomem));
        }
    }

    fn serve_host(&mut self) {
        // An NMI was taken when the world switch set the global interrupt flag.
        local_apic::take_interrupts();
        self.armed = 0;
    }
}

impl OfVm for Guest<'_> {
    fn vm(&self) -> u8 {
        self.state.common.vm
    }
}
