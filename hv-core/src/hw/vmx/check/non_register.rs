//! Checks on Guest Non-Register State and on PDPTEs.

use super::super::controls::{Entry, Interruptibility, PENDING_STEP};
use super::super::field::*;
use super::Vmx;
use crate::hw::check::{Checker, DEBUGCTL_BTF, Fields, above, cr0, cr4, rflags, rules};
use crate::vm::EventKind;

/// All but B0 to B3, that one of these breakpoints was enabled, and a single step.
const PENDING_RESERVED: u64 = !0x500f;
const PDPTE_PRESENT: u64 = 1;
const PDPTE_RESERVED: u64 = 0x1e6;

const STATE: Field<u32> = GUEST_INTERRUPTIBILITY_STATE;
const INFORMATION: Field<u32> = ENTRY_INTERRUPTION_INFORMATION;
const PENDING: Field<Natural> = GUEST_PENDING_DEBUG_EXCEPTIONS;

impl<V: VmcsRead> Vmx<'_, V> {
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

    fn stepping(&self) -> bool {
        self.value(GUEST_RFLAGS) & rflags::TF != 0
            && self.value(GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF == 0
    }

    fn pae_paging(&self) -> bool {
        self.value(GUEST_CR0) & cr0::PG != 0
            && self.value(GUEST_CR4) & cr4::PAE != 0
            && !self.has(Entry::IA32E_MODE_GUEST)
    }
}

rules! {
    "SDM vol. 3", |c: &mut Checker<'_, Vmx<'_, impl VmcsRead>>|
    "Checks on Guest Non-Register State" {
        ActivityState "the guest must be active: what makes it inactive exits" =>
            c.clear(GUEST_ACTIVITY_STATE, u64::MAX);
        InterruptibilityReserved "only STI, MOV SS and NMIs can block: a guest has no SMM and no enclaves" =>
            c.clear(STATE, !u64::from(Interruptibility::all().bits()));
        TwoShadows "STI and MOV SS cannot both block" => c.that(STATE, !(c.sti() && c.mov_ss()));
        StiWithoutIf "STI cannot block while RFLAGS.IF is 0", if c.sti() =>
            c.with(STATE, GUEST_RFLAGS, c.any(GUEST_RFLAGS, rflags::IF));
        InterruptInShadow "no external interrupt while STI or MOV SS blocks",
            if c.injects(EventKind::ExternalInterrupt) => c.with(STATE, INFORMATION, !c.shadow());
        NmiInShadow "no NMI while MOV SS blocks, nor, since a CPU may refuse that too, while STI does",
            if c.injects(EventKind::Nmi) => c.with(STATE, INFORMATION, !c.shadow());
        NmiBlocked "no NMI while virtual NMIs are blocked", if c.injects(EventKind::Nmi) =>
            c.with(STATE, INFORMATION, !c.blocked(Interruptibility::BLOCKING_BY_NMI));
        PendingDebugReserved "reserved bits of the pending debug exceptions must be 0" =>
            c.clear(PENDING, PENDING_RESERVED);
        SingleStep "in a shadow BS must be 1 if RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0, else 0",
            if c.shadow() =>
            c.with(PENDING, GUEST_RFLAGS, c.any(PENDING, PENDING_STEP) == c.stepping());
        LinkPointer "all bits of the VMCS link pointer must be 1: there is no other VMCS" =>
            c.none_of(VMCS_LINK_POINTER, !c.get(VMCS_LINK_POINTER));
    }
    "Checks on Guest Page-Directory-Pointer-Table Entries" {
        PdpteReserved "reserved bits of a present PDPTE must be 0",
            for entry in [0, 1, 2, 3].map(guest_pdpte),
            if c.pae_paging() && c.any(entry, PDPTE_PRESENT) =>
            c.clear(entry, PDPTE_RESERVED | above(c.caps.limits.physical_bits));
    }
}
