//! Exit qualifications: SDM vol. 3, "Basic VM-Exit Information".

use pv_abi::exit::Reason;

/// Exit qualification of a control-register access. Register numbers are those of instruction
/// encodings: 0 RAX, 1 RCX, ..., 15 R15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrAccess {
    /// MOV to CR.
    MoveTo {
        /// Which control register.
        cr: u8,
        /// The general register.
        register: u8,
    },
    /// MOV from CR.
    MoveFrom {
        /// Which control register.
        cr: u8,
        /// The general register.
        register: u8,
    },
    /// CLTS.
    Clts,
    /// LMSW; the operand in memory, if it is there, is the guest-linear address.
    Lmsw {
        /// The operand.
        value: u16,
        /// Whether it was read from memory.
        memory: bool,
    },
}

impl CrAccess {
    /// Decodes the qualification.
    pub const fn decode(qualification: u64) -> CrAccess {
        let cr = qualification as u8 & 0xf;
        let register = (qualification >> 8) as u8 & 0xf;
        match qualification >> 4 & 3 {
            0 => CrAccess::MoveTo { cr, register },
            1 => CrAccess::MoveFrom { cr, register },
            2 => CrAccess::Clts,
            _ => CrAccess::Lmsw {
                value: (qualification >> 16) as u16,
                memory: qualification & 1 << 6 != 0,
            },
        }
    }

    /// The neutral reason.
    pub const fn neutral(self) -> Reason {
        match self {
            CrAccess::MoveFrom { .. } => Reason::CrRead,
            _ => Reason::CrWrite,
        }
    }
}

/// Exit qualification of a MOV DR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrAccess {
    /// Which debug register.
    pub dr: u8,
    /// The general register.
    pub register: u8,
    /// From the debug register to the general one.
    pub read: bool,
}

impl DrAccess {
    /// Decodes the qualification.
    pub const fn decode(qualification: u64) -> DrAccess {
        DrAccess {
            dr: qualification as u8 & 7,
            register: (qualification >> 8) as u8 & 0xf,
            read: qualification & 1 << 4 != 0,
        }
    }
}

/// Exit qualification of an I/O instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoAccess {
    /// The port.
    pub port: u16,
    /// Bytes: 1, 2 or 4.
    pub size: u8,
    /// IN or INS.
    pub input: bool,
    /// INS or OUTS.
    pub string: bool,
    /// With a REP prefix.
    pub repeated: bool,
}

impl IoAccess {
    /// Decodes the qualification; `None` for a size that the manual does not use.
    pub const fn decode(qualification: u64) -> Option<IoAccess> {
        let size = match qualification & 7 {
            0 => 1,
            1 => 2,
            3 => 4,
            _ => return None,
        };
        Some(IoAccess {
            port: (qualification >> 16) as u16,
            size,
            input: qualification & 1 << 3 != 0,
            string: qualification & 1 << 4 != 0,
            repeated: qualification & 1 << 5 != 0,
        })
    }

    /// The neutral reason.
    pub const fn neutral(self) -> Reason {
        if self.input { Reason::PortIn } else { Reason::PortOut }
    }
}

/// Exit qualification of an EPT violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptViolation {
    /// The access read data.
    pub read: bool,
    /// The access wrote data; with accessed and dirty flags on, walks of the guest's page tables
    /// count as writes.
    pub write: bool,
    /// The access fetched an instruction.
    pub fetch: bool,
    /// EPT allows reads there.
    pub readable: bool,
    /// EPT allows writes there.
    pub writable: bool,
    /// EPT allows fetches there.
    pub executable: bool,
    /// The guest-linear-address field counts.
    pub linear: bool,
    /// The access was to the translation of the linear address, not to a page table on the way;
    /// counts only with `linear`.
    pub translated: bool,
    /// An IRET had just ended NMI blocking, which must be set again before the guest goes on.
    /// Counts only if the exit did not interrupt the delivery of an event.
    pub nmi_unblocked: bool,
}

impl EptViolation {
    /// Decodes the qualification.
    pub const fn decode(qualification: u64) -> EptViolation {
        let linear = qualification & 1 << 7 != 0;
        EptViolation {
            read: qualification & 1 << 0 != 0,
            write: qualification & 1 << 1 != 0,
            fetch: qualification & 1 << 2 != 0,
            readable: qualification & 1 << 3 != 0,
            writable: qualification & 1 << 4 != 0,
            executable: qualification & 1 << 5 != 0,
            linear,
            translated: linear && qualification & 1 << 8 != 0,
            nmi_unblocked: qualification & 1 << 12 != 0,
        }
    }

    /// Nothing is mapped there.
    pub const fn unmapped(self) -> bool {
        !(self.readable || self.writable || self.executable)
    }
}

/// What accessed the APIC page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicAccessKind {
    /// A data read of an instruction.
    Read,
    /// A data write of an instruction.
    Write,
    /// An instruction fetch.
    Fetch,
    /// The delivery of an event, by linear address.
    Delivery,
    /// Monitoring the page for writes.
    Monitor,
    /// The delivery of an event, by physical address.
    PhysicalDelivery,
    /// An instruction, by physical address: a page table that lies there, for instance.
    Physical,
}

