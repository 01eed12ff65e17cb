//! Checks on VMX Controls.

use super::super::capability::{EptVpid, Misc};
use super::super::controls::{Entry, Exit, PinBased, Primary, Secondary};
use super::super::field::{self, Field, VmcsRead};
use super::{Checker, Flow, Rule, above, cr0};
use crate::vm::event::{EventKind, INFORMATION_VALID, has_error_code};

/// One control of one of the sets.
#[derive(Clone, Copy)]
enum Control {
    Pin(PinBased),
    First(Primary),
    Second(Secondary),
    Exit(Exit),
    Entry(Entry),
}

use Control::{First, Pin, Second};

impl Control {
    const fn field(self) -> Field<u32> {
        match self {
            Pin(_) => field::PIN_BASED_CONTROLS,
            First(_) => field::PRIMARY_CONTROLS,
            Second(_) => field::SECONDARY_CONTROLS,
            Control::Exit(_) => field::EXIT_CONTROLS,
            Control::Entry(_) => field::ENTRY_CONTROLS,
        }
    }
}

const EPT: Control = Second(Secondary::ENABLE_EPT);
const TPR_SHADOW: Control = First(Primary::USE_TPR_SHADOW);
const INTERRUPT_DELIVERY: Control = Second(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
const X2APIC_MODE: Control = Second(Secondary::VIRTUALIZE_X2APIC_MODE);
const POSTED: Control = Pin(PinBased::PROCESS_POSTED_INTERRUPTS);
const TRACE_ADDRESSES: Control = Second(Secondary::PT_USES_GUEST_PHYSICAL_ADDRESSES);

/// The first control needs the second to be as given.
const DEPENDENCIES: &[(Rule, Control, Control, bool)] = &[
    (
        Rule::VirtualNmisNeedNmiExiting,
        Pin(PinBased::VIRTUAL_NMIS),
        Pin(PinBased::NMI_EXITING),
        true,
    ),
    (
        Rule::NmiWindowNeedsVirtualNmis,
        First(Primary::NMI_WINDOW_EXITING),
        Pin(PinBased::VIRTUAL_NMIS),
        true,
    ),
    (Rule::X2apicModeNeedsTprShadow, X2APIC_MODE, TPR_SHADOW, true),
    (
        Rule::ApicRegistersNeedTprShadow,
        Second(Secondary::APIC_REGISTER_VIRTUALIZATION),
        TPR_SHADOW,
        true,
    ),
    (Rule::InterruptDeliveryNeedsTprShadow, INTERRUPT_DELIVERY, TPR_SHADOW, true),
    (
        Rule::X2apicModeExcludesApicAccesses,
        X2APIC_MODE,
        Second(Secondary::VIRTUALIZE_APIC_ACCESSES),
        false,
    ),
    (
        Rule::InterruptDeliveryNeedsExiting,
        INTERRUPT_DELIVERY,
        Pin(PinBased::EXTERNAL_INTERRUPT_EXITING),
        true,
    ),
    (Rule::PostedNeedsInterruptDelivery, POSTED, INTERRUPT_DELIVERY, true),
    (
        Rule::PostedNeedsAcknowledge,
        POSTED,
        Control::Exit(Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT),
        true,
    ),
    (Rule::UnrestrictedNeedsEpt, Second(Secondary::UNRESTRICTED_GUEST), EPT, true),
    (Rule::PmlNeedsEpt, Second(Secondary::ENABLE_PML), EPT, true),
    (Rule::ModeBasedNeedsEpt, Second(Secondary::MODE_BASED_EXECUTE_CONTROL), EPT, true),
    (Rule::SubPageNeedsEpt, Second(Secondary::SUB_PAGE_WRITE_PERMISSIONS), EPT, true),
    (Rule::TraceAddressesNeedEpt, TRACE_ADDRESSES, EPT, true),
    (
        Rule::TraceAddressesNeedLoad,
        TRACE_ADDRESSES,
        Control::Entry(Entry::LOAD_IA32_RTIT_CTL),
        true,
    ),
    (
        Rule::TraceAddressesNeedClear,
        TRACE_ADDRESSES,
        Control::Exit(Exit::CLEAR_IA32_RTIT_CTL),
        true,
    ),
];

/// Physical addresses, the control that makes each count, and the low bits that must be 0.
const STRUCTURES: &[(Control, Field<u64>, u64)] = &[
    (First(Primary::USE_IO_BITMAPS), field::IO_BITMAP_A_ADDRESS, 0xfff),
    (First(Primary::USE_IO_BITMAPS), field::IO_BITMAP_B_ADDRESS, 0xfff),
    (First(Primary::USE_MSR_BITMAPS), field::MSR_BITMAPS_ADDRESS, 0xfff),
    (TPR_SHADOW, field::VIRTUAL_APIC_ADDRESS, 0xfff),
    (Second(Secondary::VIRTUALIZE_APIC_ACCESSES), field::APIC_ACCESS_ADDRESS, 0xfff),
    (POSTED, field::POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 0x3f),
    (Second(Secondary::ENABLE_PML), field::PML_ADDRESS, 0xfff),
    (
        Second(Secondary::SUB_PAGE_WRITE_PERMISSIONS),
        field::SUB_PAGE_PERMISSION_TABLE_POINTER,
        0xfff,
    ),
    (Second(Secondary::VMCS_SHADOWING), field::VMREAD_BITMAP_ADDRESS, 0xfff),
    (Second(Secondary::VMCS_SHADOWING), field::VMWRITE_BITMAP_ADDRESS, 0xfff),
    (Second(Secondary::EPT_VIOLATION_VE), field::VIRTUALIZATION_EXCEPTION_ADDRESS, 0xfff),
];

/// VM function 0.
const EPTP_SWITCHING: u64 = 1;

impl<V: VmcsRead> Checker<'_, V> {
    fn has(&self, control: Control) -> bool {
        match control {
            Pin(control) => self.pin_based.contains(control),
            First(control) => self.primary.contains(control),
            Second(control) => self.secondary.contains(control),
            Control::Exit(control) => self.exit.contains(control),
            Control::Entry(control) => self.entry.contains(control),
        }
    }

    pub(super) fn execution_controls(&mut self) -> Flow {
        let wrong = |allowed: (u32, u32)| u64::from(allowed.0 | allowed.1);
        let (caps, pin, primary) = (self.caps, self.pin_based.bits(), self.primary.bits());
        let bits = (caps.pin_based.wrongly_clear(pin), caps.pin_based.wrongly_set(pin));
        self.none_of(Rule::PinBasedReserved, field::PIN_BASED_CONTROLS, wrong(bits))?;
        let bits = (caps.primary.wrongly_clear(primary), caps.primary.wrongly_set(primary));
        self.none_of(Rule::PrimaryReserved, field::PRIMARY_CONTROLS, wrong(bits))?;
        if self.primary.contains(Primary::ACTIVATE_SECONDARY_CONTROLS) {
            let secondary = self.secondary.bits();
            let bits =
                (caps.secondary.wrongly_clear(secondary), caps.secondary.wrongly_set(secondary));
            self.none_of(Rule::SecondaryReserved, field::SECONDARY_CONTROLS, wrong(bits))?;
        }
        let targets = self.get(field::CR3_TARGET_COUNT);
        self.that(
            Rule::Cr3TargetCount,
            field::CR3_TARGET_COUNT,
            targets <= caps.cr3_targets.into(),
        )?;
        for &(control, address, low) in STRUCTURES {
            if self.has(control) {
                self.structure(address, low)?;
            }
        }
        if self.has(TPR_SHADOW) && !self.has(INTERRUPT_DELIVERY) {
            self.clear(Rule::TprThresholdReserved, field::TPR_THRESHOLD, !0xf)?;
        }
        for &(rule, control, needed, value) in DEPENDENCIES {
            let holds = !self.has(control) || self.has(needed) == value;
            self.with(rule, control.field(), needed.field(), holds)?;
        }
        if self.has(POSTED) {
            self.clear(Rule::PostedVector, field::POSTED_INTERRUPT_NOTIFICATION_VECTOR, !0xff)?;
        }
        if self.secondary.contains(Secondary::ENABLE_VPID) {
            let vpid = self.get(field::VIRTUAL_PROCESSOR_IDENTIFIER);
            self.that(Rule::VpidZero, field::VIRTUAL_PROCESSOR_IDENTIFIER, vpid != 0)?;
        }
        if self.has(EPT) {
            self.ept_pointer()?;
        }
        if self.secondary.contains(Secondary::ENABLE_VM_FUNCTIONS) {
            self.vm_functions()?;
        }
        if self.secondary.contains(Secondary::USE_TSC_SCALING) {
            let multiplier = self.get(field::TSC_MULTIPLIER);
            self.that(Rule::TscMultiplierZero, field::TSC_MULTIPLIER, multiplier != 0)?;
        }
        Flow::Continue(())
    }

    fn structure(&mut self, address: Field<u64>, low: u64) -> Flow {
        self.clear(Rule::StructureAlignment, address, low)?;
        self.clear(Rule::StructureWidth, address, above(self.caps.structure_bits))
    }

    fn ept_pointer(&mut self) -> Flow {
        let pointer = self.get(field::EPT_POINTER);
        let has = |capability| self.caps.ept_vpid.contains(capability);
        let memory_type = match pointer & 7 {
            0 => has(EptVpid::EPT_UNCACHEABLE),
            6 => has(EptVpid::EPT_WRITE_BACK),
            _ => false,
        };
        let walk = match pointer >> 3 & 7 {
            3 => has(EptVpid::EPT_WALK_4),
            4 => has(EptVpid::EPT_WALK_5),
            _ => false,
        };
        let flags = pointer & 1 << 6 == 0 || has(EptVpid::EPT_ACCESSED_DIRTY);
        let shadow_stack = if has(EptVpid::EPT_SUPERVISOR_SHADOW_STACK) { 0 } else { 1 << 7 };
        self.that(Rule::EptMemoryType, field::EPT_POINTER, memory_type)?;
        self.that(Rule::EptWalkLength, field::EPT_POINTER, walk)?;
        self.that(Rule::EptAccessedDirty, field::EPT_POINTER, flags)?;
        let reserved = 0xf00 | shadow_stack | above(self.caps.physical_bits);
        self.clear(Rule::EptReserved, field::EPT_POINTER, reserved)
    }

    fn vm_functions(&mut self) -> Flow {
        self.clear(
            Rule::VmFunctionsReserved,
            field::VM_FUNCTION_CONTROLS,
            !self.caps.vm_functions,
        )?;
        if self.get(field::VM_FUNCTION_CONTROLS) & EPTP_SWITCHING == 0 {
            return Flow::Continue(());
        }
        self.with(
            Rule::EptpSwitchingNeedsEpt,
            field::VM_FUNCTION_CONTROLS,
            EPT.field(),
            self.has(EPT),
        )?;
        self.structure(field::EPTP_LIST_ADDRESS, 0xfff)
    }

    pub(super) fn exit_controls(&mut self) -> Flow {
        let (allowed, exit) = (self.caps.exit, self.exit.bits());
        let wrong = allowed.wrongly_clear(exit) | allowed.wrongly_set(exit);
        self.none_of(Rule::ExitReserved, field::EXIT_CONTROLS, wrong.into())?;
        let timer = self.pin_based.contains(PinBased::ACTIVATE_PREEMPTION_TIMER)
            || !self.exit.contains(Exit::SAVE_PREEMPTION_TIMER_VALUE);
        self.with(
            Rule::SaveTimerNeedsTimer,
            field::EXIT_CONTROLS,
            field::PIN_BASED_CONTROLS,
            timer,
        )?;
        let rules = (Rule::ExitMsrListAlignment, Rule::ExitMsrListWidth);
        self.msr_list(rules, field::EXIT_MSR_STORE_COUNT, field::EXIT_MSR_STORE_ADDRESS)?;
        self.msr_list(rules, field::EXIT_MSR_LOAD_COUNT, field::EXIT_MSR_LOAD_ADDRESS)
    }

    fn msr_list(
        &mut self,
        (alignment, width): (Rule, Rule),
        count: Field<u32>,
        address: Field<u64>,
    ) -> Flow {
        /// An MSR number, a reserved half, a value.
        const ENTRY_SIZE: u64 = 16;
        let entries = self.get(count);
        if entries == 0 {
            return Flow::Continue(());
        }
        self.clear(alignment, address, 0xf)?;
        let last = entries.saturating_mul(ENTRY_SIZE).saturating_sub(1);
        let last = self.get(address).saturating_add(last);
        self.with(width, address, count, last & above(self.caps.structure_bits) == 0)
    }

    pub(super) fn entry_controls(&mut self) -> Flow {
        let (allowed, entry) = (self.caps.entry, self.entry.bits());
        // These two are for SMM; that we are not in it is a rule of its own.
        let smm = Entry::ENTRY_TO_SMM | Entry::DEACTIVATE_DUAL_MONITOR;
        let wrong = allowed.wrongly_clear(entry) | allowed.wrongly_set(entry) & !smm.bits();
        self.none_of(Rule::EntryReserved, field::ENTRY_CONTROLS, wrong.into())?;
        if self.get(field::ENTRY_INTERRUPTION_INFORMATION) & u64::from(INFORMATION_VALID) != 0 {
            self.injected_event()?;
        }
        self.clear(Rule::EntryOutsideSmm, field::ENTRY_CONTROLS, smm.bits().into())?;
        let rules = (Rule::EntryMsrListAlignment, Rule::EntryMsrListWidth);
        self.msr_list(rules, field::ENTRY_MSR_LOAD_COUNT, field::ENTRY_MSR_LOAD_ADDRESS)
    }

    fn injected_event(&mut self) -> Flow {
        const INFORMATION: Field<u32> = field::ENTRY_INTERRUPTION_INFORMATION;
        let Some(event) = self.event else {
            return self.that(Rule::EventType, INFORMATION, false);
        };
        let sound =
            event.kind != EventKind::Other || self.caps.primary.can(Primary::MONITOR_TRAP_FLAG);
        self.that(Rule::EventType, INFORMATION, sound)?;
        let sound = match event.kind {
            EventKind::Nmi => event.vector == 2,
            EventKind::HardwareException => event.vector < 32,
            EventKind::Other => event.vector == 0,
            _ => true,
        };
        self.that(Rule::EventVector, INFORMATION, sound)?;
        let exception = event.kind == EventKind::HardwareException;
        let may = exception && self.get(field::GUEST_CR0) & cr0::PE != 0;
        let pushed = event.error_code.is_some();
        let sound = if may && !self.caps.any_error_code {
            pushed == has_error_code(event.vector)
        } else {
            may || !pushed
        };
        self.with(Rule::EventErrorCode, INFORMATION, field::GUEST_CR0, sound)?;
        self.clear(Rule::EventReserved, INFORMATION, 0x7fff_f000)?;
        if pushed {
            self.clear(Rule::EventErrorCodeReserved, field::ENTRY_EXCEPTION_ERROR_CODE, !0xffff)?;
        }
        if event.kind.by_instruction() {
            let length = self.get(field::ENTRY_INSTRUCTION_LENGTH);
            let zero = self.caps.misc.contains(Misc::INJECT_LENGTH_0);
            let sound = length <= 15 && (length != 0 || zero);
            self.that(Rule::EventInstructionLength, field::ENTRY_INSTRUCTION_LENGTH, sound)?;
        }
        Flow::Continue(())
    }
}
