//! The devices that an unmodified guest expects, as state machines without hardware.

pub mod apic;
pub mod ioapic;
pub mod keyboard;
pub mod power;
pub mod uart;
