//! Checks on VMX Controls.

use super::super::capability::Allowed;
use super::super::controls::{Controls, Primary, Secondary};
use super::super::ept;
use super::super::field::*;
use super::Vmx;
use crate::hw::check::{Checker, Fields, Flow, above, cr0, rules};
use crate::vm::event::{Event, EventKind, INFORMATION_VALID, has_error_code};

/// How many CR3 targets there are, and entries of MSR lists.
const COUNTS: [Field<u32>; 4] =
    [CR3_TARGET_COUNT, EXIT_MSR_STORE_COUNT, EXIT_MSR_LOAD_COUNT, ENTRY_MSR_LOAD_COUNT];
const APIC: Secondary =
    Secondary::APIC_REGISTER_VIRTUALIZATION.union(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
const APIC_MODES: [Secondary; 2] =
    [Secondary::VIRTUALIZE_APIC_ACCESSES, Secondary::VIRTUALIZE_X2APIC_MODE];

impl<V: VmcsRead> Vmx<'_, V> {
    /// The addresses of pages that count.
    fn pages(&self) -> impl Iterator<Item = Field<u64>> + use<V> {
        let ports = self.has(Primary::USE_IO_BITMAPS);
        let pages = [
            (ports, IO_BITMAP_A_ADDRESS),
            (ports, IO_BITMAP_B_ADDRESS),
            (self.has(Primary::USE_MSR_BITMAPS), MSR_BITMAPS_ADDRESS),
            (self.has(Primary::USE_TPR_SHADOW), VIRTUAL_APIC_ADDRESS),
            (self.has(Secondary::VIRTUALIZE_APIC_ACCESSES), APIC_ACCESS_ADDRESS),
        ];
        pages.into_iter().filter_map(|(counts, address)| counts.then_some(address))
    }

    /// All that belongs to APIC virtualization, for one of its modes, or nothing of it.
    fn apic_sound(&self) -> bool {
        let all = APIC_MODES.into_iter().fold(APIC, Secondary::union);
        let used = Secondary::from_bits_retain(self.vmcs.read(SECONDARY_CONTROLS)) & all;
        match self.has(Primary::USE_TPR_SHADOW) {
            true => APIC_MODES.into_iter().any(|mode| used == APIC | mode),
            false => used.is_empty(),
        }
    }

    fn error_code_sound(&self, event: Event) -> bool {
        let exception = event.kind == EventKind::HardwareException;
        let may = exception && self.value(GUEST_CR0) & cr0::PE != 0;
        event.error_code.is_some() == (may && has_error_code(event.vector))
    }
}

fn vector_sound(event: Event) -> bool {
    match event.kind {
        EventKind::Nmi => event.vector == 2,
        EventKind::HardwareException => event.vector < 32,
        _ => true,
    }
}

impl<V: VmcsRead> Checker<'_, Vmx<'_, V>> {
    fn controls<C: Controls>(&mut self, allowed: Allowed<C>) -> Flow {
        self.none_of(C::FIELD, allowed.wrong(self.get(C::FIELD) as u32).into())
    }
}

rules! {
    "SDM vol. 3", |c: &mut Checker<'_, Vmx<'_, impl VmcsRead>>|
    "VM-Execution Control Fields" {
        PinBasedControls "pin-based controls must be as IA32_VMX_TRUE_PINBASED_CTLS allows, what every policy asks for set, what none does clear" =>
            c.controls(c.caps.pin_based);
        PrimaryControls "primary controls must be as IA32_VMX_TRUE_PROCBASED_CTLS allows, what every policy asks for set, what none does clear" =>
            c.controls(c.caps.primary);
        SecondaryControls "secondary controls must be as IA32_VMX_PROCBASED_CTLS2 allows, what every policy asks for set, what none does clear" =>
            c.controls(c.caps.secondary);
        CountNotZero "there must be no CR3 targets and no MSR lists", for count in COUNTS =>
            c.clear(count, u64::MAX);
        PageAddress "a page's address must be a multiple of 4096 within the physical-address width",
            for address in c.pages() => c.clear(address, 0xfff | above(c.caps.limits.physical_bits));
        ApicVirtualization "the TPR shadow, APIC-register virtualization, virtual-interrupt delivery, and one of x2APIC mode and APIC accesses, must come together or not at all" =>
            c.with(SECONDARY_CONTROLS, PRIMARY_CONTROLS, c.apic_sound());
        PauseLoop "PAUSE-loop exiting has no effect under PAUSE exiting, and needs a window longer than its gap",
            if c.has(Secondary::PAUSE_LOOP_EXITING) => c.with(
                PLE_WINDOW,
                PLE_GAP,
                !c.has(Primary::PAUSE_EXITING) && c.get(PLE_WINDOW) > c.get(PLE_GAP),
            );
        VpidZero "VPID 0 is the host's own", if c.has(Secondary::ENABLE_VPID) =>
            c.that(VIRTUAL_PROCESSOR_IDENTIFIER, c.get(VIRTUAL_PROCESSOR_IDENTIFIER) != 0);
        EptPointer "the EPT pointer must have write-back structures, a walk of length 4, nothing else, and be within the physical-address width" => {
            let wrong = (c.get(EPT_POINTER) ^ ept::pointer(0)) & (0xfff | above(c.caps.limits.physical_bits));
            c.none_of(EPT_POINTER, wrong)
        };
    }
    "VM-Exit Control Fields" {
        ExitControls "exit controls must be as IA32_VMX_TRUE_EXIT_CTLS allows, what every policy asks for set, what none does clear" =>
            c.controls(c.caps.exit);
    }
    "VM-Entry Control Fields" {
        EntryControls "entry controls must be as IA32_VMX_TRUE_ENTRY_CTLS allows, what every policy asks for set, what none does clear" =>
            c.controls(c.caps.entry);
        EventType "the event's type must be neither reserved nor 7, which this version does not inject",
            if c.any(ENTRY_INTERRUPTION_INFORMATION, INFORMATION_VALID.into()) =>
            c.that(
                ENTRY_INTERRUPTION_INFORMATION,
                c.event.is_some_and(|event| event.kind != EventKind::Other),
            );
        EventVector "the vector must fit the event's type: NMI 2, exceptions below 32" =>
            c.that(ENTRY_INTERRUPTION_INFORMATION, c.event.is_none_or(vector_sound));
        EventErrorCode "an error code comes with the exceptions that have one, in protected mode, and with nothing else" =>
            c.with(
                ENTRY_INTERRUPTION_INFORMATION,
                GUEST_CR0,
                c.event.is_none_or(|event| c.error_code_sound(event)),
            );
        EventReserved "bits 30:12 of the interruption information must be 0",
            if c.event.is_some() => c.clear(ENTRY_INTERRUPTION_INFORMATION, 0x7fff_f000);
        EventErrorCodeReserved "bits 31:16 of the error code must be 0",
            if c.event.is_some_and(|event| event.error_code.is_some()) =>
            c.clear(ENTRY_EXCEPTION_ERROR_CODE, !0xffff);
        EventInstructionLength "the instruction that raises an event is 1 to 15 bytes long",
            if c.event.is_some_and(|event| event.kind.by_instruction()) =>
            c.that(
                ENTRY_INSTRUCTION_LENGTH,
                matches!(c.get(ENTRY_INSTRUCTION_LENGTH), 1..=15),
            );
    }
}
