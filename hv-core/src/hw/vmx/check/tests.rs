//! Sound VMCSs pass; for each rule, one that breaks it alone.

use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::super::capability::tests::Fake;
use super::super::capability::{Allowed, EptVpid, Misc};
use super::super::controls::AccessRights;
use super::super::field::tests::Model;
use super::super::field::{ALL, Segment, VmcsWrite};
use super::*;
use crate::vm::{Event, EventKind};

const TIMER: PinBased = PinBased::ACTIVATE_PREEMPTION_TIMER;
const ORDINARY: [Segment; 6] =
    [Segment::Es, Segment::Cs, Segment::Ss, Segment::Ds, Segment::Fs, Segment::Gs];
const NOT_CANONICAL: u64 = 1 << 47;

struct Machine {
    vmcs: Model,
    caps: Capabilities,
}

impl Machine {
    fn violations(&self) -> Vec<Violation> {
        let mut all = Vec::new();
        each(&self.vmcs, &self.caps, |violation| {
            all.push(violation);
            ControlFlow::Continue(())
        });
        all
    }

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

    fn pin(&mut self, on: PinBased, off: PinBased) -> &mut Self {
        let field = field::PIN_BASED_CONTROLS;
        self.or(field, on.bits().into()).not(field, off.bits().into())
    }

    fn first(&mut self, on: Primary, off: Primary) -> &mut Self {
        let field = field::PRIMARY_CONTROLS;
        self.or(field, on.bits().into()).not(field, off.bits().into())
    }

    fn second(&mut self, on: Secondary, off: Secondary) -> &mut Self {
        let field = field::SECONDARY_CONTROLS;
        self.or(field, on.bits().into()).not(field, off.bits().into())
    }

    fn exit(&mut self, on: Exit, off: Exit) -> &mut Self {
        let field = field::EXIT_CONTROLS;
        self.or(field, on.bits().into()).not(field, off.bits().into())
    }

    fn entry(&mut self, on: Entry, off: Entry) -> &mut Self {
        let field = field::ENTRY_CONTROLS;
        self.or(field, on.bits().into()).not(field, off.bits().into())
    }

    fn rights(&mut self, segment: Segment, rights: u64) -> &mut Self {
        self.set(segment.access_rights(), rights)
    }

    fn inject(&mut self, event: Event) -> &mut Self {
        let length = event.instruction_length.into();
        self.set(field::ENTRY_INTERRUPTION_INFORMATION, event.information().into())
            .set(field::ENTRY_EXCEPTION_ERROR_CODE, event.error_code.unwrap_or(0).into())
            .set(field::ENTRY_INSTRUCTION_LENGTH, length)
    }

    fn information(&mut self, information: u64) -> &mut Self {
        self.set(field::ENTRY_INTERRUPTION_INFORMATION, information)
    }

    fn flags(&mut self, flags: u64) -> &mut Self {
        self.set(field::GUEST_RFLAGS, flags | 2)
    }

    fn shadow(&mut self, state: u64) -> &mut Self {
        self.set(field::GUEST_INTERRUPTIBILITY_STATE, state)
    }

    fn restricted(&mut self) -> &mut Self {
        self.second(Secondary::empty(), Secondary::UNRESTRICTED_GUEST)
    }

    fn without_ept(&mut self) -> &mut Self {
        self.restricted().second(Secondary::empty(), Secondary::ENABLE_EPT)
    }

    fn posted(&mut self) -> &mut Self {
        self.pin(PinBased::PROCESS_POSTED_INTERRUPTS, PinBased::empty())
            .second(Secondary::VIRTUAL_INTERRUPT_DELIVERY, Secondary::empty())
            .exit(Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT, Exit::empty())
    }

    fn trace(&mut self) -> &mut Self {
        self.second(Secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES, Secondary::empty())
            .entry(Entry::LOAD_IA32_RTIT_CTL, Entry::empty())
            .exit(Exit::CLEAR_IA32_RTIT_CTL, Exit::empty())
    }
}

