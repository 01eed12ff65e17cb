//! What exits, and what VMRUN may take from a cache, as the VMCB has them.
//! Those that this version never asks for have no name.
#![allow(missing_docs)] // The names are the manual's.

use bitflags::bitflags;

use crate::hw::bits::bits;

bitflags! {
    /// [`Control::misc1`](super::vmcb::Control::misc1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Misc1: u32 {
        const INTR = 1 << 0;
        const NMI = 1 << 1;
        const INIT = 1 << 3;
        /// The guest can take a virtual interrupt.
        const VINTR = 1 << 4;
        /// A write of CR0 that changes more than TS and MP.
        const CR0_SELECTIVE = 1 << 5;
        const RDTSC = 1 << 14;
        const RDPMC = 1 << 15;
        const CPUID = 1 << 18;
        const IRET = 1 << 20;
        const INVD = 1 << 22;
        const PAUSE = 1 << 23;
        const HLT = 1 << 24;
        const INVLPG = 1 << 25;
        const INVLPGA = 1 << 26;
        /// Port accesses, as the I/O permission map says.
        const IO = 1 << 27;
        /// MSR accesses, as the MSR permission map says.
        const MSR = 1 << 28;
        const TASK_SWITCH = 1 << 29;
        const SHUTDOWN = 1 << 31;
    }

    /// [`Control::misc2`](super::vmcb::Control::misc2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Misc2: u32 {
        const VMRUN = 1 << 0;
        const VMMCALL = 1 << 1;
        const VMLOAD = 1 << 2;
        const VMSAVE = 1 << 3;
        const STGI = 1 << 4;
        const CLGI = 1 << 5;
        const SKINIT = 1 << 6;
        const RDTSCP = 1 << 7;
        const ICEBP = 1 << 8;
        const WBINVD = 1 << 9;
        const MONITOR = 1 << 10;
        const MWAIT = 1 << 11;
        const XSETBV = 1 << 13;
        const RDPRU = 1 << 14;
    }

    /// [`Control::misc3`](super::vmcb::Control::misc3).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Misc3: u32 {
        const INVPCID = 1 << 2;
        const MCOMMIT = 1 << 3;
    }
}

bits! {
    /// [`Control::clean`](super::vmcb::Control::clean) (APM vol. 2, VMCB Clean Bits).
    Clean: u32 {
        0 INTERCEPTS "Intercepts, TSC offset";
        1 MAPS "Addresses of the permission maps";
        2 ASID "The ASID";
        3 TPR "Virtual interrupts";
        4 NESTED "Nested paging: its root, PAT";
        5 CR "CR0, CR3, CR4, EFER";
        6 DR "DR6, DR7";
        7 TABLES "GDTR, IDTR";
        8 SEGMENTS "CS, DS, SS, ES, CPL";
        9 CR2 "CR2";
        10 LBR "DEBUGCTL and branch records";
    }
}
