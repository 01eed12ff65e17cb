//! Sound VMCSs pass; for each rule, one that breaks it alone.

use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::super::capability::tests::Fake;
use super::super::controls::{Entry, Exit, PinBased, Primary, Secondary};
use super::super::field::tests::Model;
use super::super::field::*;
use super::super::policy;
use super::*;
use crate::hw::check::tests::{Case, Checked, each_rule_is_found_alone, sound_ones_pass};
use crate::hw::check::{cr0, cr4, efer};
use crate::hw::start;
use crate::vm::hardware::Kept;
use crate::vm::image::Mode;
use crate::vm::{Event, EventKind, Features, Policy};

const ORDINARY: [Segment; 6] =
    [Segment::Es, Segment::Cs, Segment::Ss, Segment::Ds, Segment::Fs, Segment::Gs];
const NOT_CANONICAL: u64 = 1 << 47;
const APIC: Features = Features::APIC_REGISTERS;

struct Machine {
    vmcs: Model,
    caps: Capabilities,
}

impl Checked for Machine {
    fn each(&self, found: &mut dyn FnMut(Violation) -> Flow) {
        each(&self.vmcs, &self.caps, found);
    }
}

impl Machine {
    fn set<W: Width>(&mut self, field: Field<W>, value: u64) -> &mut Self {
        self.vmcs.set(field, value);
        self
    }

    fn or<W: Width>(&mut self, field: Field<W>, bits: u64) -> &mut Self {
        let value = self.vmcs.read(field).into() | bits;
        self.set(field, value)
    }

    fn not<W: Width>(&mut self, field: Field<W>, bits: u64) -> &mut Self {
        let value = self.vmcs.read(field).into() & !bits;
        self.set(field, value)
    }

    fn on<C: Controls>(&mut self, control: C) -> &mut Self {
        self.or(C::FIELD, control.bits().into())
    }

    fn off<C: Controls>(&mut self, control: C) -> &mut Self {
        self.not(C::FIELD, control.bits().into())
    }

    fn rights(&mut self, segment: Segment, rights: u64) -> &mut Self {
        self.set(segment.access_rights(), rights)
    }

    fn inject(&mut self, event: Event) -> &mut Self {
        let length = event.instruction_length.into();
        self.set(ENTRY_INTERRUPTION_INFORMATION, event.information().into())
            .set(ENTRY_EXCEPTION_ERROR_CODE, event.error_code.unwrap_or(0).into())
            .set(ENTRY_INSTRUCTION_LENGTH, length)
    }

    fn information(&mut self, information: u64) -> &mut Self {
        self.set(ENTRY_INTERRUPTION_INFORMATION, information)
    }

    fn flags(&mut self, flags: u64) -> &mut Self {
        self.set(GUEST_RFLAGS, flags | 2)
    }

    fn shadow(&mut self, state: u64) -> &mut Self {
        self.set(GUEST_INTERRUPTIBILITY_STATE, state)
    }

    /// The controls of a policy.
    fn obey(&mut self, policy: Policy, without: Features) -> &mut Self {
        let features = policy::features(policy, self.caps.features(), without);
        let controls = policy::controls(policy, features, &self.caps).unwrap();
        let apic = Secondary::VIRTUALIZE_APIC_ACCESSES;
        let mode = if features.contains(APIC) { apic } else { Secondary::empty() };
        self.set(PIN_BASED_CONTROLS, controls.pin_based.bits().into())
            .set(PRIMARY_CONTROLS, controls.primary.bits().into())
            .set(SECONDARY_CONTROLS, (controls.secondary | mode).bits().into())
            .set(EXIT_CONTROLS, controls.exit.bits().into())
            .set(ENTRY_CONTROLS, controls.entry.bits().into())
    }
}

