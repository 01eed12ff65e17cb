//! The board of a VM: the devices of its machine type beside the local APIC and the serial port, the
//! ports that lead to them, and the wires between them.
//!
//! The chips know neither ports nor each other. Time is in nanoseconds since the VM started. Nothing
//! happens by itself: [`Board::settle`] brings every wire up to date, after an access and at
//! [`Board::due`].

extern crate alloc;

mod pc;
#[cfg(test)]
mod tests;
mod ticks;

use super::ioapic::{IoApic, Message};
use super::power::{Effect, ReducedHardware};
use crate::vm::machine_type::MachineType;
use pc::Pc;

/// What nobody drives reads as ones.
const FLOATING: u32 = u32::MAX;

/// The ports of the timer and the clock of a PC, in a machine that has neither. There Linux waits for a
/// count to leave FFh, or for the update of a clock to end, for 100,000 reads and 20,000; at 0 it sees
/// at once that nothing counts.
const QUIET: [core::ops::RangeInclusive<u16>; 2] = [0x40..=0x43, 0x70..=0x71];

/// The devices of one VM.
#[derive(Debug)]
pub enum Board {
    /// Those of the machine type `minimal`.
    Minimal(ReducedHardware),
    /// Those of the machine type `pc`.
    Pc(alloc::boxed::Box<Pc>),
}

impl Board {
    /// The board after power-up, at `epoch` seconds since 1970, in a VM with this many bytes of RAM.
    pub fn new(machine: MachineType, epoch: u64, memory: u64) -> Board {
        match machine {
            MachineType::Minimal => Board::Minimal(ReducedHardware::new()),
            MachineType::Pc => Board::Pc(alloc::boxed::Box::new(Pc::new(epoch, memory))),
        }
    }

    /// Brings every device to its state after a reset at `now`. The clock goes on, and its RAM stays.
    pub fn reset(&mut self, now: u64) {
        match self {
            Board::Minimal(power) => *power = ReducedHardware::new(),
            Board::Pc(pc) => pc.reset(now),
        }
    }

    /// A read of 1, 2 or 4 bytes at a port; bits beyond them are of no meaning.
    pub fn read(&mut self, port: u16, size: u8, now: u64) -> u32 {
        match self {
            Board::Minimal(power) if ReducedHardware::PORTS.contains(&port) => {
                power.read(port, size)
            }
            Board::Minimal(_) if QUIET.iter().any(|ports| ports.contains(&port)) => 0,
            Board::Minimal(_) => FLOATING,
            Board::Pc(pc) => pc.read(port, size, now),
        }
    }

    /// A write of 1, 2 or 4 bytes at a port.
    pub fn write(&mut self, port: u16, size: u8, value: u32, now: u64) -> Effect {
        match self {
            Board::Minimal(power) if ReducedHardware::PORTS.contains(&port) => {
                power.write(port, size, value)
            }
            Board::Minimal(_) => Effect::None,
            Board::Pc(pc) => pc.write(port, size, value, now),
        }
    }

    /// Brings every wire up to `now`; `serial` is the level of the serial port's interrupt. The I/O
    /// APIC's messages are given to `deliver`.
    pub fn settle(&mut self, serial: bool, now: u64, deliver: &mut dyn FnMut(Message)) {
        if let Board::Pc(pc) = self {
            pc.settle(serial, now, deliver);
        }
    }

    /// When [`Board::settle`] must be called next if nothing is accessed until then: a time that may be
    /// in the past.
    pub fn due(&self, now: u64) -> Option<u64> {
        match self {
            Board::Minimal(_) => None,
            Board::Pc(pc) => pc.due(now),
        }
    }

    /// Whether the interrupt controllers ask for the CPU: the pin INTR.
    pub fn intr(&self) -> bool {
        matches!(self, Board::Pc(pc) if pc.pics.output())
    }

    /// The CPU takes an interrupt of the controllers; its vector. Without controllers it is that of a
    /// floating bus.
    pub fn acknowledge(&mut self) -> u8 {
        match self {
            Board::Minimal(_) => FLOATING as u8,
            Board::Pc(pc) => pc.pics.acknowledge(),
        }
    }

    /// Local APICs tell that an interrupt triggered by a level is over.
    pub fn end_of_interrupt(&mut self, vector: u8, deliver: &mut dyn FnMut(Message)) {
        if let Board::Pc(pc) = self {
            pc.io_apic.end_of_interrupt(vector).for_each(deliver);
        }
    }

    /// The I/O APIC, if there is one.
    pub fn io_apic(&mut self) -> Option<&mut IoApic> {
        match self {
            Board::Minimal(_) => None,
            Board::Pc(pc) => Some(&mut pc.io_apic),
        }
    }

    /// Whether a pin of the I/O APIC makes NMIs.
    pub fn makes_nmis(&self) -> bool {
        matches!(self, Board::Pc(pc) if pc.io_apic.makes_nmis())
    }

    /// Whether the serial port's interrupt is wired to anything.
    pub fn has_interrupts(&self) -> bool {
        matches!(self, Board::Pc(_))
    }
}
