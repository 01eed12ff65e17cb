//! What the world switches of both vendors share, as text for their `asm!` blocks: which register
//! stands where in [`Registers`](crate::vm::Registers), and the way from an exit to the code that
//! answers it.
//!
//! The pointer to the registers is in RDI at an entry and at the top of the stack at an exit, with the
//! [`Frame`](crate::vm::run::Frame) behind it.

/// The registers that a called function keeps: the guest's stay in the CPU while an exit is answered.
macro_rules! kept {
    ($($text:tt)*) => {
        $crate::hw::switch::moves! {
            [$($text)*] "rbp" 40, "r12" 96, "r13" 104, "r14" 112, "r15" 120,
        }
    };
}

/// The others, but for RAX and RDI; RBX is among them because CPUID is answered at once.
macro_rules! lost {
    ($($text:tt)*) => {
        $crate::hw::switch::moves! {
            [$($text)*] "rcx" 8, "rdx" 16, "rbx" 24, "rsi" 48,
            "r8" 64, "r9" 72, "r10" 80, "r11" 88,
        }
    };
}

macro_rules! moves {
    ([load] $($register:literal $offset:literal,)*) => {
        concat!($("mov ", $register, ", [rdi + ", $offset, "]\n",)*)
    };
    ([save to $base:literal] $($register:literal $offset:literal,)*) => {
        concat!($("mov [", $base, " + ", $offset, "], ", $register, "\n",)*)
    };
}

/// Loads what stays in the CPU at exits.
macro_rules! load_kept {
    () => {
        $crate::hw::switch::kept!(load)
    };
}

/// Loads all else but RAX; RDI, which points to it all, comes last.
macro_rules! load_lost {
    () => {
        concat!($crate::hw::switch::lost!(load), "mov rdi, [rdi + 56]\n")
    };
}

/// From an exit, with the guest's registers in the CPU, to the entry at label 3 if `quick_exit` says
/// so; else on, with every register saved.
macro_rules! answer_exit {
    () => {
        concat!(
            "push rax\n",
            "mov rax, [rsp + 8]\n",
            "mov [rax + 56], rdi\n",
            $crate::hw::switch::lost!(save to "rax"),
            "pop [rax]\n",
            "mov rdi, [rsp + 8]\n",
            "call {quick_exit}\n",
            "mov rdi, [rsp]\n",
            "test al, al\n",
            "jne 3b\n",
            $crate::hw::switch::kept!(save to "rdi"),
        )
    };
}

pub(super) use {answer_exit, kept, load_kept, load_lost, lost, moves};
