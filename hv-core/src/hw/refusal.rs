//! Why the hypervisor cannot run on a CPU, in words that help: what each refusal of a vendor's says,
//! between words that several have in common.

macro_rules! refusals {
    ($($before:literal, $after:literal { $($name:ident $what:literal;)* })*) => {
        /// Why the hypervisor cannot run on this CPU.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[doc = concat!($before, $what, ".")] $name,)*)*
        }

        impl core::fmt::Display for Refusal {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self {
                    $($(Refusal::$name => concat!($before, $what, $after),)*)*
                })
            }
        }
    };
}

pub(crate) use refusals;
