//! What the reference guests share: a real, small kernel.
//!
//! It is entered by the PVH protocol, runs identity mapped in long mode and has interrupts, paging,
//! a frame allocator, a local APIC timer, a console, cooperative threads and other CPUs. One binary runs on bare
//! metal, under a hypervisor that traps what it does, and with the shim.
//!
//! A guest is a `fn() -> u8` given to [`guest!`]; what it returns is the exit code.
#![no_std]
#![warn(missing_docs)]

pub mod acpi;
pub mod options;

#[cfg(target_os = "none")]
pub mod apic;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod descriptors;
#[cfg(target_os = "none")]
pub mod end;
mod extended;
#[cfg(target_os = "none")]
pub mod frames;
#[cfg(target_os = "none")]
pub mod info;
#[cfg(target_os = "none")]
pub mod interrupts;
#[cfg(target_os = "none")]
pub mod ipi;
#[cfg(target_os = "none")]
pub mod paging;
#[cfg(target_os = "none")]
pub mod probe;
#[cfg(target_os = "none")]
pub mod pv;
#[cfg(target_os = "none")]
pub mod scratch;
#[cfg(target_os = "none")]
pub mod serial;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod thread;
#[cfg(target_os = "none")]
pub mod timer;

/// Names the guest and its main function: `guest!("bench", run)` with `fn run() -> u8`.
///
/// The name begins the lines that the host tool looks for, `@bench fail ...` among them.
#[macro_export]
macro_rules! guest {
    ($name:literal, $main:path) => {
        #[unsafe(no_mangle)]
        static GUEST: $crate::Guest = $crate::Guest { name: $name, main: $main };
    };
}

/// A guest, as [`guest!`] declares it.
pub struct Guest {
    /// Its name.
    pub name: &'static str,
    /// Its main function; the result is the exit code.
    pub main: fn() -> u8,
}

#[cfg(target_os = "none")]
unsafe extern "Rust" {
    safe static GUEST: Guest;
}

/// The guest that this kernel was linked into.
#[cfg(target_os = "none")]
pub fn guest() -> &'static Guest {
    &GUEST
}
