//! Where interrupts come from: messages, the local vector table, the ICR, and errors.

use core::ops::Deref;

use super::page::offset::{ICR_LOW, LVT_ERROR, LVT_LINT0, LVT_PMC};
use super::registers::MASKED;
use super::{ApicPage, DeliveryMode, Effect, LocalInterrupt, Mode, Trigger, VirtualApic, icr};

/// Bits of the ESR.
const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
const RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
pub(super) const ILLEGAL_REGISTER: u32 = 1 << 7;

/// Vectors below this one are not for interrupts of an APIC.
pub(super) const FIRST_VECTOR: u8 = 16;

impl<P: Deref<Target = ApicPage>> VirtualApic<P> {
    /// A write to the ICR's lower half, with the destination from its upper one.
    pub(super) fn send(&mut self, low: u32, destination: u32, everybody: u32) -> Effect {
        let low = low & icr::WRITABLE;
        self.page.set(ICR_LOW, low);
        match icr::command(low, destination, everybody) {
            icr::Command::Nothing => Effect::None,
            icr::Command::ToSelf(vector) => self.send_to_self(vector),
            icr::Command::Send(ipi) => {
                let vectored =
                    matches!(ipi.mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
                if vectored && ipi.vector < FIRST_VECTOR {
                    return self.error(SEND_ILLEGAL_VECTOR);
                }
                Effect::Ipi(ipi)
            }
        }
    }

    /// A self-IPI with an illegal vector counts as sent and as received.
    pub(super) fn send_to_self(&mut self, vector: u8) -> Effect {
        if vector < FIRST_VECTOR {
            return self.error(SEND_ILLEGAL_VECTOR | RECEIVE_ILLEGAL_VECTOR);
        }
        self.post(vector, Trigger::Edge)
    }

    /// An interrupt from a source that has an entry in the local vector table.
    #[inline(always)]
    pub fn raise(&mut self, source: LocalInterrupt) -> Effect {
        let entry = self.page.get(source.offset());
        if self.mode() == Mode::Disabled || entry & MASKED != 0 {
            return Effect::None;
        }
        if source == LocalInterrupt::Performance {
            self.page.set(LVT_PMC, entry | MASKED);
        }
        match DeliveryMode::of(entry) {
            DeliveryMode::Fixed => self.post_at_once(entry as u8, Trigger::Edge),
            DeliveryMode::Nmi => Effect::Nmi,
            DeliveryMode::Init => Effect::Init,
            DeliveryMode::ExtInt => Effect::ExtInt,
            _ => Effect::None,
        }
    }

    /// Whether the vCPU takes interrupts of an external controller, which are wired to LINT0: where
    /// the APIC is disabled the pin is the CPU's own INTR (SDM vol. 3, Local APIC State After It Has
    /// Been Software Disabled; Enabling or Disabling the Local APIC).
    pub fn passes_extint(&self) -> bool {
        let entry = self.page.get(LVT_LINT0);
        self.mode() == Mode::Disabled
            || entry & MASKED == 0 && DeliveryMode::of(entry) == DeliveryMode::ExtInt
    }

    /// An interrupt message arrives for this APIC.
    #[inline(never)]
    pub fn post(&mut self, vector: u8, trigger: Trigger) -> Effect {
        self.post_at_once(vector, trigger)
    }

    /// The same, with no call: the interrupt of the timer is on the way from a halt to the guest.
    #[inline(always)]
    fn post_at_once(&mut self, vector: u8, trigger: Trigger) -> Effect {
        if self.mode() == Mode::Disabled || !self.enabled {
            return Effect::None;
        }
        if vector < FIRST_VECTOR {
            return self.error(RECEIVE_ILLEGAL_VECTOR);
        }
        self.request(vector, trigger);
        self.changed = true;
        Effect::Posted(vector)
    }

    /// Logs an error. Its interrupt comes once until the guest writes to the ESR.
    #[cold]
    #[inline(never)]
    pub(super) fn error(&mut self, error: u32) -> Effect {
        let armed = self.errors == 0;
        self.errors |= error;
        let entry = self.page.get(LVT_ERROR);
        if !armed || entry & MASKED != 0 || !self.enabled {
            return Effect::None;
        }
        // Not `raise`: an illegal vector in this entry is one more error, not an endless chain.
        if (entry as u8) < FIRST_VECTOR {
            self.errors |= RECEIVE_ILLEGAL_VECTOR;
            return Effect::None;
        }
        self.request(entry as u8, Trigger::Edge);
        self.changed = true;
        Effect::Posted(entry as u8)
    }
}
