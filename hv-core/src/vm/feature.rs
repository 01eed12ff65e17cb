//! CPU features that the hypervisor uses when they are there, and that a VM can be run without.

use bitflags::bitflags;

bitflags! {
    /// Optional features of the virtualization hardware, in neutral words.
    ///
    /// A VM runs with what the CPU has, less what its description takes away, so that a user sees
    /// what each is worth.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Tagged TLB entries: VPID, ASID.
        const VPID = 1 << 0;
        /// Bitmaps that say which MSRs exit.
        const MSR_BITMAP = 1 << 1;
        /// Bitmaps that say which ports exit.
        const IO_BITMAP = 1 << 2;
        /// Reads of the virtual APIC's registers without an exit.
        const APIC_REGISTERS = 1 << 3;
        /// Interrupts delivered, and ended, by the CPU.
        const VIRTUAL_INTERRUPTS = 1 << 4;
        /// 1 GiB pages in the nested page table.
        const NESTED_1G = 1 << 5;
        /// 2 MiB pages in the nested page table.
        const NESTED_2M = 1 << 6;
        /// A timer that ends guest mode without an interrupt: the VMX preemption timer.
        const PREEMPTION_TIMER = 1 << 7;
        /// INVPCID in the guest.
        const INVPCID = 1 << 8;
        /// RDTSCP in the guest.
        const RDTSCP = 1 << 9;
        /// XSAVES in the guest.
        const XSAVES = 1 << 10;
        /// The CPU says where the next instruction starts, or how long this one is.
        const NEXT_RIP = 1 << 11;
        /// An exit from a loop of PAUSEs: PAUSE-loop exiting, PAUSE filter.
        const PAUSE_LOOP_EXITING = 1 << 12;
    }
}

/// Groups of features by the names that users know, beside the flags' own names in lower case.
pub const GROUPS: &[(&str, Features)] = &[
    ("apicv", Features::APIC_REGISTERS.union(Features::VIRTUAL_INTERRUPTS)),
    ("large-pages", Features::NESTED_1G.union(Features::NESTED_2M)),
];

/// The features that a name stands for: `vpid`, `nested-1g`, or a group of [`GROUPS`].
pub fn by_name(name: &str) -> Option<Features> {
    let group = GROUPS.iter().find(|(group, _)| *group == name).map(|&(_, features)| features);
    let same = |flag: &str| {
        flag.len() == name.len()
            && flag
                .bytes()
                .zip(name.bytes())
                .all(|(f, n)| f.to_ascii_lowercase() == if n == b'-' { b'_' } else { n })
    };
    group.or_else(|| Features::all().iter_names().find(|(flag, _)| same(flag)).map(|(_, f)| f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_the_names_that_users_type() {
        assert_eq!(by_name("vpid"), Some(Features::VPID));
        assert_eq!(by_name("nested-1g"), Some(Features::NESTED_1G));
        assert_eq!(by_name("apicv"), Some(Features::APIC_REGISTERS | Features::VIRTUAL_INTERRUPTS));
        assert_eq!(by_name("VPID"), None);
        assert_eq!(by_name(""), None);
    }
}
