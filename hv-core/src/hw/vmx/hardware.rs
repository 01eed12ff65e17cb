//! The neutral interface to the vCPU that exited, over the current VMCS.

use core::arch::asm;

use super::capability::EptVpid;
use super::controls::{AccessRights, Entry, Interruptibility, Primary, Secondary};
use super::exit_reason::{basic, code};
use super::field::{self, Field, Natural, Segment, VmcsWrite};
use super::guest::Guest;
use crate::hw::check::{cr0, efer, rflags};
use crate::hw::common::common_hardware;
use crate::hw::instructions::{rdmsr, wrmsr};
use crate::hw::output::OfVm;
use crate::hw::{live, local_apic, segment};
use crate::mem::frames::PAGE;
use crate::vm::hardware::{self as vm, Kept, LiveMsr, Mode};
use crate::vm::{Event, Features, Hardware};

const CR4_MCE: u64 = 1 << 6;
const CR4_VMXE: u64 = 1 << 13;

/// The field of a register that needs no care.
#[inline(always)]
const fn place(register: Kept) -> Field<Natural> {
    match register {
        Kept::Rip => field::GUEST_RIP,
        Kept::Rsp => field::GUEST_RSP,
        Kept::Rflags => field::GUEST_RFLAGS,
        Kept::Cr0 => field::GUEST_CR0,
        Kept::Cr3 => field::GUEST_CR3,
        Kept::Cr4 => field::GUEST_CR4,
        Kept::Efer => field::GUEST_IA32_EFER.natural(),
        Kept::Dr7 => field::GUEST_DR7,
        Kept::FsBase => Segment::Fs.base(),
        Kept::GsBase => Segment::Gs.base(),
        Kept::Pat => field::GUEST_IA32_PAT.natural(),
        Kept::SysenterCs => field::GUEST_IA32_SYSENTER_CS.natural(),
        Kept::SysenterEsp => field::GUEST_IA32_SYSENTER_ESP,
        Kept::SysenterEip => field::GUEST_IA32_SYSENTER_EIP,
        Kept::Debugctl => field::GUEST_IA32_DEBUGCTL.natural(),
    }
}

