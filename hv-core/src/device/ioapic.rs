//! An I/O APIC as the guest sees it (Intel, 82093AA I/O Advanced Programmable Interrupt Controller
//! data sheet), with the EOI register that came with version 20h (Intel, I/O Controller Hub data
//! sheet, Advanced Programmable Interrupt Controller).
//!
//! Registers are 32 bits wide. A narrower access reads the low bits of the register at its offset,
//! and writes it zero-extended: the chip takes those for IOREGSEL, and leaves them open for the rest.
//! Every other offset reads 0 and takes no writes.
//!
//! Messages arrive at once, and so delivery status is always idle. A level that is sent counts as
//! accepted: remote IRR is set until the end of its vector.

use core::ops::Deref;

use super::apic::{ApicPage, DeliveryMode, Destination, Effect, Ipi, Trigger, VirtualApic};

#[cfg(test)]
mod tests;

/// Guest-physical address of the registers.
pub const DEFAULT_BASE: u64 = 0xfec0_0000;
/// How many interrupt inputs there are.
pub const PINS: u8 = 24;

const IOREGSEL: u16 = 0x00;
const IOWIN: u16 = 0x10;
const EOI: u16 = 0x40;

const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const TABLE: u8 = 0x10;

const ID_WRITABLE: u32 = 0x0f00_0000;
const VERSION_VALUE: u32 = (PINS as u32 - 1) << 16 | 0x20;

const LOGICAL: u64 = 1 << 11;
const ACTIVE_LOW: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// All but delivery status, remote IRR and what is reserved.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// Pins that nobody drives: on a PC those from 16 up are for PCI, and pulled up.
const IDLE: u32 = 0x00ff_0000;

/// An interrupt message on its way to the local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The APIC ID, or the logical destination; FFh for everybody.
    pub destination: u8,
    /// Whether the destination is a logical one.
    pub logical: bool,
    /// What is delivered; neither [`DeliveryMode::Startup`] nor [`DeliveryMode::Reserved`].
    pub mode: DeliveryMode,
    /// The vector.
    pub vector: u8,
    /// How it was triggered.
    pub trigger: Trigger,
}

impl Message {
    /// The message of an entry of the redirection table, if its delivery mode has a meaning.
    fn of(entry: u64) -> Option<Message> {
        let mode = DeliveryMode::of(entry as u32);
        (!matches!(mode, DeliveryMode::Startup | DeliveryMode::Reserved)).then_some(Message {
            destination: (entry >> 56) as u8,
            logical: entry & LOGICAL != 0,
            mode,
            vector: entry as u8,
            trigger: trigger(entry),
        })
    }

    /// As an IPI, which [`VirtualApic::is_addressed`] takes. It does not know the trigger:
    /// [`Message::deliver`] is for that.
    pub fn ipi(self) -> Ipi {
        let destination = match (self.destination, self.logical) {
            (0xff, _) => Destination::All,
            (id, true) => Destination::Logical(id.into()),
            (id, false) => Destination::Physical(id.into()),
        };
        Ipi { vector: self.vector, mode: self.mode, destination }
    }

    /// Gives it to an APIC that it is for: [`VirtualApic::accept`] with a trigger.
    pub fn deliver<P: Deref<Target = ApicPage>>(self, apic: &mut VirtualApic<P>) -> Effect {
        match self.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                apic.post(self.vector, self.trigger)
            }
            DeliveryMode::ExtInt => Effect::ExtInt,
            _ => apic.accept(&self.ipi()),
        }
    }
}

/// How an entry is triggered. The modes without a vector of their own are for edges, whatever bit 15
/// says.
fn trigger(entry: u64) -> Trigger {
    let vectored = matches!(
        DeliveryMode::of(entry as u32),
        DeliveryMode::Fixed | DeliveryMode::LowestPriority
    );
    if vectored && entry & LEVEL != 0 { Trigger::Level } else { Trigger::Edge }
}

/// The messages that a call has caused, at most one for each pin.
#[derive(Clone, Debug)]
#[must_use]
pub struct Messages<'a> {
    io_apic: &'a IoApic,
    pins: u32,
}

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let pin = self.pins.trailing_zeros();
        // Takes the lowest bit away, and leaves 0 as it is.
        self.pins &= self.pins.wrapping_sub(1);
        self.io_apic.table.get(pin as usize).and_then(|&entry| Message::of(entry))
    }
}

/// The state of an I/O APIC.
#[derive(Clone, Debug)]
pub struct IoApic {
    select: u8,
    id: u32,
    table: [u64; PINS as usize],
    /// What each pin is at, a bit for each: 1 is high.
    pins: u32,
}

impl IoApic {
    /// An I/O APIC after reset: every pin masked.
    pub const fn new() -> IoApic {
        IoApic { select: 0, id: 0, table: [MASKED; PINS as usize], pins: IDLE }
    }

