//! Instructions and register values that hardware refuses: the exception is the hardware's, whoever
//! runs us.

use core::arch::x86_64::__cpuid;
use core::arch::{asm, global_asm};

use guest_kernel::descriptors::selector;
use guest_kernel::frames;
use guest_kernel::paging::{AddressSpace, PRIVATE};
use guest_kernel::println;
use guest_kernel::probe::probe;
use guest_kernel::timer;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::structures::paging::{Page, PageTableFlags};

use super::{Action, Case, Expected, Verdict, Wrong};
use crate::raw::is_amd;

const DB: u64 = 1;
const BP: u64 = 3;
const UD: u64 = 6;
const GP: u64 = 13;
const PF: u64 = 14;

/// An exception that every CPU without an owner of its virtualization extensions gives.
const fn faults(name: &'static str, vector: u64, code: fn()) -> Case {
    let action = Action::Faults(vector, code);
    Case { name, expected: Expected::Survives, needs_pv: false, action }
}

/// An exception that Paravane's virtual CPU gives; another one may have what is asked for.
const fn faults_here(name: &'static str, vector: u64, code: fn()) -> Case {
    Case { needs_pv: true, ..faults(name, vector, code) }
}

const fn code(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: false, action: Action::Run(run) }
}

/// Code of a few instructions. Memory operands are at RDI, which points at 64 bytes of zeros.
macro_rules! run {
    ($($text:literal),+) => {
        || {
            let memory = [0u64; 8];
            // SAFETY: the instructions fault, or touch only what is named here.
            unsafe {
                asm!($($text),+, in("rdi") &memory, out("rax") _, out("rcx") _, out("rdx") _)
            }
        }
    };
}

/// The cases.
pub const CASES: &[Case] = &[
    faults("getsec", UD, run!("xor eax, eax", ".byte 0x0f, 0x37")),
    faults("rsm", UD, run!("rsm")),
    faults("ltr-null", GP, run!("xor eax, eax", "ltr ax")),
    faults("into", UD, run!(".byte 0xce")),
    faults("int3", BP, run!("int3")),
    faults_here("icebp", DB, run!(".byte 0xf1")),
    faults("jump-unmapped", PF, run!("mov rax, 0x400000000000", "jmp rax")),
    faults("call-32-bit", UD, || far_call(CALL_32, selector::KERNEL_CODE_32, 0)),
    faults("call-16-bit", UD, || far_call(CALL_16, selector::KERNEL_CODE_16, IMAGE)),
    faults("call-user", UD, call_from_user),
    faults("call-other-vendor", UD, call_of_other_vendor),
    // Where the hypercall ABI is offered, nothing faults.
    Case { expected: Expected::Depends, ..faults("call-not-offered", UD, call_not_offered) },
    faults_here("rdpmc", GP, run!("mov ecx, 0x1000", "rdpmc")),
    faults_here("monitor", UD, run!("mov rax, rdi", "xor ecx, ecx", "xor edx, edx", "monitor")),
    faults_here("mwait", UD, run!("xor eax, eax", "xor ecx, ecx", "mwait")),
    faults_here("rdmsr-nowhere", GP, || read(0x1234_5678)),
    faults_here("wrmsr-nowhere", GP, || write(0x1234_5678, 0)),
    faults_here("efer-reserved", GP, || write(EFER, guest(EFER) | 1 << 63)),
    faults_here("efer-lme", GP, || write(EFER, guest(EFER) & !(1 << 8))),
    Case { needs_pv: true, ..code("cpuid-efer", cpuid_efer) },
    Case { needs_pv: true, ..code("rdtscp", rdtscp) },
    Case { needs_pv: true, ..code("rdpmc-counter", rdpmc_counter) },
    faults_here("apic-base-reserved", GP, || write(0x1b, guest(0x1b) | 1)),
    faults_here("pat-reserved", GP, || write(0x277, 2)),
    faults_here("fs-base-canonical", GP, || write(0xc000_0100, 1 << 63)),
    faults_here("sysenter-canonical", GP, || write(0x176, 1 << 63)),
    faults_here("cr0-reserved", GP, || cr0(1 << 32, 0)),
    faults_here("cr0-paging-without-protection", GP, || cr0(0, 1)),
    faults_here("cr0-write-through-without-disable", GP, || cr0(1 << 29, 1 << 30)),
    faults_here("cr4-reserved", GP, || cr4(1 << 63, 0)),
    faults_here("cr4-vmxe", GP, || cr4(1 << 13, 0)),
    faults_here("cr4-pae-in-long-mode", GP, || cr4(0, 1 << 5)),
    faults_here("cr3-reserved", GP, run!("mov rax, 0x4000000000000000", "mov cr3, rax")),
    faults_here("cr8-reserved", GP, run!("mov eax, 16", "mov cr8, rax")),
    code("xcr0-x87", || xcr(0, 0)),
    code("xcr0-reserved", || xcr(0, 1 << 62 | 1)),
    code("xcr-nowhere", || xcr(7, 1)),
];