/// Controls and host state that are sound, and a guest without any.
fn machine() -> Machine {
    let caps = Fake::rich().capabilities().unwrap();
    let mut vmcs = Model::default();
    let pin = PinBased::EXTERNAL_INTERRUPT_EXITING | PinBased::NMI_EXITING;
    let pin = pin | PinBased::VIRTUAL_NMIS | TIMER;
    let primary = Primary::ACTIVATE_SECONDARY_CONTROLS | Primary::USE_MSR_BITMAPS;
    let primary = primary | Primary::USE_IO_BITMAPS | Primary::USE_TPR_SHADOW;
    let secondary = Secondary::ENABLE_EPT | Secondary::ENABLE_VPID | Secondary::UNRESTRICTED_GUEST;
    let secondary = secondary | Secondary::VIRTUALIZE_APIC_ACCESSES;
    let exit = Exit::HOST_ADDRESS_SPACE_SIZE | Exit::LOAD_IA32_EFER | Exit::LOAD_IA32_PAT;
    let entry = Entry::LOAD_IA32_EFER | Entry::LOAD_IA32_PAT | Entry::LOAD_DEBUG_CONTROLS;
    let none = PinBased::empty();
    vmcs.write(field::PIN_BASED_CONTROLS, caps.pin_based.adjust(pin, none).unwrap().bits());
    let none = Primary::empty();
    vmcs.write(field::PRIMARY_CONTROLS, caps.primary.adjust(primary, none).unwrap().bits());
    vmcs.write(field::SECONDARY_CONTROLS, secondary.bits());
    vmcs.write(field::EXIT_CONTROLS, caps.exit.adjust(exit, Exit::empty()).unwrap().bits());
    vmcs.write(field::ENTRY_CONTROLS, caps.entry.adjust(entry, Entry::empty()).unwrap().bits());
    let mut machine = Machine { vmcs, caps };
    machine
        .set(field::MSR_BITMAPS_ADDRESS, 0x1000)
        .set(field::IO_BITMAP_A_ADDRESS, 0x2000)
        .set(field::IO_BITMAP_B_ADDRESS, 0x3000)
        .set(field::VIRTUAL_APIC_ADDRESS, 0x4000)
        .set(field::APIC_ACCESS_ADDRESS, 0xfee0_0000)
        .set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 1)
        .set(field::EPT_POINTER, 0x5000 | 1 << 6 | 3 << 3 | 6)
        .set(field::VMCS_LINK_POINTER, u64::MAX)
        .set(field::HOST_CR0, 0x8001_0033)
        .set(field::HOST_CR3, 0x6000)
        .set(field::HOST_CR4, 0x2020)
        .set(field::HOST_CS_SELECTOR, 8)
        .set(field::HOST_TR_SELECTOR, 16)
        .set(field::HOST_RIP, 0x10_0000)
        .set(field::HOST_IA32_EFER, 0xd01)
        .set(field::HOST_IA32_PAT, 0x0007_0406_0007_0406)
        .set(field::GUEST_IA32_PAT, 0x0007_0406_0007_0406)
        .set(field::GUEST_DR7, 0x400)
        .set(field::GUEST_RIP, 0x10_0000)
        .flags(0);
    machine
}

fn flat(machine: &mut Machine, code: u64) {
    for segment in ORDINARY {
        machine.set(segment.selector(), 0x10).set(segment.limit(), 0xffff_ffff);
        machine.rights(segment, if segment == Segment::Cs { code } else { 0xc093 });
    }
    machine.set(field::GUEST_TR_LIMIT, 0x67).rights(Segment::Tr, 0x8b);
    machine.rights(Segment::Ldtr, AccessRights::UNUSABLE.bits().into());
}

/// A 64-bit guest.
fn long() -> Machine {
    let mut machine = machine();
    flat(&mut machine, 0xa09b);
    machine
        .entry(Entry::IA32E_MODE_GUEST, Entry::empty())
        .set(field::GUEST_CR0, 0x8001_0033)
        .set(field::GUEST_CR3, 0x1000)
        .set(field::GUEST_CR4, 0x2020)
        .set(field::GUEST_IA32_EFER, 0xd01)
        .set(field::GUEST_GS_BASE, 0xffff_8000_0000_0000);
    machine
}

/// A guest at its PVH entry: 32-bit protected mode, paging off.
fn pvh() -> Machine {
    let mut machine = machine();
    flat(&mut machine, 0xc09b);
    machine.set(field::GUEST_CR0, 0x31).set(field::GUEST_CR4, 0x2000);
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
    machine.set(field::GUEST_CR0, 0x30).set(field::GUEST_CR4, 0x2000);
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
    machine.set(field::GUEST_CR0, 0x8000_0031).set(field::GUEST_CR4, 0x2020);
    for index in 0..4 {
        machine.set(field::guest_pdpte(index), 0x1001);
    }
    machine
}

type Base = fn() -> Machine;
type Change = fn(&mut Machine) -> &mut Machine;

fn same(machine: &mut Machine) -> &mut Machine {
    machine
}

const INT_80: Event = Event {
    vector: 0x80,
    kind: EventKind::SoftwareInterrupt,
    error_code: None,
    instruction_length: 2,
};

