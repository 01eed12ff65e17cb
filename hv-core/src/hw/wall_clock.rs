//! The machine's own clock, read once: the date at which the VMs' clocks start.

use x86_64::instructions::port::Port;

use crate::device::rtc;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Reads of a register, each of about a microsecond, in which an update that is in progress ends.
const PATIENCE: u32 = 10_000;

fn register(index: u8) -> u8 {
    // SAFETY: the index and data ports of the clock, whose registers change nothing when they are read,
    // but for its flags, which the hypervisor does not use. Without a clock they read as ones.
    unsafe {
        Port::new(0x70).write(index);
        Port::new(0x71).read()
    }
}

/// Seconds from the start of 1970 to now; 0 if the machine has no clock that tells it. The clock is taken
/// to show UTC.
pub fn seconds_since_1970() -> u64 {
    let settled = (0..PATIENCE).any(|_| register(0xa) & UPDATE_IN_PROGRESS == 0);
    if settled { rtc::read_out(register).unwrap_or(0) } else { 0 }
}
