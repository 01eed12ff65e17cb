//! The bits of the VMCS: controls, and the state that has no register of its own.

use bitflags::Flags;

use super::field::{self, Field};
use crate::hw::bits::bits;
pub use crate::hw::segment::AccessRights;
use crate::vm::{Event, EventKind};

/// A set of VM-execution, VM-exit or VM-entry controls. Those that this version never sets have no
/// name, nor do the reserved bits that a CPU wants set: keep these with `from_bits_retain`.
pub trait Controls: Flags<Bits = u32> + Copy {
    /// The manual's name of the set.
    const NAME: &'static str;
    /// The field that holds it.
    const FIELD: Field<u32>;
    /// What every policy asks for.
    const ALWAYS: Self;

    /// The name of the lowest control in `bits`, or a word for one without a name.
    fn name_of(bits: u32) -> &'static str {
        let lowest = bits & bits.wrapping_neg();
        let named = Self::FLAGS.iter().find(|f| f.value().bits() == lowest);
        named.map_or("a reserved control", |flag| flag.name())
    }
}

macro_rules! controls {
    ($($(#[$doc:meta])* $set:ident $field:ident $label:literal {
        always { $($number:literal $always:ident $what:literal;)* }
        $($bits:tt)*
    })*) => {$(
        bits! { $(#[$doc])* $set: u32 { $($number $always $what;)* $($bits)* } }

        impl Controls for $set {
            const NAME: &'static str = $label;
            const FIELD: Field<u32> = field::$field;
            const ALWAYS: $set = $set::from_bits_retain(0 $(| 1 << $number)*);
        }
    )*};
}

controls! {
    /// Pin-based VM-execution controls.
    PinBased PIN_BASED_CONTROLS "pin-based VM-execution controls" {
        always {
            0 EXTERNAL_INTERRUPT_EXITING "Interrupts of the host exit";
            3 NMI_EXITING "NMIs exit";
            5 VIRTUAL_NMIS "NMI blocking is the guest's own";
            6 ACTIVATE_PREEMPTION_TIMER "The VMX-preemption timer counts down in the guest";
        }
    }

    /// Primary processor-based VM-execution controls.
    Primary PRIMARY_CONTROLS "primary processor-based VM-execution controls" {
        always {
            3 USE_TSC_OFFSETTING "The TSC offset is added to what the guest reads";
            7 HLT_EXITING "HLT exits";
            10 MWAIT_EXITING "MWAIT exits";
            11 RDPMC_EXITING "RDPMC exits";
            29 MONITOR_EXITING "MONITOR exits";
            31 ACTIVATE_SECONDARY_CONTROLS "The secondary controls count";
        }
        2 INTERRUPT_WINDOW_EXITING "An exit as soon as the guest can take an interrupt";
        9 INVLPG_EXITING "INVLPG exits";
        12 RDTSC_EXITING "RDTSC and RDTSCP exit";
        15 CR3_LOAD_EXITING "Moves to CR3 exit";
        16 CR3_STORE_EXITING "Moves from CR3 exit";
        19 CR8_LOAD_EXITING "Moves to CR8 exit";
        20 CR8_STORE_EXITING "Moves from CR8 exit";
        21 USE_TPR_SHADOW "The task priority is that of the virtual-APIC page";
        22 NMI_WINDOW_EXITING "An exit as soon as the guest can take an NMI";
        23 MOV_DR_EXITING "Moves to and from debug registers exit";
        24 UNCONDITIONAL_IO_EXITING "Every port access exits";
        25 USE_IO_BITMAPS "The I/O bitmaps say which port accesses exit";
        28 USE_MSR_BITMAPS "The MSR bitmaps say which MSR accesses exit";
        30 PAUSE_EXITING "PAUSE exits";
    }

    /// Secondary processor-based VM-execution controls.
    Secondary SECONDARY_CONTROLS "secondary processor-based VM-execution controls" {
        always {
            1 ENABLE_EPT "Extended page tables";
            7 UNRESTRICTED_GUEST "The guest may run unpaged and in real mode";
        }
        0 VIRTUALIZE_APIC_ACCESSES "Accesses to the APIC-access page are treated apart";
        3 ENABLE_RDTSCP "RDTSCP works in the guest";
        4 VIRTUALIZE_X2APIC_MODE "RDMSR and WRMSR of x2APIC registers are treated apart";
        5 ENABLE_VPID "Tagged TLB entries";
        6 WBINVD_EXITING "WBINVD exits";
        8 APIC_REGISTER_VIRTUALIZATION "APIC reads come from the virtual-APIC page";
        9 VIRTUAL_INTERRUPT_DELIVERY "Interrupts are evaluated and delivered by the CPU";
        10 PAUSE_LOOP_EXITING "A loop of PAUSEs exits";
        12 ENABLE_INVPCID "INVPCID works in the guest";
        20 ENABLE_XSAVES_XRSTORS "XSAVES and XRSTORS work in the guest";
    }

    /// Primary VM-exit controls.
    Exit EXIT_CONTROLS "VM-exit controls" {
        always {
            2 SAVE_DEBUG_CONTROLS "DR7 and IA32_DEBUGCTL are saved";
            9 HOST_ADDRESS_SPACE_SIZE "The host runs in 64-bit mode";
            18 SAVE_IA32_PAT "IA32_PAT is saved";
            19 LOAD_IA32_PAT "IA32_PAT is loaded";
            20 SAVE_IA32_EFER "IA32_EFER is saved";
            21 LOAD_IA32_EFER "IA32_EFER is loaded";
        }
    }

    /// VM-entry controls.
    Entry ENTRY_CONTROLS "VM-entry controls" {
        always {
            2 LOAD_DEBUG_CONTROLS "DR7 and IA32_DEBUGCTL are loaded";
            14 LOAD_IA32_PAT "IA32_PAT is loaded";
            15 LOAD_IA32_EFER "IA32_EFER is loaded";
        }
        9 IA32E_MODE_GUEST "The guest is in IA-32e mode";
    }
}

bits! {
    /// Guest interruptibility state: what holds events off. SMIs and enclaves, which have bits of
    /// their own, are not for guests.
    Interruptibility: u32 {
        0 BLOCKING_BY_STI "The instruction after STI";
        1 BLOCKING_BY_MOV_SS "The instruction after a load of SS";
        3 BLOCKING_BY_NMI "From an NMI to its IRET";
    }
}

/// Guest pending debug exceptions: a single step.
pub const PENDING_STEP: u64 = 1 << 14;

impl Interruptibility {
    /// The shadow of STI or MOV SS.
    pub const SHADOW: Interruptibility =
        Interruptibility::BLOCKING_BY_STI.union(Interruptibility::BLOCKING_BY_MOV_SS);

    /// The state to enter the guest with when the event is injected again: an NMI sets NMI blocking by
    /// itself, and under virtual NMIs is refused while that is set, as its delivery has done already.
    pub fn for_injection(self, event: Event) -> Interruptibility {
        match event.kind {
            EventKind::Nmi => self.difference(Interruptibility::BLOCKING_BY_NMI),
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_control_is_named() {
        assert_eq!(Primary::name_of(1 << 7 | 1 << 28), "HLT_EXITING");
        assert_eq!(Primary::name_of(1 << 1), "a reserved control");
    }

    #[test]
    fn an_nmi_is_not_blocked_by_itself() {
        let state = Interruptibility::BLOCKING_BY_NMI | Interruptibility::BLOCKING_BY_STI;
        assert_eq!(state.for_injection(Event::nmi()), Interruptibility::BLOCKING_BY_STI);
        assert_eq!(state.for_injection(Event::exception(13, 8)), state);
    }
}