const SOUND: &[(&str, Base, Change)] = &[
    ("a 64-bit guest", long, same),
    ("a PVH entry", pvh, same),
    ("real mode", real, same),
    ("virtual-8086 mode", virtual_8086, same),
    ("PAE paging", pae, same),
    ("a restricted guest", long, |m| m.restricted()),
    ("PDPTEs that are not present", pae, |m| m.set(field::GUEST_PDPTE2, 0x1e6)),
    ("writing through CS in real mode", real, |m| m.rights(Segment::Cs, 0x93)),
    ("CR0 cache bits, which entry leaves alone", pvh, |m| {
        m.caps.cr0_may &= !(3 << 29);
        m.or(field::GUEST_CR0, 3 << 29)
    }),
    ("an unusable data segment full of rubbish", long, |m| {
        m.rights(Segment::Ds, 0x1_0f00).set(field::GUEST_DS_BASE, 1 << 40)
    }),
    ("an unusable SS in ring 0 of 64-bit code", long, |m| {
        m.rights(Segment::Ss, AccessRights::UNUSABLE.bits().into())
    }),
    ("compatibility mode", long, |m| m.rights(Segment::Cs, 0xc09b)),
    ("a user program", long, |m| m.rights(Segment::Cs, 0xa0fb).rights(Segment::Ss, 0xc0f3)),
    ("a shadow of STI", long, |m| m.flags(rflags::IF).shadow(1)),
    ("a shadow of MOV SS, single-stepping", long, |m| {
        m.flags(rflags::TF).shadow(2).set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 14)
    }),
    ("a halted guest", long, |m| m.set(field::GUEST_ACTIVITY_STATE, 1).flags(rflags::IF)),
    ("an interrupt for a halted guest", long, |m| {
        m.set(field::GUEST_ACTIVITY_STATE, 1).flags(rflags::IF).inject(Event::interrupt(0x20))
    }),
    ("an NMI for a guest that was shut down", long, |m| {
        m.set(field::GUEST_ACTIVITY_STATE, 2).inject(Event::nmi())
    }),
    ("#GP in protected mode", pvh, |m| m.inject(Event::exception(13, 8))),
    ("#GP in real mode", real, |m| m.inject(Event::exception(13, 8).in_real_mode())),
    ("#GP without error code where any may do without", long, |m| {
        m.caps.any_error_code = true;
        m.information(0x8000_030d)
    }),
    ("INT 80h", long, |m| m.inject(INT_80)),
    ("an instruction of no length where that is allowed", long, |m| {
        m.caps.misc |= Misc::INJECT_LENGTH_0;
        m.inject(Event { instruction_length: 0, ..INT_80 })
    }),
    ("a field that is not valid", long, |m| m.information(0x7fff_ffff)),
    ("posted interrupts", long, |m| m.posted()),
    ("processor trace", long, |m| m.trace()),
    ("no secondary controls, so none of their rules", long, |m| {
        m.first(Primary::empty(), Primary::ACTIVATE_SECONDARY_CONTROLS)
            .set(field::SECONDARY_CONTROLS, 0xffff_ffff)
    }),
    ("an MSR list that ends at the top", long, |m| {
        m.set(field::EXIT_MSR_LOAD_COUNT, 2).set(field::EXIT_MSR_LOAD_ADDRESS, (1 << 40) - 32)
    }),
    ("an address of an empty MSR list", long, |m| m.set(field::ENTRY_MSR_LOAD_ADDRESS, !0)),
    ("MSRs that are not loaded", long, |m| {
        m.entry(Entry::empty(), Entry::LOAD_IA32_EFER | Entry::LOAD_IA32_PAT)
            .exit(Exit::empty(), Exit::LOAD_IA32_EFER | Exit::LOAD_IA32_PAT)
            .set(field::GUEST_IA32_EFER, !0)
            .set(field::GUEST_IA32_PAT, !0)
            .set(field::HOST_IA32_EFER, !0)
            .set(field::HOST_IA32_PAT, !0)
    }),
    ("debug exceptions of a transaction", long, |m| {
        m.set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 16 | 1 << 12)
    }),
];

