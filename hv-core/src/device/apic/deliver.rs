//! Priorities, acceptance and end of interrupts, in software.

use core::ops::Deref;

use super::page::offset::{DFR, LDR, TPR};
use super::page::top;
use super::{
    ApicPage, DeliveryMode, Destination, Effect, Ipi, Mode, Trigger, Vectors, VirtualApic, icr,
};

const CLASS: u8 = 0xf0;

/// The highest vector in a set, of whose words `words` names those that may not be empty.
#[inline(always)]
fn highest(page: &ApicPage, set: Vectors, words: &mut u8) -> Option<u8> {
    while let Some(word) = words.checked_ilog2() {
        let word = word as u8;
        if let Some(vector) = top(word, page.vectors(set, word)) {
            return Some(vector);
        }
        *words &= !(1 << (word & 7));
    }
    None
}

/// Whether `vector` is all that is in a set, of whose words `words` names those that may not be empty.
fn is_all(page: &ApicPage, set: Vectors, words: u8, vector: u8) -> bool {
    let (own, bit) = (vector >> 5, 1u32 << (vector & 31));
    let mut others = words & !(1 << own);
    while let Some(word) = others.checked_ilog2() {
        if page.vectors(set, word as u8) != 0 {
            return false;
        }
        others &= !(1 << (word & 7));
    }
    page.vectors(set, own) == bit
}

/// Whether an IPI is for the APIC with these registers, in this mode and with this ID; `sender` says
/// whether that sent it.
pub fn is_addressed(page: &ApicPage, mode: Mode, id: u32, ipi: &Ipi, sender: bool) -> bool {
    match (ipi.destination, mode) {
        (_, Mode::Disabled) => false,
        (Destination::All, _) => true,
        (Destination::Others, _) => !sender,
        (Destination::Physical(to), _) => to == id,
        (Destination::Logical(to), Mode::X2Apic) => icr::x2apic_logical_match(page.get(LDR), to),
        (Destination::Logical(to), Mode::XApic) => {
            icr::xapic_logical_match(page.get(LDR), page.get(DFR), to)
        }
    }
}

impl<P: Deref<Target = ApicPage>> VirtualApic<P> {
    /// The task-priority register.
    #[inline]
    pub fn tpr(&self) -> u8 {
        self.page.get(TPR) as u8
    }

    /// What CR8 reads: the class of the task priority.
    #[inline]
    pub fn cr8(&self) -> u64 {
        u64::from(self.tpr() >> 4)
    }

    /// A write to CR8. The effect is [`Effect::Priority`].
    ///
    /// # Errors
    ///
    /// A bit above bit 3 is set.
    #[inline]
    pub fn write_cr8(&mut self, value: u64) -> Result<Effect, super::GeneralProtection> {
        match u32::try_from(value) {
            Ok(class @ 0..=15) => {
                self.page.set(TPR, class << 4);
                Ok(Effect::Priority)
            }
            _ => Err(super::GeneralProtection),
        }
    }

    /// The processor priority: the task's or that of the interrupt in service, whichever has the
    /// higher class.
    pub fn ppr(&self) -> u8 {
        self.priority_over(self.svi())
    }

    fn priority_over(&self, service: u8) -> u8 {
        let (tpr, service) = (self.tpr(), service & CLASS);
        if tpr & CLASS >= service { tpr } else { service }
    }

    /// The vector that the vCPU takes as soon as its RFLAGS.IF and its interruptibility allow.
    #[inline]
    pub fn deliverable(&mut self) -> Option<u8> {
        if self.waiting == 0 {
            return None;
        }
        let vector = highest(&self.page, Vectors::Irr, &mut self.waiting)?;
        let service = self.in_service().unwrap_or(0);
        (vector & CLASS > self.priority_over(service) & CLASS).then_some(vector)
    }

    /// The vCPU takes `vector`, which [`VirtualApic::deliverable`] named: it is now in service.
    pub fn acknowledge(&mut self, vector: u8) {
        self.page.remove(Vectors::Irr, vector);
        self.page.insert(Vectors::Isr, vector);
        self.serving |= 1 << (vector >> 5);
    }

    /// The interrupt of highest priority that is in service.
    #[inline(always)]
    pub(super) fn in_service(&mut self) -> Option<u8> {
        highest(&self.page, Vectors::Isr, &mut self.serving)
    }

    /// The guest ends the interrupt of highest priority that is in service, if there is one.
    #[inline]
    pub fn eoi(&mut self) -> Effect {
        let Some(vector) = self.in_service() else { return Effect::None };
        self.page.remove(Vectors::Isr, vector);
        self.changed = true;
        Effect::Eoi { vector, broadcast: self.page.has(Vectors::Tmr, vector) }
    }

    /// Whether the guest may signal the end of `vector`, in service, by a flag in memory that the
    /// hypervisor looks at later: it is the only one in service, nothing waits for its end, and
    /// nobody else wants to know of it. If an interrupt arrives meanwhile, the caller takes the
    /// flag back or looks at it then.
    pub fn eoi_may_wait(&mut self, vector: u8) -> bool {
        is_all(&self.page, Vectors::Isr, self.serving, vector)
            && highest(&self.page, Vectors::Irr, &mut self.waiting).is_none()
            && !self.page.has(Vectors::Tmr, vector)
    }

    /// Puts a vector into the IRR, without any check.
    pub(super) fn request(&mut self, vector: u8, trigger: Trigger) {
        match trigger {
            Trigger::Edge => self.page.remove(Vectors::Tmr, vector),
            Trigger::Level => self.page.insert(Vectors::Tmr, vector),
        }
        self.page.insert(Vectors::Irr, vector);
        self.waiting |= 1 << (vector >> 5);
    }

    /// Whether an IPI is for this APIC; `sender` says whether this APIC sent it.
    pub fn is_addressed(&self, ipi: &Ipi, sender: bool) -> bool {
        is_addressed(&self.page, self.mode(), self.config.id, ipi, sender)
    }

    /// Takes an IPI that is for this APIC: vectors are posted, unless the guest has disabled the
    /// APIC by software; the rest is left to the caller.
    pub fn accept(&mut self, ipi: &Ipi) -> Effect {
        match ipi.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                self.post(ipi.vector, Trigger::Edge)
            }
            DeliveryMode::Nmi => Effect::Nmi,
            DeliveryMode::Init => Effect::Init,
            DeliveryMode::Startup => Effect::Startup(ipi.vector),
            DeliveryMode::Smi | DeliveryMode::ExtInt | DeliveryMode::Reserved => Effect::None,
        }
    }
}
