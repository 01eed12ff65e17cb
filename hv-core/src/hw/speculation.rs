//! The two places at which a policy against speculative side channels acts: before every entry, and
//! where one VM follows another on a CPU. What it covers, and what not, is in the threat model.

use super::Cpuid;
use super::instructions::wrmsr;

const PRED_CMD: u32 = 0x49;
const PRED_CMD_IBPB: u64 = 1 << 0;

/// What this CPU can do.
#[derive(Clone, Copy, Debug)]
pub struct Speculation {
    /// The indirect-branch predictor barrier exists.
    barrier: bool,
}

impl Speculation {
    /// Asks the CPU.
    pub fn of(cpuid: &impl Cpuid) -> Speculation {
        let intel = cpuid.announced(7, 0)[3] & 1 << 26 != 0;
        let amd = cpuid.announced(0x8000_0008, 0)[1] & 1 << 12 != 0;
        Speculation { barrier: intel || amd }
    }

    /// Another VM is about to run on this CPU: it must not steer the other's branches, nor learn
    /// from them.
    pub fn at_switch(self) {
        if self.barrier {
            // SAFETY: the CPU has the MSR; the command has no effect but on predictors.
            unsafe { wrmsr(PRED_CMD, PRED_CMD_IBPB) };
        }
    }

    /// Before every entry. Empty in this version: flushing L1D or buffers (L1TF, MDS) is not done.
    #[inline(always)]
    pub fn before_entry() {}
}
