//! The first instructions of another CPU: from real mode, where a startup IPI puts it, to 64-bit Rust.

use core::arch::global_asm;
use core::mem::offset_of;
use core::ptr;

use x86_64::registers::control::{Cr0, Cr3, Cr4};
use x86_64::registers::model_specific::Msr;

use crate::info;

/// Where the code is copied to. A startup IPI names a page of the first MiB; the loader's data, which
/// may have been here, has been copied.
const PAGE: u64 = 0x8000;
const MAILBOX: usize = 0xf00;
const EFER: u32 = 0xc000_0080;
/// EFER.LMA, which the CPU sets itself, and CR4.PCIDE, which it takes in 64-bit mode only.
const LONG_MODE_ACTIVE: u64 = 1 << 10;
const PCIDE: u64 = 1 << 17;

/// What the CPU that is started finds in the page.
#[repr(C)]
struct Mailbox {
    cr3: u64,
    cr4: u64,
    /// CR4 without what 64-bit mode comes before.
    early_cr4: u64,
    efer: u64,
    cr0: u64,
    stack: u64,
    argument: u64,
    entry: u64,
}

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_long: u8;
    static ap_trampoline_end: u8;
}

// AT&T syntax, because in Intel syntax the assembler takes no difference of labels as displacement.
global_asm!(
    ".pushsection .rodata.trampoline, \"a\"",
    ".balign 16",
    ".code16",
    "ap_trampoline:",
    "cli",
    "cld",
    "movw %cs, %ax",
    "movw %ax, %ds",
    "lgdtl ap_gdtr - ap_trampoline",
    "movl %cr0, %eax",
    "orb $1, %al",
    "movl %eax, %cr0",
    "ljmpl $8, $({page} + ap_32 - ap_trampoline)",
    ".code32",
    "ap_32:",
    "movw $24, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movl {mailbox} + {early_cr4}, %eax",
    "movl %eax, %cr4",
    "movl {mailbox} + {cr3}, %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx",
    "movl {mailbox} + {efer}, %eax",
    "movl {mailbox} + {efer} + 4, %edx",
    "wrmsr",
    "movl {mailbox} + {cr0}, %eax",
    "movl %eax, %cr0",
    "ljmpl $16, $({page} + ap_64 - ap_trampoline)",
    ".code64",
    // Where a CPU begins that was started in 64-bit mode: EFER and CR0 are not the others' yet.
    "ap_long:",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl {mailbox} + {efer}, %eax",
    "wrmsr",
    "movq {mailbox} + {cr0}, %rax",
    "movq %rax, %cr0",
    "ap_64:",
    "movl ${mailbox}, %ebx",
    "movq {cr4}(%rbx), %rax",
    "movq %rax, %cr4",
    "movq {stack}(%rbx), %rsp",
    "movq {argument}(%rbx), %rdi",
    "xorl %ebp, %ebp",
    "callq *{entry}(%rbx)",
    "ud2",
    ".balign 8",
    "ap_gdt:",
    ".quad 0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "ap_gdtr:",
    ".short ap_gdtr - ap_gdt - 1",
    ".long {page} + ap_gdt - ap_trampoline",
    "ap_trampoline_end:",
    ".popsection",
    page = const PAGE,
    mailbox = const PAGE as usize + MAILBOX,
    cr3 = const offset_of!(Mailbox, cr3),
    cr4 = const offset_of!(Mailbox, cr4),
    early_cr4 = const offset_of!(Mailbox, early_cr4),
    efer = const offset_of!(Mailbox, efer),
    cr0 = const offset_of!(Mailbox, cr0),
    stack = const offset_of!(Mailbox, stack),
    argument = const offset_of!(Mailbox, argument),
    entry = const offset_of!(Mailbox, entry),
    options(att_syntax),
);

/// Where a CPU begins that is started in 64-bit mode, once the page with this number is prepared.
pub(super) fn long_entry(page: u8) -> u64 {
    u64::from(page) << 12 | (&raw const ap_long as u64 - &raw const ap_trampoline as u64)
}

/// Prepares the page for one CPU, which goes to `entry(argument)` on `stack` with this CPU's page
/// tables and control registers. The page's number is the vector of a startup IPI.
///
/// # Panics
///
/// If there is no RAM at the page.
///
/// # Safety
///
/// No CPU is on its way through the page.
pub(super) unsafe fn prepare<T>(
    entry: extern "C" fn(&'static T) -> !,
    argument: &'static T,
    stack: u64,
) -> u8 {
    let has_ram = info::memory().any(|ram| ram.start <= PAGE && PAGE + 4096 <= ram.end);
    assert!(has_ram, "there is no RAM at {PAGE:#x} to start other CPUs in");
    // SAFETY: reading the MSR changes nothing.
    let efer = unsafe { Msr::new(EFER).read() };
    let mailbox = Mailbox {
        cr3: Cr3::read().0.start_address().as_u64(),
        cr4: Cr4::read_raw(),
        early_cr4: Cr4::read_raw() & !PCIDE,
        efer: efer & !LONG_MODE_ACTIVE,
        cr0: Cr0::read_raw(),
        stack,
        argument: ptr::from_ref(argument) as u64,
        entry: entry as usize as u64,
    };
    let code = &raw const ap_trampoline;
    let length = (&raw const ap_trampoline_end as usize) - code as usize;
    assert!(length <= MAILBOX);
    // SAFETY: the page is RAM below the image, in which no object of ours is, and nobody reads it.
    unsafe {
        ptr::copy_nonoverlapping(code, PAGE as *mut u8, length);
        ((PAGE as usize + MAILBOX) as *mut Mailbox).write_volatile(mailbox);
    }
    (PAGE >> 12) as u8
}
