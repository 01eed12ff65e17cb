//! One CPU's own tables: GDT, TSS, IDT, and the stack for NMI, #DF and #MC.

extern crate alloc;

use alloc::boxed::Box;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

use super::live::set_xcr0;
use super::{Cpuid, exceptions};
use crate::emulate::cpuid::XCR0_KNOWN;

/// Size of the stack for NMI, #DF and #MC in bytes.
const IST_STACK: usize = 4096;

/// What VM exits load again.
#[derive(Clone, Copy)]
pub struct HostSegments {
    /// Code selector.
    pub code: SegmentSelector,
    /// Data selector.
    pub data: SegmentSelector,
    /// Task selector.
    pub task: SegmentSelector,
    /// Address of the TSS.
    pub task_base: u64,
    /// Address of the GDT.
    pub gdt_base: u64,
    /// Address of the IDT.
    pub idt_base: u64,
}

/// Control bits that the boot loader may have left otherwise: no #NM at guests' floating-point state,
/// which is switched with XMM registers, and machine checks as exceptions.
fn enable() {
    let off = Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED;
    let on = Cr4Flags::OSFXSR | Cr4Flags::MACHINE_CHECK_EXCEPTION;
    // SAFETY: every CPU of long mode has these; the hypervisor uses no floating point, and its IDT
    // has a handler for machine checks.
    unsafe {
        Cr0::update(|cr0| cr0.remove(off));
        Cr4::update(|cr4| cr4.insert(on));
    }
}

/// Builds this CPU's tables and loads them. They live as long as the machine.
pub fn init() -> HostSegments {
    let stack = Box::leak(Box::new([0u8; IST_STACK])).as_ptr_range().end as u64;
    let mut tss = TaskStateSegment::new();
    let mut stacks = [VirtAddr::zero(); 7];
    if let Some(slot) = stacks.get_mut(usize::from(exceptions::IST)) {
        *slot = VirtAddr::new(stack & !15);
    }
    tss.interrupt_stack_table = stacks;
    let tss: &'static TaskStateSegment = Box::leak(Box::new(tss));
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    let gdt: &'static GlobalDescriptorTable = Box::leak(Box::new(gdt));
    gdt.load();
    // SAFETY: the selectors were just appended to the table that was just loaded, code and data as
    // flat 64-bit kernel segments, the task as an available TSS that lives for ever.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }
    let idt: &'static InterruptDescriptorTable = Box::leak(Box::new(exceptions::idt()));
    idt.load();
    enable();
    HostSegments {
        code,
        data,
        task,
        task_base: core::ptr::from_ref(tss) as u64,
        gdt_base: core::ptr::from_ref(gdt) as u64,
        idt_base: core::ptr::from_ref(idt) as u64,
    }
}

/// Turns XSAVE on for the guests' sake, if the CPU has it, with all that they may have; says whether it has.
pub fn enable_xsave(cpuid: &impl Cpuid) -> bool {
    let there = cpuid.cpuid(1, 0)[2] & 1 << 26 != 0;
    if there {
        // SAFETY: the CPU has XSAVE, and these components; the hypervisor uses no state that it switches.
        unsafe {
            Cr4::update(|cr4| cr4.insert(Cr4Flags::OSXSAVE));
            set_xcr0(xcr0_may(cpuid));
        }
    }
    there
}

/// XCR0 bits that guests may set, on a CPU that has XSAVE.
pub fn xcr0_may(cpuid: &impl Cpuid) -> u64 {
    let [eax, _, _, edx] = cpuid.cpuid(0xd, 0);
    (u64::from(edx) << 32 | u64::from(eax)) & XCR0_KNOWN
}
