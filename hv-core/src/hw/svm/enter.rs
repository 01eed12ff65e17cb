//! The world switch.

use core::arch::asm;
use core::mem::offset_of;

use super::backend::quick_exit;
use super::intercept::Clean;
use super::vmcb::{Control, Save, Vmcb};
use crate::vm::Registers;

const RAX: usize = offset_of!(Vmcb, save) + offset_of!(Save, rax);
const TLB_CONTROL: usize = offset_of!(Vmcb, control) + offset_of!(Control, tlb_control);
const CLEAN: usize = offset_of!(Vmcb, control) + offset_of!(Control, clean);

/// Enters the guest. At each exit [`quick_exit`] may answer and let the guest go on; the function
/// returns at the first exit for which it does not, with every general register saved.
///
/// The guest's RBP and R12 to R15 stay in the CPU meanwhile, kept by the calling convention. So does
/// what VMLOAD and VMSAVE switch: TR, LDTR, FS, GS and some MSRs are the guest's in `quick_exit`, and
/// the global interrupt flag is clear, so that no NMI comes that would need the host's TSS. When this
/// returns all of that is the host's.
///
/// # Safety
///
/// `vmcb` and `host` are the addresses of the VMCB of this vCPU and of the one that this CPU's own state
/// was saved to by VMSAVE. `registers` and `frame` are valid and those of this vCPU. Nobody else uses
/// any of them during the call.
#[inline(always)]
pub unsafe fn enter(
    registers: *mut Registers,
    vmcb: u64,
    host: u64,
    frame: *mut core::ffi::c_void,
) {
    // SAFETY: an exit comes back behind VMRUN with RSP and RAX as they were, and all else of the host
    // that is not saved or declared as lost here. At the call the stack is aligned: the compiler aligns
    // it for the block, and six quadwords have been pushed. The guest can write to memory only through
    // its nested page tables, which do not reach the hypervisor's.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rcx",
            "push rsi",
            "push rdx",
            "push rdi",
            "clgi",
            // Real interrupts end guest mode: VMRUN keeps this flag for them. Some emulators carry the
            // shadow of STI over into the guest, which takes none then.
            "sti",
            "nop",
            "mov rax, rsi",
            "vmload rax",
            "mov rbp, [rdi + 40]",
            "mov r12, [rdi + 96]",
            "mov r13, [rdi + 104]",
            "mov r14, [rdi + 112]",
            "mov r15, [rdi + 120]",
            "3:",
            "mov rax, [rsp + 16]",
            "mov rcx, [rdi]",
            "mov [rax + {rax}], rcx",
            "mov rcx, [rdi + 8]",
            "mov rdx, [rdi + 16]",
            "mov rbx, [rdi + 24]",
            "mov rsi, [rdi + 48]",
            "mov r8, [rdi + 64]",
            "mov r9, [rdi + 72]",
            "mov r10, [rdi + 80]",
            "mov r11, [rdi + 88]",
            "mov rdi, [rdi + 56]",
            "vmrun rax",
            // What has been loaded and flushed once need not be again.
            "mov dword ptr [rax + {clean}], {all}",
            "mov dword ptr [rax + {tlb_control}], 0",
            "mov rax, [rax + {rax}]",
            "push rax",
            "mov rax, [rsp + 8]",
            "mov [rax + 8], rcx",
            "mov [rax + 16], rdx",
            "mov [rax + 24], rbx",
            "mov [rax + 48], rsi",
            "mov [rax + 56], rdi",
            "mov [rax + 64], r8",
            "mov [rax + 72], r9",
            "mov [rax + 80], r10",
            "mov [rax + 88], r11",
            "pop [rax]",
            "mov rdi, [rsp + 8]",
            "call {quick_exit}",
            "mov rdi, [rsp]",
            "test al, al",
            "jne 3b",
            "mov [rdi + 40], rbp",
            "mov [rdi + 96], r12",
            "mov [rdi + 104], r13",
            "mov [rdi + 112], r14",
            "mov [rdi + 120], r15",
            "mov rax, [rsp + 16]",
            "vmsave rax",
            "mov rax, [rsp + 24]",
            "vmload rax",
            "cli",
            "stgi",
            "add rsp, 32",
            "pop rbp",
            "pop rbx",
            quick_exit = sym quick_exit,
            rax = const RAX,
            clean = const CLEAN,
            all = const Clean::all().bits(),
            tlb_control = const TLB_CONTROL,
            inout("rdi") registers => _,
            inout("rsi") vmcb => _,
            inout("rdx") frame => _,
            inout("rcx") host => _,
            out("rax") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
}
