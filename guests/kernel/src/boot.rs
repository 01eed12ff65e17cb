//! The first instructions: from PVH's 32-bit protected mode to 64-bit Rust.

use core::arch::global_asm;

use crate::{apic, console, descriptors, end, extended, frames, info, interrupts, pv, timer};

// 4 GiB are identity mapped by 2 MiB pages, the one at 0xFEE00000 uncached: the local APIC is there.
// The tables are data, so nothing has to be built before paging is on.
global_asm!(
    ".section .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad guest_entry",
    ".section .text.entry, \"ax\"",
    ".code32",
    ".global guest_entry",
    "guest_entry:",
    "cli",
    "cld",
    "mov eax, offset boot_pml4",
    "mov cr3, eax",
    // CR4.PAE, EFER.LME, then CR0.PG, WP and PE with the caches on.
    "mov eax, cr4",
    "or eax, 0x20",
    "mov cr4, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x100",
    "wrmsr",
    "mov eax, cr0",
    "and eax, 0x9fffffff",
    "or eax, 0x80010001",
    "mov cr0, eax",
    "lgdt [boot_gdtr]",
    "mov esp, offset boot_stack_top",
    "push 8",
    "mov eax, offset boot_long_mode",
    "push eax",
    "retf",
    ".code64",
    "boot_long_mode:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "mov rsp, offset boot_stack_top",
    "xor ebp, ebp",
    "mov edi, ebx",
    "call {start}",
    ".section .rodata.boot, \"a\"",
    ".balign 8",
    "boot_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "boot_gdtr: .short boot_gdtr - boot_gdt - 1",
    ".long boot_gdt",
    ".section .data.boot, \"aw\"",
    ".balign 4096",
    "boot_pml4: .quad boot_pdpt + 3",
    ".skip 4096 - 8",
    "boot_pdpt: .quad boot_pd + 3, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003",
    ".skip 4096 - 32",
    "boot_pd:",
    ".set boot_page, 0x83",
    ".rept 2048",
    ".ifeq boot_page - 0xfee00083",
    ".quad boot_page + 0x18",
    ".else",
    ".quad boot_page",
    ".endif",
    ".set boot_page, boot_page + 0x200000",
    ".endr",
    ".text",
    start = sym start,
);

extern "C" fn start(start_info: u64) -> ! {
    let found = info::init(start_info);
    descriptors::init();
    interrupts::init();
    assert!(found, "the loader passed no hvm_start_info");
    pv::init(info::options().0);
    console::init();
    frames::init(info::memory());
    extended::enable();
    apic::init();
    timer::init();
    end::end((crate::guest().main)())
}
