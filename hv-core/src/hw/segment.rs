//! Access rights of segment registers. They are kept as a descriptor has them, bits 55:52 and 47:40;
//! the vendors differ in how close together.

use super::bits::bits;
use super::check::{cr0, efer, rflags};
use crate::vm::hardware::Mode;

bits! {
    /// Access rights in the form of the VMCS.
    AccessRights: u32 {
        0 ACCESSED "The type: accessed, for code and data";
        1 READ_WRITE "The type: readable code, writable data";
        2 CONFORMING "The type: conforming code, expand-down data";
        3 CODE "The type: code";
        4 CODE_OR_DATA "Code or data, not a system segment";
        7 PRESENT "Present";
        12 AVAILABLE "For software";
        13 LONG "64-bit code";
        14 DEFAULT_BIG "32-bit default operand size, or stack";
        15 GRANULARITY "The limit counts pages";
        16 UNUSABLE "The register holds no segment";
    }
}

impl AccessRights {
    /// The descriptor's privilege level.
    pub const DPL: AccessRights = AccessRights::from_bits_retain(3 << 5);
    /// Flat readable 32-bit code of ring 0, accessed.
    pub const FLAT_CODE_32: AccessRights = AccessRights::from_bits_retain(0xc09b);
    /// Flat readable 64-bit code of ring 0, accessed.
    pub const FLAT_CODE_64: AccessRights = AccessRights::from_bits_retain(0xa09b);
    /// Readable 16-bit code, accessed, as real mode has it.
    pub const REAL_CODE: AccessRights = AccessRights::from_bits_retain(0x009b);
    /// Writable data up to a limit in bytes, as real mode has it.
    pub const REAL_DATA: AccessRights = AccessRights::from_bits_retain(0x0093);
    /// An LDT.
    pub const LDT: AccessRights = AccessRights::from_bits_retain(0x0082);
    /// Flat writable data.
    pub const FLAT_DATA: AccessRights = AccessRights::from_bits_retain(0xc093);
    /// A busy 32-bit or 64-bit TSS.
    pub const BUSY_TSS: AccessRights = AccessRights::from_bits_retain(0x008b);

    /// The segment type, bits 3:0.
    pub const fn kind(self) -> u32 {
        self.bits() & 0xf
    }

    /// The descriptor privilege level.
    pub const fn dpl(self) -> u32 {
        self.bits() >> 5 & 3
    }

    /// From the attributes of a VMCB, which have the upper four bits directly above the others. Only
    /// what is present is a segment there.
    pub const fn from_attributes(attributes: u16) -> AccessRights {
        let a = attributes as u32;
        let rights = AccessRights::from_bits_retain(a & 0xff | (a & 0xf00) << 4);
        if rights.contains(AccessRights::PRESENT) {
            rights
        } else {
            rights.union(AccessRights::UNUSABLE)
        }
    }

    /// As the attributes of a VMCB.
    pub const fn attributes(self) -> u16 {
        (self.bits() & 0xff | self.bits() >> 4 & 0xf00) as u16
    }
}

/// How instructions are read where the code segment is `long` (64-bit) or `big` (32-bit).
#[inline(always)]
pub fn mode(cr0: u64, efer: u64, rflags: u64, [long, big]: [bool; 2]) -> Mode {
    let protected = cr0 & cr0::PE != 0 && rflags & rflags::VM == 0;
    if efer & efer::LMA != 0 && long {
        Mode::Code64
    } else if protected && big {
        Mode::Code32
    } else {
        Mode::Code16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_the_same_in_both_forms() {
        for (rights, attributes) in [
            (AccessRights::FLAT_CODE_32, 0xc9b),
            (AccessRights::FLAT_DATA, 0xc93),
            (AccessRights::BUSY_TSS, 0x8b),
            (AccessRights::from_bits_retain(0xa0fb), 0xafb),
            (AccessRights::UNUSABLE, 0),
        ] {
            assert_eq!(rights.attributes(), attributes, "{rights:?}");
            assert_eq!(AccessRights::from_attributes(attributes), rights, "{attributes:#x}");
        }
    }

    #[test]
    fn the_parts_are_where_the_manual_has_them() {
        let rights = AccessRights::from_bits_retain(0xa0fb);
        assert_eq!((rights.kind(), rights.dpl()), (0xb, 3));
        assert!(rights.contains(AccessRights::LONG | AccessRights::GRANULARITY));
        assert!(!rights.contains(AccessRights::DEFAULT_BIG));
    }

    #[test]
    fn the_mode_takes_more_than_the_segment() {
        const VM: u64 = 1 << 17;
        let (long, big) = ([true, false], [false, true]);
        assert_eq!(mode(1, 0, 2, big), Mode::Code32);
        assert_eq!(mode(1, 0, 2, [false, false]), Mode::Code16);
        assert_eq!(mode(0, 0, 2, big), Mode::Code16, "real mode");
        assert_eq!(mode(1, 0, VM, big), Mode::Code16, "virtual-8086 mode");
        assert_eq!(mode(1, 1 << 10, 2, big), Mode::Code32, "compatibility mode");
        assert_eq!(mode(1, 1 << 10, 2, long), Mode::Code64);
        assert_eq!(mode(1, 1 << 8, 2, long), Mode::Code16, "L means nothing before LMA");
    }
}
