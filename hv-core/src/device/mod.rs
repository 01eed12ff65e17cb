//! The devices that an unmodified guest expects, as state machines without hardware.

pub mod apic;
pub mod board;
pub mod ioapic;
pub mod keyboard;
pub mod pic;
pub mod pit;
pub mod power;
pub mod rtc;
pub mod scratch;
pub mod uart;
