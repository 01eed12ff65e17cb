//! What the software checkers of VM entries share: rules by name with the manual's section, what is
//! reported of one that is broken, and the tests that most rules are made of. A CPU says little of
//! why it refuses an entry; a checker names the rule.

use core::fmt;
use core::ops::{ControlFlow, Deref};

/// Whether to go on.
pub type Flow = ControlFlow<()>;

/// A rule of a manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// A short name.
    pub name: &'static str,
    /// The title of the manual.
    pub manual: &'static str,
    /// The title of the section that has the rule.
    pub section: &'static str,
    /// What the rule asks for.
    pub text: &'static str,
}

/// What else a broken rule involves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Involved {
    /// Nothing but the field.
    Nothing,
    /// The bits of the field that are wrong.
    Bits(u64),
    /// Another field, by name, and its value.
    Field(&'static str, u64),
}

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static Rule,
    /// The name of the field that breaks it.
    pub field: &'static str,
    /// The field's value.
    pub value: u64,
    /// What else is involved.
    pub involved: Involved,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { name, manual, section, text } = self.rule;
        write!(f, "{name}: {} = {:#x}", self.field, self.value)?;
        match self.involved {
            Involved::Nothing => {}
            Involved::Bits(bits) => write!(f, ", wrong bits {bits:#x}")?,
            Involved::Field(field, value) => write!(f, ", {field} = {value:#x}")?,
        }
        write!(f, ": {text} ({manual}, {section})")
    }
}

/// A control structure whose fields are named by values of `F`.
pub trait Fields<F> {
    /// The field's value.
    fn value(&self, field: F) -> u64;
    /// The field's name.
    fn name(&self, field: F) -> &'static str;
}

/// Holds a control structure against rules.
pub struct Checker<'a, S> {
    structure: S,
    /// The rule that is looked at.
    pub rule: &'static Rule,
    found: &'a mut dyn FnMut(Violation) -> Flow,
}

impl<S> Deref for Checker<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.structure
    }
}

impl<'a, S> Checker<'a, S> {
    /// `found` is handed what is broken.
    pub fn new(structure: S, found: &'a mut dyn FnMut(Violation) -> Flow) -> Self {
        const NONE: &Rule = &Rule { name: "", manual: "", section: "", text: "" };
        Checker { structure, rule: NONE, found }
    }

    /// The field's value.
    pub fn get<F>(&self, field: F) -> u64
    where
        S: Fields<F>,
    {
        self.structure.value(field)
    }

    /// Whether one of these bits is set.
    pub fn any<F>(&self, field: F, bits: u64) -> bool
    where
        S: Fields<F>,
    {
        self.get(field) & bits != 0
    }

    #[cold]
    #[inline(never)]
    fn report<F: Copy>(&mut self, field: F, involved: Involved) -> Flow
    where
        S: Fields<F>,
    {
        let (field, value) = (self.name(field), self.value(field));
        (self.found)(Violation { rule: self.rule, field, value, involved })
    }

    /// The rule holds.
    #[inline(never)]
    pub fn that<F: Copy>(&mut self, field: F, holds: bool) -> Flow
    where
        S: Fields<F>,
    {
        if holds { Flow::Continue(()) } else { self.report(field, Involved::Nothing) }
    }

    /// The rule, on two fields, holds.
    #[inline(never)]
    pub fn with<F: Copy, G: Copy>(&mut self, field: F, other: G, holds: bool) -> Flow
    where
        S: Fields<F> + Fields<G>,
    {
        if holds {
            return Flow::Continue(());
        }
        let other = Involved::Field(self.name(other), self.get(other));
        self.report(field, other)
    }

    /// No bit of the field is wrong.
    #[inline(never)]
    pub fn none_of<F: Copy>(&mut self, field: F, wrong: u64) -> Flow
    where
        S: Fields<F>,
    {
        if wrong == 0 { Flow::Continue(()) } else { self.report(field, Involved::Bits(wrong)) }
    }

    /// Each of these bits is 0 in the field.
    #[inline(never)]
    pub fn clear<F: Copy>(&mut self, field: F, bits: u64) -> Flow
    where
        S: Fields<F>,
    {
        self.none_of(field, self.get(field) & bits)
    }

    /// The field is an address of so many bits, sign-extended.
    #[inline(never)]
    pub fn canonical<F: Copy>(&mut self, field: F, bits: u8) -> Flow
    where
        S: Fields<F>,
    {
        let (address, spare) = (self.get(field), 64u32.saturating_sub(bits.into()));
        let extended = (address.wrapping_shl(spare) as i64).wrapping_shr(spare) as u64;
        self.that(field, extended == address)
    }

    /// Each byte of the field is a memory type of PAT.
    #[inline(never)]
    pub fn pat<F: Copy>(&mut self, field: F) -> Flow
    where
        S: Fields<F>,
    {
        // Memory types 2 and 3 are reserved, as is all above 7.
        let sound = self.get(field).to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7));
        self.that(field, sound)
    }
}

