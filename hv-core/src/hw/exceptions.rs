//! Exceptions and interrupts in the hypervisor itself.
//!
//! An exception in root mode is a bug: it is reported with registers and return addresses, which
//! the host tool turns into a backtrace, and the machine stops. NMIs and the few interrupts that
//! the hypervisor uses only have to bring a CPU out of guest mode or out of HLT: an interrupt returns at
//! once, and whoever let it come tells the local APIC of its end.

use core::arch::global_asm;
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::VirtAddr;
use x86_64::structures::idt::InterruptDescriptorTable;
use zerocopy::IntoBytes;

use super::output::{self, Text};
use super::{instructions, local_apic};
use crate::host::link::{Channel, HYPERVISOR};
use crate::host::report::{Panic, Registers};

/// IST index (from 0) of the stack for NMI, #DF and #MC, which can come at any instruction.
pub const IST: u16 = 0;

const VECTORS: usize = 256;
const STUB: u64 = 16;
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const SECURITY: u64 = 30;

/// What the stubs push, lowest address first.
#[repr(C)]
struct Frame {
    /// R15 down to RAX, without RSP.
    registers: [u64; 15],
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

unsafe extern "C" {
    static exception_stubs: u8;
}

// One 16-byte stub a vector. Those of interrupts have nothing to do. Vectors 8, 10-14, 17, 21, 29, 30 push an error
// code themselves.
global_asm!(
    ".balign 16",
    ".global exception_stubs",
    "exception_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    ".if vector >= 32",
    "iretq",
    ".else",
    ".if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30",
    ".else",
    "push 0",
    ".endif",
    "push vector",
    "jmp exception_common",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    "exception_common:",
    "push rax", "push rcx", "push rdx", "push rbx", "push rbp", "push rsi", "push rdi",
    "push r8", "push r9", "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
    "cld",
    "mov rdi, rsp",
    "call {handle}",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop r11", "pop r10", "pop r9", "pop r8",
    "pop rdi", "pop rsi", "pop rbp", "pop rbx", "pop rdx", "pop rcx", "pop rax",
    "add rsp, 16",
    "iretq",
    handle = sym handle,
);

/// An interrupt descriptor table: each CPU has its own.
pub fn idt() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    let stubs = &raw const exception_stubs as u64;
    let address = |vector: u64| VirtAddr::new(stubs.wrapping_add(vector.wrapping_mul(STUB)));
    // SAFETY: each stub is made for its vector, with or without an error code, and returns by
    // IRETQ; the IST stack is set up with the TSS, before the table is loaded.
    unsafe {
        idt.divide_error.set_handler_addr(address(0));
        idt.debug.set_handler_addr(address(1));
        idt.non_maskable_interrupt.set_handler_addr(address(2)).set_stack_index(IST);
        idt.breakpoint.set_handler_addr(address(3));
        idt.overflow.set_handler_addr(address(4));
        idt.bound_range_exceeded.set_handler_addr(address(5));
        idt.invalid_opcode.set_handler_addr(address(6));
        idt.device_not_available.set_handler_addr(address(7));
        idt.double_fault.set_handler_addr(address(8)).set_stack_index(IST);
        idt.invalid_tss.set_handler_addr(address(10));
        idt.segment_not_present.set_handler_addr(address(11));
        idt.stack_segment_fault.set_handler_addr(address(12));
        idt.general_protection_fault.set_handler_addr(address(13));
        idt.page_fault.set_handler_addr(address(14));
        idt.x87_floating_point.set_handler_addr(address(16));
        idt.alignment_check.set_handler_addr(address(17));
        idt.machine_check.set_handler_addr(address(18)).set_stack_index(IST);
        idt.simd_floating_point.set_handler_addr(address(19));
        idt.virtualization.set_handler_addr(address(20));
        idt.security_exception.set_handler_addr(address(30));
        for vector in 32..VECTORS {
            if let Some(entry) = idt.slice_mut(32..).get_mut(vector.wrapping_sub(32)) {
                entry.set_handler_addr(address(vector as u64));
            }
        }
    }
    idt
}

