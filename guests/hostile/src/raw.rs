//! A hypercall with every register that matters in the caller's hand.

use core::arch::asm;

/// The registers of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Registers {
    pub rax: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub r8: u64,
    pub r9: u64,
}

macro_rules! call {
    ($instruction:literal, $r:ident) => {
        asm!(
            $instruction,
            inlateout("rax") $r.rax,
            inlateout("rdi") $r.rdi,
            inlateout("rsi") $r.rsi,
            inlateout("rdx") $r.rdx,
            inlateout("rcx") $r.rcx,
            inlateout("r8") $r.r8,
            inlateout("r9") $r.r9,
        )
    };
}

/// Whether the CPU has AMD's instruction instead of Intel's.
pub fn is_amd() -> bool {
    // "Auth", the first part of AMD's vendor string; Hygon's CPUs are AMD's as well.
    matches!(&core::arch::x86_64::__cpuid(0).ebx.to_le_bytes(), b"Auth" | b"Hygo")
}

/// Makes the call and returns the registers after it.
///
/// # Safety
///
/// As a whole the call must not have the hypervisor write memory that somebody else owns.
pub unsafe fn call(mut registers: Registers) -> Registers {
    // SAFETY: the ABI preserves what is not named here; the rest is the caller's promise.
    unsafe {
        if is_amd() {
            call!("vmmcall", registers);
        } else {
            call!("vmcall", registers);
        }
    }
    registers
}