const BROKEN: &[(Rule, Base, Change)] = &[
    (Rule::PinBasedReserved, long, |m| m.not(field::PIN_BASED_CONTROLS, 1 << 1)),
    (Rule::PinBasedReserved, long, |m| m.or(field::PIN_BASED_CONTROLS, 1 << 8)),
    (Rule::PrimaryReserved, long, |m| m.not(field::PRIMARY_CONTROLS, 1 << 1)),
    (Rule::PrimaryReserved, long, |m| m.or(field::PRIMARY_CONTROLS, 1 << 18)),
    (Rule::SecondaryReserved, long, |m| m.or(field::SECONDARY_CONTROLS, 1 << 21)),
    (Rule::Cr3TargetCount, long, |m| m.set(field::CR3_TARGET_COUNT, 5)),
    (Rule::StructureAlignment, long, |m| m.or(field::MSR_BITMAPS_ADDRESS, 8)),
    (Rule::StructureAlignment, long, |m| m.or(field::IO_BITMAP_B_ADDRESS, 0x800)),
    (Rule::StructureAlignment, long, |m| {
        m.posted().set(field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 0x20)
    }),
    (Rule::StructureAlignment, long, |m| {
        m.second(Secondary::ENABLE_VM_FUNCTIONS, Secondary::empty())
            .set(field::VM_FUNCTION_CONTROLS, 1)
            .set(field::EPTP_LIST_ADDRESS, 0x10)
    }),
    (Rule::StructureWidth, long, |m| m.set(field::APIC_ACCESS_ADDRESS, 1 << 40)),
    (Rule::StructureWidth, long, |m| {
        m.caps.structure_bits = 32;
        m.set(field::VIRTUAL_APIC_ADDRESS, 1 << 32)
    }),
    (Rule::StructureWidth, long, |m| {
        m.second(Secondary::VMCS_SHADOWING, Secondary::empty())
            .set(field::VMWRITE_BITMAP_ADDRESS, 1 << 63)
    }),
    (Rule::TprThresholdReserved, long, |m| m.set(field::TPR_THRESHOLD, 0x10)),
    (Rule::VirtualNmisNeedNmiExiting, long, |m| m.pin(PinBased::empty(), PinBased::NMI_EXITING)),
    (Rule::NmiWindowNeedsVirtualNmis, long, |m| {
        m.pin(PinBased::empty(), PinBased::VIRTUAL_NMIS)
            .first(Primary::NMI_WINDOW_EXITING, Primary::empty())
    }),
    (Rule::X2apicModeNeedsTprShadow, long, |m| {
        m.first(Primary::empty(), Primary::USE_TPR_SHADOW)
            .second(Secondary::VIRTUALIZE_X2APIC_MODE, Secondary::VIRTUALIZE_APIC_ACCESSES)
    }),
    (Rule::ApicRegistersNeedTprShadow, long, |m| {
        m.first(Primary::empty(), Primary::USE_TPR_SHADOW)
            .second(Secondary::APIC_REGISTER_VIRTUALIZATION, Secondary::empty())
    }),
    (Rule::InterruptDeliveryNeedsTprShadow, long, |m| {
        m.first(Primary::empty(), Primary::USE_TPR_SHADOW)
            .second(Secondary::VIRTUAL_INTERRUPT_DELIVERY, Secondary::empty())
    }),
    (Rule::X2apicModeExcludesApicAccesses, long, |m| {
        m.second(Secondary::VIRTUALIZE_X2APIC_MODE, Secondary::empty())
    }),
    (Rule::InterruptDeliveryNeedsExiting, long, |m| {
        m.pin(PinBased::empty(), PinBased::EXTERNAL_INTERRUPT_EXITING)
            .second(Secondary::VIRTUAL_INTERRUPT_DELIVERY, Secondary::empty())
    }),
    (Rule::PostedNeedsInterruptDelivery, long, |m| {
        m.posted().second(Secondary::empty(), Secondary::VIRTUAL_INTERRUPT_DELIVERY)
    }),
    (Rule::PostedNeedsAcknowledge, long, |m| {
        m.posted().exit(Exit::empty(), Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT)
    }),
    (Rule::PostedVector, long, |m| {
        m.posted().set(field::POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0x100)
    }),
    (Rule::VpidZero, long, |m| m.set(field::VIRTUAL_PROCESSOR_IDENTIFIER, 0)),
    (Rule::EptMemoryType, long, |m| m.set(field::EPT_POINTER, 0x5000 | 3 << 3 | 1)),
    (Rule::EptMemoryType, long, |m| {
        m.caps.ept_vpid -= EptVpid::EPT_UNCACHEABLE;
        m.set(field::EPT_POINTER, 0x5000 | 3 << 3)
    }),
    (Rule::EptWalkLength, long, |m| m.set(field::EPT_POINTER, 0x5000 | 2 << 3 | 6)),
    (Rule::EptWalkLength, long, |m| m.set(field::EPT_POINTER, 0x5000 | 4 << 3 | 6)),
    (Rule::EptAccessedDirty, long, |m| {
        m.caps.ept_vpid -= EptVpid::EPT_ACCESSED_DIRTY;
        m
    }),
    (Rule::EptReserved, long, |m| m.or(field::EPT_POINTER, 1 << 8)),
    (Rule::EptReserved, long, |m| m.or(field::EPT_POINTER, 1 << 7)),
    (Rule::EptReserved, long, |m| m.or(field::EPT_POINTER, 1 << 40)),
    (Rule::UnrestrictedNeedsEpt, long, |m| m.second(Secondary::empty(), Secondary::ENABLE_EPT)),
    (Rule::PmlNeedsEpt, long, |m| {
        m.without_ept().second(Secondary::ENABLE_PML, Secondary::empty())
    }),
    (Rule::ModeBasedNeedsEpt, long, |m| {
        m.without_ept().second(Secondary::MODE_BASED_EXECUTE_CONTROL, Secondary::empty())
    }),
    (Rule::SubPageNeedsEpt, long, |m| {
        m.without_ept().second(Secondary::SUB_PAGE_WRITE_PERMISSIONS, Secondary::empty())
    }),
    (Rule::VmFunctionsReserved, long, |m| {
        m.second(Secondary::ENABLE_VM_FUNCTIONS, Secondary::empty())
            .set(field::VM_FUNCTION_CONTROLS, 2)
    }),
    (Rule::EptpSwitchingNeedsEpt, long, |m| {
        m.without_ept()
            .second(Secondary::ENABLE_VM_FUNCTIONS, Secondary::empty())
            .set(field::VM_FUNCTION_CONTROLS, 1)
    }),
    (Rule::TraceAddressesNeedEpt, long, |m| m.trace().without_ept()),
    (Rule::TraceAddressesNeedLoad, long, |m| {
        m.trace().entry(Entry::empty(), Entry::LOAD_IA32_RTIT_CTL)
    }),
    (Rule::TraceAddressesNeedClear, long, |m| {
        m.trace().exit(Exit::empty(), Exit::CLEAR_IA32_RTIT_CTL)
    }),
    (Rule::TscMultiplierZero, long, |m| m.second(Secondary::USE_TSC_SCALING, Secondary::empty())),
    (Rule::ExitReserved, long, |m| m.not(field::EXIT_CONTROLS, 1)),
    (Rule::ExitReserved, long, |m| m.or(field::EXIT_CONTROLS, 1 << 26)),
    (Rule::SaveTimerNeedsTimer, long, |m| {
        m.pin(PinBased::empty(), TIMER).exit(Exit::SAVE_PREEMPTION_TIMER_VALUE, Exit::empty())
    }),
    (Rule::ExitMsrListAlignment, long, |m| {
        m.set(field::EXIT_MSR_STORE_COUNT, 1).set(field::EXIT_MSR_STORE_ADDRESS, 8)
    }),
    (Rule::ExitMsrListWidth, long, |m| {
        m.set(field::EXIT_MSR_LOAD_COUNT, 3).set(field::EXIT_MSR_LOAD_ADDRESS, (1 << 40) - 32)
    }),
    (Rule::EntryReserved, long, |m| m.not(field::ENTRY_CONTROLS, 1)),
    (Rule::EntryReserved, long, |m| m.or(field::ENTRY_CONTROLS, 1 << 19)),
    (Rule::EventType, long, |m| m.information(0x8000_0120)),
    (Rule::EventType, long, |m| {
        m.caps.primary = Allowed::from_msr(0xf7f9_fffe_0400_6172);
        m.information(0x8000_0700)
    }),
    (Rule::EventVector, long, |m| m.information(0x8000_0203)),
    (Rule::EventVector, long, |m| m.information(0x8000_0320)),
    (Rule::EventVector, long, |m| m.information(0x8000_0701)),
    (Rule::EventErrorCode, long, |m| m.information(0x8000_030d)),
    (Rule::EventErrorCode, long, |m| m.information(0x8000_0b06)),
    (Rule::EventErrorCode, long, |m| m.flags(rflags::IF).information(0x8000_0820)),
    (Rule::EventErrorCode, real, |m| m.inject(Event::exception(13, 0))),
    (Rule::EventReserved, long, |m| m.information(0x8000_1202)),
    (Rule::EventErrorCodeReserved, long, |m| m.inject(Event::exception(14, 0x1_0000))),
    (Rule::EventInstructionLength, long, |m| m.inject(Event { instruction_length: 0, ..INT_80 })),
    (Rule::EventInstructionLength, long, |m| m.inject(Event { instruction_length: 16, ..INT_80 })),
    (Rule::EntryOutsideSmm, long, |m| m.entry(Entry::ENTRY_TO_SMM, Entry::empty())),
    (Rule::EntryMsrListAlignment, long, |m| {
        m.set(field::ENTRY_MSR_LOAD_COUNT, 1).set(field::ENTRY_MSR_LOAD_ADDRESS, 4)
    }),
    (Rule::EntryMsrListWidth, long, |m| {
        m.set(field::ENTRY_MSR_LOAD_COUNT, 1).set(field::ENTRY_MSR_LOAD_ADDRESS, !0xf)
    }),
    (Rule::HostCr0Fixed, long, |m| m.not(field::HOST_CR0, 1 << 5)),
    (Rule::HostCr0Fixed, long, |m| m.or(field::HOST_CR0, 1 << 32)),
    (Rule::HostCr4Fixed, long, |m| m.not(field::HOST_CR4, 1 << 13)),
    (Rule::HostCr3Width, long, |m| m.or(field::HOST_CR3, 1 << 40)),
    (Rule::HostSysenterCanonical, long, |m| m.set(field::HOST_IA32_SYSENTER_ESP, NOT_CANONICAL)),
    (Rule::HostSysenterCanonical, long, |m| m.set(field::HOST_IA32_SYSENTER_EIP, NOT_CANONICAL)),
    (Rule::HostPat, long, |m| m.set(field::HOST_IA32_PAT, 2 << 56)),
    (Rule::HostEferReserved, long, |m| m.or(field::HOST_IA32_EFER, 1 << 1)),
    (Rule::HostEferReserved, long, |m| {
        m.caps.no_execute = false;
        m.not(field::GUEST_IA32_EFER, 1 << 11)
    }),
    (Rule::HostEferLongMode, long, |m| m.not(field::HOST_IA32_EFER, 1 << 10)),
    (Rule::HostSelectorFlags, long, |m| m.set(field::HOST_GS_SELECTOR, 3)),
    (Rule::HostSelectorFlags, long, |m| m.or(field::HOST_TR_SELECTOR, 4)),
    (Rule::HostSelectorNull, long, |m| m.set(field::HOST_CS_SELECTOR, 0)),
    (Rule::HostSelectorNull, long, |m| m.set(field::HOST_TR_SELECTOR, 0)),
    (Rule::HostBaseCanonical, long, |m| m.set(field::HOST_IDTR_BASE, NOT_CANONICAL)),
    (Rule::HostNot64Bit, long, |m| {
        m.exit(Exit::empty(), Exit::HOST_ADDRESS_SPACE_SIZE).set(field::HOST_IA32_EFER, 0)
    }),
    (Rule::HostPae, long, |m| m.not(field::HOST_CR4, 1 << 5)),
    (Rule::HostRipCanonical, long, |m| m.set(field::HOST_RIP, NOT_CANONICAL)),
    (Rule::GuestCr0Fixed, pvh, |m| m.not(field::GUEST_CR0, 1 << 5)),
    (Rule::GuestCr0Fixed, pvh, |m| m.restricted()),
    (Rule::GuestPagingUnprotected, real, |m| m.or(field::GUEST_CR0, cr0::PG)),
    (Rule::GuestCr4Fixed, pvh, |m| m.set(field::GUEST_CR4, 0)),
    (Rule::GuestCr4Fixed, pvh, |m| m.or(field::GUEST_CR4, 1 << 30)),
    (Rule::GuestDebugctlReserved, pvh, |m| m.set(field::GUEST_IA32_DEBUGCTL, 1 << 16)),
    (Rule::GuestIa32ePaging, long, |m| m.not(field::GUEST_CR0, cr0::PG)),
    (Rule::GuestIa32ePae, long, |m| m.not(field::GUEST_CR4, cr4::PAE)),
    (Rule::GuestPcide, pvh, |m| m.or(field::GUEST_CR4, cr4::PCIDE)),
    (Rule::GuestCr3Width, long, |m| m.or(field::GUEST_CR3, 1 << 63)),
    (Rule::GuestDr7Upper, pvh, |m| m.or(field::GUEST_DR7, 1 << 32)),
    (Rule::GuestSysenterCanonical, pvh, |m| m.set(field::GUEST_IA32_SYSENTER_ESP, NOT_CANONICAL)),
    (Rule::GuestSysenterCanonical, pvh, |m| m.set(field::GUEST_IA32_SYSENTER_EIP, NOT_CANONICAL)),
    (Rule::GuestPat, pvh, |m| m.set(field::GUEST_IA32_PAT, 8)),
    (Rule::GuestEferReserved, pvh, |m| m.set(field::GUEST_IA32_EFER, 1 << 12)),
    (Rule::GuestEferLma, long, |m| m.not(field::GUEST_IA32_EFER, efer::LMA | efer::LME)),
    (Rule::GuestEferLma, pvh, |m| m.or(field::GUEST_IA32_EFER, efer::LMA)),
    (Rule::GuestEferLme, pae, |m| m.or(field::GUEST_IA32_EFER, efer::LME)),
    (Rule::GuestBndcfgsReserved, long, |m| {
        m.entry(Entry::LOAD_IA32_BNDCFGS, Entry::empty()).set(field::GUEST_IA32_BNDCFGS, 4)
    }),
    (Rule::GuestBndcfgsCanonical, long, |m| {
        m.entry(Entry::LOAD_IA32_BNDCFGS, Entry::empty())
            .set(field::GUEST_IA32_BNDCFGS, NOT_CANONICAL)
    }),
    (Rule::TableIndicator, long, |m| m.set(field::GUEST_TR_SELECTOR, 4)),
    (Rule::TableIndicator, long, |m| {
        m.rights(Segment::Ldtr, 0x82).set(field::GUEST_LDTR_SELECTOR, 4)
    }),
    (Rule::StackRpl, long, |m| m.restricted().or(field::GUEST_CS_SELECTOR, 3)),
    (Rule::Virtual8086Base, virtual_8086, |m| m.set(field::GUEST_FS_BASE, 0x12350)),
    (Rule::Virtual8086Limit, virtual_8086, |m| m.set(field::GUEST_CS_LIMIT, 0xf_ffff)),
    (Rule::Virtual8086Rights, virtual_8086, |m| m.rights(Segment::Ss, 0x93)),
    (Rule::SegmentBaseCanonical, long, |m| m.set(field::GUEST_FS_BASE, NOT_CANONICAL)),
    (Rule::SegmentBaseCanonical, long, |m| m.set(field::GUEST_TR_BASE, NOT_CANONICAL)),
    (Rule::SegmentBaseCanonical, long, |m| {
        m.rights(Segment::Ldtr, 0x82).set(field::GUEST_LDTR_BASE, NOT_CANONICAL)
    }),
    (Rule::SegmentBaseUpper, pvh, |m| m.set(field::GUEST_CS_BASE, 1 << 32)),
    (Rule::SegmentBaseUpper, pvh, |m| m.set(field::GUEST_ES_BASE, 1 << 32)),
    (Rule::CodeType, pvh, |m| m.rights(Segment::Cs, 0xc09a)),
    (Rule::CodeType, long, |m| m.restricted().rights(Segment::Cs, 0xa093)),
    (Rule::StackType, pvh, |m| m.rights(Segment::Ss, 0xc091)),
    (Rule::DataAccessed, pvh, |m| m.rights(Segment::Ds, 0xc092)),
    (Rule::DataReadable, pvh, |m| m.rights(Segment::Es, 0xc099)),
    (Rule::SegmentNotSystem, pvh, |m| m.rights(Segment::Fs, 0xc083)),
    (Rule::CodeDplData, pvh, |m| m.rights(Segment::Cs, 0xc0f3)),
    (Rule::CodeDplNonconforming, pvh, |m| m.rights(Segment::Cs, 0xc0fb)),
    (Rule::CodeDplConforming, pvh, |m| m.rights(Segment::Cs, 0xc0ff)),
    (Rule::StackDpl, long, |m| {
        m.restricted().rights(Segment::Cs, 0xa09f).rights(Segment::Ss, 0xc0f3)
    }),
    (Rule::StackDplZero, real, |m| m.rights(Segment::Cs, 0x9f).rights(Segment::Ss, 0xf3)),
    (Rule::StackDplZero, pvh, |m| m.rights(Segment::Cs, 0xc093).rights(Segment::Ss, 0xc0f3)),
    (Rule::DataDpl, long, |m| m.restricted().or(field::GUEST_DS_SELECTOR, 3)),
    (Rule::SegmentPresent, pvh, |m| m.rights(Segment::Gs, 0xc013)),
    (Rule::SegmentPresent, pvh, |m| m.rights(Segment::Tr, 0x0b)),
    (Rule::SegmentReserved, pvh, |m| m.rights(Segment::Ds, 0xc193)),
    (Rule::SegmentReserved, pvh, |m| m.rights(Segment::Ds, 0x8000_c093)),
    (Rule::CodeLongAndBig, long, |m| m.rights(Segment::Cs, 0xe09b)),
    (Rule::LimitNeedsBytes, pvh, |m| m.set(field::GUEST_DS_LIMIT, 0xffff_fffe)),
    (Rule::LimitNeedsPages, pvh, |m| m.rights(Segment::Ds, 0x4093)),
    (Rule::TaskType, pvh, |m| m.rights(Segment::Tr, 0x89)),
    (Rule::TaskType, long, |m| m.rights(Segment::Tr, 0x83)),
    (Rule::TaskUnusable, pvh, |m| m.rights(Segment::Tr, 0x1_008b)),
    (Rule::LdtType, pvh, |m| m.rights(Segment::Ldtr, 0x83)),
    (Rule::SystemSegment, pvh, |m| m.rights(Segment::Tr, 0x9b)),
    (Rule::TableBaseCanonical, long, |m| m.set(field::GUEST_GDTR_BASE, NOT_CANONICAL)),
    (Rule::TableLimitUpper, long, |m| m.set(field::GUEST_IDTR_LIMIT, 0x1_0000)),
    (Rule::RipUpper, pvh, |m| m.set(field::GUEST_RIP, 1 << 32)),
    (Rule::RipUpper, long, |m| m.rights(Segment::Cs, 0xc09b).set(field::GUEST_RIP, 1 << 32)),
    (Rule::RipCanonical, long, |m| m.set(field::GUEST_RIP, NOT_CANONICAL)),
    (Rule::RflagsReserved, long, |m| m.set(field::GUEST_RFLAGS, 0)),
    (Rule::RflagsReserved, long, |m| m.flags(1 << 15)),
    (Rule::RflagsReserved, long, |m| m.flags(1 << 22)),
    (Rule::RflagsVirtual8086, virtual_8086, |m| m.not(field::GUEST_CR0, cr0::PE)),
    (Rule::RflagsInterrupt, long, |m| m.inject(Event::interrupt(0x20))),
    (Rule::ActivityUnsupported, long, |m| m.set(field::GUEST_ACTIVITY_STATE, 4)),
    (Rule::ActivityUnsupported, long, |m| {
        m.caps.misc -= Misc::ACTIVITY_HLT;
        m.set(field::GUEST_ACTIVITY_STATE, 1)
    }),
    (Rule::HaltedUnprivileged, long, |m| {
        m.rights(Segment::Cs, 0xa0fb)
            .rights(Segment::Ss, 0xc0f3)
            .set(field::GUEST_ACTIVITY_STATE, 1)
    }),
    (Rule::InactiveInShadow, long, |m| {
        m.flags(rflags::IF).shadow(1).set(field::GUEST_ACTIVITY_STATE, 1)
    }),
    (Rule::EventWakes, long, |m| {
        m.set(field::GUEST_ACTIVITY_STATE, 1).inject(Event::exception(13, 0))
    }),
    (Rule::EventWakes, long, |m| {
        m.set(field::GUEST_ACTIVITY_STATE, 2).flags(rflags::IF).inject(Event::interrupt(0x20))
    }),
    (Rule::EventWakes, long, |m| m.set(field::GUEST_ACTIVITY_STATE, 3).inject(Event::nmi())),
    (Rule::InterruptibilityReserved, long, |m| m.shadow(1 << 5)),
    (Rule::TwoShadows, long, |m| m.flags(rflags::IF).shadow(3)),
    (Rule::StiWithoutIf, long, |m| m.shadow(1)),
    (Rule::InterruptInShadow, long, |m| {
        m.flags(rflags::IF).shadow(2).inject(Event::interrupt(0x20))
    }),
    (Rule::InterruptInShadow, long, |m| {
        m.flags(rflags::IF).shadow(1).inject(Event::interrupt(0x20))
    }),
    (Rule::NmiInShadow, long, |m| m.shadow(2).inject(Event::nmi())),
    (Rule::NmiInShadow, long, |m| m.flags(rflags::IF).shadow(1).inject(Event::nmi())),
    (Rule::SmiBlocked, long, |m| m.shadow(1 << 2)),
    (Rule::NmiBlocked, long, |m| m.shadow(1 << 3).inject(Event::nmi())),
    (Rule::EnclaveInShadow, long, |m| m.shadow(1 << 4 | 1 << 1)),
    (Rule::PendingDebugReserved, long, |m| m.set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 13)),
    (Rule::SingleStepMissing, long, |m| m.flags(rflags::IF | rflags::TF).shadow(1)),
    (Rule::SingleStepPending, long, |m| {
        m.shadow(2).set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 14)
    }),
    (Rule::SingleStepPending, long, |m| {
        m.flags(rflags::TF)
            .set(field::GUEST_ACTIVITY_STATE, 1)
            .set(field::GUEST_IA32_DEBUGCTL, 1 << 1)
            .set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 14)
    }),
    (Rule::TransactionalDebug, long, |m| m.set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 16)),
    (Rule::LinkPointerAlignment, long, |m| m.set(field::VMCS_LINK_POINTER, 0x800)),
    (Rule::LinkPointerWidth, long, |m| m.set(field::VMCS_LINK_POINTER, 1 << 40)),
    (Rule::PdpteReserved, pae, |m| m.set(field::GUEST_PDPTE1, 0x1003)),
    (Rule::PdpteReserved, pae, |m| m.set(field::GUEST_PDPTE3, 1 << 40 | 1)),
];