extern "C" fn handle(frame: &Frame) {
    match frame.vector {
        // A kick from another CPU: being here is all it is for.
        NMI => {}
        // The hypervisor sets no breakpoint and does not step. What a guest has armed must not follow
        // it through an exit, but with Bochs's SVM its single step does.
        DEBUG => {}
        // A redirected INIT (APM vol. 2, INIT Redirection): ignored, as in VMX operation.
        SECURITY => {}
        _ => fail(frame),
    }
}

fn fail(frame: &Frame) -> ! {
    if FAILING.swap(true, Ordering::AcqRel) {
        instructions::stop();
    }
    let r = &frame.registers;
    let reg = |i: usize| r.get(14usize.wrapping_sub(i)).copied().unwrap_or(0);
    let rbp = reg(4);
    // Pushed in the order RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8 to R15.
    let gpr = core::array::from_fn(|i| match i {
        0..=3 => reg(i),
        4 => frame.rsp,
        _ => reg(i.wrapping_sub(1)),
    });
    let report = Panic {
        cpu: u64::from(local_apic::id()),
        vector: frame.vector,
        error_code: frame.error_code,
        registers: Registers {
            gpr,
            rip: frame.rip,
            rflags: frame.rflags,
            cs: frame.cs,
            ss: frame.ss,
            ..control_registers()
        },
        backtrace: backtrace(rbp, frame.rsp),
    };
    send(&report, b"exception in the hypervisor");
}

fn control_registers() -> Registers {
    use x86_64::registers::control::{Cr0, Cr2, Cr3, Cr4, Efer};
    Registers {
        cr0: Cr0::read_raw(),
        cr2: Cr2::read_raw(),
        cr3: Cr3::read_raw().0.start_address().as_u64(),
        cr4: Cr4::read_raw(),
        efer: Efer::read_raw(),
        ..Registers::default()
    }
}

/// Reports a panic of the hypervisor's own code and stops.
pub fn panic(text: &[u8]) -> ! {
    let rbp: u64;
    // SAFETY: copies a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags))
    };
    let report = Panic {
        cpu: u64::from(local_apic::id()),
        vector: crate::host::report::NO_VECTOR,
        error_code: 0,
        registers: control_registers(),
        backtrace: backtrace(rbp, rbp),
    };
    send(&report, text);
}

/// Set by the first CPU that fails: a second failure, of the report itself or of another CPU, says
/// nothing more.
static FAILING: AtomicBool = AtomicBool::new(false);

fn send(report: &Panic, text: &[u8]) -> ! {
    let mut payload = Text::<{ size_of::<Panic>() + 512 }>::new();
    payload.push(report.as_bytes());
    payload.push(text);
    output::send_unlocked(HYPERVISOR, Channel::Panic, payload.as_bytes());
    output::send_unlocked(HYPERVISOR, Channel::Done, &[]);
    instructions::stop()
}

/// How far above a stack pointer its stack can reach, in bytes.
const STACK_REACH: u64 = 28 << 10;

/// Return addresses, by the chain of frame pointers that starts at `rbp`, on the stack whose pointer
/// is `stack`.
fn backtrace(mut rbp: u64, stack: u64) -> [u64; 16] {
    core::array::from_fn(|_| {
        // Below the world switch the chain goes on with a value of the guest: it is followed only
        // within this stack.
        if !rbp.is_multiple_of(8) || !(stack..stack.saturating_add(STACK_REACH)).contains(&rbp) {
            rbp = 0;
            return 0;
        }
        let frame = rbp as *const [u64; 2];
        // SAFETY: aligned, and above this function's own frame by less than a stack. If it is beyond
        // the top of the stack after all, at the guard of another, the second exception stops here.
        let [next, address] = unsafe { frame.read_volatile() };
        rbp = if next > rbp { next } else { 0 };
        address
    })
}
