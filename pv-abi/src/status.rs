//! What a hypercall returns in RAX.

macro_rules! statuses {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $word:literal;)*) => {
        /// The status of a hypercall, returned in RAX. The value, in RDX, is 0 unless the status is
        /// [`Status::Success`] or [`Status::Again`].
        ///
        /// When several errors apply, the one with the lowest number is returned: the numbers are
        /// the priority.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u64)]
        #[must_use]
        pub enum Status {
            $($(#[doc = $doc])* $name = $code,)*
        }

        impl Status {
            /// Every status, in order of number.
            pub const ALL: &'static [Status] = &[$(Status::$name),*];

            /// The status with this number, or `None` for a number that this version does not
            /// define.
            pub const fn from_code(code: u64) -> Option<Status> {
                match code {
                    $($code => Some(Status::$name),)*
                    _ => None,
                }
            }

            /// The name that the specification uses.
            pub const fn name(self) -> &'static str {
                match self { $(Status::$name => $word,)* }
            }

            /// What it says.
            pub const fn meaning(self) -> &'static str {
                match self { $(Status::$name => concat!($($doc),*),)* }
            }
        }
    };
}

statuses! {
    /// The call did what it says.
    Success = 0, "SUCCESS";
    /// A reserved register or bit is not zero.
    Reserved = 1, "RESERVED";
    /// No such extension here.
    UnknownExtension = 2, "UNKNOWN_EXTENSION";
    /// The extension has no such function.
    UnknownFunction = 3, "UNKNOWN_FUNCTION";
    /// An address is not aligned as the call asks.
    Misaligned = 4, "MISALIGNED";
    /// A length is zero or beyond the call's limit.
    BadLength = 5, "BAD_LENGTH";
    /// A range is not, as a whole, RAM of the calling VM.
    BadAddress = 6, "BAD_ADDRESS";
    /// An argument has a value that the call does not define.
    InvalidArgument = 7, "INVALID_ARGUMENT";
    /// What the call would set up is set up already.
    AlreadyDone = 8, "ALREADY_DONE";
    /// What the call works on has not been set up.
    NotReady = 9, "NOT_READY";
    /// The VM may not do this.
    Denied = 10, "DENIED";
    /// Part of the work is done: the value says how much. Call again for the rest.
    Again = 11, "AGAIN";
}

impl From<Status> for u64 {
    fn from(status: Status) -> u64 {
        status as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_survives_the_round_trip_through_rax() {
        for &status in Status::ALL {
            assert_eq!(Status::from_code(u64::from(status)), Some(status));
        }
        assert_eq!(Status::from_code(Status::ALL.len() as u64), None);
        assert_eq!(Status::from_code(1 << 32), None, "the upper half of RAX counts");
    }
}
