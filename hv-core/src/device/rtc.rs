//! The MC146818A real-time clock of a PC with its 128 bytes of CMOS memory (Motorola, MC146818A data
//! sheet).
//!
//! Time is nanoseconds since the VM started, given with each call as `now`; a `now` before that of an
//! earlier call counts as that one. Nothing happens by itself: an access works out what the seconds
//! since the last one have done, however many they were.
//!
//! Three things are simpler than in the chip:
//!
//! - an update takes no time: UIP announces it 244 µs before, and it is over when UIP falls;
//! - the crystal is the one that the guest selects in register A, so that all three selections keep
//!   time. The test selections stop the clock as the divider's reset does;
//! - there is no square wave and no daylight saving: their bits are kept and have no effect.
//!
//! The byte at 32h, RAM to the chip, counts centuries, and by it leap years are those of the calendar.

mod alarm;
mod calendar;
mod divider;
mod format;
mod memory;
mod registers;
#[cfg(test)]
mod tests;
mod time;

use divider::Divider;
pub use time::read_out;

/// How many bytes there are.
pub const BYTES: usize = 128;

/// 24 hours, BCD: what a BIOS leaves in register B.
const DEFAULT_B: u8 = 0x02;

/// The state of the clock and its memory.
#[derive(Clone, Debug)]
pub struct Rtc {
    /// The index port: bit 7 disables NMIs.
    index: u8,
    /// Time, date and alarm as they were at `settled`, and the memory.
    bytes: [u8; BYTES],
    /// Registers A, ...
    divider: Divider,
    /// ... B, ...
    b: u8,
    /// ... and C, which has its bit 7 from the others.
    flags: u8,
    /// What everything here has come to.
    settled: u64,
}

impl Rtc {
    /// A clock that says `epoch_seconds` (seconds since 1970, UTC) when the VM starts, and whose
    /// memory is as a BIOS leaves it on a PC with so many bytes of RAM below and above 4 GiB.
    pub fn new(epoch_seconds: u64, below_4g: u64, above_4g: u64) -> Rtc {
        let mut rtc = Rtc {
            index: 0,
            bytes: memory::contents(below_4g, above_4g),
            divider: Divider::new(),
            b: DEFAULT_B,
            flags: 0,
            settled: 0,
        };
        rtc.start_at(epoch_seconds);
        rtc
    }

    /// The pin RESET: no interrupt is enabled or active. Time, date and memory stay.
    pub fn reset(&mut self, now: u64) {
        self.settle(now);
        self.b &= !(registers::PERIODIC | registers::ALARM | registers::UPDATE);
        self.flags = 0;
    }

    /// A read of the index port.
    pub fn read_index(&self) -> u8 {
        self.index
    }

    /// A write to the index port: which register the data port is.
    pub fn write_index(&mut self, value: u8) {
        self.index = value;
    }

    /// Whether bit 7 of the index port keeps NMIs from the CPU.
    pub fn nmi_disabled(&self) -> bool {
        self.index & 0x80 != 0
    }

    /// Whether the interrupt output, IRQ 8, is active.
    pub fn interrupt(&self, now: u64) -> bool {
        let enabled = self.enabled();
        enabled != 0 && (self.flags & enabled != 0 || self.passed(now).flags & enabled != 0)
    }

    /// When [`Rtc::interrupt`] next becomes true, if it is not and nobody writes; `None` if it stays
    /// as it is.
    #[inline(never)]
    pub fn due(&self, now: u64) -> Option<u64> {
        if self.enabled() == 0 || self.interrupt(now) {
            return None;
        }
        let now = now.max(self.settled);
        let on = |flag| self.enabled() & flag != 0;
        let periodic = on(registers::PERIODIC).then(|| self.divider.next_tick(now)).flatten();
        let second = self.divider.seconds(now);
        let in_seconds = |count| self.divider.time_of_second(second.checked_add(count)?);
        let updates = self.updates();
        let ended = (updates && on(registers::UPDATE)).then(|| in_seconds(1)).flatten();
        let alarm = if updates && on(registers::ALARM) { self.seconds_to_alarm(now) } else { None };
        let alarm = alarm.and_then(in_seconds);
        [periodic, ended, alarm].into_iter().flatten().min()
    }
}
