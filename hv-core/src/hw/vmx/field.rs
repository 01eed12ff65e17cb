//! The VMCS fields that this version uses, by their encodings in the SDM's appendix "Field Encoding in
//! VMCS", typed by width and access: an encoding that says otherwise does not compile.

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
pub trait Access {
    /// It belongs to the VM-exit information: bits 11:10 of the encoding are 1.
    const EXIT_INFORMATION: bool;
}

/// A field that VMWRITE may write on every CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadWrite {}

/// A field of the VM-exit information, which only some CPUs let software write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly {}

impl Access for ReadWrite {
    const EXIT_INFORMATION: bool = false;
}

impl Access for ReadOnly {
    const EXIT_INFORMATION: bool = true;
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
    const fn new(encoding: u32) -> Self {
        assert!(encoding >> 13 == W::CODE && (encoding >> 10 & 3 == 1) == A::EXIT_INFORMATION);
        Field { encoding, types: PhantomData }
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
    /// The value of the field, which the CPU must have.
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
    ($($width:ident $access:ident { $($first:literal $($name:ident)+;)* })*) => {
        $($(fields! { @row $width $access $first, $($name)+ })*)*

        /// Every field's name and encoding.
        pub const ALL: &[(&str, u32)] = &[$($($((stringify!($name), $name.encoding())),+),*),*];
    };
    (@row $width:ident $access:ident $encoding:expr, $($name:ident $($next:ident)*)?) => {
        $(
            #[doc = concat!("The manual's field ", stringify!($name), ".")]
            pub const $name: Field<$width, $access> = Field::new($encoding);
            fields! { @row $width $access $encoding + 2, $($next)* }
        )?
    };
}

// The encoding of the first field of a row; that of each other is 2 above the one before.
fields! {
    u16 ReadWrite {
        0x0000 VIRTUAL_PROCESSOR_IDENTIFIER;
        0x0800 GUEST_ES_SELECTOR GUEST_CS_SELECTOR GUEST_SS_SELECTOR GUEST_DS_SELECTOR
            GUEST_FS_SELECTOR GUEST_GS_SELECTOR GUEST_LDTR_SELECTOR GUEST_TR_SELECTOR
            GUEST_INTERRUPT_STATUS;
        0x0c00 HOST_ES_SELECTOR HOST_CS_SELECTOR HOST_SS_SELECTOR HOST_DS_SELECTOR
            HOST_FS_SELECTOR HOST_GS_SELECTOR HOST_TR_SELECTOR;
    }
    u64 ReadWrite {
        0x2000 IO_BITMAP_A_ADDRESS IO_BITMAP_B_ADDRESS MSR_BITMAPS_ADDRESS;
        0x2010 TSC_OFFSET VIRTUAL_APIC_ADDRESS APIC_ACCESS_ADDRESS;
        0x201a EPT_POINTER;
        0x201c EOI_EXIT_BITMAP_0 EOI_EXIT_BITMAP_1 EOI_EXIT_BITMAP_2 EOI_EXIT_BITMAP_3;
        0x202c XSS_EXITING_BITMAP;
        0x2800 VMCS_LINK_POINTER GUEST_IA32_DEBUGCTL GUEST_IA32_PAT GUEST_IA32_EFER;
        0x280a GUEST_PDPTE0 GUEST_PDPTE1 GUEST_PDPTE2 GUEST_PDPTE3;
        0x2c00 HOST_IA32_PAT HOST_IA32_EFER;
    }
    u64 ReadOnly {
        0x2400 GUEST_PHYSICAL_ADDRESS;
    }
    u32 ReadWrite {
        0x4000 PIN_BASED_CONTROLS PRIMARY_CONTROLS EXCEPTION_BITMAP PAGE_FAULT_ERROR_CODE_MASK
            PAGE_FAULT_ERROR_CODE_MATCH CR3_TARGET_COUNT EXIT_CONTROLS EXIT_MSR_STORE_COUNT
            EXIT_MSR_LOAD_COUNT ENTRY_CONTROLS ENTRY_MSR_LOAD_COUNT ENTRY_INTERRUPTION_INFORMATION
            ENTRY_EXCEPTION_ERROR_CODE ENTRY_INSTRUCTION_LENGTH TPR_THRESHOLD SECONDARY_CONTROLS PLE_GAP PLE_WINDOW;
        0x4800 GUEST_ES_LIMIT GUEST_CS_LIMIT GUEST_SS_LIMIT GUEST_DS_LIMIT GUEST_FS_LIMIT
            GUEST_GS_LIMIT GUEST_LDTR_LIMIT GUEST_TR_LIMIT GUEST_GDTR_LIMIT GUEST_IDTR_LIMIT;
        0x4814 GUEST_ES_ACCESS_RIGHTS GUEST_CS_ACCESS_RIGHTS GUEST_SS_ACCESS_RIGHTS
            GUEST_DS_ACCESS_RIGHTS GUEST_FS_ACCESS_RIGHTS GUEST_GS_ACCESS_RIGHTS
            GUEST_LDTR_ACCESS_RIGHTS GUEST_TR_ACCESS_RIGHTS;
        0x4824 GUEST_INTERRUPTIBILITY_STATE GUEST_ACTIVITY_STATE;
        0x482a GUEST_IA32_SYSENTER_CS;
        0x482e PREEMPTION_TIMER_VALUE;
        0x4c00 HOST_IA32_SYSENTER_CS;
    }
    u32 ReadOnly {
        0x4400 VM_INSTRUCTION_ERROR EXIT_REASON EXIT_INTERRUPTION_INFORMATION
            EXIT_INTERRUPTION_ERROR_CODE IDT_VECTORING_INFORMATION IDT_VECTORING_ERROR_CODE
            EXIT_INSTRUCTION_LENGTH;
    }
    Natural ReadWrite {
        0x6000 CR0_GUEST_HOST_MASK CR4_GUEST_HOST_MASK CR0_READ_SHADOW CR4_READ_SHADOW;
        0x6800 GUEST_CR0 GUEST_CR3 GUEST_CR4;
        0x6806 GUEST_ES_BASE GUEST_CS_BASE GUEST_SS_BASE GUEST_DS_BASE GUEST_FS_BASE GUEST_GS_BASE
            GUEST_LDTR_BASE GUEST_TR_BASE GUEST_GDTR_BASE GUEST_IDTR_BASE;
        0x681a GUEST_DR7 GUEST_RSP GUEST_RIP GUEST_RFLAGS GUEST_PENDING_DEBUG_EXCEPTIONS
            GUEST_IA32_SYSENTER_ESP GUEST_IA32_SYSENTER_EIP;
        0x6c00 HOST_CR0 HOST_CR3 HOST_CR4 HOST_FS_BASE HOST_GS_BASE HOST_TR_BASE HOST_GDTR_BASE
            HOST_IDTR_BASE HOST_IA32_SYSENTER_ESP HOST_IA32_SYSENTER_EIP HOST_RSP HOST_RIP;
    }
    Natural ReadOnly {
        0x6400 EXIT_QUALIFICATION;
        0x640a GUEST_LINEAR_ADDRESS;
    }
}

/// The name of the field with this encoding; the upper half of a 64-bit field has its name too.
pub fn name(encoding: u32) -> Option<&'static str> {
    let wide = encoding >> 13 == u64::CODE;
    let full = if wide { encoding & !1 } else { encoding };
    ALL.iter().find(|(_, e)| *e == full).map(|(name, _)| *name)
}
