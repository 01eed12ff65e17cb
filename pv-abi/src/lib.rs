//! The Paravane hypercall ABI, version 0.1: call numbers, status codes, wire structures and
//! CPUID discovery.
//!
//! This crate is data only. The hypervisor and the guest-side shim both depend on it and never on
//! each other; `spec/` is checked against the tables in it. Whoever implements the ABI in another
//! language reads the specification; whoever implements it in Rust uses these types.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod area;
pub mod call;
pub mod cpuid;
pub mod event;
pub mod exit;
mod layout;
pub mod ring;
pub mod stat;
pub mod status;

pub use layout::Field;
pub use status::Status;

/// The ABI version that this crate describes, as `base.version` returns it: major in bits 31:16,
/// minor in bits 15:0.
///
/// While the major number is 0, every minor number may break its predecessors.
pub const VERSION: u32 = 1;

/// Splits a version into its major and minor number.
pub const fn version_parts(version: u32) -> (u16, u16) {
    ((version >> 16) as u16, version as u16)
}
