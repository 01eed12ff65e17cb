//! The software VM-entry checker: holds a VMCS against the rules of the SDM's chapter "VM
//! Entries" and names the ones it breaks. The CPU itself says only which group failed.
//!
//! Of what the manual has rules for, this version makes no use of much: controls that it never sets, MSR
//! lists, activity states, system-management mode. The rule here is then that it is not used, and the
//! manual's own are not repeated. Left to the CPU are rules on memory that the VMCS points at (the
//! virtual-APIC page) and on the launch state.

mod controls;
mod non_register;
mod registers;
mod segments;
#[cfg(test)]
mod tests;

pub use crate::hw::check::Violation;

use super::capability::Capabilities;
use super::controls::{AccessRights, Controls};
use super::field::{self, Field, Segment, VmcsRead, Width};
use crate::hw::check::{self, Checker, Fields, Flow, rflags};
use crate::vm::{Event, EventKind};

/// The first rule that the VMCS breaks, in the manual's order.
pub fn first(vmcs: &impl VmcsRead, caps: &Capabilities) -> Option<Violation> {
    check::first(|found| each(vmcs, caps, found))
}

/// Hands every rule that the VMCS breaks to `found`, until that breaks off.
pub fn each(vmcs: &impl VmcsRead, caps: &Capabilities, mut found: impl FnMut(Violation) -> Flow) {
    // Broken off or at the end: both are the end.
    let segments = Segment::ALL.map(|id| Register::read(vmcs, id));
    let _ = all(&mut Checker::new(Vmx::new(vmcs, caps, &segments), &mut found));
}

fn all(c: &mut Checker<'_, Vmx<'_, impl VmcsRead>>) -> Flow {
    controls::all(c)?;
    registers::all(c)?;
    segments::all(c)?;
    non_register::all(c)
}

/// A VMCS and the CPU that it is for.
struct Vmx<'a, V> {
    vmcs: &'a V,
    caps: &'a Capabilities,
    /// The event to inject; `None` as well if its type is reserved.
    event: Option<Event>,
    segments: &'a [Register; 8],
}

/// A guest segment register as the VMCS has it.
#[derive(Clone, Copy)]
struct Register {
    id: Segment,
    selector: u64,
    base: u64,
    limit: u64,
    rights: AccessRights,
    /// The rules on a descriptor hold for it.
    checked: bool,
}

impl Register {
    #[inline(never)]
    fn read(vmcs: &impl VmcsRead, id: Segment) -> Register {
        let virtual_8086 = vmcs.read(field::GUEST_RFLAGS) & rflags::VM != 0;
        let mut register = Register {
            id,
            selector: vmcs.read(id.selector()).into(),
            base: vmcs.read(id.base()),
            limit: vmcs.read(id.limit()).into(),
            rights: AccessRights::from_bits_retain(vmcs.read(id.access_rights())),
            checked: false,
        };
        register.checked = register.counts() && (register.system() || !virtual_8086);
        register
    }
}

impl<W: Width, V: VmcsRead> Fields<Field<W>> for Vmx<'_, V> {
    #[inline(never)]
    fn value(&self, field: Field<W>) -> u64 {
        self.vmcs.read(field).into()
    }

    fn name(&self, field: Field<W>) -> &'static str {
        field::name(field.encoding()).unwrap_or("a field without a name")
    }
}

impl<'a, V: VmcsRead> Vmx<'a, V> {
    fn new(vmcs: &'a V, caps: &'a Capabilities, segments: &'a [Register; 8]) -> Self {
        Vmx {
            vmcs,
            caps,
            event: Event::decode(
                vmcs.read(field::ENTRY_INTERRUPTION_INFORMATION),
                || vmcs.read(field::ENTRY_EXCEPTION_ERROR_CODE),
                || vmcs.read(field::ENTRY_INSTRUCTION_LENGTH),
            ),
            segments,
        }
    }

    /// Whether this control is 1.
    fn has<C: Controls>(&self, control: C) -> bool {
        self.value(C::FIELD) & u64::from(control.bits()) != 0
    }

    /// Whether an event of this kind is to be injected.
    fn injects(&self, kind: EventKind) -> bool {
        self.event.is_some_and(|event| event.kind == kind)
    }
}
