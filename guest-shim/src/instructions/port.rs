//! I/O ports: the `x86_64` crate's.
//!
//! A port access is not replaced one for one, since a call would exit as well. What ports are used
//! for is replaced: the console by `drivers::console`, the timer by [`crate::timer`], reset by
//! [`crate::power`].

pub use x86_64::instructions::port::*;