#[test]
fn sound_vmcss_pass() {
    for (what, base, change) in SOUND {
        let mut machine = base();
        change(&mut machine);
        assert_eq!(machine.violations(), [], "{what}");
        assert_eq!(first(&machine.vmcs, &machine.caps), None);
    }
}

#[test]
fn each_rule_is_found_alone_when_it_alone_is_broken() {
    for (case, (rule, base, change)) in BROKEN.iter().enumerate() {
        let mut machine = base();
        change(&mut machine);
        let violations = machine.violations();
        let rules: BTreeSet<Rule> = violations.iter().map(|v| v.rule).collect();
        assert_eq!(rules, BTreeSet::from([*rule]), "case {case}");
        assert_eq!(first(&machine.vmcs, &machine.caps), violations.first().copied());
    }
}

#[test]
fn no_rule_goes_untested() {
    let tested: BTreeSet<Rule> = BROKEN.iter().map(|(rule, ..)| *rule).collect();
    let untested: Vec<_> = Rule::ALL.iter().filter(|rule| !tested.contains(rule)).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

/// Breaks the rule at each of these fields in turn, by setting `bits` there.
fn at_each(fields: &[u32], bits: u64, rule: Rule, base: impl Fn() -> Machine) {
    for &field in fields {
        let mut machine = base();
        *machine.vmcs.0.entry(field).or_default() |= bits;
        let found: Vec<_> = machine.violations().iter().map(|v| (v.rule, v.field)).collect();
        assert_eq!(found, [(rule, field)], "{:?}", field::name(field));
    }
}

#[test]
fn rules_on_many_fields_hold_at_each_of_them() {
    let everything = || {
        let mut machine = long();
        let secondary = Secondary::ENABLE_PML | Secondary::SUB_PAGE_WRITE_PERMISSIONS;
        let secondary = secondary | Secondary::VMCS_SHADOWING | Secondary::EPT_VIOLATION_VE;
        machine.posted().second(secondary, Secondary::empty());
        machine
    };
    let structures = [
        field::IO_BITMAP_A_ADDRESS,
        field::IO_BITMAP_B_ADDRESS,
        field::MSR_BITMAPS_ADDRESS,
        field::VIRTUAL_APIC_ADDRESS,
        field::APIC_ACCESS_ADDRESS,
        field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS,
        field::PML_ADDRESS,
        field::SUB_PAGE_PERMISSION_TABLE_POINTER,
        field::VMREAD_BITMAP_ADDRESS,
        field::VMWRITE_BITMAP_ADDRESS,
        field::VIRTUALIZATION_EXCEPTION_ADDRESS,
    ]
    .map(|field| field.encoding());
    at_each(&structures, 1 << 5, Rule::StructureAlignment, everything);
    at_each(&structures, 1 << 40, Rule::StructureWidth, everything);
    at_each(&[0xc00, 0xc02, 0xc04, 0xc06, 0xc08, 0xc0a, 0xc0c], 1, Rule::HostSelectorFlags, long);
    at_each(
        &[0x6c06, 0x6c08, 0x6c0a, 0x6c0c, 0x6c0e],
        NOT_CANONICAL,
        Rule::HostBaseCanonical,
        long,
    );
    let segments = ORDINARY.map(|segment| segment.access_rights().encoding());
    at_each(&segments, 1 << 8, Rule::SegmentReserved, pvh);
    let system = [Segment::Tr, Segment::Ldtr].map(|segment| segment.access_rights().encoding());
    let with_ldt = || {
        let mut machine = pvh();
        machine.rights(Segment::Ldtr, 0x82).set(field::GUEST_LDTR_LIMIT, 7);
        machine
    };
    at_each(&system, 1 << 17, Rule::SegmentReserved, with_ldt);
    let pdptes = [0, 1, 2, 3].map(|index| field::guest_pdpte(index).encoding());
    at_each(&pdptes, 1 << 5, Rule::PdpteReserved, pae);
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
        machine.set(field::GUEST_IA32_PAT, u64::from(kind) << 24);
        let reserved = matches!(kind, 2 | 3 | 8..);
        assert_eq!(machine.violations().len(), reserved.into(), "memory type {kind}");
    }
}

