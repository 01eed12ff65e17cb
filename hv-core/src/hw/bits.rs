//! Sets of bits as the manuals draw them: a line for each bit, with its number, name and meaning.

macro_rules! bits {
    ($(
        $(#[$doc:meta])* $set:ident: $width:ty { $($bit:literal $name:ident $what:literal;)* }
    )*) => {$(
        bitflags::bitflags! {
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct $set: $width {
                $(#[doc = concat!($what, ".")] const $name = 1 << $bit;)*
            }
        }
    )*};
}

pub(crate) use bits;

/// Every bit that has a name: `of` what, its name, and whether it is in the set.
pub fn report<S: bitflags::Flags + Copy>(
    of: &'static str,
    set: S,
) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    S::FLAGS.iter().map(move |flag| (of, flag.name(), set.contains(*flag.value())))
}
