//! Sets of CPUs.

/// A set of CPUs, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(pub u32);

impl CpuSet {
    /// CPUs 0 to `count` - 1.
    pub const fn first(count: usize) -> CpuSet {
        CpuSet(if count >= 32 { u32::MAX } else { (1 << count) - 1 })
    }

    /// One CPU.
    pub const fn of(cpu: usize) -> CpuSet {
        CpuSet(1 << cpu)
    }

    /// Those that are in this set and not in `others`.
    pub const fn without(self, others: CpuSet) -> CpuSet {
        CpuSet(self.0 & !others.0)
    }

    /// Those that are in both.
    pub const fn and(self, others: CpuSet) -> CpuSet {
        CpuSet(self.0 & others.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their numbers, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..32).filter(move |cpu| self.0 >> cpu & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn sets_hold_what_they_are_made_of() {
        let cpus = |set: CpuSet| set.iter().collect::<Vec<_>>();
        assert_eq!(cpus(CpuSet::first(3)), [0, 1, 2]);
        assert_eq!(cpus(CpuSet::first(3).without(CpuSet::of(1))), [0, 2]);
        assert_eq!(CpuSet::first(32).iter().count(), 32);
        assert!(CpuSet::of(4).and(CpuSet::first(4)).is_empty());
    }
}
