//! The Paravane hypervisor.
//!
//! The library is free of hardware: it decodes, decides and keeps state, and is tested on a
//! workstation. Everything that touches the machine stands below [`hw`] and `boot`, which exist
//! only for the bare-metal target.
#![no_std]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(any(test, not(target_os = "none")))]
extern crate std;

pub mod device;
pub mod emulate;
pub mod host;
pub mod hw;
pub mod hypercall;
pub mod mem;
pub mod sched;
mod sync;
pub mod vm;

#[cfg(target_os = "none")]
pub mod boot;
