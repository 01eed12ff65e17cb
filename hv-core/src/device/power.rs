//! What software turns a machine off and resets it by. Each part is a set of ports:
//!
//! - [`FixedHardware`]: the ACPI fixed hardware, with the PM timer;
//! - [`ReducedHardware`]: what hardware-reduced ACPI has in its place;
//! - [`ResetControl`], [`SystemControl`] and [`exit`]: what a PC has beside ACPI.
//!
//! Registers are bytes: a wider access is one to each of its bytes, in ascending order, unless a part
//! says otherwise. Time is in nanoseconds since the VM started, and never goes back.

mod fixed;
mod pm_timer;
mod reduced;
mod reset;
#[cfg(test)]
mod tests;

pub use fixed::FixedHardware;
pub use pm_timer::{FREQUENCY, TIMER_WIDTH, TimerWidth};
pub use reduced::ReducedHardware;
pub use reset::{EXIT, ResetControl, SystemControl, exit};

/// The sleep type of S5, soft off: SLP_TYP in both models of ACPI, and what `\_S5` says. With 0, and
/// PM1 control where it is, kernels that know one machine by heart find their way off this one.
pub const S5: u8 = 0;

const SLEEP_ENABLE: u8 = 1 << 5;

/// What is left for the caller to do after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// The machine is off.
    PowerOff,
    /// The whole machine is reset.
    Reset,
    /// The CPUs are initialized, as by INIT; devices stay as they are. They go on at the reset vector:
    /// where no firmware is, this can only mean [`Effect::Reset`].
    Init,
    /// The VM ends with this code.
    Exit(u32),
    /// This source of the A20 gate is now on or off. Address bit 20 counts while any source is on.
    A20(bool),
    /// [`FixedHardware::sci`] and [`FixedHardware::sci_due`] may have changed.
    Sci,
}

/// What a write to the upper byte of PM1 control or to the sleep control register asks for: they have
/// the same layout. There is no sleep but S5.
fn sleep(value: u8) -> Effect {
    let s5 = value >> 2 & 7 == S5;
    if s5 && value & SLEEP_ENABLE != 0 { Effect::PowerOff } else { Effect::None }
}

/// The ports of an access of `size` bytes, which are at most four.
fn ports(port: u16, size: u8) -> impl Iterator<Item = u16> {
    (0..size.min(4)).map(move |i| port.wrapping_add(i.into()))
}

/// Reads an access byte by byte.
fn read_bytes(port: u16, size: u8, mut byte: impl FnMut(u16) -> u8) -> u32 {
    let mut bytes = [0; 4];
    for (slot, port) in bytes.iter_mut().zip(ports(port, size)) {
        *slot = byte(port);
    }
    u32::from_le_bytes(bytes)
}

/// Writes an access byte by byte. Of several effects the last counts.
fn write_bytes(port: u16, size: u8, value: u32, mut byte: impl FnMut(u16, u8) -> Effect) -> Effect {
    let mut effect = Effect::None;
    for (port, value) in ports(port, size).zip(value.to_le_bytes()) {
        match byte(port, value) {
            Effect::None => {}
            other => effect = other,
        }
    }
    effect
}
