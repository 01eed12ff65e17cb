//! Checks on Guest Segment Registers.

use super::super::controls::AccessRights;
use super::super::field::{self, Segment, VmcsRead};
use super::{Checker, Flow, Rule, above, cr0, rflags};

/// A guest segment register as the VMCS has it.
#[derive(Clone, Copy)]
struct Register {
    id: Segment,
    selector: u64,
    base: u64,
    limit: u64,
    rights: AccessRights,
}

impl Register {
    fn usable(&self) -> bool {
        !self.rights.contains(AccessRights::UNUSABLE)
    }

    fn rpl(&self) -> u32 {
        self.selector as u32 & 3
    }
}

const VIRTUAL_8086_RIGHTS: u32 = 0xf3;
const RESERVED_RIGHTS: u64 = 0xfffe_0f00;
/// Writable data, accessed, in CS: real mode's way of writing through CS.
const DATA_IN_CS: u32 = 3;
const ORDINARY: [Segment; 6] =
    [Segment::Es, Segment::Cs, Segment::Ss, Segment::Ds, Segment::Fs, Segment::Gs];

impl<V: VmcsRead> Checker<'_, V> {
    fn register(&self, id: Segment) -> Register {
        Register {
            id,
            selector: self.get(id.selector()),
            base: self.get(id.base()),
            limit: self.get(id.limit()),
            rights: AccessRights::from_bits_retain(self.vmcs.read(id.access_rights())),
        }
    }

    pub(super) fn segments(&mut self) -> Flow {
        let virtual_8086 = self.get(field::GUEST_RFLAGS) & rflags::VM != 0;
        let cs = self.register(Segment::Cs);
        let ss = self.register(Segment::Ss);
        if !virtual_8086 && !self.unrestricted() {
            let (a, b) = (Segment::Ss.selector(), Segment::Cs.selector());
            self.with(Rule::StackRpl, a, b, ss.rpl() == cs.rpl())?;
        }
        for id in ORDINARY {
            let register = self.register(id);
            self.base(register)?;
            if virtual_8086 {
                self.virtual_8086(register)?;
            } else if register.usable() || id == Segment::Cs {
                self.kind_and_dpl(register, ss)?;
                let sound = register.rights.contains(AccessRights::CODE_OR_DATA);
                self.that(Rule::SegmentNotSystem, id.access_rights(), sound)?;
                self.common(register)?;
            }
        }
        if !virtual_8086 {
            self.stack_dpl(cs, ss)?;
            let long_big = AccessRights::LONG.union(AccessRights::DEFAULT_BIG);
            let sound = !(self.ia32e() && cs.rights.contains(long_big));
            self.that(Rule::CodeLongAndBig, Segment::Cs.access_rights(), sound)?;
        }
        self.task()?;
        self.local_table()
    }

    fn base(&mut self, register: Register) -> Flow {
        let base = register.id.base();
        match register.id {
            Segment::Fs | Segment::Gs => self.canonical(Rule::SegmentBaseCanonical, base),
            id if id == Segment::Cs || register.usable() => {
                self.clear(Rule::SegmentBaseUpper, base, above(32))
            }
            _ => Flow::Continue(()),
        }
    }

    fn virtual_8086(&mut self, Register { id, selector, base, limit, rights }: Register) -> Flow {
        let sound = base == selector << 4;
        self.with(Rule::Virtual8086Base, id.base(), id.selector(), sound)?;
        self.that(Rule::Virtual8086Limit, id.limit(), limit == 0xffff)?;
        let sound = rights.bits() == VIRTUAL_8086_RIGHTS;
        self.that(Rule::Virtual8086Rights, id.access_rights(), sound)
    }

    fn kind_and_dpl(&mut self, register: Register, ss: Register) -> Flow {
        let Register { id, rights, .. } = register;
        let field = id.access_rights();
        let (kind, dpl) = (rights.kind(), rights.dpl());
        match id {
            Segment::Cs => {
                let code = matches!(kind, 9 | 11 | 13 | 15);
                let data = kind == DATA_IN_CS && self.unrestricted();
                self.that(Rule::CodeType, field, code || data)?;
                let stack = Segment::Ss.access_rights();
                let stack_dpl = ss.rights.dpl();
                match kind {
                    DATA_IN_CS => self.that(Rule::CodeDplData, field, dpl == 0),
                    9 | 11 => self.with(Rule::CodeDplNonconforming, field, stack, dpl == stack_dpl),
                    13 | 15 => self.with(Rule::CodeDplConforming, field, stack, dpl <= stack_dpl),
                    _ => Flow::Continue(()),
                }
            }
            Segment::Ss => self.that(Rule::StackType, field, matches!(kind, 3 | 7)),
            _ => {
                let sound = rights.contains(AccessRights::ACCESSED);
                self.that(Rule::DataAccessed, field, sound)?;
                let sound = !rights.contains(AccessRights::CODE)
                    || rights.contains(AccessRights::READ_WRITE);
                self.that(Rule::DataReadable, field, sound)?;
                let conforming = kind > 11;
                let sound = self.unrestricted() || conforming || dpl >= register.rpl();
                self.with(Rule::DataDpl, field, id.selector(), sound)
            }
        }
    }

    /// These two hold for an unusable SS as well: its DPL is the CPL.
    fn stack_dpl(&mut self, cs: Register, ss: Register) -> Flow {
        let field = Segment::Ss.access_rights();
        if !self.unrestricted() {
            let sound = ss.rights.dpl() == ss.rpl();
            self.with(Rule::StackDpl, field, Segment::Ss.selector(), sound)?;
        }
        let real = self.get(field::GUEST_CR0) & cr0::PE == 0;
        let sound = !(real || cs.rights.kind() == DATA_IN_CS) || ss.rights.dpl() == 0;
        self.with(Rule::StackDplZero, field, field::GUEST_CR0, sound)
    }

    fn common(&mut self, Register { id, limit, rights, .. }: Register) -> Flow {
        let field = id.access_rights();
        self.that(Rule::SegmentPresent, field, rights.contains(AccessRights::PRESENT))?;
        self.clear(Rule::SegmentReserved, field, RESERVED_RIGHTS)?;
        let pages = rights.contains(AccessRights::GRANULARITY);
        let sound = limit & 0xfff == 0xfff || !pages;
        self.with(Rule::LimitNeedsBytes, field, id.limit(), sound)?;
        let sound = limit & 0xfff0_0000 == 0 || pages;
        self.with(Rule::LimitNeedsPages, field, id.limit(), sound)
    }

    fn task(&mut self) -> Flow {
        let register = self.register(Segment::Tr);
        let field = Segment::Tr.access_rights();
        let kind = register.rights.kind();
        let sound = kind == 11 || (kind == 3 && !self.ia32e());
        self.with(Rule::TaskType, field, field::ENTRY_CONTROLS, sound)?;
        self.that(Rule::TaskUnusable, field, register.usable())?;
        self.system(register)
    }

    fn local_table(&mut self) -> Flow {
        let register = self.register(Segment::Ldtr);
        if !register.usable() {
            return Flow::Continue(());
        }
        let sound = register.rights.kind() == 2;
        self.that(Rule::LdtType, Segment::Ldtr.access_rights(), sound)?;
        self.system(register)
    }

    fn system(&mut self, register: Register) -> Flow {
        const TABLE_INDICATOR: u64 = 1 << 2;
        self.clear(Rule::TableIndicator, register.id.selector(), TABLE_INDICATOR)?;
        self.canonical(Rule::SegmentBaseCanonical, register.id.base())?;
        let sound = !register.rights.contains(AccessRights::CODE_OR_DATA);
        self.that(Rule::SystemSegment, register.id.access_rights(), sound)?;
        self.common(register)
    }
}
