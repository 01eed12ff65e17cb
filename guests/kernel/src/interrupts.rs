//! The IDT: 256 stubs, one dispatcher, one table of handlers.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering};

use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::idt::InterruptDescriptorTable;

use crate::descriptors::DOUBLE_FAULT_STACK;
use crate::probe;

/// What an interrupt or exception found: general registers, then what the CPU pushed. A handler may
/// change it; the changes are in force after the return.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// A handler of one vector.
pub type Handler = fn(&mut Frame);

/// Vectors below this one are exceptions.
pub const EXCEPTIONS: u64 = 32;

// Each stub makes the stack look the same: an error code, the CPU's or 0, and the vector. Stubs are
// 16 bytes apart so that their addresses can be computed. The CPU aligns the stack, and what is
// pushed until the call is a multiple of 16 bytes.
global_asm!(
    ".pushsection .text.interrupts, \"ax\"",
    ".balign 16",
    "interrupt_stubs:",
    ".set interrupt_vector, 0",
    ".rept 256",
    ".balign 16",
    ".ifeq ((0x60227d00 >> interrupt_vector) & 1) & (interrupt_vector < 32)",
    "pushq $0",
    ".endif",
    "pushq $interrupt_vector",
    "jmp interrupt_common",
    ".set interrupt_vector, interrupt_vector + 1",
    ".endr",
    ".balign 16",
    "interrupt_common:",
    "pushq %rax; pushq %rbx; pushq %rcx; pushq %rdx; pushq %rsi; pushq %rdi; pushq %rbp",
    "pushq %r8; pushq %r9; pushq %r10; pushq %r11; pushq %r12; pushq %r13; pushq %r14; pushq %r15",
    "movq %rsp, %rdi",
    "cld",
    "call {dispatch}",
    "interrupt_return:",
    "popq %r15; popq %r14; popq %r13; popq %r12; popq %r11; popq %r10; popq %r9; popq %r8",
    "popq %rbp; popq %rdi; popq %rsi; popq %rdx; popq %rcx; popq %rbx; popq %rax",
    "addq $16, %rsp",
    "iretq",
    ".popsection",
    dispatch = sym dispatch,
    options(att_syntax),
);

unsafe extern "C" {
    static interrupt_stubs: u8;
}

static IDT: Once<InterruptDescriptorTable> = Once::new();
static HANDLERS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];

/// Makes the table that all CPUs share, and has the CPU that executes this use it.
pub(crate) fn init() {
    IDT.call_once(|| {
        let mut idt = InterruptDescriptorTable::new();
        let stub =
            |vector: u8| VirtAddr::from_ptr(&raw const interrupt_stubs) + 16 * u64::from(vector);
        // SAFETY: each stub is written for its vector, with or without an error code, and returns
        // by IRETQ; the stack table's entry is a stack.
        unsafe {
            idt.divide_error.set_handler_addr(stub(0));
            idt.debug.set_handler_addr(stub(1));
            idt.non_maskable_interrupt.set_handler_addr(stub(2));
            idt.breakpoint.set_handler_addr(stub(3));
            idt.overflow.set_handler_addr(stub(4));
            idt.bound_range_exceeded.set_handler_addr(stub(5));
            idt.invalid_opcode.set_handler_addr(stub(6));
            idt.device_not_available.set_handler_addr(stub(7));
            idt.double_fault.set_handler_addr(stub(8)).set_stack_index(DOUBLE_FAULT_STACK);
            idt.invalid_tss.set_handler_addr(stub(10));
            idt.segment_not_present.set_handler_addr(stub(11));
            idt.stack_segment_fault.set_handler_addr(stub(12));
            idt.general_protection_fault.set_handler_addr(stub(13));
            idt.page_fault.set_handler_addr(stub(14));
            idt.x87_floating_point.set_handler_addr(stub(16));
            idt.alignment_check.set_handler_addr(stub(17));
            idt.machine_check.set_handler_addr(stub(18));
            idt.simd_floating_point.set_handler_addr(stub(19));
            for vector in EXCEPTIONS as u8..=255 {
                idt[vector].set_handler_addr(stub(vector));
            }
        }
        idt
    });
    load();
}

/// Has the CPU that executes this use the table.
pub(crate) fn load() {
    IDT.get().expect("the table has been made").load();
}

/// Has `handler` called for `vector`, with interrupts disabled. A handler of an external interrupt
/// ends it itself ([`crate::apic::end_of_interrupt`]).
pub fn handle(vector: u8, handler: Handler) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::Release);
}

/// Takes the handler of `vector` away.
pub fn forget(vector: u8) {
    HANDLERS[usize::from(vector)].store(0, Ordering::Release);
}

extern "C" fn dispatch(frame: &mut Frame) {
    let handler = HANDLERS[frame.vector as usize & 0xff].load(Ordering::Acquire);
    if handler != 0 {
        // SAFETY: only `handle` stores here, and what it stores is a `Handler`.
        let handler = unsafe { core::mem::transmute::<usize, Handler>(handler) };
        handler(frame);
    } else {
        unhandled(frame);
    }
}

/// Goes to the end of the probe that runs here, or to that of the guest.
///
/// It returns by itself, and out of line: so what has a handler sets up no frame for it.
#[cold]
#[inline(never)]
fn unhandled(frame: &mut Frame) -> ! {
    if probe::recover(frame) {
        // SAFETY: the frame is what the stack pointer was at when `dispatch` was called, and what it says is
        // where the probe began.
        unsafe { asm!("mov rsp, {}", "jmp interrupt_return", in(reg) frame, options(noreturn)) };
    }
    let cr2 = x86_64::registers::control::Cr2::read_raw();
    panic!(
        "vector {} error {:#x} at {:#x} rsp {:#x} rflags {:#x} cr2 {:#x}",
        frame.vector, frame.error, frame.rip, frame.rsp, frame.rflags, cr2
    );
}
