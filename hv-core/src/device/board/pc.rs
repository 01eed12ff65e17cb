//! The board of the machine type `pc`: the chips of a PC of the last ISA years, with an I/O APIC.

use super::super::ioapic::{IoApic, Message};
use super::super::keyboard::{self, Keyboard};
use super::super::pic::{Pics, Register};
use super::super::pit::Pit;
use super::super::power::{self, Effect, FixedHardware, ResetControl, SystemControl, TIMER_WIDTH};
use super::super::rtc::Rtc;
use super::ticks::Ticks;

/// Where the lines of devices lead: an IRQ of the 8259 pair, and a pin of the I/O APIC.
#[derive(Clone, Copy)]
struct Line {
    irq: u8,
    pin: u8,
}

/// The PIT is on pin 2 of the I/O APIC, as the interrupt source override in the MADT says.
const TIMER: Line = Line { irq: 0, pin: 2 };
const KEYBOARD: Line = Line { irq: 1, pin: 1 };
const SERIAL: Line = Line { irq: 4, pin: 4 };
const CLOCK: Line = Line { irq: 8, pin: 8 };
const SCI: Line = Line { irq: FixedHardware::SCI, pin: FixedHardware::SCI };
const AUX: Line = Line { irq: 12, pin: 12 };

/// The chips.
#[derive(Debug)]
pub struct Pc {
    /// The pair of 8259A.
    pub pics: Pics,
    /// The I/O APIC.
    pub io_apic: IoApic,
    pit: Pit,
    ticks: Ticks,
    rtc: Rtc,
    keyboard: Keyboard,
    fixed: FixedHardware,
    reset: ResetControl,
    control: SystemControl,
}

impl Pc {
    /// The board after power-up.
    pub fn new(epoch: u64, memory: u64) -> Pc {
        Pc {
            pics: Pics::new(),
            io_apic: IoApic::new(),
            pit: Pit::new(),
            ticks: Ticks::default(),
            rtc: Rtc::new(epoch, memory, 0),
            keyboard: Keyboard::new(),
            fixed: FixedHardware::new(TIMER_WIDTH, 0),
            reset: ResetControl::new(),
            control: SystemControl::new(),
        }
    }

    /// Everything but the clock, which has a battery.
    pub fn reset(&mut self, now: u64) {
        self.pics = Pics::new();
        self.io_apic = IoApic::new();
        self.pit = Pit::new();
        self.ticks = Ticks::default();
        self.keyboard = Keyboard::new();
        self.fixed = FixedHardware::new(TIMER_WIDTH, now);
        self.reset = ResetControl::new();
        self.control = SystemControl::new();
        self.rtc.reset(now);
    }

    /// A read. Registers of a byte answer wider accesses byte by byte, as on the ISA bus.
    pub fn read(&mut self, port: u16, size: u8, now: u64) -> u32 {
        if FixedHardware::PORTS.contains(&port) {
            return self.fixed.read(port, size, now);
        }
        let mut bytes = [0xff; 4];
        for (byte, offset) in bytes.iter_mut().zip(0..u16::from(size)) {
            *byte = self.read_byte(port.wrapping_add(offset), now);
        }
        u32::from_le_bytes(bytes)
    }

    /// A write.
    pub fn write(&mut self, port: u16, size: u8, value: u32, now: u64) -> Effect {
        match port {
            _ if FixedHardware::PORTS.contains(&port) => self.fixed.write(port, size, value, now),
            power::EXIT => power::exit(value),
            // Wider accesses here are the start of PCI's configuration.
            ResetControl::PORT if size > 1 => Effect::None,
            _ => {
                let bytes = value.to_le_bytes().into_iter().zip(0..u16::from(size));
                bytes
                    .map(|(byte, offset)| self.write_byte(port.wrapping_add(offset), byte, now))
                    .fold(Effect::None, |all, one| if one == Effect::None { all } else { one })
            }
        }
    }

    fn read_byte(&mut self, port: u16, now: u64) -> u8 {
        match port {
            0x40..=0x43 => self.pit.read(port as u8, now),
            0x61 => self.pit.read_system_control(now),
            keyboard::DATA => self.keyboard.read(),
            keyboard::COMMAND => self.keyboard.status(),
            0x70 => self.rtc.read_index(),
            0x71 => self.rtc.read_data(now),
            SystemControl::PORT => self.control.read(),
            ResetControl::PORT => self.reset.read(),
            _ => pic_register(port).map_or(0xff, |register| self.pics.read(register)),
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now: u64) -> Effect {
        match port {
            0x40..=0x43 => {
                if port == 0x40 {
                    // With a new count the time that was missed is none of the timer's any more.
                    self.ticks = Ticks::default();
                }
                self.pit.write(port as u8, value, now);
            }
            0x61 => self.pit.write_system_control(value, now),
            keyboard::DATA => return self.keyboard.write(value),
            keyboard::COMMAND => return self.keyboard.command(value),
            0x70 => self.rtc.write_index(value),
            0x71 => self.rtc.write_data(value, now),
            SystemControl::PORT => return self.control.write(value),
            ResetControl::PORT => return self.reset.write(value),
            _ => {
                if let Some(register) = pic_register(port) {
                    self.pics.write(register, value);
                }
            }
        }
        Effect::None
    }

    /// Brings every line up to `now`.
    pub fn settle(&mut self, serial: bool, now: u64, deliver: &mut dyn FnMut(Message)) {
        let (rises, period) = (self.pit.rises(now), self.pit.period());
        if self.ticks.tick(rises, period, self.timer_is_heard(), now) {
            self.drive(TIMER, false, deliver);
            self.drive(TIMER, true, deliver);
        }
        let levels = [
            (TIMER, self.pit.output(0, now) || self.ticks.holds(now)),
            (KEYBOARD, self.keyboard.interrupt()),
            (SERIAL, serial),
            (CLOCK, self.rtc.interrupt(now)),
            (SCI, self.fixed.sci(now)),
            (AUX, self.keyboard.aux_interrupt()),
        ];
        for (line, level) in levels {
            self.drive(line, level, deliver);
        }
    }

    fn drive(&mut self, line: Line, level: bool, deliver: &mut dyn FnMut(Message)) {
        self.pics.set_line(line.irq, level);
        if let Some(message) = self.io_apic.set_pin(line.pin, level) {
            deliver(message);
        }
    }

    fn timer_is_heard(&self) -> bool {
        self.pics.listens_to_timer() || self.io_apic.listens(TIMER.pin)
    }

    /// When a line changes next by itself. A timer that nobody listens to is not waited for.
    pub fn due(&self, now: u64) -> Option<u64> {
        let timer = if self.timer_is_heard() { self.pit.next_rise(now) } else { None };
        [timer, self.ticks.due(), self.rtc.due(now), self.fixed.sci_due()]
            .into_iter()
            .flatten()
            .min()
    }
}

fn pic_register(port: u16) -> Option<Register> {
    Some(match port {
        0x20 => Register::MasterCommand,
        0x21 => Register::MasterData,
        0xa0 => Register::SlaveCommand,
        0xa1 => Register::SlaveData,
        0x4d0 => Register::MasterElcr,
        0x4d1 => Register::SlaveElcr,
        _ => return None,
    })
}
