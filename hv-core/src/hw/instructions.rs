//! Instructions without a wrapper in the x86_64 crate, and the CPU as those see it that ask what it has.

use core::arch::asm;

use super::{Cpuid, ReadMsr};

/// The CPU that executes this.
pub struct ThisCpu;

impl ReadMsr for ThisCpu {
    fn read_msr(&self, msr: u32) -> u64 {
        // SAFETY: who asks knows from CPUID, or from another MSR, that the CPU has it.
        unsafe { rdmsr(msr) }
    }
}

impl Cpuid for ThisCpu {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
        [r.eax, r.ebx, r.ecx, r.edx]
    }
}

/// RDTSC.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: the hypervisor runs at CPL 0 and in root mode, where RDTSC always works; it reads a
    // counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Reads an MSR.
///
/// # Safety
///
/// The CPU has the MSR, otherwise the read is a #GP in the hypervisor.
#[inline(always)]
pub unsafe fn rdmsr(msr: u32) -> u64 {
    // SAFETY: as the caller vouches.
    let [low, high] = unsafe { rdmsr_halves(msr) };
    u64::from(high) << 32 | u64::from(low)
}

/// The same as the instruction has it: the lower half, and the upper one.
///
/// # Safety
///
/// As for [`rdmsr`].
#[inline(always)]
pub unsafe fn rdmsr_halves(msr: u32) -> [u32; 2] {
    let (low, high): (u32, u32);
    // SAFETY: the caller vouches for the MSR; reading it changes no memory.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    [low, high]
}

/// Writes an MSR.
///
/// # Safety
///
/// The CPU has the MSR, the value is legal for it, and what it changes is the caller's to change.
#[inline(always)]
pub unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: as the caller vouches.
    unsafe { wrmsr_halves(msr, [value as u32, (value >> 32) as u32]) };
}

/// The same as the instruction has it: the lower half, and the upper one.
///
/// # Safety
///
/// As for [`wrmsr`].
#[inline(always)]
pub unsafe fn wrmsr_halves(msr: u32, [low, high]: [u32; 2]) {
    // SAFETY: as the caller vouches.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack, preserves_flags));
    }
}

/// Stops the CPU for ever.
pub fn stop() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
