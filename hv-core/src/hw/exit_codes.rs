//! Tables of the vendors' exit codes: a line for each, or for a range, with a name for code, the neutral
//! reason, and the manual's name where that is another. Where details beside the code decide (exception
//! or NMI, port in or out, register read or write), the reason is the commoner one.

use pv_abi::exit::Reason;

/// A code, or the codes that have one name: the first, the last, their name, the neutral reason.
pub type Row = (u64, u64, &'static str, Reason);

macro_rules! exit_codes {
    ($canonical:ident; $($first:literal $(..=$last:literal)? $name:ident $neutral:ident $($label:literal)?;)*) => {
        /// The codes by name; of a range, the first.
        #[allow(missing_docs)]
        pub mod code {
            $(pub const $name: u64 = $first;)*
        }

        /// Every code.
        pub const ALL: &[$crate::hw::exit_codes::Row] = {
            use pv_abi::exit::Reason;
            &[$((
                $first,
                $crate::hw::exit_codes::either!($($last)? $first),
                $crate::hw::exit_codes::either!($($label)? (stringify!($name))),
                Reason::$neutral,
            ),)*]
        };

        /// The manual's name of the code in a control block, or in a report.
        pub fn name(code: u64) -> Option<&'static str> {
            let code = $canonical(code);
            ALL.iter().find(|(first, last, ..)| (*first..=*last).contains(&code)).map(|row| row.2)
        }

        /// The neutral reason; that of a code without a name is `Other`.
        pub const fn neutral(code: u64) -> pv_abi::exit::Reason {
            use pv_abi::exit::Reason;
            match $canonical(code) {
                $($first $(..=$last)? => Reason::$neutral,)*
                _ => Reason::Other,
            }
        }
    };
}

/// The first of these.
macro_rules! either {
    ($one:tt $($other:tt)?) => {
        $one
    };
}

pub(crate) use {either, exit_codes};
