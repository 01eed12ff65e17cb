//! The world switch.

use core::arch::asm;

use super::backend::quick_exit;
use super::field;
use crate::hw::switch::{answer_exit, load_kept, load_lost};
use crate::vm::Registers;

/// What the switch keeps between entries.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Switch {
    /// HOST_RSP as it stands in the VMCS; 0 for not yet.
    host_rsp: u64,
}

/// Enters the guest. At each exit [`quick_exit`] may answer and let the guest go on; the function
/// returns at the first exit for which it does not, with every general register saved, or, `false`,
/// if the CPU refused to enter (VMfail).
///
/// A frequent exit saves and loads what a called function may change, and RBX for CPUID. The guest's
/// RBP and R12 to R15 stay in the CPU meanwhile, kept by the calling convention. Only general
/// registers are switched here; the state table in the documentation says where the rest lives.
///
/// # Safety
///
/// The current VMCS belongs to this vCPU and its host state describes this CPU, but for RSP and
/// RIP, which are set here. `registers`, `switch` and `frame` are valid and those of this vCPU, and
/// nobody else uses them during the call.
#[inline(always)]
pub unsafe fn enter(
    registers: *mut Registers,
    switch: *mut Switch,
    frame: *mut core::ffi::c_void,
) -> bool {
    let failed: u64;
    // SAFETY: an exit comes back to label 5 with the stack pointer as it was at the entry, because
    // HOST_RSP is compared with it and written when it differs. All registers are saved or declared
    // as lost. At the call the stack is aligned: the compiler aligns it for the block, and four
    // quadwords have been pushed. The guest can write to memory only through its nested page
    // tables, which do not reach the hypervisor's.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdx",
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
            load_kept!(),
            "3:",
            "mov rax, [rdi]",
            load_lost!(),
            // VMRESUME fails, and goes on behind itself, where the VMCS was cleared since it was last
            // entered: that costs the frequent case nothing.
            "vmresume",
            "vmlaunch",
            "mov eax, 1",
            "jmp 6f",
            "5:",
            answer_exit!(),
            "xor eax, eax",
            "6:",
            "add rsp, 16",
            "pop rbp",
            "pop rbx",
            quick_exit = sym quick_exit,
            host_rsp = const field::HOST_RSP.encoding(),
            host_rip = const field::HOST_RIP.encoding(),
            inout("rdi") registers => _,
            inout("rsi") switch => _,
            inout("rdx") frame => _,
            out("rax") failed,
            out("rcx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    failed == 0
}
