//! The per-vCPU area: what is shared instead of asked for.
//!
//! It has two halves, because each writer has its own pages. The *shared half* is a page of the
//! guest's RAM that the guest registers. The *read-only half* belongs to the hypervisor, which maps
//! it, read-only, at the guest-physical address that `area.register` returns; a guest cannot damage
//! what it says.

use crate::event;
use crate::exit;
use crate::layout::wire;

/// Size and alignment of the shared half, in bytes.
pub const SHARED_SIZE: usize = 4096;
/// Size of the read-only half, in bytes. It is aligned to a page.
pub const INFO_SIZE: usize = 8192;
/// Slots of [`VcpuInfo::calls`].
pub const CALL_SLOTS: usize = 128;
/// Functions of one extension that have a slot of their own in [`VcpuInfo::calls`].
pub const CALLS_PER_EXTENSION: u16 = 8;
/// Entries of the CPUID mirror.
pub const CPUID_ENTRIES: usize = 126;

/// The slot in [`VcpuInfo::calls`] in which a call is counted; the last one takes what has no slot
/// of its own.
pub const fn call_slot(extension: u16, function: u16) -> usize {
    const LAST: usize = CALL_SLOTS - 1;
    if function < CALLS_PER_EXTENSION
        && (extension as usize) < CALL_SLOTS / CALLS_PER_EXTENSION as usize
    {
        let slot = extension as usize * CALLS_PER_EXTENSION as usize + function as usize;
        if slot < LAST { slot } else { LAST }
    } else {
        LAST
    }
}

wire! {
    /// How often, and how long from exit to entry.
    #[derive(Default)]
    pub struct Counter [16] {
        /// How often.
        0: count: u64,
        /// TSC ticks spent in the hypervisor, from exit to entry.
        8: ticks: u64,
    }
}

wire! {
    /// The clock: nanoseconds since the VM started, from the guest's TSC.
    ///
    /// A reader takes `sequence`, starts again while it is odd, reads the rest, and starts again if
    /// `sequence` has changed. Then `ns = ns_base + ((tsc - tsc_base) * multiplier >> shift)`, with
    /// a 128-bit product.
    #[derive(Default)]
    pub struct Clock [64] {
        /// Odd while the hypervisor writes.
        0: sequence: u32,
        /// 0.
        4: reserved: u32,
        /// Guest TSC at which `ns_base` held.
        8: tsc_base: u64,
        /// Nanoseconds since the VM started, at `tsc_base`.
        16: ns_base: u64,
        /// Nanoseconds per TSC tick, times 2 to the power of `shift`.
        24: multiplier: u64,
        /// See `multiplier`; 0 to 63.
        32: shift: u32,
        /// 0.
        36: reserved2: [u32; 7],
    }
}

wire! {
    /// What the scheduler did to this vCPU.
    #[derive(Default)]
    pub struct Steal [64] {
        /// TSC ticks during which the vCPU could run and did not.
        0: stolen: u64,
        /// 1 while the vCPU is not running.
        8: preempted: u32,
        /// 0.
        12: reserved: [u32; 13],
    }
}

wire! {
    /// One CPUID leaf, as the vCPU would see it, except for the bits that the guest composes itself
    /// (see `spec/`).
    #[derive(Default)]
    pub struct CpuidEntry [32] {
        /// EAX of the question.
        0: leaf: u32,
        /// ECX of the question, if `flags` says that it matters.
        4: subleaf: u32,
        /// [`CPUID_SUBLEAF_MATTERS`].
        8: flags: u32,
        /// 0.
        12: reserved: u32,
        /// The answer's EAX.
        16: eax: u32,
        /// The answer's EBX.
        20: ebx: u32,
        /// The answer's ECX.
        24: ecx: u32,
        /// The answer's EDX.
        28: edx: u32,
    }
}

/// [`CpuidEntry::flags`]: the answer depends on the sub-leaf.
pub const CPUID_SUBLEAF_MATTERS: u32 = 1 << 0;

wire! {
    /// The read-only half of a vCPU's area.
    pub struct VcpuInfo [8192] {
        /// [`crate::VERSION`].
        0: version: u32,
        /// [`INFO_SIZE`].
        4: size: u32,
        /// The vCPU's number in its VM.
        8: vcpu: u32,
        /// Entries of `cpuid` that are valid.
        12: cpuid_entries: u32,
        /// VMREADs done for this vCPU; 0 on AMD-V, which has none.
        16: vmreads: u64,
        /// VMWRITEs done for this vCPU; 0 on AMD-V.
        24: vmwrites: u64,
        /// Guest TSC of the last entry.
        32: entered: u64,
        /// 0.
        40: reserved: [u64; 3],
        /// The clock.
        64: clock: Clock,
        /// Stolen time.
        128: steal: Steal,
        /// 0.
        192: reserved2: [u64; 8],
        /// Counters by [`crate::exit::Reason`].
        256: exits: [Counter; exit::SLOTS],
        /// 0.
        1280: reserved3: [u64; 96],
        /// Counters by [`call_slot`].
        2048: calls: [Counter; CALL_SLOTS],
        /// 0.
        4096: reserved4: [u64; 8],
        /// The CPUID mirror.
        4160: cpuid: [CpuidEntry; CPUID_ENTRIES],
    }
}

wire! {
    /// The shared half of a vCPU's area: the first 512 bytes of the registered page. The rest of
    /// the page is reserved and zero.
    #[derive(Default)]
    pub struct VcpuShared [512] {
        /// Written by the guest: the guest TSC of the next timer interrupt, 0 for none.
        0: deadline: u64,
        /// 0.
        8: reserved: [u64; 7],
        /// Written by the hypervisor: the guest TSC at which it looks at `deadline` next; 0 if the
        /// timer is not armed. A guest that stores a later deadline needs no call.
        64: armed: u64,
        /// 0.
        72: reserved2: [u64; 7],
        /// Set to 1 by the hypervisor when it injects an interrupt whose end needs no exit; a guest
        /// that swaps 1 for 0 has signalled the end of that interrupt.
        128: eoi: u32,
        /// 0.
        132: reserved3: [u32; 15],
        /// Bit *i* is set by the hypervisor when it has set a bit in word *i* of `pending` that is not
        /// masked, and cleared by the guest before it looks there.
        192: selector: u64,
        /// 0.
        200: reserved4: [u64; 7],
        /// A bit for each port, set by the hypervisor and cleared by the guest: its event has come.
        256: pending: [u64; event::WORDS],
        /// A bit for each port, written by the guest: its event is not told.
        384: masked: [u64; event::WORDS],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_abi_have_slots_of_their_own() {
        let mut seen = [false; CALL_SLOTS];
        for call in crate::call::EXTENSIONS.iter().flat_map(|e| e.calls) {
            let slot = call_slot(call.number.extension(), call.number.function());
            assert!(!seen[slot], "{} shares a slot", call.name);
            assert!(slot < CALL_SLOTS - 1, "{} falls into the slot for unknown calls", call.name);
            seen[slot] = true;
        }
        assert_eq!(call_slot(u16::MAX, 0), CALL_SLOTS - 1);
        assert_eq!(call_slot(0, CALLS_PER_EXTENSION), CALL_SLOTS - 1);
    }
}
