//! The first instructions of every other CPU: from real mode to 64-bit Rust.
//!
//! The code is copied to a page below 1 MiB, because a startup IPI names its entry point by page.
//! It is written for any such page: it finds out where it is by CS.

use core::arch::global_asm;

/// What the trampoline needs, at the end of its page. The starting CPU fills it, one CPU at a time.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Mailbox {
    /// The page tables, below 4 GiB.
    pub cr3: u64,
    /// The stack's top.
    pub stack: u64,
    /// Passed on to `entry`.
    pub argument: u64,
    /// Where to go, in 64-bit mode.
    pub entry: u64,
}

/// Where in its page the [`Mailbox`] stands.
pub const MAILBOX: usize = 0xf00;

unsafe extern "C" {
    /// The trampoline's first byte.
    pub static trampoline_start: u8;
    /// The byte behind its last.
    pub static trampoline_end: u8;
}

// AT&T syntax, because in Intel syntax the assembler takes no difference of labels as displacement.
global_asm!(
    ".section .rodata.trampoline, \"a\"",
    ".balign 16",
    ".global trampoline_start, trampoline_end",
    ".code16",
    "trampoline_start:",
    "cli",
    "cld",
    "movw %cs, %ax",
    "movw %ax, %ds",
    // EBX: the page's linear address.
    "movzwl %ax, %ebx",
    "shll $4, %ebx",
    "leal (trampoline_gdt - trampoline_start)(%ebx), %eax",
    "movl %eax, trampoline_gdtr - trampoline_start + 2",
    "leal (trampoline_32 - trampoline_start)(%ebx), %eax",
    "movl %eax, trampoline_far - trampoline_start",
    "lgdtl trampoline_gdtr - trampoline_start",
    "movl %cr0, %eax",
    "orb $1, %al",
    "movl %eax, %cr0",
    "ljmpl *(trampoline_far - trampoline_start)",
    ".code32",
    "trampoline_32:",
    "movw $24, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movl %cr4, %eax",
    "orl $0x20, %eax",
    "movl %eax, %cr4",
    "movl {mailbox}(%ebx), %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x900, %eax",
    "wrmsr",
    "movl %cr0, %eax",
    "orl $0x80010001, %eax",
    "andl $0x9fffffff, %eax",
    "movl %eax, %cr0",
    "leal (trampoline_64 - trampoline_start)(%ebx), %eax",
    "movl %eax, (trampoline_far - trampoline_start)(%ebx)",
    "movw $16, (trampoline_far - trampoline_start + 4)(%ebx)",
    "ljmpl *(trampoline_far - trampoline_start)(%ebx)",
    ".code64",
    "trampoline_64:",
    "movl %ebx, %ebx",
    "xorl %eax, %eax",
    "movw %ax, %ss",
    "movq ({mailbox} + 8)(%rbx), %rsp",
    "movq ({mailbox} + 16)(%rbx), %rdi",
    "xorl %ebp, %ebp",
    "callq *({mailbox} + 24)(%rbx)",
    "8: hlt",
    "jmp 8b",
    ".balign 8",
    "trampoline_gdt:",
    ".quad 0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "trampoline_gdtr:",
    ".short trampoline_gdtr - trampoline_gdt - 1",
    ".long 0",
    "trampoline_far:",
    ".long 0",
    ".short 8",
    "trampoline_end:",
    ".text",
    mailbox = const MAILBOX,
    options(att_syntax),
);
