//! Instructions that exit, one file for each kind: what they do to the guest's state.

pub mod cpuid;
pub mod cr;
pub mod debug;
pub mod decode;
pub mod execute;
pub mod instruction;
pub mod mmio;
pub mod msr;
pub mod mtrr;
pub mod port;
pub mod recent;
pub mod step;
