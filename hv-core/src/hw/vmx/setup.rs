//! From a clear VMCS to one that can be entered: controls, the host's state, the guest's state.

use super::field::{self, Segment, VmcsWrite};
use super::guest::Guest;
use super::policy::{PLE_GAP, PLE_WINDOW};
use crate::hw::cpu::HostSegments;
use crate::hw::instructions::rdmsr;
use crate::hw::start;
use crate::vm::image::Start;
use crate::vm::{Features, Hardware};

const IA32_PAT: u32 = 0x277;
const IA32_EFER: u32 = 0xc000_0080;

/// Writes what does not change while the VM lives.
pub fn controls(guest: &mut Guest<'_>) {
    let controls = guest.state.controls;
    let pages = guest.state.pages;
    let v = &mut guest.vmcs;
    v.write(field::PIN_BASED_CONTROLS, controls.pin_based.bits());
    v.write(field::PRIMARY_CONTROLS, guest.state.primary.bits());
    v.write(field::SECONDARY_CONTROLS, controls.secondary.bits());
    v.write(field::EXIT_CONTROLS, controls.exit.bits());
    v.write(field::ENTRY_CONTROLS, guest.state.entry.bits());
    v.write(field::EXCEPTION_BITMAP, controls.exceptions);
    // Mask and match 0: bit 14 of the bitmap decides for every page fault.
    v.write(field::PAGE_FAULT_ERROR_CODE_MASK, 0);
    v.write(field::PAGE_FAULT_ERROR_CODE_MATCH, 0);
    v.write(field::CR3_TARGET_COUNT, 0);
    v.write(field::EXIT_MSR_STORE_COUNT, 0);
    v.write(field::EXIT_MSR_LOAD_COUNT, 0);
    v.write(field::ENTRY_MSR_LOAD_COUNT, 0);
    v.write(field::CR0_GUEST_HOST_MASK, controls.cr0_mask);
    v.write(field::CR4_GUEST_HOST_MASK, controls.cr4_mask);
    v.write(field::EPT_POINTER, guest.state.eptp);
    v.write(field::VMCS_LINK_POINTER, u64::MAX);
    if controls.features.contains(Features::IO_BITMAP) {
        v.write(field::IO_BITMAP_A_ADDRESS, pages.io_bitmaps);
        v.write(field::IO_BITMAP_B_ADDRESS, pages.io_bitmaps.wrapping_add(4096));
    }
    if controls.features.contains(Features::APIC_REGISTERS) {
        v.write(field::VIRTUAL_APIC_ADDRESS, pages.apic);
        v.write(field::APIC_ACCESS_ADDRESS, pages.apic_access);
        v.write(field::TPR_THRESHOLD, 0);
    }
    if controls.features.contains(Features::VIRTUAL_INTERRUPTS) {
        for index in 0..4 {
            v.write(field::eoi_exit_bitmap(index), 0);
        }
        v.write(field::GUEST_INTERRUPT_STATUS, 0);
    }
    if controls.features.contains(Features::PAUSE_LOOP_EXITING) {
        v.write(field::PLE_GAP, PLE_GAP);
        v.write(field::PLE_WINDOW, PLE_WINDOW);
    }
    if controls.features.contains(Features::XSAVES) {
        v.write(field::XSS_EXITING_BITMAP, 0);
    }
}

/// Writes what an exit loads: this CPU's own state. RSP and RIP are the world switch's.
pub fn host(guest: &mut Guest<'_>, segments: &HostSegments) {
    use x86_64::registers::control::{Cr0, Cr3, Cr4};
    let v = &mut guest.vmcs;
    v.write(field::HOST_CR0, Cr0::read_raw());
    v.write(field::HOST_CR3, Cr3::read_raw().0.start_address().as_u64());
    v.write(field::HOST_CR4, Cr4::read_raw());
    v.write(field::HOST_CS_SELECTOR, segments.code.0);
    for selector in [field::HOST_SS_SELECTOR, field::HOST_DS_SELECTOR, field::HOST_ES_SELECTOR] {
        v.write(selector, segments.data.0);
    }
    v.write(field::HOST_FS_SELECTOR, 0);
    v.write(field::HOST_GS_SELECTOR, 0);
    v.write(field::HOST_TR_SELECTOR, segments.task.0);
    v.write(field::HOST_FS_BASE, 0);
    v.write(field::HOST_GS_BASE, 0);
    v.write(field::HOST_TR_BASE, segments.task_base);
    v.write(field::HOST_GDTR_BASE, segments.gdt_base);
    v.write(field::HOST_IDTR_BASE, segments.idt_base);
    v.write(field::HOST_IA32_SYSENTER_CS, 0);
    v.write(field::HOST_IA32_SYSENTER_ESP, 0);
    v.write(field::HOST_IA32_SYSENTER_EIP, 0);
    // SAFETY: PAT comes with every CPU of long mode, EFER is long mode's own.
    let (pat, efer) = unsafe { (rdmsr(IA32_PAT), rdmsr(IA32_EFER)) };
    v.write(field::HOST_IA32_PAT, pat);
    v.write(field::HOST_IA32_EFER, efer);
}

/// Writes the state that the guest starts in.
pub fn guest(guest: &mut Guest<'_>, start: Start, tsc_offset: u64) {
    let v = &mut guest.vmcs;
    let state = start::state(start.mode);
    for (to, segment) in Segment::ALL.into_iter().zip(&start::segments_of(start.mode)) {
        v.write(to.selector(), segment.selector);
        v.write(to.base(), segment.base);
        v.write(to.limit(), segment.limit);
        v.write(to.access_rights(), segment.rights.bits());
    }
    v.write(field::GUEST_GDTR_BASE, state.gdt.0);
    v.write(field::GUEST_GDTR_LIMIT, state.gdt.1);
    v.write(field::GUEST_IDTR_BASE, state.idt.0);
    v.write(field::GUEST_IDTR_LIMIT, state.idt.1);
    v.write(field::GUEST_INTERRUPTIBILITY_STATE, 0);
    v.write(field::GUEST_ACTIVITY_STATE, 0);
    v.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
    v.write(field::ENTRY_INTERRUPTION_INFORMATION, 0);
    v.write(field::TSC_OFFSET, tsc_offset);
    for (register, value) in start::registers(start) {
        guest.keep(register, value);
    }
    guest.apic_changed(false);
}
