//! Checks on the Host-State Area.

use super::super::controls::Exit;
use super::super::field::{self, Field, Natural, VmcsRead};
use super::{Checker, Flow, Rule, above, cr4, efer};

const SELECTORS: [Field<u16>; 7] = [
    field::HOST_ES_SELECTOR,
    field::HOST_CS_SELECTOR,
    field::HOST_SS_SELECTOR,
    field::HOST_DS_SELECTOR,
    field::HOST_FS_SELECTOR,
    field::HOST_GS_SELECTOR,
    field::HOST_TR_SELECTOR,
];

const BASES: [Field<Natural>; 5] = [
    field::HOST_FS_BASE,
    field::HOST_GS_BASE,
    field::HOST_TR_BASE,
    field::HOST_GDTR_BASE,
    field::HOST_IDTR_BASE,
];

impl<V: VmcsRead> Checker<'_, V> {
    pub(super) fn host(&mut self) -> Flow {
        let caps = self.caps;
        let value = self.get(field::HOST_CR0);
        let wrong = caps.cr0_must & !value | value & !caps.cr0_may;
        self.none_of(Rule::HostCr0Fixed, field::HOST_CR0, wrong)?;
        let value = self.get(field::HOST_CR4);
        let wrong = caps.cr4_must & !value | value & !caps.cr4_may;
        self.none_of(Rule::HostCr4Fixed, field::HOST_CR4, wrong)?;
        self.clear(Rule::HostCr3Width, field::HOST_CR3, above(caps.physical_bits))?;
        self.canonical(Rule::HostSysenterCanonical, field::HOST_IA32_SYSENTER_ESP)?;
        self.canonical(Rule::HostSysenterCanonical, field::HOST_IA32_SYSENTER_EIP)?;
        if self.exit.contains(Exit::LOAD_IA32_PAT) {
            self.pat(Rule::HostPat, field::HOST_IA32_PAT)?;
        }
        let long = self.exit.contains(Exit::HOST_ADDRESS_SPACE_SIZE);
        if self.exit.contains(Exit::LOAD_IA32_EFER) {
            self.clear(Rule::HostEferReserved, field::HOST_IA32_EFER, self.efer_reserved())?;
            let wanted = if long { efer::LMA | efer::LME } else { 0 };
            let holds = self.get(field::HOST_IA32_EFER) & (efer::LMA | efer::LME) == wanted;
            self.with(Rule::HostEferLongMode, field::HOST_IA32_EFER, field::EXIT_CONTROLS, holds)?;
        }
        for selector in SELECTORS {
            self.clear(Rule::HostSelectorFlags, selector, 7)?;
        }
        for selector in [field::HOST_CS_SELECTOR, field::HOST_TR_SELECTOR] {
            let value = self.get(selector);
            self.that(Rule::HostSelectorNull, selector, value != 0)?;
        }
        for base in BASES {
            self.canonical(Rule::HostBaseCanonical, base)?;
        }
        self.that(Rule::HostNot64Bit, field::EXIT_CONTROLS, long)?;
        self.that(Rule::HostPae, field::HOST_CR4, value & cr4::PAE != 0)?;
        self.canonical(Rule::HostRipCanonical, field::HOST_RIP)
    }
}