/// Sound controls and host state, and a guest without any.
fn machine() -> Machine {
    let caps = Fake::rich().capabilities().unwrap();
    let mut machine = Machine { vmcs: Model::default(), caps };
    machine
        .obey(Policy::HwAssist, Features::empty())
        .set(MSR_BITMAPS_ADDRESS, 0x1000)
        .set(IO_BITMAP_A_ADDRESS, 0x2000)
        .set(IO_BITMAP_B_ADDRESS, 0x3000)
        .set(VIRTUAL_APIC_ADDRESS, 0x4000)
        .set(APIC_ACCESS_ADDRESS, 0xfee0_0000)
        .set(VIRTUAL_PROCESSOR_IDENTIFIER, 1)
        .set(PLE_GAP, policy::PLE_GAP.into())
        .set(PLE_WINDOW, policy::PLE_WINDOW.into())
        .set(EPT_POINTER, 0x5000 | 3 << 3 | 6)
        .set(VMCS_LINK_POINTER, u64::MAX)
        .set(HOST_CR0, 0x8001_0033)
        .set(HOST_CR3, 0x6000)
        .set(HOST_CR4, 0x2020)
        .set(HOST_CS_SELECTOR, 8)
        .set(HOST_TR_SELECTOR, 16)
        .set(HOST_RIP, 0x10_0000)
        .set(HOST_IA32_EFER, 0xd01)
        .set(HOST_IA32_PAT, 0x0007_0406_0007_0406)
        .set(GUEST_IA32_PAT, 0x0007_0406_0007_0406)
        .set(GUEST_DR7, 0x400)
        .set(GUEST_RIP, 0x10_0000)
        .flags(0);
    machine
}

fn flat(machine: &mut Machine, code: u64) {
    for segment in ORDINARY {
        machine.set(segment.selector(), 0x10).set(segment.limit(), 0xffff_ffff);
        machine.rights(segment, if segment == Segment::Cs { code } else { 0xc093 });
    }
    machine.set(GUEST_TR_LIMIT, 0x67).rights(Segment::Tr, 0x8b);
    machine.rights(Segment::Ldtr, AccessRights::UNUSABLE.bits().into());
}

/// A 64-bit guest.
fn long() -> Machine {
    let mut machine = machine();
    flat(&mut machine, 0xa09b);
    machine
        .on(Entry::IA32E_MODE_GUEST)
        .set(GUEST_CR0, 0x8001_0033)
        .set(GUEST_CR3, 0x1000)
        .set(GUEST_CR4, 0x2020)
        .set(GUEST_IA32_EFER, 0xd01)
        .set(GUEST_GS_BASE, 0xffff_8000_0000_0000);
    machine
}

/// A guest at its PVH entry: 32-bit protected mode, paging off.
fn pvh() -> Machine {
    let mut machine = machine();
    flat(&mut machine, 0xc09b);
    machine.set(GUEST_CR0, 0x31).set(GUEST_CR4, 0x2000);
    machine
}

/// A guest in real mode.
fn real() -> Machine {
    let mut machine = machine();
    flat(&mut machine, 0x9b);
    for segment in ORDINARY {
        machine.set(segment.limit(), 0xffff).set(segment.base(), 0x100);
        machine.rights(segment, if segment == Segment::Cs { 0x9b } else { 0x93 });
    }
    machine.set(GUEST_CR0, 0x30).set(GUEST_CR4, 0x2000);
    machine
}

/// A guest in virtual-8086 mode.
fn virtual_8086() -> Machine {
    let mut machine = pvh();
    for segment in ORDINARY {
        machine.set(segment.selector(), 0x1234).set(segment.base(), 0x12340);
        machine.set(segment.limit(), 0xffff).rights(segment, 0xf3);
    }
    machine.flags(rflags::VM);
    machine
}

/// A guest with 32-bit PAE paging.
fn pae() -> Machine {
    let mut machine = pvh();
    machine.set(GUEST_CR0, 0x8000_0031).set(GUEST_CR4, 0x2020);
    for index in 0..4 {
        machine.set(guest_pdpte(index), 0x1001);
    }
    machine
}

