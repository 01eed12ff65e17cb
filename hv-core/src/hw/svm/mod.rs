//! AMD-V (SVM).

pub mod capability;
pub mod check;
pub mod detail;
pub mod exit_code;
pub mod intercept;
pub mod npt;
pub mod permission;
pub mod policy;
pub mod vmcb;

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
mod setup;
#[cfg(target_os = "none")]
pub mod vendor;
