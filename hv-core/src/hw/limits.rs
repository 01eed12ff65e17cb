//! What guests may have of the CPU, as CPUID announces it.

use super::Cpuid;

/// What guests may have of this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bits of physical addresses.
    pub physical_bits: u8,
    /// Bits that may be set in CR4.
    pub cr4_may: u64,
    /// EFER.NXE exists.
    pub no_execute: bool,
}

/// Bits of CR4 that a guest may have: VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR,
/// OSXMMEXCPT, UMIP, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE.
pub const CR4_KNOWN: u64 = 0x0077_0fff & !(1 << 12);
/// CR4.PCE, which comes with long mode and is announced nowhere.
const CR4_PCE: u64 = 1 << 8;
/// Where CPUID announces the others: leaf, register (0 is EAX), bit, and the bits of CR4.
const CR4: &[(u32, usize, u32, u64)] = &[
    (1, 3, 1, 1 << 0 | 1 << 1),
    (1, 3, 4, 1 << 2),
    (1, 3, 2, 1 << 3),
    (1, 3, 3, 1 << 4),
    (1, 3, 6, 1 << 5),
    (1, 3, 7, 1 << 6),
    (1, 3, 13, 1 << 7),
    (1, 3, 24, 1 << 9),
    (1, 3, 25, 1 << 10),
    (7, 2, 2, 1 << 11),
    (7, 1, 0, 1 << 16),
    (1, 2, 17, 1 << 17),
    (1, 2, 26, 1 << 18),
    (7, 1, 7, 1 << 20),
    (7, 1, 20, 1 << 21),
    (7, 2, 3, 1 << 22),
];
/// Where CPUID announces bits of CR4 that no guest may have, as above: LA57, shadow stacks, indirect
/// branch tracking, PKS, UINTR, key locker, SMX, VMX.
const CR4_HIDDEN: &[(u32, usize, u32)] =
    &[(7, 2, 16), (7, 2, 7), (7, 3, 20), (7, 2, 31), (7, 3, 5), (7, 2, 23), (1, 2, 6), (1, 2, 5)];

/// A bit of a register of a leaf.
pub fn has(cpuid: &impl Cpuid, leaf: u32, subleaf: u32, register: usize, bit: u32) -> bool {
    let registers = cpuid.announced(leaf, subleaf);
    registers.get(register).is_some_and(|value| value & 1 << bit != 0)
}

impl Limits {
    /// Asks the CPU.
    pub fn announced(cpuid: &impl Cpuid) -> Limits {
        let there = CR4.iter().filter(|(leaf, r, bit, _)| has(cpuid, *leaf, 0, *r, *bit));
        Limits {
            physical_bits: cpuid.address_widths().0,
            cr4_may: there.fold(CR4_PCE, |all, (.., bits)| all | bits),
            no_execute: has(cpuid, 0x8000_0001, 0, 3, 20),
        }
    }
}

/// The CPU has no bit in CR4 but those of [`CR4_KNOWN`], so that it refuses by itself what a guest may
/// not set.
pub fn cr4_passes(cpuid: &impl Cpuid) -> bool {
    !CR4_HIDDEN.iter().any(|&(leaf, register, bit)| has(cpuid, leaf, 0, register, bit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hw::testing::{Fake, cpu};

    fn may(cpu: &Fake) -> u64 {
        Limits::announced(cpu).cr4_may
    }

    #[test]
    fn every_bit_of_cr4_that_a_guest_may_have_is_announced_somewhere() {
        assert_eq!(may(&cpu()), CR4_KNOWN);
        let cases = [
            ((1, 3, 1 << 1), 0b11),
            ((1, 2, 1 << 17), 1 << 17),
            ((7, 1, 1 << 20), 1 << 21),
            ((7, 2, 1 << 2), 1 << 11),
        ];
        for ((leaf, register, announced), bits) in cases {
            assert_eq!(may(&cpu().without(leaf, register, announced)), CR4_KNOWN & !bits);
        }

        // An old CPU: leaf 7 would answer with what leaf 1 says, and must not be asked.
        let mut old = cpu();
        old.leaves.insert(0, [1, 0, 0, 0]);
        old.leaves.retain(|leaf, _| *leaf != 7);
        assert_eq!(may(&old), 0x0006_07ff, "up to OSXMMEXCPT, PCIDE, OSXSAVE");
    }

    #[test]
    fn a_cpu_with_more_in_cr4_does_not_refuse_it() {
        assert!(cr4_passes(&cpu()));
        let mut more = cpu();
        more.leaves.insert(7, [0, 0, 1 << 16, 0]);
        assert!(!cr4_passes(&more), "LA57");
    }
}
