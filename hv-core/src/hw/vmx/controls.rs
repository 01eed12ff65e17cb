//! The bits of the VMCS: controls, and the state that has no register of its own.

use bitflags::Flags;

use crate::hw::bits::bits;
pub use crate::hw::segment::AccessRights;
use crate::vm::{Event, EventKind};

/// A set of VM-execution, VM-exit or VM-entry controls.
pub trait Controls: Flags<Bits = u32> + Copy {
    /// The manual's name of the set.
    const NAME: &'static str;

    /// The name of the lowest control in `bits`, or a word for one without a name.
    fn name_of(bits: u32) -> &'static str {
        let lowest = bits & bits.wrapping_neg();
        let named = Self::FLAGS.iter().find(|f| f.value().bits() == lowest);
        named.map_or("a reserved control", |flag| flag.name())
    }
}

macro_rules! controls {
    ($($(#[$doc:meta])* $set:ident $label:literal { $($bits:tt)* })*) => {$(
        bits! { $(#[$doc])* $set: u32 { $($bits)* } }

        impl Controls for $set {
            const NAME: &'static str = $label;
        }
    )*};
}

controls! {
    /// Pin-based VM-execution controls. The reserved bits that a CPU wants set have no name: keep
    /// them with `from_bits_retain`. This holds for each of these sets.
    PinBased "pin-based VM-execution controls" {
        0 EXTERNAL_INTERRUPT_EXITING "Interrupts of the host exit";
        3 NMI_EXITING "NMIs exit";
        5 VIRTUAL_NMIS "NMI blocking is the guest's own";
        6 ACTIVATE_PREEMPTION_TIMER "The VMX-preemption timer counts down in the guest";
        7 PROCESS_POSTED_INTERRUPTS "Posted interrupts are processed without an exit";
    }

    /// Primary processor-based VM-execution controls.
    Primary "primary processor-based VM-execution controls" {
        2 INTERRUPT_WINDOW_EXITING "An exit as soon as the guest can take an interrupt";
        3 USE_TSC_OFFSETTING "The TSC offset is added to what the guest reads";
        7 HLT_EXITING "HLT exits";
        9 INVLPG_EXITING "INVLPG exits";
        10 MWAIT_EXITING "MWAIT exits";
        11 RDPMC_EXITING "RDPMC exits";
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
        27 MONITOR_TRAP_FLAG "An exit after every instruction";
        28 USE_MSR_BITMAPS "The MSR bitmaps say which MSR accesses exit";
        29 MONITOR_EXITING "MONITOR exits";
        30 PAUSE_EXITING "PAUSE exits";
        31 ACTIVATE_SECONDARY_CONTROLS "The secondary controls count";
    }

    /// Secondary processor-based VM-execution controls.
    Secondary "secondary processor-based VM-execution controls" {
        0 VIRTUALIZE_APIC_ACCESSES "Accesses to the APIC-access page are treated apart";
        1 ENABLE_EPT "Extended page tables";
        2 DESCRIPTOR_TABLE_EXITING "LGDT, LIDT, LLDT, LTR and their stores exit";
        3 ENABLE_RDTSCP "RDTSCP works in the guest";
        4 VIRTUALIZE_X2APIC_MODE "RDMSR and WRMSR of x2APIC registers are treated apart";
        5 ENABLE_VPID "Tagged TLB entries";
        6 WBINVD_EXITING "WBINVD exits";
        7 UNRESTRICTED_GUEST "The guest may run unpaged and in real mode";
        8 APIC_REGISTER_VIRTUALIZATION "APIC reads come from the virtual-APIC page";
        9 VIRTUAL_INTERRUPT_DELIVERY "Interrupts are evaluated and delivered by the CPU";
        10 PAUSE_LOOP_EXITING "A loop of PAUSEs at CPL 0 exits";
        11 RDRAND_EXITING "RDRAND exits";
        12 ENABLE_INVPCID "INVPCID works in the guest";
        13 ENABLE_VM_FUNCTIONS "VMFUNC works in the guest";
        14 VMCS_SHADOWING "VMREAD and VMWRITE in the guest use a shadow VMCS";
        15 ENABLE_ENCLS_EXITING "ENCLS exits as its bitmap says";
        16 RDSEED_EXITING "RDSEED exits";
        17 ENABLE_PML "Page-modification logging";
        18 EPT_VIOLATION_VE "EPT violations become exceptions of the guest";
        19 CONCEAL_VMX_FROM_PT "Processor trace hides VMX";
        20 ENABLE_XSAVES_XRSTORS "XSAVES and XRSTORS work in the guest";
        22 MODE_BASED_EXECUTE_CONTROL "Execute permission in EPT is split by mode";
        23 SUB_PAGE_WRITE_PERMISSIONS "Write permission in EPT by 128 bytes";
        24 PT_USES_GUEST_PHYSICAL_ADDRESSES "Processor trace writes to guest-physical addresses";
        25 USE_TSC_SCALING "The TSC multiplier applies to what the guest reads";
        26 ENABLE_USER_WAIT_AND_PAUSE "TPAUSE, UMONITOR and UMWAIT work in the guest";
        27 ENABLE_PCONFIG "PCONFIG works in the guest";
        28 ENABLE_ENCLV_EXITING "ENCLV exits as its bitmap says";
    }

    /// Primary VM-exit controls.
    Exit "VM-exit controls" {
        2 SAVE_DEBUG_CONTROLS "DR7 and IA32_DEBUGCTL are saved";
        9 HOST_ADDRESS_SPACE_SIZE "The host runs in 64-bit mode";
        12 LOAD_IA32_PERF_GLOBAL_CTRL "IA32_PERF_GLOBAL_CTRL is loaded";
        15 ACKNOWLEDGE_INTERRUPT_ON_EXIT "An external interrupt is acknowledged, its vector saved";
        18 SAVE_IA32_PAT "IA32_PAT is saved";
        19 LOAD_IA32_PAT "IA32_PAT is loaded";
        20 SAVE_IA32_EFER "IA32_EFER is saved";
        21 LOAD_IA32_EFER "IA32_EFER is loaded";
        22 SAVE_PREEMPTION_TIMER_VALUE "What is left of the VMX-preemption timer is saved";
        23 CLEAR_IA32_BNDCFGS "IA32_BNDCFGS is cleared";
        24 CONCEAL_VMX_FROM_PT "Processor trace hides VM exits";
        25 CLEAR_IA32_RTIT_CTL "IA32_RTIT_CTL is cleared";
    }

    /// VM-entry controls.
    Entry "VM-entry controls" {
        2 LOAD_DEBUG_CONTROLS "DR7 and IA32_DEBUGCTL are loaded";
        9 IA32E_MODE_GUEST "The guest is in IA-32e mode";
        10 ENTRY_TO_SMM "The guest is in system-management mode";
        11 DEACTIVATE_DUAL_MONITOR "The dual-monitor treatment of SMIs ends";
        13 LOAD_IA32_PERF_GLOBAL_CTRL "IA32_PERF_GLOBAL_CTRL is loaded";
        14 LOAD_IA32_PAT "IA32_PAT is loaded";
        15 LOAD_IA32_EFER "IA32_EFER is loaded";
        16 LOAD_IA32_BNDCFGS "IA32_BNDCFGS is loaded";
        17 CONCEAL_VMX_FROM_PT "Processor trace hides VM entries";
        18 LOAD_IA32_RTIT_CTL "IA32_RTIT_CTL is loaded";
    }
}

bits! {
    /// Guest interruptibility state: what holds events off.
    Interruptibility: u32 {
        0 BLOCKING_BY_STI "The instruction after STI";
        1 BLOCKING_BY_MOV_SS "The instruction after a load of SS";
        2 BLOCKING_BY_SMI "System-management mode";
        3 BLOCKING_BY_NMI "From an NMI to its IRET";
        4 ENCLAVE_INTERRUPTION "The exit came from inside an enclave";
    }

    /// Guest pending debug exceptions.
    PendingDebug: u64 {
        0 B0 "Breakpoint condition of DR0";
        1 B1 "Breakpoint condition of DR1";
        2 B2 "Breakpoint condition of DR2";
        3 B3 "Breakpoint condition of DR3";
        12 ENABLED_BREAKPOINT "At least one of the breakpoints was enabled";
        14 BS "Single-stepping or branch-stepping";
        16 RTM "Inside a transactional region";
    }
}

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

/// Guest activity state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Activity {
    /// Runs instructions.
    Active = 0,
    /// Halted by HLT.
    Hlt = 1,
    /// Shut down by a triple fault.
    Shutdown = 2,
    /// Waits for a startup IPI.
    WaitForSipi = 3,
}

impl Activity {
    /// The state with this number.
    pub const fn from_number(number: u32) -> Option<Activity> {
        Some(match number {
            0 => Activity::Active,
            1 => Activity::Hlt,
            2 => Activity::Shutdown,
            3 => Activity::WaitForSipi,
            _ => return None,
        })
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