const EFER: u32 = 0xc000_0080;

fn read(msr: u32) {
    guest(msr);
}

fn guest(msr: u32) -> u64 {
    // SAFETY: no MSR that a case names has a read with an effect; a fault is what the probe is for.
    unsafe { Msr::new(msr).read() }
}

fn write(msr: u32, value: u64) {
    // SAFETY: a fault, which the probe is for; otherwise the case has failed and says so.
    unsafe { Msr::new(msr).write(value) }
}

const ECX: u32 = 0;
const EDX: u32 = 32;
/// Bits of EFER, each with the bit of EDX:ECX by which leaf 8000_0001h of CPUID announces it.
const EFER_BITS: &[(&str, u32, u32)] = &[
    ("SCE", 0, EDX + 11),
    ("NXE", 11, EDX + 20),
    ("SVME", 12, ECX + 2),
    ("FFXSR", 14, EDX + 25),
    ("TCE", 15, ECX + 17),
];

/// RDTSCP is between two RDTSCs, and brings what TSC_AUX has.
fn rdtscp() -> Verdict {
    const HAS_RDTSCP: u32 = 1 << 27;
    const TSC_AUX: u32 = 0xc000_0103;
    const NUMBER: u64 = 0x1234_5678;
    if __cpuid(0x8000_0001).edx & HAS_RDTSCP == 0 {
        return Ok(());
    }
    write(TSC_AUX, NUMBER);
    let (between, aux): (u64, u64);
    let before = timer::now();
    // SAFETY: it writes the three registers alone.
    unsafe {
        asm!("rdtscp", "shl rdx, 32", "or rax, rdx", out("rax") between, out("rcx") aux, out("rdx") _)
    }
    let after = timer::now();
    write(TSC_AUX, 0);
    if before <= between && between <= after && aux == NUMBER {
        Ok(())
    } else {
        Err(Wrong::Other("RDTSCP tells another time or another TSC_AUX"))
    }
}

/// The counters that AMD's CPUs have are read as they were written; behind RDPMC the guest goes on.
fn rdpmc_counter() -> Verdict {
    const COUNTER: u32 = 0xc001_0004;
    const NUMBER: u64 = 0x1234_5678;
    if !is_amd() {
        return Ok(());
    }
    write(COUNTER, NUMBER);
    let (low, high): (u32, u32);
    let mut behind = 0;
    // SAFETY: it writes the two registers alone.
    unsafe {
        asm!("rdpmc", "inc {:e}", inout(reg) behind, in("ecx") 0, out("eax") low, out("edx") high)
    }
    write(COUNTER, 0);
    if u64::from(high) << 32 | u64::from(low) == NUMBER && behind == 1 {
        Ok(())
    } else {
        Err(Wrong::Other("RDPMC tells what was not written, or the guest goes on elsewhere"))
    }
}

/// What CPUID announces can be set, and what it does not is refused.
fn cpuid_efer() -> Verdict {
    let leaf = __cpuid(0x8000_0001);
    let announced = u64::from(leaf.edx) << EDX | u64::from(leaf.ecx) << ECX;
    let before = guest(EFER);
    EFER_BITS.iter().try_for_each(|&(name, bit, feature)| {
        let result = probe(|| write(EFER, before | 1 << bit));
        let after = guest(EFER);
        write(EFER, before);
        let verdict = match (announced >> feature & 1 != 0, result) {
            (true, Ok(())) if after == before | 1 << bit => Ok(()),
            (true, Ok(())) => Err(Wrong::Other("it is announced and stays 0")),
            (false, Ok(())) => Err(Wrong::Other("it is not announced, and can be written")),
            (false, Err(fault)) if fault.vector == GP && after == before => Ok(()),
            (_, Err(fault)) => Err(Wrong::Fault(fault)),
        };
        verdict.inspect_err(|_| println!("@hostile EFER.{name}:"))
    })
}