macro_rules! cases {
    ($($what:literal $base:ident |$m:ident| $change:expr;)*) => {
        &[$(($what, $base, |$m| _ = $change)),*]
    };
}

const INT_80: Event = Event {
    vector: 0x80,
    kind: EventKind::SoftwareInterrupt,
    error_code: None,
    instruction_length: 2,
};

#[test]
fn every_state_that_a_guest_starts_in_is_sound() {
    for start in start::tests::starts() {
        let mut machine = machine();
        let state = start::state(start.mode);
        for (to, segment) in Segment::ALL.into_iter().zip(&state.segments) {
            machine.set(to.selector(), segment.selector.into()).set(to.base(), segment.base);
            machine.set(to.limit(), segment.limit.into());
            machine.rights(to, segment.rights.bits().into());
        }
        machine.set(GUEST_GDTR_BASE, state.gdt.0).set(GUEST_GDTR_LIMIT, state.gdt.1.into());
        machine.set(GUEST_IDTR_BASE, state.idt.0).set(GUEST_IDTR_LIMIT, state.idt.1.into());
        for (register, value) in start::registers(start) {
            match register {
                // As `keep` completes them.
                Kept::Cr0 => machine.set(GUEST_CR0, value & !cr0::CACHE | 1 << 5),
                Kept::Cr4 => machine.set(GUEST_CR4, value | 1 << 13),
                Kept::Cr3 => machine.set(GUEST_CR3, value),
                Kept::Efer => machine.set(GUEST_IA32_EFER, value),
                Kept::Rip => machine.set(GUEST_RIP, value),
                Kept::Rflags => machine.set(GUEST_RFLAGS, value),
                _ => continue,
            };
        }
        if matches!(start.mode, Mode::Long | Mode::Called(_)) {
            machine.on(Entry::IA32E_MODE_GUEST);
        }
        assert_eq!(machine.violations(), [], "{:?}", start.mode);
    }
}

const SOUND: &[Case<Machine>] = cases! {
    "a 64-bit guest" long |m| m;
    "a PVH entry" pvh |m| m;
    "real mode" real |m| m;
    "virtual-8086 mode" virtual_8086 |m| m;
    "PAE paging" pae |m| m;
    "PDPTEs that are not present" pae |m| m.set(GUEST_PDPTE2, 0x1e6);
    "writing through CS in real mode" real |m| m.rights(Segment::Cs, 0x93);
    "CR0 cache bits, which entry leaves alone" pvh |m|
        { m.caps.cr0_may &= !(3 << 29); m.or(GUEST_CR0, 3 << 29) };
    "an unusable data segment full of rubbish" long |m|
        m.rights(Segment::Ds, 0x1_0f00).set(GUEST_DS_BASE, 1 << 40);
    "an unusable SS in ring 0 of 64-bit code" long |m|
        m.rights(Segment::Ss, AccessRights::UNUSABLE.bits().into());
    "compatibility mode" long |m| m.rights(Segment::Cs, 0xc09b);
    "a user program" long |m| m.rights(Segment::Cs, 0xa0fb).rights(Segment::Ss, 0xc0f3);
    "a shadow of STI" long |m| m.flags(rflags::IF).shadow(1);
    "a shadow of MOV SS, single-stepping" long |m|
        m.flags(rflags::TF).shadow(2).set(GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 14);
    "#GP in protected mode" pvh |m| m.inject(Event::exception(13, 8));
    "#GP in real mode" real |m| m.inject(Event::exception(13, 8).in_real_mode());
    "INT 80h" long |m| m.inject(INT_80);
    "a field that is not valid" long |m| m.information(0x7fff_ffff);
    "x2APIC mode" long |m|
        m.off(Secondary::VIRTUALIZE_APIC_ACCESSES).on(Secondary::VIRTUALIZE_X2APIC_MODE);
    "pages that are not used" long |m|
        m.off(Primary::USE_IO_BITMAPS | Primary::USE_MSR_BITMAPS | Primary::USE_TPR_SHADOW)
            .set(SECONDARY_CONTROLS, Secondary::ALWAYS.bits().into()).set(MSR_BITMAPS_ADDRESS, 1)
            .set(IO_BITMAP_A_ADDRESS, 1).set(VIRTUAL_APIC_ADDRESS, 1).set(APIC_ACCESS_ADDRESS, 1)
            .set(VIRTUAL_PROCESSOR_IDENTIFIER, 0);
    "a step behind a shadow" long |m|
        m.flags(rflags::IF | rflags::TF).shadow(1).set(GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 14);
};

