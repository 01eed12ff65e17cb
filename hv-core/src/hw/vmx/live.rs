//! vCPU state that VMX leaves in the CPU, and that is switched with the vCPU.

use crate::hw::instructions::{rdmsr_halves, wrmsr_halves};
use crate::hw::live::{debug_register, set_cr2, set_debug_register};
use crate::hw::start;
use crate::vm::hardware::LiveMsr;

const MSRS: [LiveMsr; 5] =
    [LiveMsr::Star, LiveMsr::Lstar, LiveMsr::Cstar, LiveMsr::Fmask, LiveMsr::KernelGsBase];

/// The saved state of a vCPU that is not on a CPU.
#[derive(Debug)]
pub struct Live {
    /// The halves of each, as the instructions have them.
    msrs: [[u32; 2]; MSRS.len()],
    dr6: u64,
    cr2: u64,
}

impl Live {
    /// The state after reset.
    pub const RESET: Live = Live { msrs: [[0; 2]; MSRS.len()], dr6: start::DR6, cr2: 0 };

    /// Puts the state into this CPU.
    pub fn load(&self) {
        for (msr, &value) in MSRS.into_iter().zip(&self.msrs) {
            // SAFETY: these come with long mode; values were legal when they were read or checked. The
            // hypervisor uses none of them.
            unsafe { wrmsr_halves(msr as u32, value) };
        }
        set_debug_register(6, self.dr6);
        set_cr2(self.cr2);
    }

    /// Takes the state from this CPU.
    pub fn save(&mut self) {
        for (msr, value) in MSRS.into_iter().zip(&mut self.msrs) {
            // SAFETY: as in `load`.
            *value = unsafe { rdmsr_halves(msr as u32) };
        }
        self.dr6 = debug_register(6);
        self.cr2 = x86_64::registers::control::Cr2::read_raw();
    }
}
