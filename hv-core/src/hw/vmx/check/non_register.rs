//! Checks on Guest Non-Register State and on PDPTEs.

use super::super::capability::Misc;
use super::super::controls::{
    Activity, Entry, Interruptibility, PendingDebug, PinBased, Secondary,
};
use super::super::field::*;
use super::Vmx;
use crate::hw::check::{Checker, DEBUGCTL_BTF, Fields, above, cr0, cr4, rflags, rules};
use crate::vm::{Event, EventKind};

const DEBUG: u8 = 1;
const MACHINE_CHECK: u8 = 18;
const PDPTE_PRESENT: u64 = 1;
const PDPTE_RESERVED: u64 = 0x1e6;

const STATE: Field<u32> = GUEST_INTERRUPTIBILITY_STATE;
const INFORMATION: Field<u32> = ENTRY_INTERRUPTION_INFORMATION;
const PENDING: Field<Natural> = GUEST_PENDING_DEBUG_EXCEPTIONS;

/// Whether the event may be injected into a guest in this activity state.
fn wakes(activity: Activity, event: Event) -> bool {
    let Event { kind, vector, .. } = event;
    let exception = kind == EventKind::HardwareException;
    match activity {
        Activity::Active => true,
        Activity::Hlt => {
            matches!(kind, EventKind::ExternalInterrupt | EventKind::Nmi | EventKind::Other)
                || (exception && matches!(vector, DEBUG | MACHINE_CHECK))
        }
        Activity::Shutdown => kind == EventKind::Nmi || (exception && vector == MACHINE_CHECK),
        Activity::WaitForSipi => false,
    }
}

impl<V: VmcsRead> Vmx<'_, V> {
    /// `None` if the CPU has not the state.
    fn activity(&self) -> Option<Activity> {
        let has = |capability| self.caps.misc.contains(capability);
        let activity = Activity::from_number(self.vmcs.read(GUEST_ACTIVITY_STATE));
        activity.filter(|activity| match activity {
            Activity::Active => true,
            Activity::Hlt => has(Misc::ACTIVITY_HLT),
            Activity::Shutdown => has(Misc::ACTIVITY_SHUTDOWN),
            Activity::WaitForSipi => has(Misc::ACTIVITY_WAIT_FOR_SIPI),
        })
    }

    fn inactive(&self) -> bool {
        self.activity().is_some_and(|activity| activity != Activity::Active)
    }

    fn blocked(&self, by: Interruptibility) -> bool {
        self.value(STATE) & u64::from(by.bits()) != 0
    }

    fn sti(&self) -> bool {
        self.blocked(Interruptibility::BLOCKING_BY_STI)
    }

    fn mov_ss(&self) -> bool {
        self.blocked(Interruptibility::BLOCKING_BY_MOV_SS)
    }

    fn shadow(&self) -> bool {
        self.sti() || self.mov_ss()
    }

    fn pending(&self) -> PendingDebug {
        PendingDebug::from_bits_retain(self.value(PENDING))
    }

    /// Debug exceptions wait for the end of a shadow or of HLT.
    fn held(&self) -> bool {
        self.shadow() || self.value(GUEST_ACTIVITY_STATE) == Activity::Hlt as u64
    }

    fn stepping(&self) -> bool {
        self.value(GUEST_RFLAGS) & rflags::TF != 0
            && self.value(GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF == 0
    }

    fn pae_under_ept(&self) -> bool {
        self.has(Secondary::ENABLE_EPT)
            && self.value(GUEST_CR0) & cr0::PG != 0
            && self.value(GUEST_CR4) & cr4::PAE != 0
            && !self.has(Entry::IA32E_MODE_GUEST)
    }
}

