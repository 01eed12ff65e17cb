//! Checks on the host-state area, and on the guest's control registers, debug registers and MSRs.

use super::super::controls::Entry;
use super::super::field::*;
use super::Vmx;
use crate::hw::check::{Checker, Fields, above, cr0, cr4, efer, rules};

const HOST_SELECTORS: [Field<u16>; 7] = [
    HOST_ES_SELECTOR,
    HOST_CS_SELECTOR,
    HOST_SS_SELECTOR,
    HOST_DS_SELECTOR,
    HOST_FS_SELECTOR,
    HOST_GS_SELECTOR,
    HOST_TR_SELECTOR,
];
const HOST_BASES: [Field<Natural>; 5] =
    [HOST_FS_BASE, HOST_GS_BASE, HOST_TR_BASE, HOST_GDTR_BASE, HOST_IDTR_BASE];

/// What no CPU defines in IA32_DEBUGCTL; some define less.
const DEBUGCTL_RESERVED: u64 = !0xffc7;
const LONG: u64 = efer::LMA | efer::LME;
/// The bits of CR0 that any value suits: those that VM entry does not load, and those that an
/// unrestricted guest may clear.
const FREE_CR0: u64 = cr0::CACHE | cr0::PE | cr0::PG;

impl<V: VmcsRead> Vmx<'_, V> {
    /// The bits of CR0 that are not as they must be.
    fn wrong_cr0(&self, field: Field<Natural>) -> u64 {
        let value = self.value(field);
        self.caps.cr0_must & !value | value & !self.caps.cr0_may
    }

    fn wrong_cr4(&self, field: Field<Natural>) -> u64 {
        let value = self.value(field);
        self.caps.cr4_must & !value | value & !self.caps.cr4_may
    }
}

rules! {
    "SDM vol. 3", |c: &mut Checker<'_, Vmx<'_, impl VmcsRead>>|
    "Checks on Host Control Registers, MSRs, and SSP" {
        HostCr0Fixed "CR0 must be as IA32_VMX_CR0_FIXED0 and FIXED1 allow" =>
            c.none_of(HOST_CR0, c.wrong_cr0(HOST_CR0));
        HostCr4Fixed "CR4 must be as IA32_VMX_CR4_FIXED0 and FIXED1 allow" =>
            c.none_of(HOST_CR4, c.wrong_cr4(HOST_CR4));
        HostCr3Width "CR3 must be within the physical-address width" =>
            c.clear(HOST_CR3, above(c.caps.limits.physical_bits));
        HostSysenterCanonical "SYSENTER addresses must be canonical",
            for field in [HOST_IA32_SYSENTER_ESP, HOST_IA32_SYSENTER_EIP] =>
            c.canonical(field, c.caps.linear_bits);
        HostPat "each byte of IA32_PAT must be a memory type" => c.pat(HOST_IA32_PAT);
        HostEferReserved "reserved bits of IA32_EFER must be 0" =>
            c.clear(HOST_IA32_EFER, efer::reserved(c.caps.limits.no_execute));
        HostEferLongMode "a 64-bit host needs IA32_EFER.LMA and LME" =>
            c.none_of(HOST_IA32_EFER, !c.get(HOST_IA32_EFER) & LONG);
    }
    "Checks on Host Segment and Descriptor-Table Registers" {
        HostSelectorFlags "TI and RPL of the selector must be 0",
            for selector in HOST_SELECTORS => c.clear(selector, 7);
        HostSelectorNull "CS and TR must not be null",
            for selector in [HOST_CS_SELECTOR, HOST_TR_SELECTOR] =>
            c.that(selector, c.get(selector) != 0);
        HostBaseCanonical "the base must be canonical",
            for base in HOST_BASES => c.canonical(base, c.caps.linear_bits);
    }
    "Checks Related to Address-Space Size" {
        HostPae "a 64-bit host needs CR4.PAE" => c.that(HOST_CR4, c.any(HOST_CR4, cr4::PAE));
        HostRipCanonical "RIP must be canonical" => c.canonical(HOST_RIP, c.caps.linear_bits);
    }
    "Checks on Guest Control Registers, Debug Registers, and MSRs" {
        GuestCr0Fixed "CR0 must be as IA32_VMX_CR0_FIXED0 and FIXED1 allow, but for PE, PG and the cache bits" =>
            c.none_of(GUEST_CR0, c.wrong_cr0(GUEST_CR0) & !FREE_CR0);
        GuestPagingUnprotected "CR0.PG needs CR0.PE",
            if c.any(GUEST_CR0, cr0::PG) => c.that(GUEST_CR0, c.any(GUEST_CR0, cr0::PE));
        GuestCr4Fixed "CR4 must be as IA32_VMX_CR4_FIXED0 and FIXED1 allow" =>
            c.none_of(GUEST_CR4, c.wrong_cr4(GUEST_CR4));
        GuestDebugctlReserved "reserved bits of IA32_DEBUGCTL must be 0" =>
            c.clear(GUEST_IA32_DEBUGCTL, DEBUGCTL_RESERVED);
        GuestIa32ePaging "an IA-32e mode guest needs CR0.PG", if c.has(Entry::IA32E_MODE_GUEST) =>
            c.with(GUEST_CR0, ENTRY_CONTROLS, c.any(GUEST_CR0, cr0::PG));
        GuestIa32ePae "an IA-32e mode guest needs CR4.PAE", if c.has(Entry::IA32E_MODE_GUEST) =>
            c.with(GUEST_CR4, ENTRY_CONTROLS, c.any(GUEST_CR4, cr4::PAE));
        GuestPcide "CR4.PCIDE is for IA-32e mode guests", if !c.has(Entry::IA32E_MODE_GUEST) =>
            c.clear(GUEST_CR4, cr4::PCIDE);
        GuestCr3Width "CR3 must be within the physical-address width" =>
            c.clear(GUEST_CR3, above(c.caps.limits.physical_bits));
        GuestDr7Upper "bits 63:32 of DR7 must be 0" => c.clear(GUEST_DR7, above(32));
        GuestSysenterCanonical "SYSENTER addresses must be canonical",
            for field in [GUEST_IA32_SYSENTER_ESP, GUEST_IA32_SYSENTER_EIP] =>
            c.canonical(field, c.caps.linear_bits);
        GuestPat "each byte of IA32_PAT must be a memory type" => c.pat(GUEST_IA32_PAT);
        GuestEferReserved "reserved bits of IA32_EFER must be 0" =>
            c.clear(GUEST_IA32_EFER, efer::reserved(c.caps.limits.no_execute));
        GuestEferLma "IA32_EFER.LMA must equal IA-32e mode guest" => {
            let sound = c.any(GUEST_IA32_EFER, efer::LMA) == c.has(Entry::IA32E_MODE_GUEST);
            c.with(GUEST_IA32_EFER, ENTRY_CONTROLS, sound)
        };
        GuestEferLme "IA32_EFER.LME must equal LMA while CR0.PG is 1",
            if c.any(GUEST_CR0, cr0::PG) =>
            c.with(GUEST_IA32_EFER, GUEST_CR0, matches!(c.get(GUEST_IA32_EFER) & LONG, 0 | LONG));
    }
}
