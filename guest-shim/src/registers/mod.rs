//! Registers, under the paths of the `x86_64` crate.

pub mod control;
pub mod model_specific;
pub mod xcontrol;

pub use x86_64::registers::{debug, mxcsr, read_rip, rflags, segmentation};
