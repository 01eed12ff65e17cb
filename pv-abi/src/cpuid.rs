//! Discovery by CPUID.
//!
//! The leaves stand at the first free base of `0x4000_0000 + n * 0x100`, n = 0..=255; a guest
//! searches for [`SIGNATURE`] in EBX, ECX, EDX of each base. Leaf numbers below are relative to it.

use bitflags::bitflags;

/// The lowest base at which the leaves can stand.
pub const FIRST_BASE: u32 = 0x4000_0000;
/// The distance between two bases.
pub const BASE_STEP: u32 = 0x100;
/// The number of bases that a guest tries.
pub const BASES: u32 = 256;

/// What EBX, ECX and EDX of leaf [`leaf::SIGNATURE`] spell, in this order, little endian.
pub const SIGNATURE: &[u8; 12] = b"Paravane\0\0\0\0";

/// Relative leaf numbers.
pub mod leaf {
    /// EAX: the highest leaf, absolute. EBX, ECX, EDX: [`super::SIGNATURE`].
    pub const SIGNATURE: u32 = 0;
    /// EAX: the ABI version ([`crate::VERSION`]). EBX, ECX, EDX: 0.
    pub const VERSION: u32 = 1;
    /// Sub-leaf n: bits 128n to 128n+127 of the extension bitmap, in EAX, EBX, ECX, EDX.
    pub const EXTENSIONS: u32 = 2;
    /// Sub-leaf n: bits 128n to 128n+127 of [`super::Recommendations`], in EAX, EBX, ECX, EDX.
    pub const RECOMMENDATIONS: u32 = 3;
    /// EAX: the calling vCPU's number. EBX: the VM's vCPUs. ECX: the longest console transfer in
    /// bytes. EDX: 0.
    pub const LIMITS: u32 = 4;
    /// EAX, EBX: the TSC's frequency in Hz, low and high half. ECX: the frequency in Hz that the
    /// virtual APIC timer counts at before its divider. EDX: 0.
    pub const FREQUENCY: u32 = 5;
    /// The highest relative leaf of this version.
    pub const LAST: u32 = FREQUENCY;
}

bitflags! {
    /// Which replacements pay under the policy that the VM runs on. A guest that replaces what does
    /// not exit only loses by it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Recommendations: u32 {
        /// Read CPUID from the mirror in the read-only half.
        const CPUID_MIRROR = 1 << 0;
        /// Idle by `sched.halt_until`.
        const HALT = 1 << 1;
        /// Arm the timer by the shared deadline and `timer.arm`.
        const TIMER = 1 << 2;
        /// Signal end of interrupt by the flag in the shared half.
        const EOI = 1 << 3;
        /// Write to the console by call or ring.
        const CONSOLE = 1 << 4;
        /// Read the time from the clock in the read-only half instead of a device.
        const CLOCK = 1 << 5;
        /// Keep shadows of CR0 and CR4 and drop writes that change nothing.
        const CR_SHADOW = 1 << 6;
        /// Reset and shut down by `sys`.
        const SYS = 1 << 7;
        /// Read RDTSC-based time from the clock's last value: RDTSC itself exits.
        const TSC_EXITS = 1 << 8;
        /// Start, interrupt and flush other vCPUs, and wait for them, by `smp`.
        const SMP = 1 << 9;
    }
}

/// The signature as EBX, ECX, EDX.
pub const fn signature_registers() -> [u32; 3] {
    let s = SIGNATURE;
    [
        u32::from_le_bytes([s[0], s[1], s[2], s[3]]),
        u32::from_le_bytes([s[4], s[5], s[6], s[7]]),
        u32::from_le_bytes([s[8], s[9], s[10], s[11]]),
    ]
}
