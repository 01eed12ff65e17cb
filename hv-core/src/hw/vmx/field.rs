//! VMCS fields, typed by width and access, with encodings computed as in the SDM's appendix
//! "Field Encoding in VMCS".

#[cfg(test)]
pub(crate) mod tests;

use core::marker::PhantomData;

/// How wide a field is.
pub trait Width {
    /// What a read gives and a write takes.
    type Value: Copy + Eq + core::fmt::Debug + core::fmt::LowerHex + Into<u64>;
    /// Bits 14:13 of the encoding.
    const CODE: u32;
    /// The value in a register that VMREAD filled; what is above the width is dropped.
    fn from_register(register: u64) -> Self::Value;
}

/// The width of a register: 64 bits on every CPU that has long mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Natural {}

macro_rules! widths {
    ($($width:ty => $value:ty, $code:literal;)*) => {$(
        impl Width for $width {
            type Value = $value;
            const CODE: u32 = $code;
            fn from_register(register: u64) -> $value {
                register as $value
            }
        }
    )*};
}

widths! {
    u16 => u16, 0;
    u64 => u64, 1;
    u32 => u32, 2;
    Natural => u64, 3;
}

/// Whether a field may be written.
pub trait Access {}

/// A field that VMWRITE may write on every CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadWrite {}

/// A field of the VM-exit information, which only some CPUs let software write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly {}

impl Access for ReadWrite {}
impl Access for ReadOnly {}

/// The area that a field belongs to: bits 11:10 of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Area {
    Control = 0,
    ExitInformation = 1,
    Guest = 2,
    Host = 3,
}

/// A VMCS field.
pub struct Field<W, A = ReadWrite> {
    encoding: u32,
    types: PhantomData<(W, A)>,
}

impl<W, A> Clone for Field<W, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W, A> Copy for Field<W, A> {}

impl<W, A> Field<W, A> {
    /// What VMREAD and VMWRITE take.
    pub const fn encoding(self) -> u32 {
        self.encoding
    }
}

impl<W: Width, A: Access> Field<W, A> {
    const fn new(area: Area, index: u32) -> Self {
        assert!(index < 1 << 9);
        Field { encoding: W::CODE << 13 | (area as u32) << 10 | index << 1, types: PhantomData }
    }

    /// The field as VMREAD and VMWRITE have it in a register.
    pub const fn natural(self) -> Field<Natural, A> {
        Field { encoding: self.encoding, types: PhantomData }
    }

    /// The field `n` places further on, for fields that come in rows (segments, PDPTEs).
    const fn plus(self, n: u32) -> Self {
        Field { encoding: self.encoding.wrapping_add(n << 1), types: PhantomData }
    }
}

/// Reads a VMCS: the current one of this CPU, or a model of one.
pub trait VmcsRead {
    /// The value of the field; 0 if this CPU does not have it.
    fn read<W: Width, A: Access>(&self, field: Field<W, A>) -> W::Value;
}

/// Writes a VMCS.
pub trait VmcsWrite {
    /// Sets the field.
    fn write<W: Width>(&mut self, field: Field<W, ReadWrite>, value: W::Value);
}

/// The segment registers, in the order of their VMCS fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Segment {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
    Ldtr = 6,
    Tr = 7,
}

impl Segment {
    /// Every segment register.
    pub const ALL: [Segment; 8] = {
        use Segment::{Cs, Ds, Es, Fs, Gs, Ldtr, Ss, Tr};
        [Es, Cs, Ss, Ds, Fs, Gs, Ldtr, Tr]
    };

    /// The segment register with this number.
    pub fn of(number: u8) -> Segment {
        Segment::ALL.get(usize::from(number)).copied().unwrap_or(Segment::Ldtr)
    }

    /// The field of the guest's selector.
    pub const fn selector(self) -> Field<u16> {
        GUEST_ES_SELECTOR.plus(self as u32)
    }

    /// The field of the guest's limit.
    pub const fn limit(self) -> Field<u32> {
        GUEST_ES_LIMIT.plus(self as u32)
    }

    /// The field of the guest's access rights.
    pub const fn access_rights(self) -> Field<u32> {
        GUEST_ES_ACCESS_RIGHTS.plus(self as u32)
    }

