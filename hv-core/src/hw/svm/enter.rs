//! The world switch.

use core::arch::asm;
use core::mem::offset_of;

use super::backend::quick_exit;
use super::intercept::Clean;
use super::vmcb::{Control, Save, Vmcb};
use crate::hw::switch::{answer_exit, load_kept, load_lost};
use crate::vm::Registers;

const RAX: usize = offset_of!(Vmcb, save) + offset_of!(Save, rax);
const TLB_CONTROL: usize = offset_of!(Vmcb, control) + offset_of!(Control, tlb_control);
const CLEAN: usize = offset_of!(Vmcb, control) + offset_of!(Control, clean);

/// Enters the guest. At each exit [`quick_exit`] may answer and let the guest go on; the function
/// returns at the first exit for which it does not, with every general register saved.
///
/// The guest's RBP and R12 to R15 stay in the CPU meanwhile, kept by the calling convention. So does
/// what VMLOAD and VMSAVE switch: TR, LDTR, FS, GS and some MSRs are the guest's in `quick_exit`, and
/// the global interrupt flag is clear, so that no NMI comes that would need the host's TSS; a double fault
/// there, which is a fault of the hypervisor, would not find its stack. When this returns all of that is
/// the host's.
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
            load_kept!(),
            "3:",
            "mov rax, [rsp + 16]",
            "mov rcx, [rdi]",
            "mov [rax + {rax}], rcx",
            load_lost!(),
            "vmrun rax",
            // What has been loaded and flushed once need not be again.
            "mov dword ptr [rax + {clean}], {all}",
            "mov dword ptr [rax + {tlb_control}], 0",
            "mov rax, [rax + {rax}]",
            answer_exit!(),
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
