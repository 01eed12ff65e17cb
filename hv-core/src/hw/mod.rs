//! The hardware: instructions, the machine's own devices, and the backends. Nearly all `unsafe` of
//! the hypervisor stands here; what is pure is compiled, and tested, on any machine.

pub mod vmx;

#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod exceptions;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
pub use heap::init as init_heap;
#[cfg(target_os = "none")]
pub mod input;
#[cfg(target_os = "none")]
pub mod instructions;
#[cfg(target_os = "none")]
pub mod live;
#[cfg(target_os = "none")]
pub mod local_apic;
#[cfg(target_os = "none")]
mod log;
#[cfg(target_os = "none")]
pub mod output;
#[cfg(target_os = "none")]
pub mod paging;
#[cfg(target_os = "none")]
pub mod physical;
#[cfg(target_os = "none")]
pub mod speculation;
#[cfg(target_os = "none")]
pub mod time;

/// Executes CPUID.
pub trait Cpuid {
    /// EAX, EBX, ECX and EDX.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];
}