fn cr0(set: u64, clear: u64) {
    // SAFETY: as `write`.
    unsafe { Cr0::write_raw(Cr0::read_raw() & !clear | set) }
}

fn cr4(set: u64, clear: u64) {
    // SAFETY: as `write`.
    unsafe { Cr4::write_raw(Cr4::read_raw() & !clear | set) }
}

/// XSETBV with a value that must fault, where the CPU has it.
fn xcr(register: u32, value: u64) -> Verdict {
    // CPUID.1:ECX bit 26.
    if __cpuid(1).ecx & 1 << 26 == 0 {
        return Ok(());
    }
    // SAFETY: CPUID offers it.
    unsafe { Cr4::update(|flags| *flags |= Cr4Flags::OSXSAVE) };
    let code = || {
        // SAFETY: as `write`.
        unsafe {
            asm!("xsetbv", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32)
        }
    };
    match probe(code) {
        Ok(()) => Err(Wrong::NoFault),
        Err(fault) if fault.vector == GP => Ok(()),
        Err(fault) => Err(Wrong::Fault(fault)),
    }
}

/// Where the image, and the 16-bit code segment, begins.
const IMAGE: u64 = 0x10_0000;

unsafe extern "C" {
    fn call_32_intel();
    fn call_32_amd();
    fn call_16_intel();
    fn call_16_amd();
    fn call_64_intel();
    fn call_64_amd();
}

// Each is a call and, in case that does not fault, an instruction that causes another exception.
// The 16-bit code has to be in the image's first 64 KiB, where the entry code is.
global_asm!(
    ".pushsection .text.entry.modes, \"ax\"",
    ".code16",
    "call_16_intel: vmcall; int3",
    "call_16_amd: vmmcall; int3",
    ".code32",
    "call_32_intel: vmcall; int3",
    "call_32_amd: vmmcall; int3",
    ".code64",
    "call_64_intel: vmcall; int3",
    "call_64_amd: vmmcall; int3",
    ".popsection",
);

/// A call in code of some size, for Intel and for AMD.
type Calls = [unsafe extern "C" fn(); 2];
const CALL_16: Calls = [call_16_intel, call_16_amd];
const CALL_32: Calls = [call_32_intel, call_32_amd];
const CALL_64: Calls = [call_64_intel, call_64_amd];
/// The longest of them in bytes.
const CALL_LENGTH: usize = 4;

/// Where the code for the CPU's own vendor, or for the other one, is.
fn address(calls: Calls, own: bool) -> u64 {
    calls[usize::from(is_amd() == own)] as usize as u64
}

fn call_of_other_vendor() {
    // SAFETY: a function of two instructions, the second of which causes an exception at the latest.
    unsafe { asm!("call {}", in(reg) address(CALL_64, false), clobber_abi("C")) }
}

fn call_not_offered() {
    // SAFETY: as above; with this number it would be refused anyway.
    unsafe {
        asm!("call {}", in(reg) address(CALL_64, true), inlateout("rax") u64::MAX => _, clobber_abi("C"))
    }
}

/// Goes to a code segment of another size. Only an exception comes back.
fn far_call(calls: Calls, segment: u64, base: u64) {
    let offset = address(calls, true) - base;
    // SAFETY: the code at the target faults; the probe's handler restores segment and stack.
    unsafe { asm!("push {0}", "push {1}", "retfq", in(reg) segment, in(reg) offset) }
}

/// The call from CPL 3. The code is copied to a page that CPL 3 may execute.
fn call_from_user() {
    let page = Page::containing_address(VirtAddr::new(PRIVATE + (1 << 30)));
    let frame = frames::allocate();
    // SAFETY: the frame is ours, the code shorter than a page.
    unsafe {
        core::ptr::copy_nonoverlapping(
            address(CALL_64, true) as *const u8,
            frame.start_address().as_u64() as *mut u8,
            CALL_LENGTH,
        );
    }
    let space = AddressSpace::current();
    // It may be mapped from an earlier run, to the same code.
    let _ = space.map(page, frame, PageTableFlags::USER_ACCESSIBLE);
    let address = page.start_address().as_u64();
    // SAFETY: the code at CPL 3 touches nothing and faults; the TSS has a stack for that.
    unsafe {
        asm!(
            "push {ss}", "push {stack}", "push 2", "push {cs}", "push {code}", "iretq",
            ss = in(reg) selector::USER_DATA,
            stack = in(reg) address + 4096,
            cs = in(reg) selector::USER_CODE,
            code = in(reg) address,
        )
    }
}
