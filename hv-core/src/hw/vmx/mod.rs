//! Intel VT-x.

pub mod capability;
pub mod check;
pub mod controls;
pub mod ept;
pub mod exit_reason;
pub mod field;
pub mod msr_bitmap;
pub mod policy;
pub mod qualification;

#[cfg(target_os = "none")]
mod backend;
#[cfg(target_os = "none")]
mod decode;
#[cfg(target_os = "none")]
mod enter;
#[cfg(target_os = "none")]
pub mod guest;
#[cfg(target_os = "none")]
mod hardware;
#[cfg(target_os = "none")]
mod live;
#[cfg(target_os = "none")]
mod setup;
#[cfg(target_os = "none")]
pub mod vendor;
#[cfg(target_os = "none")]
pub mod vmcs;
