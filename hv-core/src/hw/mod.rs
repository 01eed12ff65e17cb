//! The hardware: instructions, the machine's own devices, and the backends. Nearly all `unsafe` of
//! the hypervisor stands here; what is pure is compiled, and tested, on any machine.

mod bits;
pub mod check;
pub mod exit_codes;
pub mod find;
pub mod limits;
pub mod msr_map;
mod refusal;
pub mod segment;
pub mod start;
pub mod svm;
pub mod tags;
#[cfg(test)]
pub(crate) mod testing;
pub mod vmx;

#[cfg(target_os = "none")]
pub mod common;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod exceptions;
#[cfg(target_os = "none")]
pub mod extension;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
pub use heap::{init as init_heap, used as heap_used};
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
mod quick;
#[cfg(target_os = "none")]
pub mod speculation;
#[cfg(target_os = "none")]
mod switch;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
pub mod translations;
#[cfg(target_os = "none")]
pub mod vendor;
#[cfg(target_os = "none")]
pub mod wall_clock;

/// Executes CPUID.
pub trait Cpuid {
    /// EAX, EBX, ECX and EDX.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];

    /// The same where the leaf's range announces the leaf, else zeros.
    fn announced(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let [top, ..] = self.cpuid(leaf & 0xffff_0000, 0);
        if leaf <= top { self.cpuid(leaf, subleaf) } else { [0; 4] }
    }

    /// Widths of physical and of linear addresses in bits.
    fn address_widths(&self) -> (u8, u8) {
        match self.announced(0x8000_0008, 0) {
            [0, ..] => (36, 48),
            [widths, ..] => (widths as u8, (widths >> 8) as u8),
        }
    }
}

/// Reads MSRs that are known to exist.
pub trait ReadMsr {
    /// The MSR's value.
    fn read_msr(&self, msr: u32) -> u64;
}
