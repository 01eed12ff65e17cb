//! The instructions of the cases. Each piece is copied to the start of the arena, so that labels are
//! offsets from its own.

use core::arch::global_asm;

use crate::trip::tables::{self, segment};
use crate::trip::{ARENA, Paging, Way};

/// A piece of code: its length, then its bytes.
#[repr(C)]
pub struct Piece {
    length: u16,
    first: [u8; 0],
}

impl Piece {
    /// Its bytes.
    pub fn bytes(&'static self) -> &'static [u8] {
        // SAFETY: `piece` lays them out like this, in memory that is never written.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.length.into()) }
    }
}

macro_rules! pieces {
    ($($name:ident: $bits:literal $($line:literal)+;)+) => {
        unsafe extern "C" {
            $(
                #[doc = concat!("The piece `", stringify!($name), "`.")]
                pub safe static $name: Piece;
            )+
        }
        // The bytes begin at a multiple of 256, so that `.balign 128` leads to offset 0x80.
        global_asm!(
            ".pushsection .rodata.pieces, \"a\"",
            $(
                ".balign 256",
                ".skip 254",
                concat!(".global ", stringify!($name)),
                concat!(stringify!($name), ": .word 99f - ", stringify!($name), " - 2"),
                $bits,
                $($line,)+
                "99:",
            )+
            ".code64",
            ".popsection",
            arena = const ARENA.start,
            real = const ARENA.start >> 4,
            two_levels = const tables::root(Way::Protected, Paging::TwoLevels),
            pae = const tables::root(Way::Protected, Paging::Pae),
            long = const tables::root(Way::Long, Paging::Off),
            code_16 = const segment::ARENA_CODE_16,
            data_16 = const segment::ARENA_DATA_16,
            code_32 = const segment::ARENA_CODE_32,
            data_32 = const segment::ARENA_DATA_32,
            code_64 = const segment::CODE_64,
            big = const segment::BIG_DATA,
            task = const segment::OTHER_TASK,
            gdt = const tables::GDT,
            gdt_limit = const tables::GDT_LIMIT,
            options(att_syntax),
        );
    };
}

/// Where the handler of a piece that has one is.
pub const HANDLER: u16 = 0x80;

/// What IOPL below 3 forbids in virtual-8086 mode, and what it does not: CLI, STI, PUSHF, POPF, INT n,
/// IRET; INT3, and an invalid opcode.
pub const IOPL_SENSITIVE: &[(&[u8], bool)] = &[
    (&[0xfa], true),
    (&[0xfb], true),
    (&[0x9c], true),
    (&[0x9d], true),
    (&[0xcd, 0x21], true),
    (&[0xcf], true),
    (&[0xcc], false),
    (&[0x0f, 0x0b], false),
];

pieces! {
    REAL: ".code16"
        "movw $0x2100, %ax"
        "movw %ax, %ds"
        "movw $0x1234, 0x10"
        "movw $0x2101, %ax"
        "movw %ax, %es"
        "movw %es:0, %bx"
        "movl $0x56780001, %ecx"
        "int $0x21"
        "movl $0x40, %esi"
        "movl $0x87654321, (%esi)"
        "movl (%esi), %edx"
        "pushl $1"
        "popl %eax"
        "lcallw ${real}, $(real_far - REAL - 2)"
        "int3"
        "real_far:"
        "movl $0x77, %esi"
        "lretw"
        ".balign 128"
        "pushfw"
        "popw %ax"
        "testw $0x200, %ax"
        "jnz 1f"
        "addw $2, %cx"
        "1: iretw";
    UNREAL: ".code16"
        "movw ${gdt_limit}, 0x3000"
        "movl ${gdt}, 0x3002"
        "lgdtl 0x3000"
        "movl %cr0, %eax"
        "orb $1, %al"
        "movl %eax, %cr0"
        "movw ${big}, %bx"
        "movw %bx, %ds"
        "andb $0xfe, %al"
        "movl %eax, %cr0"
        "movl $0x100000, %esi"
        "movl (%esi), %eax"
        "int3";
    LOAD_16: ".code16"
        "movl (%esi), %eax"
        "ud2";
    LOAD_32: ".code32"
        "movl (%esi), %eax"
        "ud2";
    STORE_32: ".code32"
        "movl %eax, (%esi)"
        "ud2";
    PROTECTED: ".code16"
        "pushw %ax"
        "movw %sp, %bx"
        "popw %ax"
        "lcalll ${code_32}, $(protected_far - PROTECTED - 2)"
        "int $0x80"
        "int3"
        ".code32"
        "protected_far:"
        "movl $0x11112222, %eax"
        "lretl"
        ".balign 128"
        "movl $0x42, %ecx"
        "iretl";
    VIRTUAL: ".code16"
        "cli"
        "pushfw"
        "popw %ax"
        "sti"
        "pushfw"
        "popw %cx"
        "movw %cx, %dx"
        "andw $0xcfff, %dx"
        "pushw %dx"
        "popfw"
        "pushfw"
        "popw %dx"
        "ud2";
    STI: ".code16"
        "sti"
        "ud2";
    VIRTUAL_INT: ".code16"
        "int $0x21"
        "ud2"
        ".balign 128"
        "movw $0x42, %cx"
        "pushfw"
        "popw %dx"
        "iretw";
    TRANSITIONS: ".code16"
        "movw ${gdt_limit}, 0x3000"
        "movl ${gdt}, 0x3002"
        "lgdtl 0x3000"
        "movl %cr0, %eax"
        "orb $1, %al"
        "movl %eax, %cr0"
        "ljmpw ${code_16}, $(turn_1 - TRANSITIONS - 2)"
        "turn_1:"
        "orb $1, %bl"
        "ljmpl ${code_32}, $(turn_2 - TRANSITIONS - 2)"
        ".code32"
        "turn_2:"
        "movl ${data_32}, %eax"
        "movw %ax, %ds"
        "movw %ax, %es"
        "movw %ax, %ss"
        "orb $2, %bl"
        // Two levels, and off.
        "movl ${two_levels}, %eax"
        "movl %eax, %cr3"
        "movl %cr0, %eax"
        "orl $0x80000000, %eax"
        "movl %eax, %cr0"
        "orb $4, %bl"
        "andl $0x7fffffff, %eax"
        "movl %eax, %cr0"
        // PAE, and off.
        "movl %cr4, %ecx"
        "orl $0x20, %ecx"
        "movl %ecx, %cr4"
        "movl ${pae}, %ecx"
        "movl %ecx, %cr3"
        "orl $0x80000000, %eax"
        "movl %eax, %cr0"
        "orb $8, %bl"
        "andl $0x7fffffff, %eax"
        "movl %eax, %cr0"
        // Compatibility mode, 64-bit mode, and back.
        "movl ${long}, %eax"
        "movl %eax, %cr3"
        "movl $0xc0000080, %ecx"
        "rdmsr"
        "orl $0x100, %eax"
        "wrmsr"
        "movl %cr0, %eax"
        "orl $0x80000000, %eax"
        "movl %eax, %cr0"
        "orb $16, %bl"
        "ljmpl ${code_64}, $({arena} + turn_3 - TRANSITIONS - 2)"
        ".code64"
        "turn_3:"
        "btsq $5, %rbx"
        "ljmpl *turn_back(%rip)"
        "turn_back: .long turn_4 - TRANSITIONS - 2"
        ".word {code_32}"
        ".code32"
        "turn_4:"
        "orb $64, %bl"
        "movl %cr0, %eax"
        "andl $0x7fffffff, %eax"
        "movl %eax, %cr0"
        "movl $0xc0000080, %ecx"
        "rdmsr"
        "andl $0xfffffeff, %eax"
        "wrmsr"
        "movl %cr4, %eax"
        "andl $0xffffffdf, %eax"
        "movl %eax, %cr4"
        "ljmpl ${code_16}, $(turn_5 - TRANSITIONS - 2)"
        ".code16"
        "turn_5:"
        "movw ${data_16}, %ax"
        "movw %ax, %ds"
        "movw %ax, %es"
        "movw %ax, %ss"
        "movl %cr0, %eax"
        "andb $0xfe, %al"
        "movl %eax, %cr0"
        "ljmpw ${real}, $(turn_6 - TRANSITIONS - 2)"
        "turn_6:"
        "movw ${real}, %ax"
        "movw %ax, %ds"
        "movw %ax, %es"
        "movw %ax, %ss"
        "int3";
    PROTECTION: ".code32"
        "movl $0xfff8, %eax"
        "movw %ax, %ds"
        "int3";
    INT_80: ".code32"
        "int $0x80"
        "int3";
    TASK_CALL: ".code32"
        "lcalll ${task}, $0"
        "int3";
    TRIPLE_16: ".code16"
        "movl $0, 0x3000"
        "movl $0, 0x3004"
        "lidtl 0x3000"
        "int3";
    TRIPLE_32: ".code32"
        "movl $0, 0x3000"
        "movl $0, 0x3004"
        "lidtl 0x3000"
        "int3";
    MOV_SS_CPUID: ".code32"
        "movw 0x100, %ss"
        "cpuid"
        "nop"
        "int3";
}
