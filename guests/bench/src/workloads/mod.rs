//! The workloads. Modules `op` hold one operation each, for the workload and for the mix.

pub mod console;
pub mod cpu;
pub mod events;
pub mod memory;
pub mod mixed;
pub mod rings;
pub mod smp;
pub mod time;
pub mod turns;
