//! A CPU for tests.

use std::collections::BTreeMap;

use super::{Cpuid, ReadMsr};

/// A CPU made of tables; reading an MSR that it does not have panics, as RDMSR would fault.
#[derive(Clone)]
pub struct Fake {
    pub msrs: BTreeMap<u32, u64>,
    pub leaves: BTreeMap<u32, [u32; 4]>,
}

/// A CPU of long mode, with every bit of CR4 that a guest may have.
pub fn cpu() -> Fake {
    Fake {
        msrs: [].into(),
        leaves: [
            (0, [7, 0, 0, 0]),
            (1, [0, 0, 1 << 17 | 1 << 26, 0x0300_20de]),
            (7, [0, 1 << 0 | 1 << 7 | 1 << 10 | 1 << 20, 1 << 2 | 1 << 3, 0]),
            (0x8000_0000, [0x8000_0008, 0, 0, 0]),
            (0x8000_0001, [0, 0, 0, 1 << 20 | 1 << 26 | 1 << 27]),
            (0x8000_0008, [48 << 8 | 44, 0, 0, 0]),
        ]
        .into(),
    }
}

impl Fake {
    /// The same without these bits of a register of a leaf.
    pub fn without(mut self, leaf: u32, register: usize, bits: u32) -> Fake {
        self.leaves.get_mut(&leaf).unwrap()[register] &= !bits;
        self
    }
}

impl ReadMsr for Fake {
    fn read_msr(&self, msr: u32) -> u64 {
        *self.msrs.get(&msr).unwrap_or_else(|| panic!("MSR {msr:#x} was not announced"))
    }
}

impl Cpuid for Fake {
    fn cpuid(&self, leaf: u32, _: u32) -> [u32; 4] {
        *self.leaves.get(&leaf).unwrap_or_else(|| panic!("leaf {leaf:#x} was not announced"))
    }
}