    /// The field of the guest's base.
    pub const fn base(self) -> Field<Natural> {
        GUEST_ES_BASE.plus(self as u32)
    }
}

/// The field of a guest PDPTE, `index` 0 to 3.
pub const fn guest_pdpte(index: u8) -> Field<u64> {
    GUEST_PDPTE0.plus(index as u32 & 3)
}

/// The field of a word of the EOI-exit bitmap, `index` 0 to 3.
pub const fn eoi_exit_bitmap(index: u8) -> Field<u64> {
    EOI_EXIT_BITMAP_0.plus(index as u32 & 3)
}

macro_rules! fields {
    ($($area:ident $width:ident $access:ident { $($index:literal $name:ident $doc:literal;)* })*) => {
        $($(
            #[doc = concat!($doc, ".")]
            pub const $name: Field<$width, $access> = Field::new(Area::$area, $index);
        )*)*

        /// Every field's name and encoding, in the manual's order.
        pub const ALL: &[(&str, u32)] = &[$($((stringify!($name), $name.encoding())),*),*];
    };
}

fields! {
    Control u16 ReadWrite {
        0 VIRTUAL_PROCESSOR_IDENTIFIER "Virtual-processor identifier (VPID)";
        1 POSTED_INTERRUPT_NOTIFICATION_VECTOR "Posted-interrupt notification vector";
    }
    Guest u16 ReadWrite {
        0 GUEST_ES_SELECTOR "Guest ES selector";
        1 GUEST_CS_SELECTOR "Guest CS selector";
        2 GUEST_SS_SELECTOR "Guest SS selector";
        3 GUEST_DS_SELECTOR "Guest DS selector";
        4 GUEST_FS_SELECTOR "Guest FS selector";
        5 GUEST_GS_SELECTOR "Guest GS selector";
        6 GUEST_LDTR_SELECTOR "Guest LDTR selector";
        7 GUEST_TR_SELECTOR "Guest TR selector";
        8 GUEST_INTERRUPT_STATUS "Guest interrupt status";
    }
    Host u16 ReadWrite {
        0 HOST_ES_SELECTOR "Host ES selector";
        1 HOST_CS_SELECTOR "Host CS selector";
        2 HOST_SS_SELECTOR "Host SS selector";
        3 HOST_DS_SELECTOR "Host DS selector";
        4 HOST_FS_SELECTOR "Host FS selector";
        5 HOST_GS_SELECTOR "Host GS selector";
        6 HOST_TR_SELECTOR "Host TR selector";
    }
    Control u64 ReadWrite {
        0 IO_BITMAP_A_ADDRESS "Physical address of I/O bitmap A";
        1 IO_BITMAP_B_ADDRESS "Physical address of I/O bitmap B";
        2 MSR_BITMAPS_ADDRESS "Physical address of the MSR bitmaps";
        3 EXIT_MSR_STORE_ADDRESS "Physical address of the VM-exit MSR-store area";
        4 EXIT_MSR_LOAD_ADDRESS "Physical address of the VM-exit MSR-load area";
        5 ENTRY_MSR_LOAD_ADDRESS "Physical address of the VM-entry MSR-load area";
        7 PML_ADDRESS "Physical address of the page-modification log";
        8 TSC_OFFSET "TSC offset";
        9 VIRTUAL_APIC_ADDRESS "Physical address of the virtual-APIC page";
        10 APIC_ACCESS_ADDRESS "Physical address of the APIC-access page";
        11 POSTED_INTERRUPT_DESCRIPTOR_ADDRESS "Physical address of the posted-interrupt descriptor";
        12 VM_FUNCTION_CONTROLS "VM-function controls";
        13 EPT_POINTER "EPT pointer";
        14 EOI_EXIT_BITMAP_0 "EOI-exit bitmap, vectors 0 to 63";
        15 EOI_EXIT_BITMAP_1 "EOI-exit bitmap, vectors 64 to 127";
        16 EOI_EXIT_BITMAP_2 "EOI-exit bitmap, vectors 128 to 191";
        17 EOI_EXIT_BITMAP_3 "EOI-exit bitmap, vectors 192 to 255";
        18 EPTP_LIST_ADDRESS "Physical address of the EPTP list";
        19 VMREAD_BITMAP_ADDRESS "Physical address of the VMREAD bitmap";
        20 VMWRITE_BITMAP_ADDRESS "Physical address of the VMWRITE bitmap";
        21 VIRTUALIZATION_EXCEPTION_ADDRESS "Physical address of the virtualization-exception information";
        22 XSS_EXITING_BITMAP "XSS-exiting bitmap";
        24 SUB_PAGE_PERMISSION_TABLE_POINTER "Sub-page-permission-table pointer";
        25 TSC_MULTIPLIER "TSC multiplier";
    }
    ExitInformation u64 ReadOnly {
        0 GUEST_PHYSICAL_ADDRESS "Guest-physical address of an EPT violation or misconfiguration";
    }
    Guest u64 ReadWrite {
        0 VMCS_LINK_POINTER "VMCS link pointer";
        1 GUEST_IA32_DEBUGCTL "Guest IA32_DEBUGCTL";
        2 GUEST_IA32_PAT "Guest IA32_PAT";
        3 GUEST_IA32_EFER "Guest IA32_EFER";
        5 GUEST_PDPTE0 "Guest PDPTE 0";
        6 GUEST_PDPTE1 "Guest PDPTE 1";
        7 GUEST_PDPTE2 "Guest PDPTE 2";
        8 GUEST_PDPTE3 "Guest PDPTE 3";
        9 GUEST_IA32_BNDCFGS "Guest IA32_BNDCFGS";
    }
    Host u64 ReadWrite {
        0 HOST_IA32_PAT "Host IA32_PAT";
        1 HOST_IA32_EFER "Host IA32_EFER";
    }
    Control u32 ReadWrite {
        0 PIN_BASED_CONTROLS "Pin-based VM-execution controls";
        1 PRIMARY_CONTROLS "Primary processor-based VM-execution controls";
        2 EXCEPTION_BITMAP "Exception bitmap";
        3 PAGE_FAULT_ERROR_CODE_MASK "Page-fault error-code mask";
        4 PAGE_FAULT_ERROR_CODE_MATCH "Page-fault error-code match";
        5 CR3_TARGET_COUNT "CR3-target count";
        6 EXIT_CONTROLS "Primary VM-exit controls";
        7 EXIT_MSR_STORE_COUNT "VM-exit MSR-store count";
        8 EXIT_MSR_LOAD_COUNT "VM-exit MSR-load count";
        9 ENTRY_CONTROLS "VM-entry controls";
        10 ENTRY_MSR_LOAD_COUNT "VM-entry MSR-load count";
        11 ENTRY_INTERRUPTION_INFORMATION "VM-entry interruption-information field";
        12 ENTRY_EXCEPTION_ERROR_CODE "VM-entry exception error code";
        13 ENTRY_INSTRUCTION_LENGTH "VM-entry instruction length";
        14 TPR_THRESHOLD "TPR threshold";
        15 SECONDARY_CONTROLS "Secondary processor-based VM-execution controls";
    }
    ExitInformation u32 ReadOnly {
        0 VM_INSTRUCTION_ERROR "VM-instruction error";
        1 EXIT_REASON "Exit reason";
        2 EXIT_INTERRUPTION_INFORMATION "VM-exit interruption information";
        3 EXIT_INTERRUPTION_ERROR_CODE "VM-exit interruption error code";
        4 IDT_VECTORING_INFORMATION "IDT-vectoring information";
        5 IDT_VECTORING_ERROR_CODE "IDT-vectoring error code";
        6 EXIT_INSTRUCTION_LENGTH "VM-exit instruction length";
    }
    Guest u32 ReadWrite {
        0 GUEST_ES_LIMIT "Guest ES limit";
        1 GUEST_CS_LIMIT "Guest CS limit";
        2 GUEST_SS_LIMIT "Guest SS limit";
        3 GUEST_DS_LIMIT "Guest DS limit";
        4 GUEST_FS_LIMIT "Guest FS limit";
        5 GUEST_GS_LIMIT "Guest GS limit";
        6 GUEST_LDTR_LIMIT "Guest LDTR limit";
        7 GUEST_TR_LIMIT "Guest TR limit";
        8 GUEST_GDTR_LIMIT "Guest GDTR limit";
        9 GUEST_IDTR_LIMIT "Guest IDTR limit";
        10 GUEST_ES_ACCESS_RIGHTS "Guest ES access rights";
        11 GUEST_CS_ACCESS_RIGHTS "Guest CS access rights";
        12 GUEST_SS_ACCESS_RIGHTS "Guest SS access rights";
        13 GUEST_DS_ACCESS_RIGHTS "Guest DS access rights";
        14 GUEST_FS_ACCESS_RIGHTS "Guest FS access rights";
        15 GUEST_GS_ACCESS_RIGHTS "Guest GS access rights";
        16 GUEST_LDTR_ACCESS_RIGHTS "Guest LDTR access rights";
        17 GUEST_TR_ACCESS_RIGHTS "Guest TR access rights";
        18 GUEST_INTERRUPTIBILITY_STATE "Guest interruptibility state";
        19 GUEST_ACTIVITY_STATE "Guest activity state";
        21 GUEST_IA32_SYSENTER_CS "Guest IA32_SYSENTER_CS";
        23 PREEMPTION_TIMER_VALUE "VMX-preemption timer value";
    }
    Host u32 ReadWrite {
        0 HOST_IA32_SYSENTER_CS "Host IA32_SYSENTER_CS";
    }
    Control Natural ReadWrite {
        0 CR0_GUEST_HOST_MASK "CR0 guest/host mask";
        1 CR4_GUEST_HOST_MASK "CR4 guest/host mask";
        2 CR0_READ_SHADOW "CR0 read shadow";
        3 CR4_READ_SHADOW "CR4 read shadow";
    }
    ExitInformation Natural ReadOnly {
        0 EXIT_QUALIFICATION "Exit qualification";
        5 GUEST_LINEAR_ADDRESS "Guest-linear address";
    }
    Guest Natural ReadWrite {
        0 GUEST_CR0 "Guest CR0";
        1 GUEST_CR3 "Guest CR3";
        2 GUEST_CR4 "Guest CR4";
        3 GUEST_ES_BASE "Guest ES base";
        4 GUEST_CS_BASE "Guest CS base";
        5 GUEST_SS_BASE "Guest SS base";
        6 GUEST_DS_BASE "Guest DS base";
        7 GUEST_FS_BASE "Guest FS base";
        8 GUEST_GS_BASE "Guest GS base";
        9 GUEST_LDTR_BASE "Guest LDTR base";
        10 GUEST_TR_BASE "Guest TR base";
        11 GUEST_GDTR_BASE "Guest GDTR base";
        12 GUEST_IDTR_BASE "Guest IDTR base";
        13 GUEST_DR7 "Guest DR7";
        14 GUEST_RSP "Guest RSP";
        15 GUEST_RIP "Guest RIP";
        16 GUEST_RFLAGS "Guest RFLAGS";
        17 GUEST_PENDING_DEBUG_EXCEPTIONS "Guest pending debug exceptions";
        18 GUEST_IA32_SYSENTER_ESP "Guest IA32_SYSENTER_ESP";
        19 GUEST_IA32_SYSENTER_EIP "Guest IA32_SYSENTER_EIP";
    }
    Host Natural ReadWrite {
        0 HOST_CR0 "Host CR0";
        1 HOST_CR3 "Host CR3";
        2 HOST_CR4 "Host CR4";
        3 HOST_FS_BASE "Host FS base";
        4 HOST_GS_BASE "Host GS base";
        5 HOST_TR_BASE "Host TR base";
        6 HOST_GDTR_BASE "Host GDTR base";
        7 HOST_IDTR_BASE "Host IDTR base";
        8 HOST_IA32_SYSENTER_ESP "Host IA32_SYSENTER_ESP";
        9 HOST_IA32_SYSENTER_EIP "Host IA32_SYSENTER_EIP";
        10 HOST_RSP "Host RSP";
        11 HOST_RIP "Host RIP";
    }
}

/// The name of the field with this encoding; the upper half of a 64-bit field has its name too.
pub fn name(encoding: u32) -> Option<&'static str> {
    let wide = encoding >> 13 == u64::CODE;
    let full = if wide { encoding & !1 } else { encoding };
    ALL.iter().find(|(_, e)| *e == full).map(|(name, _)| *name)
}