rules! {
    "SDM vol. 3", |c: &mut Checker<'_, Vmx<'_, impl VmcsRead>>|
    "Checks on Guest Non-Register State" {
        ActivityUnsupported "the activity state must be one that IA32_VMX_MISC reports" =>
            c.that(GUEST_ACTIVITY_STATE, c.activity().is_some());
        HaltedUnprivileged "the guest cannot be halted while the DPL of SS is not 0",
            if c.activity() == Some(Activity::Hlt) => {
            let privileged = !c.any(GUEST_SS_ACCESS_RIGHTS, 3 << 5);
            c.with(GUEST_ACTIVITY_STATE, GUEST_SS_ACCESS_RIGHTS, privileged)
        };
        InactiveInShadow "the guest must be active while STI or MOV SS blocks",
            if c.inactive() => c.with(GUEST_ACTIVITY_STATE, STATE, !c.shadow());
        EventWakes "the event must be one that the activity state takes" => {
            let sound = c.activity().zip(c.event).is_none_or(|(state, event)| wakes(state, event));
            c.with(GUEST_ACTIVITY_STATE, INFORMATION, sound)
        };
        InterruptibilityReserved "bits 31:5 of the interruptibility state must be 0" =>
            c.clear(STATE, !u64::from(Interruptibility::all().bits()));
        TwoShadows "STI and MOV SS cannot both block" => c.that(STATE, !(c.sti() && c.mov_ss()));
        StiWithoutIf "STI cannot block while RFLAGS.IF is 0", if c.sti() =>
            c.with(STATE, GUEST_RFLAGS, c.any(GUEST_RFLAGS, rflags::IF));
        InterruptInShadow "no external interrupt while STI or MOV SS blocks",
            if c.injects(EventKind::ExternalInterrupt) => c.with(STATE, INFORMATION, !c.shadow());
        NmiInShadow "no NMI while MOV SS blocks, nor, since a CPU may refuse that too, while STI does",
            if c.injects(EventKind::Nmi) => c.with(STATE, INFORMATION, !c.shadow());
        SmiBlocked "SMIs are blocked in SMM only" =>
            c.clear(STATE, Interruptibility::BLOCKING_BY_SMI.bits().into());
        NmiBlocked "no NMI while virtual NMIs are blocked",
            if c.injects(EventKind::Nmi) && c.has(PinBased::VIRTUAL_NMIS) =>
            c.with(STATE, INFORMATION, !c.blocked(Interruptibility::BLOCKING_BY_NMI));
        EnclaveInShadow "MOV SS cannot block in an enclave",
            if c.blocked(Interruptibility::ENCLAVE_INTERRUPTION) => c.that(STATE, !c.mov_ss());
        PendingDebugReserved "reserved bits of the pending debug exceptions must be 0" =>
            c.clear(PENDING, !PendingDebug::all().bits());
        SingleStepMissing "BS must be 1 if RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0, in a shadow or halted",
            if c.held() && c.stepping() =>
            c.with(PENDING, GUEST_RFLAGS, c.pending().contains(PendingDebug::BS));
        SingleStepPending "BS must be 0 if RFLAGS.TF is 0 or IA32_DEBUGCTL.BTF is 1, in a shadow or halted",
            if c.held() && !c.stepping() =>
            c.with(PENDING, GUEST_RFLAGS, !c.pending().contains(PendingDebug::BS));
        TransactionalDebug "a pending debug exception in a transaction has bits 12 and 16 and no other, and no shadow of MOV SS",
            if c.pending().contains(PendingDebug::RTM) => {
            let only = PendingDebug::RTM | PendingDebug::ENABLED_BREAKPOINT;
            c.with(PENDING, STATE, c.pending() == only && !c.mov_ss())
        };
        LinkPointerAlignment "bits 11:0 of the VMCS link pointer must be 0, or all must be 1",
            if c.get(VMCS_LINK_POINTER) != u64::MAX => c.clear(VMCS_LINK_POINTER, 0xfff);
        LinkPointerWidth "the VMCS link pointer must be within the physical-address width",
            if c.get(VMCS_LINK_POINTER) != u64::MAX =>
            c.clear(VMCS_LINK_POINTER, above(c.caps.structure_bits));
    }
    "Checks on Guest Page-Directory-Pointer-Table Entries" {
        PdpteReserved "reserved bits of a present PDPTE must be 0",
            for entry in [0, 1, 2, 3].map(guest_pdpte),
            if c.pae_under_ept() && c.any(entry, PDPTE_PRESENT) =>
            c.clear(entry, PDPTE_RESERVED | above(c.caps.physical_bits));
    }
}
