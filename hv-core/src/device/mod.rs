//! The devices that an unmodified guest expects, as state machines without hardware.

pub mod apic;
pub mod pic;
pub mod pit;
pub mod rtc;
pub mod uart;