/// Exit qualification of an APIC access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicAccess {
    /// Offset in the page; counts for accesses by linear address only.
    pub offset: u16,
    /// What accessed it.
    pub kind: ApicAccessKind,
}

impl ApicAccess {
    /// Decodes the qualification; `None` for an access type without a meaning.
    pub const fn decode(qualification: u64) -> Option<ApicAccess> {
        let kind = match qualification >> 12 & 0xf {
            0 => ApicAccessKind::Read,
            1 => ApicAccessKind::Write,
            2 => ApicAccessKind::Fetch,
            3 => ApicAccessKind::Delivery,
            4 => ApicAccessKind::Monitor,
            10 => ApicAccessKind::PhysicalDelivery,
            15 => ApicAccessKind::Physical,
            _ => return None,
        };
        Some(ApicAccess { offset: qualification as u16 & 0xfff, kind })
    }
}

/// What started a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskSwitchSource {
    /// CALL.
    Call,
    /// IRET.
    Iret,
    /// JMP.
    Jmp,
    /// A task gate in the IDT.
    Gate,
}

/// Exit qualification of a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSwitch {
    /// The selector of the TSS.
    pub selector: u16,
    /// What started it.
    pub source: TaskSwitchSource,
}

impl TaskSwitch {
    /// Decodes the qualification.
    pub const fn decode(qualification: u64) -> TaskSwitch {
        let source = match qualification >> 30 & 3 {
            0 => TaskSwitchSource::Call,
            1 => TaskSwitchSource::Iret,
            2 => TaskSwitchSource::Jmp,
            _ => TaskSwitchSource::Gate,
        };
        TaskSwitch { selector: qualification as u16, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_register_accesses() {
        let to = CrAccess::decode(0x0004 | 0xb << 8);
        assert_eq!(to, CrAccess::MoveTo { cr: 4, register: 11 });
        let from = CrAccess::decode(0x0013 | 0x7 << 8);
        assert_eq!(from, CrAccess::MoveFrom { cr: 3, register: 7 });
        assert_eq!(CrAccess::decode(0x20), CrAccess::Clts);
        assert_eq!(CrAccess::decode(0xfff1_0070), CrAccess::Lmsw { value: 0xfff1, memory: true });
        assert_eq!(CrAccess::decode(0x1_0030), CrAccess::Lmsw { value: 1, memory: false });
        assert_eq!((to.neutral(), from.neutral()), (Reason::CrWrite, Reason::CrRead));
    }

    #[test]
    fn debug_register_accesses() {
        assert_eq!(DrAccess::decode(0x0207), DrAccess { dr: 7, register: 2, read: false });
        assert_eq!(DrAccess::decode(0x0f16), DrAccess { dr: 6, register: 15, read: true });
    }

    #[test]
    fn port_accesses() {
        let out = IoAccess { port: 0x3f8, size: 1, input: false, string: false, repeated: false };
        assert_eq!(IoAccess::decode(0x03f8_0000), Some(out));
        assert_eq!(IoAccess::decode(0x03f8_0040), Some(out), "an immediate port is the same");
        let ins = IoAccess { port: 0xcfc, size: 4, input: true, string: true, repeated: true };
        assert_eq!(IoAccess::decode(0x0cfc_003b), Some(ins));
        assert_eq!(IoAccess::decode(0x0060_0009).map(|io| (io.size, io.input)), Some((2, true)));
        assert_eq!(IoAccess::decode(0x0060_0002), None);
        assert_eq!((out.neutral(), ins.neutral()), (Reason::PortOut, Reason::PortIn));
    }

    #[test]
    fn ept_violations() {
        let write = EptViolation::decode(0x18a);
        assert!(write.write && !write.read && !write.fetch);
        assert!(write.readable && !write.writable && !write.executable && !write.unmapped());
        assert!(write.linear && write.translated && !write.nmi_unblocked);
        let fetch = EptViolation::decode(0x1104);
        assert!(fetch.fetch && fetch.unmapped() && fetch.nmi_unblocked);
        assert!(!fetch.linear && !fetch.translated, "bit 8 means nothing without bit 7");
    }

    #[test]
    fn apic_accesses() {
        let decode = |q| ApicAccess::decode(q).map(|a| (a.offset, a.kind));
        assert_eq!(decode(0x0080), Some((0x80, ApicAccessKind::Read)));
        assert_eq!(decode(0x10b0), Some((0xb0, ApicAccessKind::Write)));
        assert_eq!(decode(0xf000), Some((0, ApicAccessKind::Physical)));
        assert_eq!(decode(0x5000), None);
    }

    #[test]
    fn task_switches() {
        let gate = TaskSwitch { selector: 0x28, source: TaskSwitchSource::Gate };
        assert_eq!(TaskSwitch::decode(0xc000_0028), gate);
        assert_eq!(TaskSwitch::decode(0x4000_0030).source, TaskSwitchSource::Iret);
    }
}
