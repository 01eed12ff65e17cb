//! Offsets and sizes of wire structures as data, for the specification's tables and the C header.

/// One field of a wire structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// Its offset from the start of the structure, in bytes.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
    /// Its Rust type, as written in this crate.
    pub ty: &'static str,
    /// What it holds.
    pub doc: &'static str,
}

/// Declares a wire structure: a `repr(C)` zerocopy type whose size and field offsets are asserted
/// at compile time and listed in `FIELDS`.
macro_rules! wire {
    (
        $(#[$doc:meta])*
        pub struct $name:ident [$size:literal] {
            $($(#[doc = $fdoc:literal])* $offset:literal: $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[doc = $fdoc])* pub $field: $ty,)*
        }

        impl $name {
            /// The fields, in order, for tables made from this structure.
            pub const FIELDS: &'static [$crate::Field] = &[
                $($crate::Field {
                    name: stringify!($field),
                    offset: $offset,
                    size: size_of::<$ty>(),
                    ty: stringify!($ty),
                    doc: concat!($($fdoc),*),
                },)*
            ];
        }

        const _: () = {
            assert!(size_of::<$name>() == $size, concat!("size of ", stringify!($name)));
            $(assert!(
                core::mem::offset_of!($name, $field) == $offset,
                concat!("offset of ", stringify!($name), ".", stringify!($field)),
            );)*
        };
    };
}

pub(crate) use wire;
