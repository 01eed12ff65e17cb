//! A CPU for tests.

use std::collections::BTreeMap;

use super::{Cpuid, ReadMsr};

/// A CPU made of tables; reading an MSR that it does not have panics, as RDMSR would fault.
#[derive(Clone)]
pub struct Fake {
    pub msrs: BTreeMap<u32, u64>,
    pub leaves: BTreeMap<u32, [u32; 4]>,
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
