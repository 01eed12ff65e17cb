//! The fixed hardware of ACPI (ACPI specification, ACPI Hardware Specification, Fixed Hardware): PM1
//! event block, PM1 control block and PM timer.
//!
//! ACPI mode is always on: SCI_EN reads 1, and there is no SMI command port. Of the events only the
//! carry of the timer comes. The enable bits of the others are kept, because operating systems read
//! back what they enable; their status bits read 0. The power button and the RTC's alarm are absent,
//! which the FADT says.

use core::ops::RangeInclusive;

use super::{Effect, TimerWidth, read_bytes, sleep, write_bytes};

const STATUS: u16 = 0x600;
const CONTROL: u16 = 0x604;
const TIMER: u16 = 0x608;

const TIMER_CARRY: u8 = 1 << 0;
const BUS_MASTER_RELOAD: u8 = 1 << 1;
const SCI_ENABLED: u8 = 1 << 0;
const SLEEP_TYPE: u8 = 0x1c;

/// TMR_EN and GBL_EN.
const ENABLES_LOW: u8 = 1 << 5 | TIMER_CARRY;
/// PWRBTN_EN, SLPBTN_EN and RTC_EN.
const ENABLES_HIGH: u8 = 0x07;

/// The fixed hardware.
#[derive(Clone, Debug)]
pub struct FixedHardware {
    width: TimerWidth,
    enable: [u8; 2],
    control: [u8; 2],
    /// Changes of the timer's highest bit that software has cleared the status of.
    cleared: u64,
}

impl FixedHardware {
    /// All of its ports. Those between the registers read 0.
    pub const PORTS: RangeInclusive<u16> = STATUS..=0x60b;
    /// PM1a event block: 4 bytes, status and enable.
    pub const PM1_EVENT: u16 = STATUS;
    /// PM1a control block: 2 bytes.
    pub const PM1_CONTROL: u16 = CONTROL;
    /// PM timer: 4 bytes.
    pub const PM_TIMER: u16 = TIMER;
    /// The interrupt that SCI is on a PC: level-triggered, active high.
    pub const SCI: u8 = 9;

    /// The fixed hardware after a reset at `now`, which the timer does not notice.
    pub const fn new(width: TimerWidth, now: u64) -> FixedHardware {
        FixedHardware { width, enable: [0; 2], control: [0; 2], cleared: width.carries(now) }
    }

    /// A read of `size` bytes at `port`.
    pub fn read(&self, port: u16, size: u8, now: u64) -> u32 {
        read_bytes(port, size, |port| self.read_byte(port, now))
    }

    /// A write of `size` bytes at `port`.
    pub fn write(&mut self, port: u16, size: u8, value: u32, now: u64) -> Effect {
        write_bytes(port, size, value, |port, value| self.write_byte(port, value, now))
    }

    /// Whether the system control interrupt is active.
    pub fn sci(&self, now: u64) -> bool {
        self.status(now) & self.enabled() != 0
    }

    /// When the system control interrupt becomes active if nothing is written until then: a time that
    /// may be in the past.
    pub fn sci_due(&self) -> Option<u64> {
        let next = self.cleared.wrapping_add(1);
        (self.enabled() & TIMER_CARRY != 0).then(|| self.width.carry(next))
    }

    fn enabled(&self) -> u8 {
        let [low, _] = self.enable;
        low
    }

    fn status(&self, now: u64) -> u8 {
        if self.width.carries(now) > self.cleared { TIMER_CARRY } else { 0 }
    }

    fn read_byte(&self, port: u16, now: u64) -> u8 {
        let [enable_low, enable_high] = self.enable;
        let [control_low, control_high] = self.control;
        let timer = self.width.value(now).to_le_bytes();
        let (status, control_low) = (self.status(now), control_low | SCI_ENABLED);
        let events = [status, 0, enable_low, enable_high];
        let registers = [events, [control_low, control_high, 0, 0], timer];
        let offset = usize::from(port.wrapping_sub(STATUS));
        registers.as_flattened().get(offset).copied().unwrap_or(0)
    }

    fn write_byte(&mut self, port: u16, value: u8, now: u64) -> Effect {
        let ([enable_low, enable_high], [control_low, control_high]) =
            (&mut self.enable, &mut self.control);
        match port.checked_sub(STATUS) {
            // Status bits are cleared by writing 1.
            Some(0) if value & TIMER_CARRY != 0 => {
                self.cleared = self.width.carries(now);
                return Effect::Sci;
            }
            Some(2) => {
                *enable_low = value & ENABLES_LOW;
                return Effect::Sci;
            }
            Some(3) => *enable_high = value & ENABLES_HIGH,
            // GBL_RLS is for a BIOS, which is not there.
            Some(4) => *control_low = value & BUS_MASTER_RELOAD,
            Some(5) => {
                *control_high = value & SLEEP_TYPE;
                return sleep(value);
            }
            _ => {}
        }
        Effect::None
    }
}