const BROKEN: &[Case<Machine>] = cases! {
    "PinBasedControls" long |m| m.not(PIN_BASED_CONTROLS, 1 << 1);
    "PinBasedControls" long |m| m.or(PIN_BASED_CONTROLS, 1 << 8);
    "PinBasedControls" long |m| m.or(PIN_BASED_CONTROLS, 1 << 7);
    "PinBasedControls" long |m| m.off(PinBased::NMI_EXITING);
    "PrimaryControls" long |m| m.not(PRIMARY_CONTROLS, 1 << 1);
    "PrimaryControls" long |m| m.or(PRIMARY_CONTROLS, 1 << 18);
    "PrimaryControls" long |m| m.or(PRIMARY_CONTROLS, 1 << 27);
    "PrimaryControls" long |m| m.off(Primary::ACTIVATE_SECONDARY_CONTROLS);
    "SecondaryControls" long |m| m.or(SECONDARY_CONTROLS, 1 << 21);
    "SecondaryControls" long |m| m.or(SECONDARY_CONTROLS, 1 << 17);
    "SecondaryControls" long |m| m.off(Secondary::UNRESTRICTED_GUEST);
    "CountNotZero" long |m| m.set(EXIT_MSR_LOAD_COUNT, 1);
    "PageAddress" long |m| m.set(APIC_ACCESS_ADDRESS, 1 << 40);
    "ApicVirtualization" long |m| m.off(Primary::USE_TPR_SHADOW);
    "ApicVirtualization" long |m| m.off(Secondary::APIC_REGISTER_VIRTUALIZATION);
    "ApicVirtualization" long |m| m.off(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
    "ApicVirtualization" long |m| m.off(Secondary::VIRTUALIZE_APIC_ACCESSES);
    "ApicVirtualization" long |m| m.on(Secondary::VIRTUALIZE_X2APIC_MODE);
    "PauseLoop" long |m| m.on(Primary::PAUSE_EXITING);
    "PauseLoop" long |m| m.set(PLE_GAP, 0xffff_ffff);
    "VpidZero" long |m| m.set(VIRTUAL_PROCESSOR_IDENTIFIER, 0);
    "EptPointer" long |m| m.set(EPT_POINTER, 0x5000 | 3 << 3);
    "EptPointer" long |m| m.set(EPT_POINTER, 0x5000 | 4 << 3 | 6);
    "EptPointer" long |m| m.or(EPT_POINTER, 1 << 6);
    "EptPointer" long |m| m.or(EPT_POINTER, 1 << 40);
    "ExitControls" long |m| m.not(EXIT_CONTROLS, 1);
    "ExitControls" long |m| m.or(EXIT_CONTROLS, 1 << 26);
    "ExitControls" long |m| m.or(EXIT_CONTROLS, 1 << 12);
    "ExitControls" long |m| m.off(Exit::HOST_ADDRESS_SPACE_SIZE);
    "EntryControls" long |m| m.not(ENTRY_CONTROLS, 1);
    "EntryControls" long |m| m.or(ENTRY_CONTROLS, 1 << 19);
    "EntryControls" long |m| m.or(ENTRY_CONTROLS, 1 << 16);
    "EntryControls" long |m| m.off(Entry::LOAD_IA32_PAT);
    "EventType" long |m| m.information(0x8000_0120);
    "EventType" long |m| m.information(0x8000_0700);
    "EventVector" long |m| m.information(0x8000_0203);
    "EventVector" long |m| m.information(0x8000_0320);
    "EventErrorCode" long |m| m.information(0x8000_030d);
    "EventErrorCode" long |m| m.information(0x8000_0b06);
    "EventErrorCode" long |m| m.flags(rflags::IF).information(0x8000_0820);
    "EventErrorCode" real |m| m.inject(Event::exception(13, 0));
    "EventReserved" long |m| m.information(0x8000_1202);
    "EventErrorCodeReserved" long |m| m.inject(Event::exception(14, 0x1_0000));
    "EventInstructionLength" long |m| m.inject(Event { instruction_length: 0, ..INT_80 });
    "EventInstructionLength" long |m| m.inject(Event { instruction_length: 16, ..INT_80 });
    "HostCr0Fixed" long |m| m.not(HOST_CR0, 1 << 5);
    "HostCr0Fixed" long |m| m.or(HOST_CR0, 1 << 32);
    "HostCr4Fixed" long |m| m.not(HOST_CR4, 1 << 13);
    "HostCr3Width" long |m| m.or(HOST_CR3, 1 << 40);
    "HostSysenterCanonical" long |m| m.set(HOST_IA32_SYSENTER_ESP, NOT_CANONICAL);
    "HostSysenterCanonical" long |m| m.set(HOST_IA32_SYSENTER_EIP, NOT_CANONICAL);
    "HostPat" long |m| m.set(HOST_IA32_PAT, 2 << 56);
    "HostEferReserved" long |m| m.or(HOST_IA32_EFER, 1 << 1);
    "HostEferReserved" long |m| { m.caps.limits.no_execute = false; m.not(GUEST_IA32_EFER, 1 << 11) };
    "HostEferLongMode" long |m| m.not(HOST_IA32_EFER, 1 << 10);
    "HostSelectorFlags" long |m| m.set(HOST_GS_SELECTOR, 3);
    "HostSelectorFlags" long |m| m.or(HOST_TR_SELECTOR, 4);
    "HostSelectorNull" long |m| m.set(HOST_CS_SELECTOR, 0);
    "HostSelectorNull" long |m| m.set(HOST_TR_SELECTOR, 0);
    "HostBaseCanonical" long |m| m.set(HOST_IDTR_BASE, NOT_CANONICAL);
    "HostPae" long |m| m.not(HOST_CR4, 1 << 5);
    "HostRipCanonical" long |m| m.set(HOST_RIP, NOT_CANONICAL);
    "GuestCr0Fixed" pvh |m| m.not(GUEST_CR0, 1 << 5);
    "GuestPagingUnprotected" real |m| m.or(GUEST_CR0, cr0::PG);
    "GuestCr4Fixed" pvh |m| m.set(GUEST_CR4, 0);
    "GuestCr4Fixed" pvh |m| m.or(GUEST_CR4, 1 << 30);
    "GuestDebugctlReserved" pvh |m| m.set(GUEST_IA32_DEBUGCTL, 1 << 16);
    "GuestIa32ePaging" long |m| m.not(GUEST_CR0, cr0::PG);
    "GuestIa32ePae" long |m| m.not(GUEST_CR4, cr4::PAE);
    "GuestPcide" pvh |m| m.or(GUEST_CR4, cr4::PCIDE);
    "GuestCr3Width" long |m| m.or(GUEST_CR3, 1 << 63);
    "GuestDr7Upper" pvh |m| m.or(GUEST_DR7, 1 << 32);
    "GuestSysenterCanonical" pvh |m| m.set(GUEST_IA32_SYSENTER_ESP, NOT_CANONICAL);
    "GuestSysenterCanonical" pvh |m| m.set(GUEST_IA32_SYSENTER_EIP, NOT_CANONICAL);
    "GuestPat" pvh |m| m.set(GUEST_IA32_PAT, 8);
    "GuestEferReserved" pvh |m| m.set(GUEST_IA32_EFER, 1 << 12);
    "GuestEferLma" long |m| m.not(GUEST_IA32_EFER, efer::LMA | efer::LME);
    "GuestEferLma" pvh |m| m.or(GUEST_IA32_EFER, efer::LMA);
    "GuestEferLme" pae |m| m.or(GUEST_IA32_EFER, efer::LME);
    "TableIndicator" long |m| m.set(GUEST_TR_SELECTOR, 4);
    "TableIndicator" long |m| m.rights(Segment::Ldtr, 0x82).set(GUEST_LDTR_SELECTOR, 4);
    "Virtual8086Base" virtual_8086 |m| m.set(GUEST_FS_BASE, 0x12350);
    "Virtual8086Limit" virtual_8086 |m| m.set(GUEST_CS_LIMIT, 0xf_ffff);
    "Virtual8086Rights" virtual_8086 |m| m.rights(Segment::Ss, 0x93);
    "SegmentBaseCanonical" long |m| m.set(GUEST_FS_BASE, NOT_CANONICAL);
    "SegmentBaseCanonical" long |m| m.set(GUEST_TR_BASE, NOT_CANONICAL);
    "SegmentBaseCanonical" long |m|
        m.rights(Segment::Ldtr, 0x82).set(GUEST_LDTR_BASE, NOT_CANONICAL);
    "SegmentBaseUpper" pvh |m| m.set(GUEST_CS_BASE, 1 << 32);
    "SegmentBaseUpper" pvh |m| m.set(GUEST_ES_BASE, 1 << 32);
    "CodeType" pvh |m| m.rights(Segment::Cs, 0xc09a);
    "StackType" pvh |m| m.rights(Segment::Ss, 0xc091);
    "DataAccessed" pvh |m| m.rights(Segment::Ds, 0xc092);
    "DataReadable" pvh |m| m.rights(Segment::Es, 0xc099);
    "SegmentNotSystem" pvh |m| m.rights(Segment::Fs, 0xc083);
    "CodeDplData" pvh |m| m.rights(Segment::Cs, 0xc0f3);
    "CodeDplNonconforming" pvh |m| m.rights(Segment::Cs, 0xc0fb);
    "CodeDplConforming" pvh |m| m.rights(Segment::Cs, 0xc0ff);
    "StackDplZero" real |m| m.rights(Segment::Cs, 0x9f).rights(Segment::Ss, 0xf3);
    "StackDplZero" pvh |m| m.rights(Segment::Cs, 0xc093).rights(Segment::Ss, 0xc0f3);
    "SegmentPresent" pvh |m| m.rights(Segment::Gs, 0xc013);
    "SegmentPresent" pvh |m| m.rights(Segment::Tr, 0x0b);
    "SegmentReserved" pvh |m| m.rights(Segment::Ds, 0xc193);
    "SegmentReserved" pvh |m| m.rights(Segment::Ds, 0x8000_c093);
    "CodeLongAndBig" long |m| m.rights(Segment::Cs, 0xe09b);
    "LimitNeedsBytes" pvh |m| m.set(GUEST_DS_LIMIT, 0xffff_fffe);
    "LimitNeedsPages" pvh |m| m.rights(Segment::Ds, 0x4093);
    "TaskType" pvh |m| m.rights(Segment::Tr, 0x89);
    "TaskType" long |m| m.rights(Segment::Tr, 0x83);
    "TaskUnusable" pvh |m| m.rights(Segment::Tr, 0x1_008b);
    "LdtType" pvh |m| m.rights(Segment::Ldtr, 0x83);
    "SystemSegment" pvh |m| m.rights(Segment::Tr, 0x9b);
    "TableBaseCanonical" long |m| m.set(GUEST_GDTR_BASE, NOT_CANONICAL);
    "TableLimitUpper" long |m| m.set(GUEST_IDTR_LIMIT, 0x1_0000);
    "RipUpper" pvh |m| m.set(GUEST_RIP, 1 << 32);
    "RipUpper" long |m| m.rights(Segment::Cs, 0xc09b).set(GUEST_RIP, 1 << 32);
    "RipCanonical" long |m| m.set(GUEST_RIP, NOT_CANONICAL);
    "RflagsReserved" long |m| m.set(GUEST_RFLAGS, 0);
    "RflagsReserved" long |m| m.flags(1 << 15);
    "RflagsReserved" long |m| m.flags(1 << 22);
    "RflagsVirtual8086" virtual_8086 |m| m.not(GUEST_CR0, cr0::PE);
    "RflagsInterrupt" long |m| m.inject(Event::interrupt(0x20));
    "ActivityState" long |m| m.set(GUEST_ACTIVITY_STATE, 1);
    "InterruptibilityReserved" long |m| m.shadow(1 << 2);
    "InterruptibilityReserved" long |m| m.shadow(1 << 4);
    "TwoShadows" long |m| m.flags(rflags::IF).shadow(3);
    "StiWithoutIf" long |m| m.shadow(1);
    "InterruptInShadow" long |m| m.flags(rflags::IF).shadow(2).inject(Event::interrupt(0x20));
    "InterruptInShadow" long |m| m.flags(rflags::IF).shadow(1).inject(Event::interrupt(0x20));
    "NmiInShadow" long |m| m.shadow(2).inject(Event::nmi());
    "NmiInShadow" long |m| m.flags(rflags::IF).shadow(1).inject(Event::nmi());
    "NmiBlocked" long |m| m.shadow(1 << 3).inject(Event::nmi());
    "PendingDebugReserved" long |m| m.set(GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 13);
    "SingleStep" long |m| m.flags(rflags::IF | rflags::TF).shadow(1);
    "SingleStep" long |m| m.shadow(2).set(GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 14);
    "SingleStep" long |m|
        m.flags(rflags::TF).shadow(2).set(GUEST_IA32_DEBUGCTL, 1 << 1)
            .set(GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 14);
    "LinkPointer" long |m| m.set(VMCS_LINK_POINTER, 0x8000);
    "PdpteReserved" pae |m| m.set(GUEST_PDPTE1, 0x1003);
    "PdpteReserved" pae |m| m.set(GUEST_PDPTE3, 1 << 40 | 1);
};

#[test]
fn sound_vmcss_pass() {
    sound_ones_pass(SOUND);
}

#[test]
fn the_controls_of_every_policy_pass() {
    let ask = [Primary::INTERRUPT_WINDOW_EXITING, Primary::NMI_WINDOW_EXITING, Primary::empty()];
    let without = Features::all().iter().chain([Features::empty(), Features::all()]);
    for (policy, without) in without.flat_map(|without| Policy::ALL.map(|p| (p, without))) {
        for window in ask {
            let mut machine = pvh();
            machine.obey(policy, without).on(window);
            assert_eq!(machine.violations(), [], "{policy:?} without {without:?}");
        }
    }
}

#[test]
fn each_rule_is_found_alone_when_it_alone_is_broken() {
    let rules = [controls::NAMES, registers::NAMES, segments::NAMES, non_register::NAMES];
    each_rule_is_found_alone(&rules, BROKEN);
}

/// Breaks the rule at each of these fields in turn, by setting `bits` there.
fn at_each(fields: &[u32], bits: u64, rule: &'static str, base: impl Fn() -> Machine) {
    for &field in fields {
        let mut machine = base();
        *machine.vmcs.0.entry(field).or_default() |= bits;
        let found: Vec<_> = machine.violations().iter().map(|v| (v.rule.name, v.field)).collect();
        assert_eq!(found, [(rule, name(field).unwrap())]);
    }
}

#[test]
fn rules_on_many_fields_hold_at_each_of_them() {
    let pages = [0x2000, 0x2002, 0x2004, 0x2012, 0x2014];
    at_each(&pages, 1 << 5, "PageAddress", long);
    at_each(&pages, 1 << 40, "PageAddress", long);
    at_each(&[0x400a, 0x400e, 0x4010, 0x4014], 1, "CountNotZero", long);
    at_each(&[0xc00, 0xc02, 0xc04, 0xc06, 0xc08, 0xc0a, 0xc0c], 1, "HostSelectorFlags", long);
    at_each(&[0x6c06, 0x6c08, 0x6c0a, 0x6c0c, 0x6c0e], NOT_CANONICAL, "HostBaseCanonical", long);
    let segments = ORDINARY.map(|segment| segment.access_rights().encoding());
    at_each(&segments, 1 << 8, "SegmentReserved", pvh);
    let system = [Segment::Tr, Segment::Ldtr].map(|segment| segment.access_rights().encoding());
    let with_ldt = || {
        let mut machine = pvh();
        machine.rights(Segment::Ldtr, 0x82).set(GUEST_LDTR_LIMIT, 7);
        machine
    };
    at_each(&system, 1 << 17, "SegmentReserved", with_ldt);
    let pdptes = [0, 1, 2, 3].map(|index| guest_pdpte(index).encoding());
    at_each(&pdptes, 1 << 5, "PdpteReserved", pae);
}

#[test]
fn reserved_flags_and_memory_types_are_the_manuals() {
    for bit in (0..64).filter(|bit| 1 << bit != rflags::VM) {
        let mut machine = long();
        machine.flags(1 << bit);
        let reserved = matches!(bit, 3 | 5 | 15 | 22..);
        assert_eq!(machine.violations().len(), reserved.into(), "bit {bit} of RFLAGS");
    }
    for kind in 0..=u8::MAX {
        let mut machine = long();
        machine.set(GUEST_IA32_PAT, u64::from(kind) << 24);
        let reserved = matches!(kind, 2 | 3 | 8..);
        assert_eq!(machine.violations().len(), reserved.into(), "memory type {kind}");
    }
}

#[test]
fn a_violation_tells_the_values_and_the_section() {
    let mut machine = long();
    machine.inject(Event::interrupt(0x20));
    let text = machine.violations().first().unwrap().to_string();
    for part in [
        "RflagsInterrupt",
        "GUEST_RFLAGS = 0x2",
        "ENTRY_INTERRUPTION_INFORMATION = 0x80000020",
        "SDM vol. 3, Checks on Guest RIP, RFLAGS, and SSP",
    ] {
        assert!(text.contains(part), "{text}");
    }
    machine = long();
    machine.or(GUEST_CR4, 1 << 30);
    let text = machine.violations().first().unwrap().to_string();
    assert!(text.contains("wrong bits 0x40000000"), "{text}");
}

#[test]
fn controls_are_found_before_the_guest() {
    let mut machine = long();
    machine.set(GUEST_RFLAGS, 0).set(HOST_CS_SELECTOR, 0).not(EXIT_CONTROLS, 1);
    let rules: Vec<_> = machine.violations().iter().map(|v| v.rule.name).collect();
    assert_eq!(rules, ["ExitControls", "HostSelectorNull", "RflagsReserved"]);
}

proptest! {
    #[test]
    fn rubbish_is_survived(values in prop::collection::vec(any::<u64>(), ALL.len())) {
        let mut machine = long();
        machine.vmcs.0 = ALL.iter().map(|(_, encoding)| *encoding).zip(values).collect();
        prop_assert!(!machine.violations().is_empty());
    }
}
