//! Checks on the guest's segment and descriptor-table registers, RIP and RFLAGS.

use Segment::{Cs, Ds, Es, Fs, Gs, Ldtr, Ss, Tr};

use super::super::controls::{AccessRights, Entry};
use super::super::field::*;
use super::{Register, Vmx};
use crate::hw::check::{Checker, Fields, above, cr0, rflags, rules};
use crate::vm::EventKind;

const VIRTUAL_8086_RIGHTS: u32 = 0xf3;
const RESERVED_RIGHTS: u64 = 0xfffe_0f00;
const TABLE_INDICATOR: u64 = 1 << 2;
/// Writable data, accessed, in CS: real mode's way of writing through CS.
const DATA_IN_CS: u32 = 3;
const LONG_BIG: AccessRights = AccessRights::LONG.union(AccessRights::DEFAULT_BIG);
const RFLAGS_ALWAYS: u64 = 1 << 1;
const RFLAGS_FIXED: u64 = !0x003f_7fd7 | RFLAGS_ALWAYS;

impl Register {
    /// It holds a segment; CS and TR always do, whatever they say.
    pub(super) fn counts(&self) -> bool {
        matches!(self.id, Cs | Tr) || !self.rights.contains(AccessRights::UNUSABLE)
    }

    pub(super) fn system(&self) -> bool {
        matches!(self.id, Tr | Ldtr)
    }

    /// A data register whose descriptor is checked.
    fn data(&self) -> bool {
        self.checked && matches!(self.id, Ds | Es | Fs | Gs)
    }
}

impl<'a, V: VmcsRead> Vmx<'a, V> {
    fn virtual_8086(&self) -> bool {
        self.value(GUEST_RFLAGS) & rflags::VM != 0
    }

    fn cs(&self) -> &'a Register {
        let [_, cs, ..] = self.segments;
        cs
    }

    fn ss(&self) -> &'a Register {
        let [_, _, ss, ..] = self.segments;
        ss
    }

    fn code_64(&self) -> bool {
        self.has(Entry::IA32E_MODE_GUEST) && self.cs().rights.contains(AccessRights::LONG)
    }
}

