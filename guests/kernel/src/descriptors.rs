//! GDT and TSS of each CPU.

use core::cell::UnsafeCell;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::{Descriptor, DescriptorFlags, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use crate::smp::CPUS;

/// Selectors of the GDT. The last two bits of a user selector are its privilege level.
pub mod selector {
    /// 64-bit kernel code.
    pub const KERNEL_CODE: u64 = 0x08;
    /// Kernel data.
    pub const KERNEL_DATA: u64 = 0x10;
    /// 32-bit kernel code: compatibility mode.
    pub const KERNEL_CODE_32: u64 = 0x18;
    /// 16-bit kernel code: the image's first 64 KiB.
    pub const KERNEL_CODE_16: u64 = 0x20;
    /// User data.
    pub const USER_DATA: u64 = 0x28 | 3;
    /// 64-bit user code.
    pub const USER_CODE: u64 = 0x30 | 3;
    /// The task-state segment.
    pub const TASK: u64 = 0x38;
}

/// The entry of the TSS's stack table on which a double fault is handled: the usual stack may be
/// what caused it.
pub(crate) const DOUBLE_FAULT_STACK: u16 = 0;

const STACK: usize = 16 << 10;

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; STACK]>);
// SAFETY: only CPU 0 uses the bytes, as the stack of one handler at a time.
unsafe impl Sync for Stack {}

impl Stack {
    const fn new() -> Stack {
        Stack(UnsafeCell::new([0; STACK]))
    }

    fn top(&'static self) -> VirtAddr {
        VirtAddr::from_ptr(self.0.get()) + STACK as u64
    }
}

static PRIVILEGE_STACK: Stack = Stack::new();
static FAULT_STACK: Stack = Stack::new();

/// What a CPU has for itself.
struct Tables {
    tss: UnsafeCell<TaskStateSegment>,
    gdt: UnsafeCell<GlobalDescriptorTable<16>>,
}
// SAFETY: only the CPU that they are for writes them, in `load`, while it uses neither.
unsafe impl Sync for Tables {}

static TABLES: [Tables; CPUS] = [const {
    Tables {
        tss: UnsafeCell::new(TaskStateSegment::new()),
        gdt: UnsafeCell::new(GlobalDescriptorTable::empty()),
    }
}; CPUS];

/// A 16-bit code segment of 64 KiB that begins where the image does, at 1 MiB.
const KERNEL_CODE_16: u64 = 0x0000_9b10_0000_ffff;

pub(crate) fn init() {
    // SAFETY: this is CPU 0 on its boot code's tables, and the stacks are for this.
    unsafe { load(0, FAULT_STACK.top().as_u64(), PRIVILEGE_STACK.top().as_u64()) };
}

/// Makes the tables of a CPU, with the tops of its stacks for double faults and for changes
/// of privilege, and has the CPU that executes this use them.
///
/// # Safety
///
/// The CPU that executes this is that one, comes from its boot code and uses neither table; the stacks are
/// for nothing else.
pub(crate) unsafe fn load(cpu: usize, fault_stack: u64, privilege_stack: u64) {
    let mut tss = TaskStateSegment::new();
    tss.privilege_stack_table[0] = VirtAddr::new(privilege_stack);
    tss.interrupt_stack_table[usize::from(DOUBLE_FAULT_STACK)] = VirtAddr::new(fault_stack);
    // Anew each time: the TSS of a CPU that was stopped is busy, and LTR refuses a busy one.
    // SAFETY: the CPU is the only one that uses them, and does not yet.
    let tss = unsafe {
        *TABLES[cpu].tss.get() = tss;
        &*TABLES[cpu].tss.get()
    };
    let mut gdt = GlobalDescriptorTable::empty();
    let user = |flags: DescriptorFlags| Descriptor::UserSegment(flags.bits());
    gdt.append(user(DescriptorFlags::KERNEL_CODE64));
    gdt.append(user(DescriptorFlags::KERNEL_DATA));
    gdt.append(user(DescriptorFlags::KERNEL_CODE32));
    gdt.append(Descriptor::UserSegment(KERNEL_CODE_16));
    gdt.append(user(DescriptorFlags::USER_DATA));
    gdt.append(user(DescriptorFlags::USER_CODE64));
    gdt.append(Descriptor::tss_segment(tss));
    // SAFETY: as above.
    let gdt = unsafe {
        *TABLES[cpu].gdt.get() = gdt;
        &*TABLES[cpu].gdt.get()
    };
    gdt.load();
    // SAFETY: the selectors name the segments that were just appended, in this order; code and data
    // are flat like the boot code's.
    unsafe {
        CS::set_reg(SegmentSelector(selector::KERNEL_CODE as u16));
        for set in [DS::set_reg, ES::set_reg, SS::set_reg] {
            set(SegmentSelector(selector::KERNEL_DATA as u16));
        }
        load_tss(SegmentSelector(selector::TASK as u16));
    }
}
