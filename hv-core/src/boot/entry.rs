//! The first instructions: from the boot loader's 32-bit protected mode to 64-bit Rust.
//!
//! Multiboot2 and PVH differ only in which register points to their information. Both give a flat
//! 32-bit environment with paging off, on the boot CPU.

use core::arch::global_asm;

/// The boot protocol, as the entry code passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Protocol {
    /// Multiboot2: the pointer is to its information structure.
    Multiboot2 = 1,
    /// PVH: the pointer is to `hvm_start_info`.
    Pvh = 2,
}

// Page tables of the first 4 GiB, identity mapped by 2 MiB pages. `hw::paging` refines them later.
global_asm!(
    ".section .multiboot2, \"a\"",
    ".balign 8",
    "mb2_header:",
    ".long 0xe85250d6, 0, mb2_end - mb2_header, -(0xe85250d6 + 0 + (mb2_end - mb2_header))",
    // Modules page aligned; the end tag.
    ".short 6, 0",
    ".long 8",
    ".short 0, 0",
    ".long 8",
    "mb2_end:",
    ".section .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad boot_pvh",
    ".section .text.boot, \"ax\"",
    ".code32",
    ".global boot_multiboot2",
    "boot_multiboot2:",
    "mov edi, 1",
    "jmp 1f",
    "boot_pvh:",
    "mov edi, 2",
    "1:",
    "cli",
    "cld",
    "mov esp, offset boot_stack_top",
    // A CPU without long mode can only halt here; there is nobody to tell.
    "mov esi, ebx",
    "mov eax, 0x80000001",
    "cpuid",
    "bt edx, 29",
    "jnc 9f",
    // PML4 -> PDPT -> four page directories of 2 MiB pages, present and writable.
    "mov eax, offset boot_pdpt",
    "or eax, 3",
    "mov [boot_pml4], eax",
    "mov eax, offset boot_pd",
    "or eax, 3",
    "mov ecx, 0",
    "2:",
    "mov [boot_pdpt + ecx * 8], eax",
    "add eax, 4096",
    "inc ecx",
    "cmp ecx, 4",
    "jne 2b",
    "mov ecx, 0",
    "mov eax, 0x83",
    "3:",
    "mov [boot_pd + ecx * 8], eax",
    "add eax, 0x200000",
    "inc ecx",
    "cmp ecx, 2048",
    "jne 3b",
    "mov eax, offset boot_pml4",
    "call enter_long_mode",
    // From here on in 64-bit code: the arguments are in EDI and ESI already.
    ".code64",
    "mov rsp, offset boot_stack_top",
    "xor ebp, ebp",
    "call {main}",
    "9: hlt",
    "jmp 9b",
    // EAX: the PML4. Returns to its 32-bit caller's return address in 64-bit mode.
    ".code32",
    ".global enter_long_mode",
    "enter_long_mode:",
    "mov cr3, eax",
    "mov eax, cr4",
    "or eax, 0x20",
    "mov cr4, eax",
    // EFER.LME and NXE: the final tables use no-execute.
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    "mov eax, cr0",
    // PG, WP, PE on; the caches on.
    "or eax, 0x80010001",
    "and eax, 0x9fffffff",
    "mov cr0, eax",
    "lgdt [boot_gdtr]",
    "pop eax",
    "push 8",
    "push eax",
    "retf",
    ".section .rodata.boot, \"a\"",
    ".balign 8",
    "boot_gdt:",
    ".quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    ".global boot_gdtr",
    "boot_gdtr:",
    ".short boot_gdtr - boot_gdt - 1",
    ".long boot_gdt",
    ".section .pages, \"aw\", @nobits",
    ".balign 4096",
    ".global boot_pml4, boot_pdpt, boot_pd",
    "boot_pml4: .skip 4096",
    "boot_pdpt: .skip 4096",
    "boot_pd: .skip 4 * 4096",
    ".text",
    main = sym super::main,
);
