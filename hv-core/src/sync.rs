//! What CPUs share: the machine's atomics and locks or, under `--cfg loom`, those of a checker that tries every
//! order of what threads do. The tests of what stands on them are in `tests/loom`.

#[cfg(loom)]
mod checked;

#[cfg(loom)]
pub use checked::{Mutex, atomic};
#[cfg(not(loom))]
pub use {core::sync::atomic, spin::Mutex};
