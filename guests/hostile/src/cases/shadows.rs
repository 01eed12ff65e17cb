//! Interrupt shadows, single steps and pending events around instructions that exit: an emulated
//! instruction ends a shadow and a step as a native one does.

use core::arch::global_asm;
use core::arch::x86_64::__cpuid;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use guest_kernel::apic::{self, SELF_VECTOR};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::probe::probe;
use x86_64::instructions::interrupts as cpu_interrupts;

use super::{Action, Case, Expected, Verdict, Wrong};
use crate::raw::is_amd;

const fn any(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: false, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    any("step-cpuid", || step(step_cpuid, step_cpuid_after)),
    any("step-mov-ss", || step(step_mov_ss, step_mov_ss_after)),
    Case { needs_pv: true, ..any("step-call", step_call) },
    any("halt-pending", || pending(halt, halt_after)),
    any("sti-shadow", || pending(sti_shadow, sti_shadow_after)),
    any("nmi-blocks-nmi", nmi_blocks_nmi),
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

const NMI: u8 = 2;
/// Loop rounds in which an NMI that is not blocked comes.
const PATIENCE: u32 = 100_000;

static NMIS: AtomicU32 = AtomicU32::new(0);
/// Where the first NMI's frame is: what it interrupted has its stack above.
static FIRST: AtomicU64 = AtomicU64::new(0);
static NESTED: AtomicBool = AtomicBool::new(false);
static INTERRUPTS_WERE_ON: AtomicBool = AtomicBool::new(false);

/// The first NMI's handler sends two more. Exits and time pass before its IRET.
fn send_more(frame: &mut Frame) {
    const INTERRUPT_FLAG: u64 = 1 << 9;
    if frame.rflags & INTERRUPT_FLAG != 0 {
        INTERRUPTS_WERE_ON.store(true, Ordering::Relaxed);
    }
    if NMIS.fetch_add(1, Ordering::Relaxed) == 0 {
        FIRST.store((&raw const *frame) as u64, Ordering::Relaxed);
        for _ in 0..2 {
            apic::send_nmi_to_self();
            hint::black_box(__cpuid(0));
        }
        (0..PATIENCE).for_each(|_| hint::spin_loop());
    } else if frame.rsp <= FIRST.load(Ordering::Relaxed) {
        NESTED.store(true, Ordering::Relaxed);
    }
}

/// An NMI comes although interrupts are disabled. What comes before its handler's IRET waits for
/// that, and of several one is kept (SDM vol. 3, Handling Multiple NMIs).
fn nmi_blocks_nmi() -> Verdict {
    cpu_interrupts::disable();
    interrupts::handle(NMI, send_more);
    apic::send_nmi_to_self();
    for _ in 0..PATIENCE {
        hint::spin_loop();
    }
    interrupts::forget(NMI);
    if INTERRUPTS_WERE_ON.load(Ordering::Relaxed) {
        return Err(Wrong::Other("interrupts were enabled"));
    }
    if NESTED.load(Ordering::Relaxed) {
        return Err(Wrong::Other("an NMI came before the IRET of the one before"));
    }
    match NMIS.load(Ordering::Relaxed) {
        2 => Ok(()),
        0 => Err(Wrong::Other("the NMI did not come")),
        1 => Err(Wrong::Other("the NMI that was sent while NMIs were blocked did not come")),
        _ => Err(Wrong::Other("more than one NMI was kept while NMIs were blocked")),
    }
}
