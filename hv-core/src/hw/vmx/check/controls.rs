//! Checks on VMX Controls.

use super::super::capability::{Allowed, Capabilities, EptVpid, Misc};
use super::super::controls::{Controls, Entry, Exit, PinBased, Primary, Secondary};
use super::super::field::*;
use super::{Control, Vmx};
use crate::hw::check::{Checker, Fields, Flow, above, cr0, rules};
use crate::vm::event::{Event, EventKind, INFORMATION_VALID, has_error_code};

/// These two are for SMM; that we are not in it is a rule of its own.
const SMM: Entry = Entry::ENTRY_TO_SMM.union(Entry::DEACTIVATE_DUAL_MONITOR);
/// VM function 0.
const EPTP_SWITCHING: u64 = 1;
/// An entry of an MSR list: an MSR number, a reserved half, a value.
const ENTRY_SIZE: u64 = 16;

type List = (Field<u32>, Field<u64>);
const EXIT_LISTS: [List; 2] =
    [(EXIT_MSR_STORE_COUNT, EXIT_MSR_STORE_ADDRESS), (EXIT_MSR_LOAD_COUNT, EXIT_MSR_LOAD_ADDRESS)];
const ENTRY_LISTS: [List; 1] = [(ENTRY_MSR_LOAD_COUNT, ENTRY_MSR_LOAD_ADDRESS)];

fn wrong<C: Controls>(allowed: Allowed<C>, value: u64) -> u64 {
    (allowed.wrongly_clear(value as u32) | allowed.wrongly_set(value as u32)).into()
}

fn memory_type(caps: &Capabilities, pointer: u64) -> bool {
    match pointer & 7 {
        0 => caps.ept_vpid.contains(EptVpid::EPT_UNCACHEABLE),
        6 => caps.ept_vpid.contains(EptVpid::EPT_WRITE_BACK),
        _ => false,
    }
}

fn walk_length(caps: &Capabilities, pointer: u64) -> bool {
    match pointer >> 3 & 7 {
        3 => caps.ept_vpid.contains(EptVpid::EPT_WALK_4),
        4 => caps.ept_vpid.contains(EptVpid::EPT_WALK_5),
        _ => false,
    }
}

impl<V: VmcsRead> Vmx<'_, V> {
    /// Physical addresses that count, and the low bits that must be 0.
    fn structures(&self) -> impl Iterator<Item = (Field<u64>, u64)> + use<V> {
        let switching = self.value(VM_FUNCTION_CONTROLS) & EPTP_SWITCHING != 0;
        let functions = self.has(Secondary::ENABLE_VM_FUNCTIONS) && switching;
        let ports = self.has(Primary::USE_IO_BITMAPS);
        let shadow = self.has(Secondary::VMCS_SHADOWING);
        [
            (ports, IO_BITMAP_A_ADDRESS, 0xfff),
            (ports, IO_BITMAP_B_ADDRESS, 0xfff),
            (self.has(Primary::USE_MSR_BITMAPS), MSR_BITMAPS_ADDRESS, 0xfff),
            (self.has(Primary::USE_TPR_SHADOW), VIRTUAL_APIC_ADDRESS, 0xfff),
            (self.has(Secondary::VIRTUALIZE_APIC_ACCESSES), APIC_ACCESS_ADDRESS, 0xfff),
            (self.posted(), POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 0x3f),
            (self.has(Secondary::ENABLE_PML), PML_ADDRESS, 0xfff),
            (
                self.has(Secondary::SUB_PAGE_WRITE_PERMISSIONS),
                SUB_PAGE_PERMISSION_TABLE_POINTER,
                0xfff,
            ),
            (shadow, VMREAD_BITMAP_ADDRESS, 0xfff),
            (shadow, VMWRITE_BITMAP_ADDRESS, 0xfff),
            (self.has(Secondary::EPT_VIOLATION_VE), VIRTUALIZATION_EXCEPTION_ADDRESS, 0xfff),
            (functions, EPTP_LIST_ADDRESS, 0xfff),
        ]
        .into_iter()
        .filter_map(|(counts, address, low)| counts.then_some((address, low)))
    }

    fn posted(&self) -> bool {
        self.has(PinBased::PROCESS_POSTED_INTERRUPTS)
    }

    /// The last byte of an MSR list, 0 if it is empty.
    fn last(&self, (count, address): List) -> u64 {
        match self.value(count) {
            0 => 0,
            n => self.value(address).saturating_add(n.saturating_mul(ENTRY_SIZE).saturating_sub(1)),
        }
    }

    fn injects_any(&self) -> bool {
        self.value(ENTRY_INTERRUPTION_INFORMATION) & u64::from(INFORMATION_VALID) != 0
    }

    fn error_code_sound(&self, event: Event) -> bool {
        let exception = event.kind == EventKind::HardwareException;
        let may = exception && self.value(GUEST_CR0) & cr0::PE != 0;
        let pushed = event.error_code.is_some();
        match may && !self.caps.any_error_code {
            true => pushed == has_error_code(event.vector),
            false => may || !pushed,
        }
    }
}