    /// A read of 32 bits at `offset`.
    pub fn read(&self, offset: u16) -> u32 {
        match offset {
            IOREGSEL => self.select.into(),
            IOWIN => self.read_selected(),
            _ => 0,
        }
    }

    /// A write of 32 bits at `offset`.
    pub fn write(&mut self, offset: u16, value: u32) -> Messages<'_> {
        let pins = match offset {
            IOREGSEL => {
                self.select = value as u8;
                0
            }
            IOWIN => self.write_selected(value),
            EOI => self.end(value as u8),
            _ => 0,
        };
        Messages { io_apic: self, pins }
    }

    /// Whether an edge on this pin is sent.
    pub fn listens(&self, pin: u8) -> bool {
        self.table.get(usize::from(pin)).is_some_and(|entry| entry & MASKED == 0)
    }

    /// Whether an edge on any pin is sent as an NMI.
    pub fn makes_nmis(&self) -> bool {
        let makes = |&entry: &u64| {
            entry & MASKED == 0 && DeliveryMode::of(entry as u32) == DeliveryMode::Nmi
        };
        self.table.iter().any(makes)
    }

    /// The input `pin` is now high or low. Which of the two is active, the guest programs; a source
    /// on an ISA interrupt is high when it has one. A pin that does not exist is ignored.
    #[must_use]
    pub fn set_pin(&mut self, pin: u8, high: bool) -> Option<Message> {
        let entry = *self.table.get(usize::from(pin))?;
        let before = self.active(pin, entry);
        let bit = bit(pin);
        self.pins = if high { self.pins | bit } else { self.pins & !bit };
        match trigger(entry) {
            Trigger::Level => self.offer(pin),
            Trigger::Edge if before || entry & MASKED != 0 => None,
            Trigger::Edge => self.active(pin, entry).then(|| Message::of(entry)).flatten(),
        }
    }

    /// A local APIC has broadcast the end of an interrupt: [`Effect::Eoi`]. Levels that still hold
    /// are sent again.
    pub fn end_of_interrupt(&mut self, vector: u8) -> Messages<'_> {
        let pins = self.end(vector);
        Messages { io_apic: self, pins }
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            // The chip loads the arbitration ID with the ID.
            ID | ARBITRATION => self.id,
            VERSION => VERSION_VALUE,
            _ => {
                let (pin, upper) = self.selected_entry();
                let entry = self.table.get(usize::from(pin)).copied().unwrap_or(0);
                if upper { (entry >> 32) as u32 } else { entry as u32 }
            }
        }
    }

    /// The pins that now send.
    fn write_selected(&mut self, value: u32) -> u32 {
        if self.select == ID {
            self.id = value & ID_WRITABLE;
        }
        let (pin, upper) = self.selected_entry();
        let Some(entry) = self.table.get_mut(usize::from(pin)) else { return 0 };
        let value = u64::from(value);
        let writable = if upper { WRITABLE & !0xffff_ffff } else { WRITABLE & 0xffff_ffff };
        let value = if upper { value << 32 } else { value };
        *entry = *entry & !writable | value & writable;
        // Only levels have a remote IRR. Guests clear one that is stuck by going through edge.
        if trigger(*entry) == Trigger::Edge {
            *entry &= !REMOTE_IRR;
        }
        if self.offer(pin).is_some() { bit(pin) } else { 0 }
    }

    /// The entry that is selected, if it is one that exists, and whether its upper half is.
    fn selected_entry(&self) -> (u8, bool) {
        let index = self.select.checked_sub(TABLE).unwrap_or(u8::MAX);
        (index >> 1, index & 1 != 0)
    }

    fn end(&mut self, vector: u8) -> u32 {
        let mut sent = 0;
        for pin in 0..PINS {
            let Some(entry) = self.table.get_mut(usize::from(pin)) else { continue };
            if *entry & REMOTE_IRR != 0 && *entry as u8 == vector {
                *entry &= !REMOTE_IRR;
                if self.offer(pin).is_some() {
                    sent |= bit(pin);
                }
            }
        }
        sent
    }

    fn active(&self, pin: u8, entry: u64) -> bool {
        (self.pins & bit(pin) != 0) != (entry & ACTIVE_LOW != 0)
    }

    /// Sends a level that is active, unless it is masked or has been sent and not ended.
    fn offer(&mut self, pin: u8) -> Option<Message> {
        let entry = *self.table.get(usize::from(pin))?;
        let held = entry & (MASKED | REMOTE_IRR) != 0;
        if trigger(entry) == Trigger::Edge || held || !self.active(pin, entry) {
            return None;
        }
        if let Some(slot) = self.table.get_mut(usize::from(pin)) {
            *slot |= REMOTE_IRR;
        }
        Message::of(entry)
    }
}

impl Default for IoApic {
    fn default() -> IoApic {
        IoApic::new()
    }
}

fn bit(pin: u8) -> u32 {
    1u32.wrapping_shl(pin.into())
}
