//! The virtualization extensions of both vendors: a guest is shown none, whoever runs it.

use core::arch::naked_asm;
use core::arch::x86_64::__cpuid;
use core::cell::UnsafeCell;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, Ordering};

use guest_kernel::interrupts::{self, Frame};
use guest_kernel::println;
use guest_kernel::probe::probe;
use x86_64::registers::model_specific::Msr;

use super::{Action, Case, Expected, Verdict, Wrong};

const BP: u64 = 3;
const UD: u8 = 6;
const GP: u64 = 13;

const fn case(name: &'static str, needs_pv: bool, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    case("virtualization-instructions", false, instructions),
    case("virtualization-msrs", true, msrs),
    case("virtualization-cpuid", true, cpuid),
    case("virtualization-svme", true, svme),
];

/// Instructions that are undefined as long as nobody has turned the extension on. Memory operands
/// are at RDI, registers are RAX and ECX.
const INSTRUCTIONS: &[(&str, &[u8])] = &[
    ("VMXON", &[0xf3, 0x0f, 0xc7, 0x37]),
    ("VMXOFF", &[0x0f, 0x01, 0xc4]),
    ("VMCLEAR", &[0x66, 0x0f, 0xc7, 0x37]),
    ("VMPTRLD", &[0x0f, 0xc7, 0x37]),
    ("VMPTRST", &[0x0f, 0xc7, 0x3f]),
    ("VMLAUNCH", &[0x0f, 0x01, 0xc2]),
    ("VMRESUME", &[0x0f, 0x01, 0xc3]),
    ("VMREAD", &[0x0f, 0x78, 0x07]),
    ("VMWRITE", &[0x0f, 0x79, 0x07]),
    ("VMFUNC", &[0x0f, 0x01, 0xd4]),
    ("INVEPT", &[0x66, 0x0f, 0x38, 0x80, 0x07]),
    ("INVVPID", &[0x66, 0x0f, 0x38, 0x81, 0x07]),
    ("VMRUN", &[0x0f, 0x01, 0xd8]),
    ("VMLOAD", &[0x0f, 0x01, 0xda]),
    ("VMSAVE", &[0x0f, 0x01, 0xdb]),
    ("STGI", &[0x0f, 0x01, 0xdc]),
    ("CLGI", &[0x0f, 0x01, 0xdd]),
    ("SKINIT", &[0x0f, 0x01, 0xde]),
    ("INVLPGA", &[0x0f, 0x01, 0xdf]),
];
/// What follows each, should it execute: an exception of another vector.
const INT3: u8 = 0xcc;
/// The longest instruction and what follows it.
const CODE: usize = 8;
/// What the registers hold that no instruction names.
const PATTERN: u64 = 0x5eed_5eed_5eed_5eed;

/// An instruction to execute, and the memory for its operand.
#[derive(Clone, Copy)]
#[repr(C)]
struct Scratch {
    code: [u8; CODE],
    memory: [u64; 7],
}

#[repr(align(64))]
struct Cell(UnsafeCell<Scratch>);
// SAFETY: there is one CPU, and one case at a time uses it.
unsafe impl Sync for Cell {}

/// Identity mapped like all of the image, where every page is executable.
static SCRATCH: Cell = Cell(UnsafeCell::new(Scratch { code: [INT3; CODE], memory: [0; 7] }));

/// Where the instruction of [`SCRATCH`] is.
fn code() -> u64 {
    SCRATCH.0.get() as u64
}

/// Whether the instruction was undefined and left the registers as they were.
static UNDEFINED: AtomicBool = AtomicBool::new(false);

/// Judges, and goes on where every byte is an INT3.
fn judge(frame: &mut Frame) {
    UNDEFINED.store(frame.rip == code() && is_untouched(frame), Ordering::Relaxed);
    frame.rip = code() + CODE as u64 - 1;
}

/// Each must be undefined, point at itself, and leave registers, flags and memory as they were.
fn instructions() -> Verdict {
    interrupts::handle(UD, judge);
    let verdict = INSTRUCTIONS.iter().try_for_each(|&(name, bytes)| {
        undefined(bytes).inspect_err(|_| println!("@hostile {name}:"))
    });
    interrupts::forget(UD);
    verdict
}

