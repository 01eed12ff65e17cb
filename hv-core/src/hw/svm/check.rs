//! The software checker of VMRUN: holds a VMCB against the rules of the APM, vol. 2, and names those
//! that it breaks. The CPU itself says only VMEXIT_INVALID.
//!
//! Left to the CPU are rules on state that is not in the VMCB or that this version leaves 0 there:
//! the host's, S_CET and U_CET. Long mode is always there.

#[cfg(test)]
mod tests;

use super::intercept::{Misc1, Misc2};
use super::permission::{IO_MAP, MSR_MAP};
use super::vmcb::{ATTRIBUTE_BIG, ATTRIBUTE_LONG, Vmcb};
use crate::hw::check::{self, Checker, Fields, Flow, above, cr0, cr4, efer, rules};
use crate::vm::event::INFORMATION_VALID;
use crate::vm::{Event, EventKind};

pub use crate::hw::check::Violation;
use crate::hw::limits::Limits;

/// The first rule that the VMCB breaks, in the manual's order.
pub fn first(vmcb: &Vmcb, limits: &Limits) -> Option<Violation> {
    check::first(|found| each(vmcb, limits, found))
}

/// Hands every rule that the VMCB breaks to `found`, until that breaks off.
pub fn each(vmcb: &Vmcb, limits: &Limits, mut found: impl FnMut(Violation) -> Flow) {
    // Broken off or at the end: both are the end.
    let _ = all(&mut Checker::new(Svm { vmcb, limits }, &mut found));
}

pub(super) struct Svm<'a> {
    vmcb: &'a Vmcb,
    limits: &'a Limits,
}

/// A field of the VMCB: its name, and where it is.
#[derive(Clone, Copy)]
struct Field(&'static str, fn(&Vmcb) -> u64);

impl Fields<Field> for Svm<'_> {
    fn value(&self, Field(_, get): Field) -> u64 {
        get(self.vmcb)
    }

    fn name(&self, Field(name, _): Field) -> &'static str {
        name
    }
}

macro_rules! fields {
    ($($name:ident $area:ident.$($field:ident).+;)*) => {$(
        const $name: Field = Field(
            concat!(stringify!($area), $(".", stringify!($field)),+),
            |vmcb| vmcb.$area.$($field).+.into(),
        );
    )*};
}

fields! {
    MISC1 control.misc1;
    MISC2 control.misc2;
    PAUSE_FILTER control.pause_filter_count;
    IOPM control.iopm;
    MSRPM control.msrpm;
    ASID control.asid;
    NESTED_PAGING control.nested_paging;
    EVENT_INJECTION control.event_injection;
    NESTED_CR3 control.nested_cr3;
    CS_ATTRIBUTES save.cs.attributes;
    EFER save.efer;
    CR4 save.cr4;
    CR3 save.cr3;
    CR0 save.cr0;
    DR7 save.dr7;
    DR6 save.dr6;
    PAT save.pat;
}

/// The vectors of the exceptions that some CPU has.
const EXCEPTIONS: &[u8] =
    &[0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 21, 28, 29, 30];

impl Svm<'_> {
    /// Long mode as VMRUN takes it, which makes EFER.LMA of these.
    fn long(&self) -> bool {
        let save = &self.vmcb.save;
        save.efer & efer::LME != 0 && save.cr0 & cr0::PG != 0
    }

    /// The event to inject; `None` as well if its type is reserved.
    fn event(&self) -> Option<Event> {
        let information = self.vmcb.control.event_injection;
        Event::decode(information as u32, || (information >> 32) as u32, || 0)
            .filter(|event| (event.kind as u32) <= EventKind::SoftwareInterrupt as u32)
    }

    /// The end of a map, whose place has its low 12 bits ignored.
    fn last(&self, map: Field, size: usize) -> u64 {
        (self.value(map) | 0xfff).saturating_add((size as u64).saturating_sub(0x1000))
    }
}

rules! {
    "APM vol. 2", |c: &mut Checker<'_, Svm<'_>>|
    "Canonicalization and Consistency Checks" {
        EferSvme "EFER.SVME must be 1" => c.that(EFER, c.any(EFER, efer::SVME));
        Cr0Caching "CR0.NW needs CR0.CD",
            if c.any(CR0, cr0::NW) => c.that(CR0, c.any(CR0, cr0::CD));
        Cr0Upper "bits 63:32 of CR0 must be 0" => c.clear(CR0, above(32));
        Cr3Width "in long mode CR3 must be within the physical-address width",
            if c.long() => c.clear(CR3, above(c.limits.physical_bits));
        Cr4Reserved "CR4 must have no bit that the CPU has not" => c.clear(CR4, !c.limits.cr4_may);
        Dr6Upper "bits 63:32 of DR6 must be 0" => c.clear(DR6, above(32));
        Dr7Upper "bits 63:32 of DR7 must be 0" => c.clear(DR7, above(32));
        EferReserved "reserved bits of EFER must be 0" =>
            c.clear(EFER, efer::reserved(c.limits.no_execute) & !efer::SVME);
        LongModePae "EFER.LME with CR0.PG needs CR4.PAE",
            if c.long() => c.with(CR4, EFER, c.any(CR4, cr4::PAE));
        LongModeProtected "EFER.LME with CR0.PG needs CR0.PE",
            if c.long() => c.with(CR0, EFER, c.any(CR0, cr0::PE));
        CodeLongAndBig "CS.D must be 0 in 64-bit code",
            if c.long() && c.any(CR4, cr4::PAE) && c.any(CS_ATTRIBUTES, ATTRIBUTE_LONG.into()) =>
            c.clear(CS_ATTRIBUTES, ATTRIBUTE_BIG.into());
        VmrunIntercept "VMRUN must be intercepted" =>
            c.that(MISC2, c.any(MISC2, Misc2::VMRUN.bits().into()));
        MapWidth "a permission map must end within the physical-address width",
            for (map, size) in [(MSRPM, MSR_MAP), (IOPM, IO_MAP)] =>
            c.that(map, c.last(map, size) & above(c.limits.physical_bits) == 0);
        AsidZero "ASID 0 is the host's own" => c.that(ASID, c.get(ASID) != 0);
        CetWriteProtect "CR4.CET needs CR0.WP",
            if c.any(CR4, cr4::CET) => c.with(CR4, CR0, c.any(CR0, cr0::WP));
    }
    "Pause Intercept Filtering" {
        PauseFilter "a filter of PAUSEs needs PAUSE to be intercepted", if c.get(PAUSE_FILTER) != 0 =>
            c.with(PAUSE_FILTER, MISC1, c.any(MISC1, Misc1::PAUSE.bits().into()));
    }
    "Event Injection" {
        EventType "the event's type must be an interrupt, an NMI, an exception or INT n",
            if c.any(EVENT_INJECTION, INFORMATION_VALID.into()) =>
            c.that(EVENT_INJECTION, c.event().is_some());
        EventVector "the vector of an exception must be one that an exception has",
            if c.event().is_some_and(|event| event.kind == EventKind::HardwareException) =>
            c.that(EVENT_INJECTION, EXCEPTIONS.contains(&(c.get(EVENT_INJECTION) as u8)));
    }
    "Nested Paging and VMRUN/#VMEXIT" {
        NestedCr3Width "the nested CR3 must be within the physical-address width",
            if c.any(NESTED_PAGING, 1) => c.clear(NESTED_CR3, above(c.limits.physical_bits));
        GuestPat "each byte of PAT must be a memory type", if c.any(NESTED_PAGING, 1) => c.pat(PAT);
    }
}
