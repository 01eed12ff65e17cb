//! The VMCB: a page that VMRUN and #VMEXIT load and store (APM vol. 2, appendix "Layout of VMCB").
//! Fields that this version never names are counted as reserved.

use core::mem::{offset_of, size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::intercept::Clean;

macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident: $size:literal { $($at:literal $field:ident: $kind:ty, $what:literal;)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name {
            $(#[doc = concat!($what, ".")] pub $field: $kind,)*
        }
        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(offset_of!($name, $field) == $at);)*
        };
    )*};
}

wire! {
    /// The page.
    Vmcb: 0x1000 {
        0x000 control: Control, "What the hypervisor asks for, and why the guest exited";
        0x400 save: Save, "The guest's state";
    }

    /// The control area. Intercepts of registers are bit sets: bit n is CRn, DRn, vector n.
    Control: 0x400 {
        0x000 cr_reads: u16, "Reads of control registers that exit";
        0x002 cr_writes: u16, "Writes of control registers that exit";
        0x004 dr_reads: u16, "Reads of debug registers that exit";
        0x006 dr_writes: u16, "Writes of debug registers that exit";
        0x008 exceptions: u32, "Exceptions that exit";
        0x00c misc1: u32, "Instructions and events that exit";
        0x010 misc2: u32, "As `misc1`";
        0x014 misc3: u32, "As `misc1`";
        0x018 reserved1: [u8; 0x24], "Reserved";
        0x03c pause_filter_threshold: u16, "PAUSEs that are farther apart, in ticks, are not counted as one loop";
        0x03e pause_filter_count: u16, "So many PAUSEs do not exit";
        0x040 iopm: u64, "Physical address of the I/O permission map";
        0x048 msrpm: u64, "Physical address of the MSR permission map";
        0x050 tsc_offset: u64, "Added to the TSC that the guest reads";
        0x058 asid: u32, "Tag of the guest's translations; 0 is the host's";
        0x05c tlb_control: u32, "What VMRUN flushes: see [`TLB_FLUSH_ALL`] and [`TLB_FLUSH_ASID`]";
        0x060 virtual_interrupts: u64, "Virtual interrupts: see the constants `V_*`";
        0x068 interrupt_shadow: u64, "Bit 0: the guest is in the shadow of STI or MOV SS";
        0x070 exit_code: u64, "Why the guest exited";
        0x078 exit_info_1: u64, "Detail, by exit code";
        0x080 exit_info_2: u64, "More detail";
        0x088 exit_interrupt_info: u64, "The event that was being delivered, as `event_injection`; only bit 31 says that it counts";
        0x090 nested_paging: u64, "Bit 0: nested paging";
        0x098 reserved2: [u8; 0x10], "Reserved";
        0x0a8 event_injection: u64, "The event that VMRUN delivers";
        0x0b0 nested_cr3: u64, "Physical address of the nested page table";
        0x0b8 lbr_virtualization: u64, "Bit 0: the CPU keeps the guest's DEBUGCTL and branch records in the VMCB";
        0x0c0 clean: u32, "State that VMRUN may take from a cache, because software has not changed it since";
        0x0c4 reserved3: u32, "Reserved";
        0x0c8 next_rip: u64, "Where the instruction ends that exited, where the CPU says so";
        0x0d0 fetched: u8, "How many of `instruction` count, where the CPU has decode assists";
        0x0d1 instruction: [u8; 15], "The bytes of the instruction that exited";
        0x0e0 reserved4: [u8; 0x320], "Reserved";
    }

    /// A segment register.
    Segment: 0x10 {
        0x0 selector: u16, "The selector";
        0x2 attributes: u16, "The attributes: see the constants `ATTRIBUTE_*`";
        0x4 limit: u32, "The limit in bytes, expanded";
        0x8 base: u64, "The base";
    }

    /// The state-save area. FS, GS, LDTR, TR and the MSRs of SYSCALL and SYSENTER move by VMLOAD and
    /// VMSAVE, all else by VMRUN and #VMEXIT.
    Save: 0xc00 {
        0x000 es: Segment, "ES";
        0x010 cs: Segment, "CS";
        0x020 ss: Segment, "SS";
        0x030 ds: Segment, "DS";
        0x040 fs: Segment, "FS";
        0x050 gs: Segment, "GS";
        0x060 gdtr: Segment, "GDTR";
        0x070 ldtr: Segment, "LDTR";
        0x080 idtr: Segment, "IDTR";
        0x090 tr: Segment, "TR";
        0x0a0 reserved1: [u8; 0x2b], "Reserved";
        0x0cb cpl: u8, "The current privilege level";
        0x0cc reserved2: u32, "Reserved";
        0x0d0 efer: u64, "EFER, with SVME";
        0x0d8 reserved3: [u8; 0x70], "Reserved";
        0x148 cr4: u64, "CR4";
        0x150 cr3: u64, "CR3";
        0x158 cr0: u64, "CR0";
        0x160 dr7: u64, "DR7";
        0x168 dr6: u64, "DR6";
        0x170 rflags: u64, "RFLAGS";
        0x178 rip: u64, "RIP";
        0x180 reserved4: [u8; 0x58], "Reserved";
        0x1d8 rsp: u64, "RSP";
        0x1e0 reserved5: [u8; 0x18], "Reserved";
        0x1f8 rax: u64, "RAX";
        0x200 star: u64, "STAR";
        0x208 lstar: u64, "LSTAR";
        0x210 cstar: u64, "CSTAR";
        0x218 sfmask: u64, "SFMASK";
        0x220 kernel_gs_base: u64, "KERNEL_GS_BASE";
        0x228 sysenter_cs: u64, "SYSENTER_CS";
        0x230 sysenter_esp: u64, "SYSENTER_ESP";
        0x238 sysenter_eip: u64, "SYSENTER_EIP";
        0x240 cr2: u64, "CR2";
        0x248 reserved6: [u8; 0x20], "Reserved";
        0x268 pat: u64, "PAT, under nested paging";
        0x270 debugctl: u64, "DEBUGCTL, where branch records are virtualized";
        0x278 reserved7: [u8; 0x988], "Reserved";
    }
}

/// [`Control::tlb_control`]: every translation of every ASID.
pub const TLB_FLUSH_ALL: u32 = 1;
/// [`Control::tlb_control`]: this guest's, where the CPU has FlushByAsid.
pub const TLB_FLUSH_ASID: u32 = 3;

/// [`Control::virtual_interrupts`]: a virtual interrupt waits.
pub const V_IRQ: u64 = 1 << 8;
/// It does not wait for the task priority.
pub const V_IGNORE_TPR: u64 = 1 << 20;
/// The guest's RFLAGS.IF masks virtual interrupts alone; the host's, at VMRUN, masks real ones.
pub const V_INTR_MASKING: u64 = 1 << 24;

/// [`Segment::attributes`] hold bits 55:52 and 47:40 of a descriptor. Long: 64-bit code.
pub const ATTRIBUTE_LONG: u16 = 1 << 9;
/// Default operation size: 32 bits.
pub const ATTRIBUTE_BIG: u16 = 1 << 10;

impl Control {
    /// Software has changed these: VMRUN must load them.
    pub fn changed(&mut self, what: Clean) {
        self.clean &= !what.bits();
    }
}