fn undefined(bytes: &[u8]) -> Verdict {
    let mut text = [INT3; CODE];
    text[..bytes.len()].copy_from_slice(bytes);
    UNDEFINED.store(false, Ordering::Relaxed);
    // SAFETY: see `Cell`.
    unsafe { SCRATCH.0.get().write_volatile(Scratch { code: text, memory: [0; 7] }) };
    // SAFETY: the code faults; the probe restores what `execute` changed.
    match probe(|| unsafe { execute(code(), code() + CODE as u64) }) {
        Err(fault) if fault.vector == BP => {}
        Err(fault) => return Err(Wrong::Fault(fault)),
        Ok(()) => return Err(Wrong::NoFault),
    }
    // SAFETY: see `Cell`.
    let Scratch { memory, .. } = unsafe { SCRATCH.0.get().read_volatile() };
    if UNDEFINED.load(Ordering::Relaxed) && memory == [0; 7] {
        Ok(())
    } else {
        Err(Wrong::Other("it was executed, or changed a register or memory"))
    }
}

/// Whether the registers are those that `execute` loaded.
fn is_untouched(frame: &Frame) -> bool {
    /// CF, PF, ZF, SF and OF; AF is not defined after XOR.
    const FLAGS: u64 = 0x8c5;
    const PARITY_AND_ZERO: u64 = 0x44;
    let Frame { rbx, rdx, rsi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, .. } = *frame;
    [rbx, rdx, rsi, rbp, r8, r9, r10, r11, r12, r13, r14, r15] == [PATTERN; 12]
        && [frame.rax, frame.rcx, frame.rdi] == [0, 0, code() + CODE as u64]
        && frame.rflags & FLAGS == PARITY_AND_ZERO
}

/// Goes to `code` with `memory` in RDI.
#[unsafe(naked)]
unsafe extern "C" fn execute(code: u64, memory: u64) {
    naked_asm!(
        "push rdi",
        "mov rdi, rsi",
        ".irp register, rbx, rdx, rsi, rbp, r8, r9, r10, r11, r12, r13, r14, r15",
        "movabs \\register, {pattern}",
        ".endr",
        "xor ecx, ecx",
        "xor eax, eax",
        "ret",
        pattern = const PATTERN,
    )
}

/// IA32_FEATURE_CONTROL, the capabilities of VMX, and VM_CR, IGNNE, SMM_CTL, VM_HSAVE_PA and
/// SVM_KEY.
const MSRS: &[RangeInclusive<u32>] = &[0x3a..=0x3a, 0x480..=0x491, 0xc001_0114..=0xc001_0118];

/// The extensions' MSRs are not there.
fn msrs() -> Verdict {
    // SAFETY: a fault is what the probe is for; should there be none, the case has failed.
    let read = |msr| unsafe { Msr::new(msr).read() };
    // SAFETY: as above.
    let write = |msr| unsafe { Msr::new(msr).write(0) };
    MSRS.iter().cloned().flatten().try_for_each(|msr| {
        let faults = refused(|| read(msr)).and_then(|()| refused(|| write(msr)));
        faults.inspect_err(|_| println!("@hostile MSR {msr:#x}:"))
    })
}

fn refused<T>(code: impl FnOnce() -> T) -> Verdict {
    match probe(code) {
        Ok(_) => Err(Wrong::NoFault),
        Err(fault) if fault.vector == GP && fault.error == 0 => Ok(()),
        Err(fault) => Err(Wrong::Fault(fault)),
    }
}

/// CPUID shows no extension.
fn cpuid() -> Verdict {
    const SVM_LEAF: u32 = 0x8000_000a;
    if __cpuid(1).ecx & 1 << 5 != 0 {
        return Err(Wrong::Other("CPUID shows VMX"));
    }
    let last = __cpuid(0x8000_0000).eax;
    if last >= 0x8000_0001 && __cpuid(0x8000_0001).ecx & 1 << 2 != 0 {
        return Err(Wrong::Other("CPUID shows SVM"));
    }
    let svm = __cpuid(SVM_LEAF);
    if last >= SVM_LEAF && [svm.eax, svm.ebx, svm.ecx, svm.edx] != [0; 4] {
        return Err(Wrong::Other("CPUID shows features of SVM"));
    }
    Ok(())
}

/// SVM cannot be turned on and is never seen to be on.
fn svme() -> Verdict {
    const EFER: u32 = 0xc000_0080;
    const SVME: u64 = 1 << 12;
    // SAFETY: every CPU with long mode has the MSR; the write faults, or the case has failed.
    let read = || unsafe { Msr::new(EFER).read() };
    let is_off = |why| if read() & SVME == 0 { Ok(()) } else { Err(Wrong::Other(why)) };
    is_off("EFER.SVME is on")?;
    // SAFETY: as above.
    refused(|| unsafe { Msr::new(EFER).write(read() | SVME) })?;
    is_off("EFER.SVME is on after a write that was refused")
}
