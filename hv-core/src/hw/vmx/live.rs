//! vCPU state that VMX leaves in the CPU, and that is switched with the vCPU.

use crate::hw::instructions::{rdmsr, rdmsr_halves, wrmsr, wrmsr_halves};
use crate::hw::live::{debug_register, set_cr2, set_debug_register};
use crate::hw::start;
use crate::vm::hardware::LiveMsr;

const SYSCALL: [LiveMsr; 4] = [LiveMsr::Star, LiveMsr::Lstar, LiveMsr::Cstar, LiveMsr::Fmask];
const KERNEL_GS_BASE: u32 = LiveMsr::KernelGsBase as u32;

/// The MSRs that SYSCALL uses. Every write of them exits, so they are known without being read; they are written only
/// where those of another vCPU differ, which those of one kernel seldom do.
#[derive(Clone, Copy, Debug)]
pub struct Syscall([u64; SYSCALL.len()]);

impl Syscall {
    /// As they are in this CPU.
    pub fn of_this_cpu() -> Syscall {
        // SAFETY: they come with long mode; reading them has no effect.
        Syscall(SYSCALL.map(|msr| unsafe { rdmsr(msr as u32) }))
    }
}

/// The saved state of a vCPU that is not on a CPU.
#[derive(Debug)]
pub struct Live {
    syscall: Syscall,
    /// The guest has written one of them since it came to its CPU.
    written: bool,
    /// The halves of KERNEL_GS_BASE, as the instructions have them.
    kernel_gs_base: [u32; 2],
    dr6: u64,
    cr2: u64,
}

impl Live {
    /// The state after reset.
    pub const RESET: Live = Live {
        syscall: Syscall([0; SYSCALL.len()]),
        written: false,
        kernel_gs_base: [0; 2],
        dr6: start::DR6,
        cr2: 0,
    };

    /// Puts the state into this CPU, where `there` is.
    #[inline]
    pub fn load(&self, there: &mut Syscall) {
        let own = SYSCALL.into_iter().zip(&self.syscall.0);
        for ((msr, &value), there) in own.zip(&mut there.0) {
            if *there != value {
                *there = value;
                // SAFETY: these come with long mode; the value was legal when it was checked. The hypervisor
                // uses none of them.
                unsafe { wrmsr(msr as u32, value) };
            }
        }
        // SAFETY: as above; the value was legal when it was read.
        unsafe { wrmsr_halves(KERNEL_GS_BASE, self.kernel_gs_base) };
        set_debug_register(6, self.dr6);
        set_cr2(self.cr2);
    }

    /// Takes the state from this CPU, and notes what is there.
    #[inline]
    pub fn save(&mut self, there: &mut Syscall) {
        if core::mem::take(&mut self.written) {
            *there = self.syscall;
        }
        // SAFETY: as in `load`.
        self.kernel_gs_base = unsafe { rdmsr_halves(KERNEL_GS_BASE) };
        self.dr6 = debug_register(6);
        self.cr2 = x86_64::registers::control::Cr2::read_raw();
    }

    /// The guest has written an MSR.
    pub fn set(&mut self, msr: LiveMsr, value: u64) {
        let own = SYSCALL.into_iter().zip(&mut self.syscall.0).find(|&(own, _)| own == msr);
        if let Some((_, own)) = own {
            (*own, self.written) = (value, true);
        }
    }
}