fn vector_sound(event: Event) -> bool {
    match event.kind {
        EventKind::Nmi => event.vector == 2,
        EventKind::HardwareException => event.vector < 32,
        EventKind::Other => event.vector == 0,
        _ => true,
    }
}

impl<V: VmcsRead> Checker<'_, Vmx<'_, V>> {
    /// The first control, if it is 1, needs the second to be 1.
    fn needs(&mut self, control: impl Into<Control>, needed: impl Into<Control>) -> Flow {
        let (control, needed) = (control.into(), needed.into());
        self.with(control.0, needed.0, !self.has(control) || self.has(needed))
    }
}

rules! {
    "SDM vol. 3", |c: &mut Checker<'_, Vmx<'_, impl VmcsRead>>|
    "VM-Execution Control Fields" {
        PinBasedReserved "pin-based controls must be as IA32_VMX_TRUE_PINBASED_CTLS allows" =>
            c.none_of(PIN_BASED_CONTROLS, wrong(c.caps.pin_based, c.get(PIN_BASED_CONTROLS)));
        PrimaryReserved "primary controls must be as IA32_VMX_TRUE_PROCBASED_CTLS allows" =>
            c.none_of(PRIMARY_CONTROLS, wrong(c.caps.primary, c.get(PRIMARY_CONTROLS)));
        SecondaryReserved "secondary controls must be as IA32_VMX_PROCBASED_CTLS2 allows",
            if c.has(Primary::ACTIVATE_SECONDARY_CONTROLS) =>
            c.none_of(SECONDARY_CONTROLS, wrong(c.caps.secondary, c.get(SECONDARY_CONTROLS)));
        Cr3TargetCount "the CR3-target count must not exceed what IA32_VMX_MISC reports" =>
            c.that(CR3_TARGET_COUNT, c.get(CR3_TARGET_COUNT) <= c.caps.cr3_targets.into());
        StructureAlignment "the low bits of a structure's physical address must be 0",
            for (address, low) in c.structures() => c.clear(address, low);
        StructureWidth "a structure's address must be within the physical-address width",
            for (address, _) in c.structures() => c.clear(address, above(c.caps.structure_bits));
        TprThresholdReserved "bits 31:4 of the TPR threshold must be 0 without virtual-interrupt delivery",
            if c.has(Primary::USE_TPR_SHADOW) && !c.has(Secondary::VIRTUAL_INTERRUPT_DELIVERY) =>
            c.clear(TPR_THRESHOLD, !0xf);
        VirtualNmisNeedNmiExiting "virtual NMIs need NMI exiting" =>
            c.needs(PinBased::VIRTUAL_NMIS, PinBased::NMI_EXITING);
        NmiWindowNeedsVirtualNmis "NMI-window exiting needs virtual NMIs" =>
            c.needs(Primary::NMI_WINDOW_EXITING, PinBased::VIRTUAL_NMIS);
        X2apicModeNeedsTprShadow "x2APIC virtualization needs the TPR shadow" =>
            c.needs(Secondary::VIRTUALIZE_X2APIC_MODE, Primary::USE_TPR_SHADOW);
        ApicRegistersNeedTprShadow "APIC-register virtualization needs the TPR shadow" =>
            c.needs(Secondary::APIC_REGISTER_VIRTUALIZATION, Primary::USE_TPR_SHADOW);
        InterruptDeliveryNeedsTprShadow "virtual-interrupt delivery needs the TPR shadow" =>
            c.needs(Secondary::VIRTUAL_INTERRUPT_DELIVERY, Primary::USE_TPR_SHADOW);
        X2apicModeExcludesApicAccesses "x2APIC mode and APIC accesses cannot both be virtualized" =>
            c.that(
                SECONDARY_CONTROLS,
                !c.has(Secondary::VIRTUALIZE_X2APIC_MODE)
                    || !c.has(Secondary::VIRTUALIZE_APIC_ACCESSES),
            );
        InterruptDeliveryNeedsExiting "virtual-interrupt delivery needs external-interrupt exiting" =>
            c.needs(Secondary::VIRTUAL_INTERRUPT_DELIVERY, PinBased::EXTERNAL_INTERRUPT_EXITING);
        PostedNeedsInterruptDelivery "posted interrupts need virtual-interrupt delivery" =>
            c.needs(PinBased::PROCESS_POSTED_INTERRUPTS, Secondary::VIRTUAL_INTERRUPT_DELIVERY);
        PostedNeedsAcknowledge "posted interrupts need acknowledge interrupt on exit" =>
            c.needs(PinBased::PROCESS_POSTED_INTERRUPTS, Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT);
        PostedVector "bits 15:8 of the posted-interrupt notification vector must be 0",
            if c.posted() => c.clear(POSTED_INTERRUPT_NOTIFICATION_VECTOR, !0xff);
        VpidZero "VPID 0 is the host's own", if c.has(Secondary::ENABLE_VPID) =>
            c.that(VIRTUAL_PROCESSOR_IDENTIFIER, c.get(VIRTUAL_PROCESSOR_IDENTIFIER) != 0);
        EptMemoryType "the EPT memory type must be one that IA32_VMX_EPT_VPID_CAP reports",
            if c.has(Secondary::ENABLE_EPT) =>
            c.that(EPT_POINTER, memory_type(c.caps, c.get(EPT_POINTER)));
        EptWalkLength "the EPT page-walk length must be one that IA32_VMX_EPT_VPID_CAP reports",
            if c.has(Secondary::ENABLE_EPT) =>
            c.that(EPT_POINTER, walk_length(c.caps, c.get(EPT_POINTER)));
        EptAccessedDirty "EPT accessed and dirty flags must be supported",
            if c.has(Secondary::ENABLE_EPT) && c.any(EPT_POINTER, 1 << 6) =>
            c.that(EPT_POINTER, c.caps.ept_vpid.contains(EptVpid::EPT_ACCESSED_DIRTY));
        EptReserved "reserved bits of the EPT pointer must be 0", if c.has(Secondary::ENABLE_EPT) => {
            let shadow_stack = c.caps.ept_vpid.contains(EptVpid::EPT_SUPERVISOR_SHADOW_STACK);
            let bit_7 = if shadow_stack { 0 } else { 1 << 7 };
            c.clear(EPT_POINTER, 0xf00 | bit_7 | above(c.caps.physical_bits))
        };
        UnrestrictedNeedsEpt "unrestricted guest needs EPT" =>
            c.needs(Secondary::UNRESTRICTED_GUEST, Secondary::ENABLE_EPT);
        PmlNeedsEpt "page-modification logging needs EPT" =>
            c.needs(Secondary::ENABLE_PML, Secondary::ENABLE_EPT);
        ModeBasedNeedsEpt "mode-based execute control needs EPT" =>
            c.needs(Secondary::MODE_BASED_EXECUTE_CONTROL, Secondary::ENABLE_EPT);
        SubPageNeedsEpt "sub-page write permissions need EPT" =>
            c.needs(Secondary::SUB_PAGE_WRITE_PERMISSIONS, Secondary::ENABLE_EPT);
        VmFunctionsReserved "VM functions must be ones that IA32_VMX_VMFUNC reports",
            if c.has(Secondary::ENABLE_VM_FUNCTIONS) =>
            c.clear(VM_FUNCTION_CONTROLS, !c.caps.vm_functions);
        EptpSwitchingNeedsEpt "EPTP switching needs EPT",
            if c.has(Secondary::ENABLE_VM_FUNCTIONS) && c.any(VM_FUNCTION_CONTROLS, EPTP_SWITCHING) =>
            c.with(VM_FUNCTION_CONTROLS, SECONDARY_CONTROLS, c.has(Secondary::ENABLE_EPT));
        TraceAddressesNeedEpt "guest-physical addresses for processor trace need EPT" =>
            c.needs(Secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES, Secondary::ENABLE_EPT);
        TraceAddressesNeedLoad "guest-physical addresses for processor trace need load IA32_RTIT_CTL" =>
            c.needs(Secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES, Entry::LOAD_IA32_RTIT_CTL);
        TraceAddressesNeedClear "guest-physical addresses for processor trace need clear IA32_RTIT_CTL" =>
            c.needs(Secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES, Exit::CLEAR_IA32_RTIT_CTL);
        TscMultiplierZero "the TSC multiplier must not be 0", if c.has(Secondary::USE_TSC_SCALING) =>
            c.that(TSC_MULTIPLIER, c.get(TSC_MULTIPLIER) != 0);
    }
    "VM-Exit Control Fields" {
        ExitReserved "exit controls must be as IA32_VMX_TRUE_EXIT_CTLS allows" =>
            c.none_of(EXIT_CONTROLS, wrong(c.caps.exit, c.get(EXIT_CONTROLS)));
        SaveTimerNeedsTimer "saving the VMX-preemption timer needs the timer" =>
            c.needs(Exit::SAVE_PREEMPTION_TIMER_VALUE, PinBased::ACTIVATE_PREEMPTION_TIMER);
        ExitMsrListAlignment "bits 3:0 of an MSR list's address must be 0",
            for (count, address) in EXIT_LISTS, if c.get(count) != 0 => c.clear(address, 0xf);
        ExitMsrListWidth "an MSR list must end within the physical-address width",
            for list in EXIT_LISTS =>
            c.with(list.1, list.0, c.last(list) & above(c.caps.structure_bits) == 0);
    }
    "VM-Entry Control Fields" {
        EntryReserved "entry controls must be as IA32_VMX_TRUE_ENTRY_CTLS allows" =>
            c.none_of(
                ENTRY_CONTROLS,
                wrong(c.caps.entry, c.get(ENTRY_CONTROLS)) & !u64::from(SMM.bits()),
            );
        EventType "the event's type must not be reserved; type 7 needs the monitor trap flag",
            if c.injects_any() => {
            let other = c.caps.primary.can(Primary::MONITOR_TRAP_FLAG);
            let sound = c.event.is_some_and(|event| event.kind != EventKind::Other || other);
            c.that(ENTRY_INTERRUPTION_INFORMATION, sound)
        };
        EventVector "the vector must fit the event's type: NMI 2, exceptions below 32, type 7 only 0" =>
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
        EventInstructionLength "the instruction that raises an event is 1 to 15 bytes long, 0 if IA32_VMX_MISC allows",
            if c.event.is_some_and(|event| event.kind.by_instruction()) => {
            let zero = c.caps.misc.contains(Misc::INJECT_LENGTH_0);
            let sound = matches!((c.get(ENTRY_INSTRUCTION_LENGTH), zero), (1..=15, _) | (0, true));
            c.that(ENTRY_INSTRUCTION_LENGTH, sound)
        };
        EntryOutsideSmm "entry to SMM and the end of dual-monitor treatment are for SMM only" =>
            c.clear(ENTRY_CONTROLS, SMM.bits().into());
        EntryMsrListAlignment "bits 3:0 of an MSR list's address must be 0",
            for (count, address) in ENTRY_LISTS, if c.get(count) != 0 => c.clear(address, 0xf);
        EntryMsrListWidth "an MSR list must end within the physical-address width",
            for list in ENTRY_LISTS =>
            c.with(list.1, list.0, c.last(list) & above(c.caps.structure_bits) == 0);
    }
}
