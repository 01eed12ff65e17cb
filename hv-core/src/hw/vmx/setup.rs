//! From a clear VMCS to one that can be entered: controls, the host's state, the guest's state.

use super::controls::{AccessRights, Activity};
use super::field::{self, Segment, VmcsWrite};
use super::guest::Guest;
use crate::device::apic;
use crate::emulate::msr;
use crate::hw::cpu::HostSegments;
use crate::hw::instructions::rdmsr;
use crate::vm::hardware::Kept;
use crate::vm::image::Start;
use crate::vm::{Features, Hardware};

const IA32_PAT: u32 = 0x277;
const IA32_EFER: u32 = 0xc000_0080;
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const DR7_RESET: u64 = 0x400;
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const RFLAGS_FIXED: u64 = 1 << 1;

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
    if controls.features.contains(Features::VPID) {
        v.write(field::VIRTUAL_PROCESSOR_IDENTIFIER, guest.state.vpid);
    }
    if controls.features.contains(Features::IO_BITMAP) {
        v.write(field::IO_BITMAP_A_ADDRESS, pages.io_bitmaps);
        v.write(field::IO_BITMAP_B_ADDRESS, pages.io_bitmaps.wrapping_add(4096));
    }
    if let Some(bitmaps) = pages.msr_bitmaps {
        v.write(field::MSR_BITMAPS_ADDRESS, bitmaps);
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

/// Writes the guest's state at the PVH entry: 32-bit protected mode with flat segments, paging off,
/// interrupts off.
pub fn guest(guest: &mut Guest<'_>, start: Start, tsc_offset: u64) {
    let flat = [
        (Segment::Cs, AccessRights::FLAT_CODE_32, u32::MAX),
        (Segment::Ds, AccessRights::FLAT_DATA, u32::MAX),
        (Segment::Es, AccessRights::FLAT_DATA, u32::MAX),
        (Segment::Ss, AccessRights::FLAT_DATA, u32::MAX),
        (Segment::Fs, AccessRights::FLAT_DATA, u32::MAX),
        (Segment::Gs, AccessRights::FLAT_DATA, u32::MAX),
        (Segment::Ldtr, AccessRights::UNUSABLE, 0),
        (Segment::Tr, AccessRights::BUSY_TSS, 0x67),
    ];
    let v = &mut guest.vmcs;
    for (segment, rights, limit) in flat {
        v.write(segment.selector(), 0);
        v.write(segment.base(), 0);
        v.write(segment.limit(), limit);
        v.write(segment.access_rights(), rights.bits());
    }
    v.write(field::GUEST_GDTR_BASE, 0);
    v.write(field::GUEST_GDTR_LIMIT, 0);
    v.write(field::GUEST_IDTR_BASE, 0);
    v.write(field::GUEST_IDTR_LIMIT, 0);
    v.write(field::GUEST_INTERRUPTIBILITY_STATE, 0);
    v.write(field::GUEST_ACTIVITY_STATE, Activity::Active as u32);
    v.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
    v.write(field::ENTRY_INTERRUPTION_INFORMATION, 0);
    v.write(field::TSC_OFFSET, tsc_offset);
    let kept = [
        (Kept::Cr0, CR0_PE | CR0_ET),
        (Kept::Cr3, 0),
        (Kept::Cr4, 0),
        (Kept::Efer, 0),
        (Kept::Rip, start.entry.into()),
        (Kept::Rsp, 0),
        (Kept::Rflags, RFLAGS_FIXED),
        (Kept::Dr7, DR7_RESET),
        (Kept::Pat, PAT_RESET),
        (Kept::SysenterCs, 0),
        (Kept::SysenterEsp, 0),
        (Kept::SysenterEip, 0),
        (Kept::Debugctl, 0),
    ];
    for (register, value) in kept {
        guest.keep(register, value);
    }
    guest.apic_changed(false);
}

/// Reads of low and high MSRs, then writes: 1024 bytes each (SDM vol. 3, MSR-Bitmap Address).
fn bit(page: u64, msr: u32, write: bool) -> Option<(*mut u8, u8)> {
    let high = match msr >> 13 {
        0 => 0,
        n if n == 0xc000_0000 >> 13 => 1024,
        _ => return None,
    };
    let index = u64::from(msr & 0x1fff);
    let offset = (index >> 3).wrapping_add(high).wrapping_add(if write { 2048 } else { 0 });
    Some((page.wrapping_add(offset) as *mut u8, 1 << (index & 7)))
}

fn set_exits(page: u64, msr: u32, write: bool, exits: bool) {
    let Some((byte, mask)) = bit(page, msr, write) else { return };
    // SAFETY: `bit` gives a byte of the 4 KiB page, which belongs to this vCPU and is not in use by
    // the CPU while the hypervisor runs on it.
    unsafe {
        let old = byte.read_volatile();
        byte.write_volatile(if exits { old | mask } else { old & !mask });
    }
}

/// Lets the MSRs pass that the policy lets pass.
pub fn fill_msr_bitmaps(page: u64) {
    // SAFETY: the page belongs to this vCPU.
    unsafe { core::ptr::write_bytes(page as *mut u8, 0xff, 4096) };
    for &msr in msr::PASS {
        set_exits(page, msr, false, false);
        set_exits(page, msr, true, false);
    }
    for &msr in msr::PASS_READ.iter().chain(msr::PASS_READ_OWN) {
        set_exits(page, msr, false, false);
    }
}

/// Lets the x2APIC registers that the CPU virtualizes pass, in x2APIC mode.
pub fn pass_x2apic(page: u64, x2apic: bool, features: &Features) {
    let registers = x2apic && features.contains(Features::APIC_REGISTERS);
    let delivery = features.contains(Features::VIRTUAL_INTERRUPTS);
    for msr in apic::MSR_X2APIC {
        let read = registers && apic::msr_read_passes(msr, delivery);
        let write = registers && apic::msr_write_passes(msr, delivery);
        set_exits(page, msr, false, !read);
        set_exits(page, msr, true, !write);
    }
}
