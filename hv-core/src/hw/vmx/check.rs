//! The software VM-entry checker: holds a VMCS against the rules of the SDM's chapter "VM
//! Entries" and names the ones it breaks. The CPU itself says only which group failed.
//!
//! Left to the CPU are rules on memory that the VMCS points at (MSR lists, the virtual-APIC page,
//! a shadow VMCS), on the launch state, and on system-management mode, which we never run in.

mod controls;
mod guest;
mod host;
mod non_register;
mod rule;
mod segments;
#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::ControlFlow;

pub use rule::Rule;

use super::capability::Capabilities;
use super::controls::{Entry, Exit, PinBased, Primary, Secondary};
use super::field::{self, Access, Field, VmcsRead, Width};
use crate::vm::Event;

/// What else a broken rule involves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Involved {
    /// Nothing but the field.
    Nothing,
    /// The bits of the field that are wrong.
    Bits(u64),
    /// Another field, by encoding, and its value.
    Field(u32, u64),
}

/// A rule that a VMCS breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The encoding of the field that breaks it.
    pub field: u32,
    /// The field's value.
    pub value: u64,
    /// What else is involved.
    pub involved: Involved,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |encoding| field::name(encoding).unwrap_or("a field without a name");
        write!(f, "{}: {} = {:#x}", self.rule.name(), name(self.field), self.value)?;
        match self.involved {
            Involved::Nothing => {}
            Involved::Bits(bits) => write!(f, ", wrong bits {bits:#x}")?,
            Involved::Field(encoding, value) => write!(f, ", {} = {value:#x}", name(encoding))?,
        }
        write!(f, ": {} (SDM vol. 3, {})", self.rule.text(), self.rule.section())
    }
}

/// The first rule that the VMCS breaks, in the manual's order.
pub fn first(vmcs: &impl VmcsRead, caps: &Capabilities) -> Option<Violation> {
    let mut first = None;
    each(vmcs, caps, |violation| {
        first = Some(violation);
        ControlFlow::Break(())
    });
    first
}

/// Hands every rule that the VMCS breaks to `found`, until that breaks off.
pub fn each(
    vmcs: &impl VmcsRead,
    caps: &Capabilities,
    mut found: impl FnMut(Violation) -> ControlFlow<()>,
) {
    let mut checker = Checker::new(vmcs, caps, &mut found);
    // Broken off or at the end: both are the end.
    let _ = checker.all();
}

type Flow = ControlFlow<()>;

struct Checker<'a, V> {
    vmcs: &'a V,
    caps: &'a Capabilities,
    found: &'a mut dyn FnMut(Violation) -> Flow,
    pin_based: PinBased,
    primary: Primary,
    /// Empty unless the primary controls activate them.
    secondary: Secondary,
    exit: Exit,
    entry: Entry,
    /// The event to inject; `None` as well if its type is reserved.
    event: Option<Event>,
}

impl<'a, V: VmcsRead> Checker<'a, V> {
    fn new(
        vmcs: &'a V,
        caps: &'a Capabilities,
        found: &'a mut dyn FnMut(Violation) -> Flow,
    ) -> Self {
        let primary = Primary::from_bits_retain(vmcs.read(field::PRIMARY_CONTROLS));
        let secondary = if primary.contains(Primary::ACTIVATE_SECONDARY_CONTROLS) {
            Secondary::from_bits_retain(vmcs.read(field::SECONDARY_CONTROLS))
        } else {
            Secondary::empty()
        };
        Checker {
            vmcs,
            caps,
            found,
            pin_based: PinBased::from_bits_retain(vmcs.read(field::PIN_BASED_CONTROLS)),
            primary,
            secondary,
            exit: Exit::from_bits_retain(vmcs.read(field::EXIT_CONTROLS)),
            entry: Entry::from_bits_retain(vmcs.read(field::ENTRY_CONTROLS)),
            event: Event::decode(
                vmcs.read(field::ENTRY_INTERRUPTION_INFORMATION),
                || vmcs.read(field::ENTRY_EXCEPTION_ERROR_CODE),
                || vmcs.read(field::ENTRY_INSTRUCTION_LENGTH),
            ),
        }
    }

    fn all(&mut self) -> Flow {
        self.execution_controls()?;
        self.exit_controls()?;
        self.entry_controls()?;
        self.host()?;
        self.guest()?;
        self.segments()?;
        self.non_register()
    }

    fn get<W: Width, A: Access>(&self, field: Field<W, A>) -> u64 {
        self.vmcs.read(field).into()
    }

    fn ia32e(&self) -> bool {
        self.entry.contains(Entry::IA32E_MODE_GUEST)
    }

    fn unrestricted(&self) -> bool {
        self.secondary.contains(Secondary::UNRESTRICTED_GUEST)
    }

    fn report<W: Width>(&mut self, rule: Rule, field: Field<W>, involved: Involved) -> Flow {
        let value = self.get(field);
        (self.found)(Violation { rule, field: field.encoding(), value, involved })
    }

    fn that<W: Width>(&mut self, rule: Rule, field: Field<W>, holds: bool) -> Flow {
        if holds { Flow::Continue(()) } else { self.report(rule, field, Involved::Nothing) }
    }

    fn with<W: Width, X: Width>(
        &mut self,
        rule: Rule,
        field: Field<W>,
        other: Field<X>,
        holds: bool,
    ) -> Flow {
        if holds {
            return Flow::Continue(());
        }
        let involved = Involved::Field(other.encoding(), self.get(other));
        self.report(rule, field, involved)
    }

    fn none_of<W: Width>(&mut self, rule: Rule, field: Field<W>, wrong_bits: u64) -> Flow {
        if wrong_bits == 0 {
            return Flow::Continue(());
        }
        self.report(rule, field, Involved::Bits(wrong_bits))
    }

    /// Each of `mask` must be 0 in the field.
    fn clear<W: Width>(&mut self, rule: Rule, field: Field<W>, mask: u64) -> Flow {
        let wrong = self.get(field) & mask;
        self.none_of(rule, field, wrong)
    }

    fn canonical<W: Width>(&mut self, rule: Rule, field: Field<W>) -> Flow {
        let holds = is_canonical(self.get(field), self.caps.linear_bits);
        self.that(rule, field, holds)
    }

    fn pat(&mut self, rule: Rule, field: Field<u64>) -> Flow {
        // Memory types 2 and 3 are reserved, as is all above 7.
        let sound = self.get(field).to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7));
        self.that(rule, field, sound)
    }

    fn efer_reserved(&self) -> u64 {
        let no_execute = if self.caps.no_execute { efer::NXE } else { 0 };
        !(efer::SCE | efer::LME | efer::LMA | no_execute)
    }
}

/// Every bit from `bits` up.
fn above(bits: u8) -> u64 {
    u64::MAX.checked_shl(bits.into()).unwrap_or(0)
}

fn is_canonical(address: u64, linear_bits: u8) -> bool {
    let spare = 64u32.saturating_sub(linear_bits.into());
    (address.wrapping_shl(spare) as i64).wrapping_shr(spare) as u64 == address
}

mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

mod cr4 {
    pub const PAE: u64 = 1 << 5;
    pub const PCIDE: u64 = 1 << 17;
}

mod efer {
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

mod rflags {
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const VM: u64 = 1 << 17;
}
