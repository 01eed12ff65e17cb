//! The world switch.

use core::arch::asm;

use super::field;
use crate::vm::Registers;

/// What the switch keeps between entries.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Switch {
    /// HOST_RSP as it stands in the VMCS; 0 for not yet.
    host_rsp: u64,
}

impl Switch {
    /// The VMCS has been cleared: HOST_RSP must be set again.
    pub fn reset(&mut self) {
        *self = Switch::default();
    }
}

/// Enters the guest and returns when it exits; `false` if the CPU refused to enter at all (VMfail).
///
/// Only general registers are switched here; the state table in the documentation says where the
/// rest lives. The compiler keeps nothing in registers across the switch, so its own callee-saved
/// registers cost nothing at each exit but RBX and RBP, which it does not give away.
///
/// # Safety
///
/// The current VMCS belongs to this vCPU and its host state describes this CPU, but for RSP and
/// RIP, which are set here.
#[inline(always)]
pub unsafe fn enter(registers: &mut Registers, switch: &mut Switch) -> bool {
    let failed: u64;
    // SAFETY: the exit comes back to label 5 with the stack pointer as it was at the entry, because
    // HOST_RSP is compared with it and written when it differs; every general register is then
    // saved or declared as lost. The guest can write to memory only through its nested page
    // tables, which do not reach the hypervisor's.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdi",
            "cmp rsp, [rsi]",
            "je 2f",
            "mov [rsi], rsp",
            "mov eax, {host_rsp}",
            "vmwrite rax, rsp",
            "mov eax, {host_rip}",
            "lea rcx, [rip + 5f]",
            "vmwrite rax, rcx",
            "2:",
            "mov rax, [rdi]",
            "mov rcx, [rdi + 8]",
            "mov rdx, [rdi + 16]",
            "mov rbx, [rdi + 24]",
            "mov rbp, [rdi + 40]",
            "mov rsi, [rdi + 48]",
            "mov r8, [rdi + 64]",
            "mov r9, [rdi + 72]",
            "mov r10, [rdi + 80]",
            "mov r11, [rdi + 88]",
            "mov r12, [rdi + 96]",
            "mov r13, [rdi + 104]",
            "mov r14, [rdi + 112]",
            "mov r15, [rdi + 120]",
            "mov rdi, [rdi + 56]",
            // VMRESUME fails, and goes on behind itself, where the VMCS was cleared since it was last
            // entered: that costs the frequent case nothing.
            "vmresume",
            "vmlaunch",
            "mov eax, 1",
            "add rsp, 8",
            "jmp 6f",
            "5:",
            "push rax",
            "mov rax, [rsp + 8]",
            "mov [rax + 8], rcx",
            "mov [rax + 16], rdx",
            "mov [rax + 24], rbx",
            "mov [rax + 40], rbp",
            "mov [rax + 48], rsi",
            "mov [rax + 56], rdi",
            "mov [rax + 64], r8",
            "mov [rax + 72], r9",
            "mov [rax + 80], r10",
            "mov [rax + 88], r11",
            "mov [rax + 96], r12",
            "mov [rax + 104], r13",
            "mov [rax + 112], r14",
            "mov [rax + 120], r15",
            "pop [rax]",
            "add rsp, 8",
            "xor eax, eax",
            "6:",
            "pop rbp",
            "pop rbx",
            host_rsp = const field::HOST_RSP.encoding(),
            host_rip = const field::HOST_RIP.encoding(),
            inout("rdi") registers => _,
            inout("rsi") switch => _,
            out("rax") failed,
            out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    failed == 0
}
