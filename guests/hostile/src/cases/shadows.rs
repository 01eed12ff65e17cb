//! Interrupt shadows, single steps and pending events around instructions that exit: an emulated
//! instruction ends a shadow and a step as a native one does.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::apic::{self, SELF_VECTOR};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::probe::probe;

use super::{Action, Case, Expected, Verdict, Wrong};
use crate::raw::is_amd;

const fn any(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: false, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    any("step-cpuid", step_over_cpuid),
    any("step-mov-ss", || step(step_mov_ss, step_mov_ss_after)),
    Case { needs_pv: true, ..any("step-call", step_call) },
    any("halt-pending", || pending(halt, halt_after)),
    any("sti-shadow", || pending(sti_shadow, sti_shadow_after)),
];

unsafe extern "C" {
    fn step_cpuid();
    fn step_cpuid_after();
    fn step_mov_ss();
    fn step_mov_ss_after();
    fn step_call_intel();
    fn step_call_intel_after();
    fn step_call_amd();
    fn step_call_amd_after();
    fn halt();
    fn halt_after();
    fn sti_shadow();
    fn sti_shadow_after();
}

// POPF with the trap flag traps after the instruction that follows it (SDM vol. 3, Single-Step
// Exception Condition); MOV SS puts the trap off by one more. STI lets one more instruction run
// before an interrupt.
global_asm!(
    ".pushsection .text.shadows, \"ax\"",
    "step_cpuid:",
    "push rbx",
    "xor eax, eax",
    "xor ecx, ecx",
    "pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    "cpuid",
    "step_cpuid_after:",
    "nop",
    "pop rbx",
    "ret",
    "step_mov_ss:",
    "push rbx",
    "xor eax, eax",
    "xor ecx, ecx",
    "mov edx, ss",
    "pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    "mov ss, edx",
    "cpuid",
    "step_mov_ss_after:",
    "nop",
    "pop rbx",
    "ret",
    // With the hypercall instruction of each vendor.
    ".irp vendor, intel, amd",
    "step_call_\\vendor:",
    "mov eax, 3",
    "xor r9d, r9d",
    "pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    ".ifc \\vendor, amd",
    "vmmcall",
    ".else",
    "vmcall",
    ".endif",
    "step_call_\\vendor\\()_after:",
    "nop",
    "ret",
    ".endr",
    "halt:",
    "sti",
    "hlt",
    "halt_after:",
    "nop",
    "cli",
    "ret",
    "sti_shadow:",
    "push rbx",
    "xor eax, eax",
    "xor ecx, ecx",
    "sti",
    "cpuid",
    "sti_shadow_after:",
    "nop",
    "cli",
    "pop rbx",
    "ret",
    ".popsection",
);

fn address(code: unsafe extern "C" fn()) -> u64 {
    code as usize as u64
}

/// The trap must come right after the instruction, not one later.
fn step(code: unsafe extern "C" fn(), after: unsafe extern "C" fn()) -> Verdict {
    const DEBUG: u64 = 1;
    // SAFETY: the code keeps to the calling convention until it traps.
    match probe(|| unsafe { code() }) {
        Ok(()) => Err(Wrong::NoFault),
        Err(fault) if fault.vector == DEBUG && fault.rip == address(after) => Ok(()),
        Err(fault) => Err(Wrong::Fault(fault)),
    }
}

/// A single step of an instruction that exits traps behind it.
pub fn step_over_cpuid() -> Verdict {
    step(step_cpuid, step_cpuid_after)
}

fn step_call() -> Verdict {
    if is_amd() {
        step(step_call_amd, step_call_amd_after)
    } else {
        step(step_call_intel, step_call_intel_after)
    }
}

/// Where the last interrupt came, 0 for none.
static INTERRUPTED: AtomicU64 = AtomicU64::new(0);

fn note(frame: &mut Frame) {
    INTERRUPTED.store(frame.rip, Ordering::Relaxed);
    apic::end_of_interrupt();
}

/// An interrupt that waits while they are disabled must come right after the instruction.
fn pending(code: unsafe extern "C" fn(), after: unsafe extern "C" fn()) -> Verdict {
    interrupts::handle(SELF_VECTOR, note);
    INTERRUPTED.store(0, Ordering::Relaxed);
    apic::send_to_self(SELF_VECTOR);
    // SAFETY: the code keeps to the calling convention and disables interrupts again.
    unsafe { code() };
    match INTERRUPTED.load(Ordering::Relaxed) {
        0 => Err(Wrong::Other("the interrupt did not come")),
        rip if rip == address(after) => Ok(()),
        _ => Err(Wrong::Other("the interrupt came at another instruction")),
    }
}
