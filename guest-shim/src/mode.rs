//! Which operations are paravirtual: a pure function of what was found and what was asked for.

use core::fmt;

use pv_abi::call;
use pv_abi::cpuid::Recommendations as Rec;

use crate::detect::{Found, Paravane};
use crate::site::Operations;

/// What the user asks for; `shim=auto|native|pv` on the kernel's command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// On Paravane, what it recommends; elsewhere native.
    #[default]
    Auto,
    /// Native instructions everywhere. Hypercalls can still be made.
    Native,
    /// All that the hypervisor offers, recommended or not.
    Paravirtual,
}

/// The value of a `shim=` option that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMode<'a>(pub &'a str);

impl fmt::Display for UnknownMode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shim={} is none of shim=auto, shim=native, shim=pv", self.0)
    }
}

impl core::error::Error for UnknownMode<'_> {}

impl Mode {
    /// The mode that a kernel command line asks for; the last `shim=` counts, none is
    /// [`Mode::Auto`].
    ///
    /// # Errors
    ///
    /// The value, if it is none of the three.
    pub fn from_command_line(line: &str) -> Result<Mode, UnknownMode<'_>> {
        match line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("shim=")) {
            None | Some("auto") => Ok(Mode::Auto),
            Some("native") => Ok(Mode::Native),
            Some("pv") => Ok(Mode::Paravirtual),
            Some(value) => Err(UnknownMode(value)),
        }
    }
}

/// Why paravirtual operation was asked for and cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Something else, or nothing, runs us.
    NotParavane(Found),
    /// Paravane speaks another version of the ABI than this crate.
    Version {
        /// The hypervisor's version.
        theirs: u32,
    },
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NotParavane(found) => {
                write!(f, "shim=pv needs Paravane, and this is {found}: use shim=auto")
            }
            Unavailable::Version { theirs } => {
                let ((a, b), (c, d)) =
                    (pv_abi::version_parts(*theirs), pv_abi::version_parts(pv_abi::VERSION));
                write!(
                    f,
                    "the hypervisor speaks ABI {a}.{b} and the kernel {c}.{d}: build both from one release"
                )
            }
        }
    }
}

impl core::error::Error for Unavailable {}

/// The operations, what recommends each, and the extension that each needs.
const TABLE: &[(Operations, Rec, Option<u16>)] = &[
    (Operations::CPUID, Rec::CPUID_MIRROR, Some(call::area::EXTENSION)),
    (Operations::HALT, Rec::HALT, Some(call::sched::EXTENSION)),
    (Operations::TIMER, Rec::TIMER, Some(call::timer::EXTENSION)),
    (Operations::EOI, Rec::EOI, Some(call::area::EXTENSION)),
    (Operations::CONSOLE, Rec::CONSOLE, Some(call::console::EXTENSION)),
    (Operations::CLOCK, Rec::CLOCK, Some(call::area::EXTENSION)),
    (Operations::CR_SHADOW, Rec::CR_SHADOW, None),
    (Operations::SYS, Rec::SYS, Some(call::sys::EXTENSION)),
    (Operations::SMP, Rec::SMP, Some(call::smp::EXTENSION)),
];

fn offered(paravane: &Paravane, wanted: Rec) -> Operations {
    let mut operations = TABLE
        .iter()
        .filter(|(_, recommendation, _)| wanted.contains(*recommendation))
        .filter(|(_, _, extension)| extension.is_none_or(|number| paravane.has(number)))
        .fold(Operations::CALL, |all, &(operation, _, _)| all | operation);
    // Not a replacement but a fact, so forcing does not make it true.
    let tsc_exits = paravane.recommendations.contains(Rec::TSC_EXITS);
    operations.set(Operations::TSC_EXITS, tsc_exits && operations.contains(Operations::CLOCK));
    operations
}

/// The operations that become paravirtual. While the major version is 0, another version of the
/// ABI is another ABI: it is left alone.
///
/// # Errors
///
/// Only in [`Mode::Paravirtual`]: why it cannot be.
pub fn select(found: &Found, mode: Mode) -> Result<Operations, Unavailable> {
    let paravane = match found {
        Found::Paravane(paravane) if paravane.version == pv_abi::VERSION => paravane,
        _ if mode != Mode::Paravirtual => return Ok(Operations::empty()),
        Found::Paravane(paravane) => {
            return Err(Unavailable::Version { theirs: paravane.version });
        }
        _ => return Err(Unavailable::NotParavane(*found)),
    };
    Ok(match mode {
        Mode::Auto => offered(paravane, paravane.recommendations),
        Mode::Native => Operations::CALL,
        Mode::Paravirtual => offered(paravane, Rec::all()),
    })
}

#[cfg(test)]
mod tests;