/// The first that `each` finds.
pub fn first(each: impl FnOnce(&mut dyn FnMut(Violation) -> Flow)) -> Option<Violation> {
    let mut first = None;
    each(&mut |violation| {
        first = Some(violation);
        Flow::Break(())
    });
    first
}

/// Writes what `each` finds, a line for each.
///
/// # Errors
///
/// Those of `to`.
pub fn list(
    to: &mut dyn fmt::Write,
    each: impl FnOnce(&mut dyn FnMut(Violation) -> Flow),
) -> fmt::Result {
    let (mut separator, mut result) = ("", Ok(()));
    each(&mut |violation| {
        result = result.and_then(|()| write!(to, "{separator}{violation}"));
        separator = "\n";
        Flow::Continue(())
    });
    result
}

/// Every bit from `bits` up.
pub fn above(bits: u8) -> u64 {
    u64::MAX.checked_shl(bits.into()).unwrap_or(0)
}

/// The rules of a manual, by section and in its order: a name, what the rule asks for, and how to
/// check it: for each of some fields, if something is so. Makes the function `all`, which checks all.
macro_rules! rules {
    ($manual:literal, |$c:ident: $checker:ty| $($section:literal { $(
        $name:ident $text:literal
        $(, for $each:pat in $fields:expr)? $(, if $condition:expr)? => $check:expr;
    )* })*) => {
        pub(super) fn all($c: $checker) -> $crate::hw::check::Flow {
            $($(
                $c.rule = &$crate::hw::check::Rule {
                    name: stringify!($name),
                    manual: $manual,
                    section: $section,
                    text: $text,
                };
                $(for $each in $fields)? {
                    if true $(&& $condition)? {
                        $check?;
                    }
                }
            )*)*
            $crate::hw::check::Flow::Continue(())
        }

        #[cfg(test)]
        pub(super) const NAMES: &[&str] = &[$($(stringify!($name)),*),*];
    };
}
pub(crate) use rules;

/// Bits of CR0.
pub mod cr0 {
    #![allow(missing_docs)]
    pub const PE: u64 = 1 << 0;
    pub const WP: u64 = 1 << 16;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
    /// A guest has no say in the host's caches.
    pub const CACHE: u64 = NW | CD;
}

/// Bits of CR4.
pub mod cr4 {
    #![allow(missing_docs)]
    pub const PAE: u64 = 1 << 5;
    pub const PCIDE: u64 = 1 << 17;
    pub const CET: u64 = 1 << 23;
}

/// Bits of EFER.
pub mod efer {
    #![allow(missing_docs)]
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
    pub const SVME: u64 = 1 << 12;

    /// The reserved bits; those that no guest is given count as such.
    pub fn reserved(no_execute: bool) -> u64 {
        !(SCE | LME | LMA | if no_execute { NXE } else { 0 })
    }
}

/// IA32_DEBUGCTL: single steps trap behind branches only.
pub const DEBUGCTL_BTF: u64 = 1 << 1;

/// Bits of RFLAGS.
pub mod rflags {
    #![allow(missing_docs)]
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const VM: u64 = 1 << 17;
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use super::*;

    /// A control structure that a test makes.
    pub trait Checked {
        /// Hands every rule that it breaks to `found`.
        fn each(&self, found: &mut dyn FnMut(Violation) -> Flow);

        fn violations(&self) -> Vec<Violation> {
            let mut all = Vec::new();
            self.each(&mut |violation| {
                all.push(violation);
                Flow::Continue(())
            });
            assert_eq!(first(|found| self.each(found)), all.first().copied());
            all
        }
    }

    /// What it is, or the rule that is broken; what to start from; what to change.
    pub type Case<C> = (&'static str, fn() -> C, fn(&mut C));

    fn made<C: Checked>(&(what, base, change): &Case<C>) -> (&'static str, Vec<Violation>) {
        let mut checked = base();
        change(&mut checked);
        (what, checked.violations())
    }

    /// Each case breaks nothing.
    pub fn sound_ones_pass<C: Checked>(cases: &[Case<C>]) {
        for (what, violations) in cases.iter().map(made) {
            assert_eq!(violations, [], "{what}");
        }
    }

    /// Each case is of a rule that it breaks alone, and each rule has a case.
    pub fn each_rule_is_found_alone<C: Checked>(rules: &[&[&'static str]], cases: &[Case<C>]) {
        let mut untested: BTreeSet<_> = rules.iter().copied().flatten().copied().collect();
        for (case, (rule, violations)) in cases.iter().map(made).enumerate() {
            let found: BTreeSet<_> = violations.iter().map(|v| v.rule.name).collect();
            assert_eq!(found, BTreeSet::from([rule]), "case {case}");
            untested.remove(rule);
        }
        assert_eq!(untested, BTreeSet::new());
    }

    #[test]
    fn widths_are_bits() {
        assert_eq!([above(0), above(40), above(64)], [u64::MAX, 0xffff_ff00_0000_0000, 0]);
    }
}
