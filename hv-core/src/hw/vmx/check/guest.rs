//! Checks on the guest's control registers, debug registers, MSRs, descriptor tables, RIP and
//! RFLAGS.

use super::super::controls::{AccessRights, Entry};
use super::super::field::{self, VmcsRead};
use super::{Checker, Flow, Rule, above, cr0, cr4, efer, rflags};
use crate::vm::EventKind;

/// What no CPU defines in IA32_DEBUGCTL; some define less.
const DEBUGCTL_RESERVED: u64 = !0xffc7;
const RFLAGS_RESERVED: u64 = !0x003f_7fd7;
const RFLAGS_ALWAYS: u64 = 1 << 1;

impl<V: VmcsRead> Checker<'_, V> {
    pub(super) fn guest(&mut self) -> Flow {
        self.control_registers()?;
        self.guest_msrs()?;
        for base in [field::GUEST_GDTR_BASE, field::GUEST_IDTR_BASE] {
            self.canonical(Rule::TableBaseCanonical, base)?;
        }
        for limit in [field::GUEST_GDTR_LIMIT, field::GUEST_IDTR_LIMIT] {
            self.clear(Rule::TableLimitUpper, limit, 0xffff_0000)?;
        }
        self.rip_and_rflags()
    }

    fn control_registers(&mut self) -> Flow {
        let caps = self.caps;
        let cr0 = self.get(field::GUEST_CR0);
        // VM entry does not load NW and CD.
        let free = cr0::NW | cr0::CD | if self.unrestricted() { cr0::PE | cr0::PG } else { 0 };
        let wrong = (caps.cr0_must & !cr0 | cr0 & !caps.cr0_may) & !free;
        self.none_of(Rule::GuestCr0Fixed, field::GUEST_CR0, wrong)?;
        let paging = cr0 & cr0::PG != 0;
        let sound = !paging || cr0 & cr0::PE != 0;
        self.that(Rule::GuestPagingUnprotected, field::GUEST_CR0, sound)?;
        let cr4 = self.get(field::GUEST_CR4);
        let wrong = caps.cr4_must & !cr4 | cr4 & !caps.cr4_may;
        self.none_of(Rule::GuestCr4Fixed, field::GUEST_CR4, wrong)?;
        if self.ia32e() {
            let entry = field::ENTRY_CONTROLS;
            self.with(Rule::GuestIa32ePaging, field::GUEST_CR0, entry, paging)?;
            self.with(Rule::GuestIa32ePae, field::GUEST_CR4, entry, cr4 & cr4::PAE != 0)?;
        } else {
            self.clear(Rule::GuestPcide, field::GUEST_CR4, cr4::PCIDE)?;
        }
        self.clear(Rule::GuestCr3Width, field::GUEST_CR3, above(caps.physical_bits))
    }

    fn guest_msrs(&mut self) -> Flow {
        if self.entry.contains(Entry::LOAD_DEBUG_CONTROLS) {
            let debugctl = field::GUEST_IA32_DEBUGCTL;
            self.clear(Rule::GuestDebugctlReserved, debugctl, DEBUGCTL_RESERVED)?;
            self.clear(Rule::GuestDr7Upper, field::GUEST_DR7, above(32))?;
        }
        self.canonical(Rule::GuestSysenterCanonical, field::GUEST_IA32_SYSENTER_ESP)?;
        self.canonical(Rule::GuestSysenterCanonical, field::GUEST_IA32_SYSENTER_EIP)?;
        if self.entry.contains(Entry::LOAD_IA32_PAT) {
            self.pat(Rule::GuestPat, field::GUEST_IA32_PAT)?;
        }
        if self.entry.contains(Entry::LOAD_IA32_EFER) {
            let efer = self.get(field::GUEST_IA32_EFER);
            let (lma, lme) = (efer & efer::LMA != 0, efer & efer::LME != 0);
            self.clear(Rule::GuestEferReserved, field::GUEST_IA32_EFER, self.efer_reserved())?;
            let sound = lma == self.ia32e();
            self.with(Rule::GuestEferLma, field::GUEST_IA32_EFER, field::ENTRY_CONTROLS, sound)?;
            let sound = self.get(field::GUEST_CR0) & cr0::PG == 0 || lma == lme;
            self.with(Rule::GuestEferLme, field::GUEST_IA32_EFER, field::GUEST_CR0, sound)?;
        }
        if self.entry.contains(Entry::LOAD_IA32_BNDCFGS) {
            self.clear(Rule::GuestBndcfgsReserved, field::GUEST_IA32_BNDCFGS, 0xffc)?;
            self.canonical(Rule::GuestBndcfgsCanonical, field::GUEST_IA32_BNDCFGS)?;
        }
        Flow::Continue(())
    }

    fn rip_and_rflags(&mut self) -> Flow {
        let rights = self.get(field::GUEST_CS_ACCESS_RIGHTS) as u32;
        let long = AccessRights::from_bits_retain(rights).contains(AccessRights::LONG);
        if self.ia32e() && long {
            self.canonical(Rule::RipCanonical, field::GUEST_RIP)?;
        } else {
            self.clear(Rule::RipUpper, field::GUEST_RIP, above(32))?;
        }
        let flags = self.get(field::GUEST_RFLAGS);
        let wrong = flags & RFLAGS_RESERVED | RFLAGS_ALWAYS & !flags;
        self.none_of(Rule::RflagsReserved, field::GUEST_RFLAGS, wrong)?;
        let protected = self.get(field::GUEST_CR0) & cr0::PE != 0;
        let sound = flags & rflags::VM == 0 || (protected && !self.ia32e());
        self.with(Rule::RflagsVirtual8086, field::GUEST_RFLAGS, field::GUEST_CR0, sound)?;
        let interrupt = self.event.is_some_and(|e| e.kind == EventKind::ExternalInterrupt);
        let sound = !interrupt || flags & rflags::IF != 0;
        let information = field::ENTRY_INTERRUPTION_INFORMATION;
        self.with(Rule::RflagsInterrupt, field::GUEST_RFLAGS, information, sound)
    }
}