#[test]
fn a_violation_tells_the_values_and_the_section() {
    let mut machine = long();
    machine.inject(Event::interrupt(0x20));
    let text = first(&machine.vmcs, &machine.caps).unwrap().to_string();
    for part in [
        "RflagsInterrupt",
        "GUEST_RFLAGS = 0x2",
        "ENTRY_INTERRUPTION_INFORMATION = 0x80000020",
        "SDM vol. 3, Checks on Guest RIP, RFLAGS, and SSP",
    ] {
        assert!(text.contains(part), "{text}");
    }
    machine = long();
    machine.or(field::GUEST_CR4, 1 << 30);
    let text = first(&machine.vmcs, &machine.caps).unwrap().to_string();
    assert!(text.contains("wrong bits 0x40000000"), "{text}");
}

#[test]
fn controls_are_found_before_the_guest() {
    let mut machine = long();
    machine
        .set(field::GUEST_RFLAGS, 0)
        .set(field::HOST_CS_SELECTOR, 0)
        .not(field::EXIT_CONTROLS, 1);
    let rules: Vec<Rule> = machine.violations().iter().map(|v| v.rule).collect();
    assert_eq!(rules, [Rule::ExitReserved, Rule::HostSelectorNull, Rule::RflagsReserved]);
}

proptest! {
    #[test]
    fn rubbish_is_survived(values in prop::collection::vec(any::<u64>(), ALL.len())) {
        let mut machine = long();
        machine.vmcs.0 = ALL.iter().map(|(_, encoding)| *encoding).zip(values).collect();
        prop_assert!(!machine.violations().is_empty());
    }
}
