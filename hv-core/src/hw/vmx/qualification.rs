//! Exit qualifications, as pure functions of their values: SDM vol. 3, "Basic VM-Exit Information".

use crate::vm::exit::{CrAccess, Exit, NestedFault, PortAccess};

/// A control-register access. CLTS and LMSW are told from the others as well; what LMSW reads from
/// memory has been read.
pub const fn control_register(qualification: u64) -> CrAccess {
    let cr = qualification as u8 & 0xf;
    let gpr = (qualification >> 8) as u8 & 0xf;
    match qualification >> 4 & 3 {
        0 => CrAccess::Write { cr, gpr },
        1 => CrAccess::Read { cr, gpr },
        2 => CrAccess::Clts,
        _ => CrAccess::Lmsw((qualification >> 16) as u16),
    }
}

/// A MOV DR.
pub const fn debug_register(qualification: u64) -> Exit {
    Exit::Dr {
        number: qualification as u8 & 7,
        gpr: (qualification >> 8) as u8 & 0xf,
        read: qualification & 1 << 4 != 0,
    }
}

/// An I/O instruction; `None` for a size that the manual does not use.
pub const fn port(qualification: u64) -> Option<PortAccess> {
    let size = match qualification & 7 {
        0 => 1,
        1 => 2,
        3 => 4,
        _ => return None,
    };
    Some(PortAccess {
        port: (qualification >> 16) as u16,
        size,
        input: qualification & 1 << 3 != 0,
        string: qualification & 1 << 4 != 0,
        repeated: qualification & 1 << 5 != 0,
    })
}

/// An access to `gpa` that EPT forbids. With a linear address (bit 7) that was not the access itself
/// (bit 8) it was one to the guest's page tables.
pub const fn ept_violation(qualification: u64, gpa: u64) -> NestedFault {
    let walk = qualification >> 7 & 3 == 1;
    NestedFault { gpa, access: qualification as u8 & 7, walk }
}

/// Bit 12 of the qualification of an EPT violation, and of the interruption information of an
/// exception: an IRET had just ended NMI blocking, which must be set again before the guest goes on.
/// Under an EPT violation it counts only if the exit did not interrupt the delivery of an event.
pub const NMI_UNBLOCKED: u32 = 1 << 12;

/// The offset of an access to the APIC page, and what it is, as for [`NestedFault`]. `None` if it was not
/// the instruction's own: by a walk of the guest's page tables, or by guest-physical address while an
/// event was delivered.
pub const fn apic_access(qualification: u64) -> Option<(u16, u8)> {
    let access = match qualification >> 12 & 0xf {
        0 | 3 | 4 => 1,
        1 => 2,
        2 => 4,
        _ => return None,
    };
    Some((qualification as u16 & 0xfff, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_register_accesses() {
        assert_eq!(control_register(0x0b04), CrAccess::Write { cr: 4, gpr: 11 });
        assert_eq!(control_register(0x0713), CrAccess::Read { cr: 3, gpr: 7 });
        assert_eq!(control_register(0x20), CrAccess::Clts);
        assert_eq!(control_register(0xfff1_0070), CrAccess::Lmsw(0xfff1), "from memory");
        assert_eq!(control_register(0x1_0030), CrAccess::Lmsw(1));
    }

    #[test]
    fn debug_register_accesses() {
        assert_eq!(debug_register(0x0207), Exit::Dr { number: 7, gpr: 2, read: false });
        assert_eq!(debug_register(0x0f16), Exit::Dr { number: 6, gpr: 15, read: true });
    }

    #[test]
    fn port_accesses() {
        let out = PortAccess { port: 0x3f8, size: 1, input: false, string: false, repeated: false };
        assert_eq!(port(0x03f8_0000), Some(out));
        assert_eq!(port(0x03f8_0040), Some(out), "an immediate port is the same");
        let ins = PortAccess { port: 0xcfc, size: 4, input: true, string: true, repeated: true };
        assert_eq!(port(0x0cfc_003b), Some(ins));
        assert_eq!(port(0x0060_0009).map(|io| (io.size, io.input)), Some((2, true)));
        assert_eq!(port(0x0060_0002), None);
    }

    #[test]
    fn memory_accesses() {
        for (qualification, access, walk) in [
            (0x189, 1, false),
            (0x18a, 2, false),
            (0x8b, 3, true),
            (0x1104, 4, false),
            (1, 1, false),
        ] {
            let fault = NestedFault { gpa: 0x5000, access, walk };
            assert_eq!(ept_violation(qualification, 0x5000), fault, "{qualification:#x}");
        }
        assert_eq!(apic_access(0x0080), Some((0x80, 1)));
        assert_eq!(apic_access(0x10b0), Some((0xb0, 2)));
        assert_eq!(apic_access(0x2ffe), Some((0xffe, 4)));
        for walk in [0xa000, 0xf000] {
            assert_eq!(apic_access(walk), None, "{walk:#x}");
        }
    }
}
