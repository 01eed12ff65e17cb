//! Checks on Guest Non-Register State and on PDPTEs.

use super::super::capability::Misc;
use super::super::controls::{
    AccessRights, Activity, Interruptibility, PendingDebug, PinBased, Secondary,
};
use super::super::field::{self, VmcsRead};
use super::{Checker, Flow, Rule, above, cr0, cr4, rflags};
use crate::vm::{Event, EventKind};

const PENDING_RESERVED: u64 = !(PendingDebug::all().bits());
const DEBUGCTL_BTF: u64 = 1 << 1;
const DEBUG: u8 = 1;
const MACHINE_CHECK: u8 = 18;
const PDPTE_PRESENT: u64 = 1;
const PDPTE_RESERVED: u64 = 0x1e6;

const STATE: field::Field<u32> = field::GUEST_INTERRUPTIBILITY_STATE;
const INFORMATION: field::Field<u32> = field::ENTRY_INTERRUPTION_INFORMATION;

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

impl<V: VmcsRead> Checker<'_, V> {
    pub(super) fn non_register(&mut self) -> Flow {
        let state = Interruptibility::from_bits_retain(self.vmcs.read(STATE));
        self.activity(state)?;
        self.interruptibility(state)?;
        self.pending_debug(state)?;
        if self.get(field::VMCS_LINK_POINTER) != u64::MAX {
            self.clear(Rule::LinkPointerAlignment, field::VMCS_LINK_POINTER, 0xfff)?;
            let beyond = above(self.caps.structure_bits);
            self.clear(Rule::LinkPointerWidth, field::VMCS_LINK_POINTER, beyond)?;
        }
        self.pdptes()
    }

    fn activity(&mut self, state: Interruptibility) -> Flow {
        let activity = Activity::from_number(self.vmcs.read(field::GUEST_ACTIVITY_STATE));
        let has = |capability| self.caps.misc.contains(capability);
        let supported = activity.filter(|activity| match activity {
            Activity::Active => true,
            Activity::Hlt => has(Misc::ACTIVITY_HLT),
            Activity::Shutdown => has(Misc::ACTIVITY_SHUTDOWN),
            Activity::WaitForSipi => has(Misc::ACTIVITY_WAIT_FOR_SIPI),
        });
        let Some(activity) = supported else {
            return self.that(Rule::ActivityUnsupported, field::GUEST_ACTIVITY_STATE, false);
        };
        let stack = self.vmcs.read(field::GUEST_SS_ACCESS_RIGHTS);
        let privileged = AccessRights::from_bits_retain(stack).dpl() == 0;
        self.with(
            Rule::HaltedUnprivileged,
            field::GUEST_ACTIVITY_STATE,
            field::GUEST_SS_ACCESS_RIGHTS,
            activity != Activity::Hlt || privileged,
        )?;
        let shadow = Interruptibility::BLOCKING_BY_STI.union(Interruptibility::BLOCKING_BY_MOV_SS);
        let sound = activity == Activity::Active || !state.intersects(shadow);
        self.with(Rule::InactiveInShadow, field::GUEST_ACTIVITY_STATE, STATE, sound)?;
        let sound = self.event.is_none_or(|event| wakes(activity, event));
        self.with(Rule::EventWakes, field::GUEST_ACTIVITY_STATE, INFORMATION, sound)
    }

    fn interruptibility(&mut self, state: Interruptibility) -> Flow {
        let sti = state.contains(Interruptibility::BLOCKING_BY_STI);
        let mov_ss = state.contains(Interruptibility::BLOCKING_BY_MOV_SS);
        let enclave = state.contains(Interruptibility::ENCLAVE_INTERRUPTION);
        let reserved = !u64::from(Interruptibility::all().bits());
        self.clear(Rule::InterruptibilityReserved, STATE, reserved)?;
        self.that(Rule::TwoShadows, STATE, !(sti && mov_ss))?;
        let enabled = self.get(field::GUEST_RFLAGS) & rflags::IF != 0;
        self.with(Rule::StiWithoutIf, STATE, field::GUEST_RFLAGS, !sti || enabled)?;
        let kind = self.event.map(|event| event.kind);
        let nmi = kind == Some(EventKind::Nmi);
        let sound = kind != Some(EventKind::ExternalInterrupt) || !(sti || mov_ss);
        self.with(Rule::InterruptInShadow, STATE, INFORMATION, sound)?;
        self.with(Rule::NmiInShadow, STATE, INFORMATION, !(nmi && (sti || mov_ss)))?;
        let smi = Interruptibility::BLOCKING_BY_SMI.bits();
        self.clear(Rule::SmiBlocked, STATE, smi.into())?;
        let blocked = self.pin_based.contains(PinBased::VIRTUAL_NMIS)
            && state.contains(Interruptibility::BLOCKING_BY_NMI);
        self.with(Rule::NmiBlocked, STATE, INFORMATION, !(nmi && blocked))?;
        self.that(Rule::EnclaveInShadow, STATE, !(enclave && mov_ss))
    }

    fn pending_debug(&mut self, state: Interruptibility) -> Flow {
        let field = field::GUEST_PENDING_DEBUG_EXCEPTIONS;
        self.clear(Rule::PendingDebugReserved, field, PENDING_RESERVED)?;
        let pending = PendingDebug::from_bits_retain(self.get(field));
        let mov_ss = state.contains(Interruptibility::BLOCKING_BY_MOV_SS);
        let held = mov_ss
            || state.contains(Interruptibility::BLOCKING_BY_STI)
            || self.get(field::GUEST_ACTIVITY_STATE) == Activity::Hlt as u64;
        if held {
            let stepping = self.get(field::GUEST_RFLAGS) & rflags::TF != 0
                && self.get(field::GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF == 0;
            let bs = pending.contains(PendingDebug::BS);
            let flags = field::GUEST_RFLAGS;
            self.with(Rule::SingleStepMissing, field, flags, bs || !stepping)?;
            self.with(Rule::SingleStepPending, field, flags, !bs || stepping)?;
        }
        let only = PendingDebug::RTM | PendingDebug::ENABLED_BREAKPOINT;
        let sound = !pending.contains(PendingDebug::RTM) || (pending == only && !mov_ss);
        self.with(Rule::TransactionalDebug, field, STATE, sound)
    }

    fn pdptes(&mut self) -> Flow {
        let paging = self.get(field::GUEST_CR0) & cr0::PG != 0;
        let pae = self.get(field::GUEST_CR4) & cr4::PAE != 0;
        let ept = self.secondary.contains(Secondary::ENABLE_EPT);
        if !(ept && paging && pae) || self.ia32e() {
            return Flow::Continue(());
        }
        for index in 0..4 {
            let entry = field::guest_pdpte(index);
            if self.get(entry) & PDPTE_PRESENT != 0 {
                let reserved = PDPTE_RESERVED | above(self.caps.physical_bits);
                self.clear(Rule::PdpteReserved, entry, reserved)?;
            }
        }
        Flow::Continue(())
    }
}