rules! {
    "SDM vol. 3", |c: &mut Checker<'_, Vmx<'_, impl VmcsRead>>|
    // Those that an unrestricted guest need not keep are not here.
    "Checks on Guest Segment Registers" {
        TableIndicator "the selectors of TR and LDTR must refer to the GDT",
            for r in c.segments, if r.system() && r.counts() =>
            c.clear(r.id.selector(), TABLE_INDICATOR);
        Virtual8086Base "in virtual-8086 mode the base must be 16 times the selector",
            for r in c.segments, if c.virtual_8086() && !r.system() =>
            c.with(r.id.base(), r.id.selector(), r.base == r.selector << 4);
        Virtual8086Limit "in virtual-8086 mode the limit must be 0xffff",
            for r in c.segments, if c.virtual_8086() && !r.system() =>
            c.that(r.id.limit(), r.limit == 0xffff);
        Virtual8086Rights "in virtual-8086 mode the access rights must be 0xf3",
            for r in c.segments, if c.virtual_8086() && !r.system() =>
            c.that(r.id.access_rights(), r.rights.bits() == VIRTUAL_8086_RIGHTS);
        SegmentBaseCanonical "the base must be canonical",
            for r in c.segments, if matches!(r.id, Fs | Gs) || r.system() && r.counts() =>
            c.canonical(r.id.base(), c.caps.linear_bits);
        SegmentBaseUpper "bits 63:32 of the base must be 0",
            for r in c.segments, if matches!(r.id, Cs | Ss | Ds | Es) && r.counts() =>
            c.clear(r.id.base(), above(32));
        CodeType "CS must be accessed code, or accessed writable data", if c.cs().checked =>
            c.that(
                GUEST_CS_ACCESS_RIGHTS,
                matches!(c.cs().rights.kind(), DATA_IN_CS | 9 | 11 | 13 | 15),
            );
        StackType "SS must be accessed writable data", if c.ss().checked =>
            c.that(GUEST_SS_ACCESS_RIGHTS, matches!(c.ss().rights.kind(), 3 | 7));
        DataAccessed "the segment must be accessed", for r in c.segments, if r.data() =>
            c.that(r.id.access_rights(), r.rights.contains(AccessRights::ACCESSED));
        DataReadable "a code segment in a data register must be readable",
            for r in c.segments, if r.data() && r.rights.contains(AccessRights::CODE) =>
            c.that(r.id.access_rights(), r.rights.contains(AccessRights::READ_WRITE));
        SegmentNotSystem "S must be 1", for r in c.segments, if r.checked && !r.system() =>
            c.that(r.id.access_rights(), r.rights.contains(AccessRights::CODE_OR_DATA));
        CodeDplData "a data segment in CS must have DPL 0",
            if c.cs().checked && c.cs().rights.kind() == DATA_IN_CS =>
            c.that(GUEST_CS_ACCESS_RIGHTS, c.cs().rights.dpl() == 0);
        CodeDplNonconforming "the DPL of nonconforming CS must be that of SS",
            if c.cs().checked && matches!(c.cs().rights.kind(), 9 | 11) => {
            let sound = c.cs().rights.dpl() == c.ss().rights.dpl();
            c.with(GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, sound)
        };
        CodeDplConforming "the DPL of conforming CS must not exceed that of SS",
            if c.cs().checked && matches!(c.cs().rights.kind(), 13 | 15) => {
            let sound = c.cs().rights.dpl() <= c.ss().rights.dpl();
            c.with(GUEST_CS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS, sound)
        };
        // This holds for an unusable SS as well: its DPL is the CPL.
        StackDplZero "the DPL of SS must be 0 in real mode and with a data segment in CS",
            if !c.virtual_8086()
                && (!c.any(GUEST_CR0, cr0::PE) || c.cs().rights.kind() == DATA_IN_CS) =>
            c.with(GUEST_SS_ACCESS_RIGHTS, GUEST_CR0, c.ss().rights.dpl() == 0);
        SegmentPresent "P must be 1", for r in c.segments, if r.checked =>
            c.that(r.id.access_rights(), r.rights.contains(AccessRights::PRESENT));
        SegmentReserved "bits 11:8 and 31:17 of the access rights must be 0",
            for r in c.segments, if r.checked => c.clear(r.id.access_rights(), RESERVED_RIGHTS);
        CodeLongAndBig "D must be 0 in 64-bit code",
            if c.cs().checked && c.has(Entry::IA32E_MODE_GUEST) =>
            c.that(GUEST_CS_ACCESS_RIGHTS, !c.cs().rights.contains(LONG_BIG));
        LimitNeedsBytes "G must be 0 if one of bits 11:0 of the limit is 0",
            for r in c.segments, if r.checked && r.limit & 0xfff != 0xfff => {
            let sound = !r.rights.contains(AccessRights::GRANULARITY);
            c.with(r.id.access_rights(), r.id.limit(), sound)
        };
        LimitNeedsPages "G must be 1 if one of bits 31:20 of the limit is 1",
            for r in c.segments, if r.checked && r.limit & 0xfff0_0000 != 0 => {
            let sound = r.rights.contains(AccessRights::GRANULARITY);
            c.with(r.id.access_rights(), r.id.limit(), sound)
        };
        TaskType "TR must be a busy TSS, in IA-32e mode a 64-bit one",
            for r in c.segments, if r.id == Tr => {
            let sound = r.rights.kind() == 11
                || r.rights.kind() == 3 && !c.has(Entry::IA32E_MODE_GUEST);
            c.with(r.id.access_rights(), ENTRY_CONTROLS, sound)
        };
        TaskUnusable "TR must be usable", for r in c.segments, if r.id == Tr =>
            c.that(r.id.access_rights(), !r.rights.contains(AccessRights::UNUSABLE));
        LdtType "LDTR must be an LDT", for r in c.segments, if r.id == Ldtr && r.checked =>
            c.that(r.id.access_rights(), r.rights.kind() == 2);
        SystemSegment "S must be 0", for r in c.segments, if r.checked && r.system() =>
            c.that(r.id.access_rights(), !r.rights.contains(AccessRights::CODE_OR_DATA));
    }
    "Checks on Guest Descriptor-Table Registers" {
        TableBaseCanonical "the base must be canonical",
            for base in [GUEST_GDTR_BASE, GUEST_IDTR_BASE] =>
            c.canonical(base, c.caps.linear_bits);
        TableLimitUpper "bits 31:16 of the limit must be 0",
            for limit in [GUEST_GDTR_LIMIT, GUEST_IDTR_LIMIT] => c.clear(limit, 0xffff_0000);
    }
    "Checks on Guest RIP, RFLAGS, and SSP" {
        RipUpper "bits 63:32 of RIP must be 0 outside 64-bit code",
            if !c.code_64() => c.clear(GUEST_RIP, above(32));
        RipCanonical "RIP must be canonical",
            if c.code_64() => c.canonical(GUEST_RIP, c.caps.linear_bits);
        RflagsReserved "reserved bits of RFLAGS must be 0 and bit 1 must be 1" =>
            c.none_of(GUEST_RFLAGS, (c.get(GUEST_RFLAGS) ^ RFLAGS_ALWAYS) & RFLAGS_FIXED);
        RflagsVirtual8086 "RFLAGS.VM must be 0 in IA-32e mode and without CR0.PE",
            if c.virtual_8086() => {
            let sound = c.any(GUEST_CR0, cr0::PE) && !c.has(Entry::IA32E_MODE_GUEST);
            c.with(GUEST_RFLAGS, GUEST_CR0, sound)
        };
        RflagsInterrupt "RFLAGS.IF must be 1 to inject an external interrupt",
            if c.injects(EventKind::ExternalInterrupt) =>
            c.with(GUEST_RFLAGS, ENTRY_INTERRUPTION_INFORMATION, c.any(GUEST_RFLAGS, rflags::IF));
    }
}