impl Hardware for Guest<'_> {
    common_hardware!();

    #[inline(always)]
    fn kept(&mut self, register: Kept) -> u64 {
        let (v, controls) = (&self.vmcs, &self.state.controls);
        let real = v.get(place(register));
        let (shadow, mask) = match register {
            Kept::Cr0 => (field::CR0_READ_SHADOW, controls.cr0_mask),
            Kept::Cr4 => (field::CR4_READ_SHADOW, controls.cr4_mask),
            _ => return real,
        };
        real & !mask | v.get(shadow) & mask
    }

    #[inline(always)]
    fn keep(&mut self, register: Kept, value: u64) {
        /// VMX holds it at 1.
        const CR0_NE: u64 = 1 << 5;
        let v = &mut self.vmcs;
        let real = match register {
            Kept::Cr0 => {
                v.write(field::CR0_READ_SHADOW, value);
                value & !cr0::CACHE | CR0_NE
            }
            Kept::Cr4 => {
                v.write(field::CR4_READ_SHADOW, value);
                value | CR4_VMXE | CR4_MCE
            }
            Kept::Efer => {
                let mut entry = self.state.entry;
                entry.set(Entry::IA32E_MODE_GUEST, value & efer::LMA != 0);
                if entry != self.state.entry {
                    self.state.entry = entry;
                    v.write(field::ENTRY_CONTROLS, entry.bits());
                }
                value
            }
            _ => value,
        };
        v.write(place(register), real);
    }

    fn live_msr(&mut self, msr: LiveMsr) -> u64 {
        // SAFETY: these MSRs come with long mode, or, TSC_AUX, with RDTSCP, without which it is not
        // asked for.
        unsafe { rdmsr(msr as u32) }
    }

    fn set_live_msr(&mut self, msr: LiveMsr, value: u64) {
        match msr {
            LiveMsr::TscAux => self.state.common.live.set_tsc_aux(value),
            _ => self.state.live.set(msr, value),
        }
        // SAFETY: as above; the hypervisor itself uses none of them, and the caller has checked the
        // value.
        unsafe { wrmsr(msr as u32, value) };
    }

    fn cpl(&mut self) -> u8 {
        // The DPL of SS is the CPL on every exit (SDM vol. 3, Saving Segment Registers).
        self.rights(Segment::Ss).dpl() as u8
    }

    fn code_is_long(&mut self) -> bool {
        self.rights(Segment::Cs).contains(AccessRights::LONG)
    }

    #[inline(always)]
    fn is_long_kernel(&mut self) -> bool {
        let batch = self.vmcs.batch();
        let stack = batch.get(Segment::Ss.access_rights());
        let code = batch.get(Segment::Cs.access_rights());
        stack & AccessRights::DPL.bits() == 0 && code & AccessRights::LONG.bits() != 0
    }

    fn mode(&mut self) -> Mode {
        let rights = self.rights(Segment::Cs);
        let flags = [AccessRights::LONG, AccessRights::DEFAULT_BIG].map(|f| rights.contains(f));
        let v = &self.vmcs;
        let (cr0, efer) = (v.get(field::GUEST_CR0), v.get(field::GUEST_IA32_EFER));
        segment::mode(cr0, efer, v.get(field::GUEST_RFLAGS), flags)
    }

    fn segment(&mut self, number: u8) -> vm::Segment {
        let segment = Segment::of(number);
        let batch = self.vmcs.batch();
        vm::Segment {
            selector: batch.get(segment.selector()),
            rights: batch.get(segment.access_rights()),
            limit: batch.get(segment.limit()),
            base: batch.get(segment.base()),
        }
    }

    fn set_segment(&mut self, number: u8, value: &vm::Segment) {
        let segment = Segment::of(number);
        self.vmcs.write(segment.selector(), value.selector);
        self.vmcs.write(segment.access_rights(), value.rights);
        self.vmcs.write(segment.limit(), value.limit);
        self.vmcs.write(segment.base(), value.base);
    }

    fn gdt(&mut self) -> (u64, u32) {
        (self.vmcs.get(field::GUEST_GDTR_BASE), self.vmcs.get(field::GUEST_GDTR_LIMIT))
    }

    fn delivery_address(&mut self) -> Option<u64> {
        /// There is a linear address.
        const LINEAR: u64 = 1 << 7;
        let there = self.qualification() & LINEAR != 0;
        there.then(|| self.vmcs.get(field::GUEST_LINEAR_ADDRESS))
    }

    fn shadow(&mut self) {
        self.set_interruptibility(self.interruptibility() | Interruptibility::BLOCKING_BY_MOV_SS);
        self.step_in_shadow();
    }

    fn code_and_stack(&mut self) -> ([u64; 2], u64) {
        let describe = |segment: Segment| {
            let rights = u64::from(self.vmcs.get(segment.access_rights()));
            rights << 32 | u64::from(self.vmcs.get(segment.selector()))
        };
        ([describe(Segment::Cs), describe(Segment::Ss)], self.vmcs.get(Segment::Cs.base()))
    }

    #[inline(always)]
    fn advance_plainly(&mut self) -> bool {
        let batch = self.vmcs.batch();
        let length = batch.get(field::EXIT_INSTRUCTION_LENGTH);
        let old = batch.get(field::GUEST_RIP);
        let state = batch.get(field::GUEST_INTERRUPTIBILITY_STATE);
        let rflags = batch.get(field::GUEST_RFLAGS);
        drop(batch);
        // One test of all that is in the way: EIP would wrap, a shadow ends, a step traps.
        let carry = u64::from(old as u32).wrapping_add(u64::from(length)) >> 32;
        let shadow = u64::from(state & Interruptibility::SHADOW.bits());
        if carry | shadow | rflags & rflags::TF != 0 {
            return false;
        }
        self.vmcs.write(field::GUEST_RIP, old.wrapping_add(u64::from(length)));
        true
    }

    fn advance(&mut self) {
        let length = self.vmcs.get(field::EXIT_INSTRUCTION_LENGTH);
        self.advance_by(length);
    }

    fn advance_by(&mut self, length: u32) {
        let mut rip = self.vmcs.get(field::GUEST_RIP).wrapping_add(u64::from(length));
        if !self.code_is_long() {
            // EIP wraps at 4 GiB.
            rip &= 0xffff_ffff;
        }
        self.vmcs.write(field::GUEST_RIP, rip);
        let state = self.interruptibility();
        if state.intersects(Interruptibility::SHADOW) {
            self.set_interruptibility(state.difference(Interruptibility::SHADOW));
        }
        if self.vmcs.get(field::GUEST_RFLAGS) & rflags::TF != 0 {
            self.single_step();
        }
    }

    fn inject(&mut self, event: Event) {
        self.vmcs.write(field::ENTRY_INTERRUPTION_INFORMATION, event.information());
        if let Some(code) = event.error_code {
            self.vmcs.write(field::ENTRY_EXCEPTION_ERROR_CODE, code);
        }
        if event.instruction_length != 0 {
            self.vmcs.write(field::ENTRY_INSTRUCTION_LENGTH, event.instruction_length.into());
        }
    }

    fn pending_event(&mut self) -> Option<Event> {
        Event::decode(
            self.vmcs.get(field::ENTRY_INTERRUPTION_INFORMATION),
            || self.vmcs.get(field::ENTRY_EXCEPTION_ERROR_CODE),
            || self.vmcs.get(field::ENTRY_INSTRUCTION_LENGTH),
        )
    }

    fn interruptible(&mut self) -> bool {
        self.vmcs.get(field::GUEST_RFLAGS) & rflags::IF != 0
            && !self.interruptibility().intersects(Interruptibility::SHADOW)
    }

    fn nmi_blocked(&mut self) -> bool {
        self.interruptibility().contains(Interruptibility::BLOCKING_BY_NMI)
    }

    fn nmi_allowed(&mut self) -> bool {
        // Some CPUs refuse an NMI in the shadow of STI as well.
        self.interruptibility().is_empty()
    }

    fn request_window(&mut self, interrupt: bool, nmi: bool) {
        let mut primary = self.state.primary;
        primary.set(Primary::INTERRUPT_WINDOW_EXITING, interrupt);
        primary.set(Primary::NMI_WINDOW_EXITING, nmi);
        self.set_primary(primary);
    }

    fn apic_changed(&mut self, x2apic: bool) {
        let mut secondary = self.state.controls.secondary;
        if self.has(Features::APIC_REGISTERS) {
            secondary.insert(if x2apic {
                Secondary::VIRTUALIZE_X2APIC_MODE
            } else {
                Secondary::VIRTUALIZE_APIC_ACCESSES
            });
        }
        self.vmcs.write(field::SECONDARY_CONTROLS, secondary.bits());
        if let Some(pages) = self.state.pages.msr_bitmaps {
            let page = if x2apic { pages.wrapping_add(PAGE) } else { pages };
            self.vmcs.write(field::MSR_BITMAPS_ADDRESS, page);
        }
    }

    fn set_interrupt_status(&mut self, requesting: u8, servicing: u8) {
        let status = u16::from(servicing) << 8 | u16::from(requesting);
        self.vmcs.write(field::GUEST_INTERRUPT_STATUS, status);
    }

    fn set_eoi_exits(&mut self, vectors: [u64; 4]) {
        for (bits, index) in vectors.into_iter().zip(0..) {
            self.vmcs.write(field::eoi_exit_bitmap(index), bits);
        }
    }

    fn delivers_interrupts(&self) -> bool {
        self.has(Features::VIRTUAL_INTERRUPTS)
    }

    fn set_pdptes(&mut self, pdptes: [u64; 4]) {
        for (value, index) in pdptes.into_iter().zip(0..) {
            self.vmcs.write(field::guest_pdpte(index), value);
        }
    }

    fn pdptes(&mut self) -> Option<[u64; 4]> {
        Some([0, 1, 2, 3].map(|index| self.vmcs.get(field::guest_pdpte(index))))
    }

    fn protection_keys(&mut self) -> u32 {
        live::protection_keys()
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcs.write(field::TSC_OFFSET, offset);
    }

    fn debug_register(&mut self, number: u8) -> u64 {
        live::debug_register(number)
    }

    fn set_debug_register(&mut self, number: u8, value: u64) {
        live::set_debug_register(number, value);
    }

    fn set_cr2(&mut self, value: u64) {
        live::set_cr2(value);
    }

    fn cr2(&mut self) -> u64 {
        x86_64::registers::control::Cr2::read_raw()
    }

    fn flush_guest(&mut self, linear: Option<u64>) {
        // Without a VPID every exit and entry flushes.
        if self.has(Features::VPID) {
            match linear {
                Some(address) if self.caps.ept_vpid.contains(EptVpid::INVVPID_ADDRESS) => {
                    self.invvpid(0, address);
                }
                _ => self.invvpid(1, 0),
            }
        }
    }

    fn serve_host(&mut self) {
        if basic(self.vmcs.get(field::EXIT_REASON).into()) == code::EXCEPTION_OR_NMI {
            // The exit took the NMI and left NMIs blocked; the handler's IRET opens them.
            // SAFETY: vector 2 has a handler that returns.
            unsafe { asm!("int 2") };
        } else {
            local_apic::take_interrupts();
        }
    }
}

impl OfVm for Guest<'_> {
    fn vm(&self) -> u8 {
        self.state.common.vm
    }
}
