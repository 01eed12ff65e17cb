//! What is left for software when the CPU virtualizes the APIC (SDM vol. 3, APIC Virtualization and
//! Virtual Interrupts).

use core::ops::Deref;

use super::page::offset::*;
use super::registers::{X2APIC_READ, XAPIC_WRITE};
use super::{ApicPage, Effect, MSR_X2APIC, Mode, Vectors, VirtualApic};

/// Whether the CPU may answer RDMSR of this x2APIC register from the page, under APIC-register
/// virtualization. The CPU itself would answer any of 800h to 8FFh; the MSR bitmap must intercept
/// the others: those that fault, and the timer's current count, which the page does not hold.
/// `delivery` says whether virtual-interrupt delivery, which keeps the processor priority, is on.
pub const fn msr_read_passes(msr: u32, delivery: bool) -> bool {
    let Some(index) = msr.checked_sub(*MSR_X2APIC.start()) else { return false };
    if index > 0x3f {
        return false;
    }
    let offset = (index as u16) << 4;
    match offset {
        TIMER_CURRENT => false,
        PPR => delivery,
        _ => X2APIC_READ.has(offset),
    }
}

/// Whether the CPU may carry out WRMSR to this x2APIC register, under "virtualize x2APIC mode":
/// the task priority always, EOI and self-IPI under virtual-interrupt delivery. The MSR bitmap must
/// intercept the others.
pub const fn msr_write_passes(msr: u32, delivery: bool) -> bool {
    match msr {
        0x808 => true,
        0x80b | 0x83f => delivery,
        _ => false,
    }
}

/// Whether a 32-bit read at this offset of the xAPIC page is answered by the CPU under APIC-register
/// virtualization; the others are APIC-access exits.
pub const fn register_read_passes(offset: u16) -> bool {
    !matches!(offset, PPR | TIMER_CURRENT)
        && (XAPIC_WRITE.has(offset) || X2APIC_READ.has(offset))
        && offset & 0xf == 0
}

impl<P: Deref<Target = ApicPage>> VirtualApic<P> {
    /// Requesting virtual interrupt: the highest vector that waits, 0 for none. The lower byte of
    /// the guest interrupt status, to be written when software has posted an interrupt.
    pub fn rvi(&self) -> u8 {
        self.page.top_of(Vectors::Irr).unwrap_or(0)
    }

    /// Servicing virtual interrupt: the highest vector in service, 0 for none. The upper byte of
    /// the guest interrupt status.
    pub fn svi(&self) -> u8 {
        self.page.highest(Vectors::Isr).unwrap_or(0)
    }

    /// Whether software has changed what waits or is in service since this was asked last: the CPU must be told.
    #[inline]
    pub fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// The vectors whose ends software wants to see, a bit for each: those triggered by a level.
    pub fn level_vectors(&self) -> [u64; 4] {
        [0u8, 2, 4, 6].map(|word| {
            let half = |word| u64::from(self.page.vectors(Vectors::Tmr, word));
            half(word.wrapping_add(1)) << 32 | half(word)
        })
    }

    /// Takes over from the CPU, which changes requests and services behind software's back: to be
    /// called before [`VirtualApic::deliverable`], [`VirtualApic::eoi`] and whatever may end an
    /// interrupt.
    pub fn resume_software(&mut self) {
        self.waiting = self.page.words(Vectors::Irr);
        self.serving = self.page.words(Vectors::Isr);
    }

    /// Whether the CPU can be left to it: while the guest has disabled the APIC by software, the
    /// CPU would still accept self-IPIs, which the APIC must then drop. A caller for whom this does
    /// not matter may ignore it.
    pub fn may_be_virtualized(&self) -> bool {
        self.enabled && self.mode() != Mode::Disabled
    }

    /// An APIC-write exit: the CPU has stored what the guest wrote at `offset` and has done nothing
    /// else. Repairs the register and does the rest.
    pub fn complete_write(&mut self, offset: u16, now: u64) -> Effect {
        let offset = offset & 0xff0;
        match (offset, self.mode()) {
            (_, Mode::Disabled) => Effect::None,
            (ID, _) => {
                self.show_id();
                Effect::None
            }
            (SELF_IPI, Mode::X2Apic) => self.store(offset, self.page.get(offset), now),
            (ICR_LOW, Mode::X2Apic) => {
                let destination = self.page.get(X2APIC_ICR_HIGH);
                self.send(self.page.get(ICR_LOW), destination, u32::MAX)
            }
            _ if XAPIC_WRITE.has(offset) => self.store(offset, self.page.get(offset), now),
            _ => Effect::None,
        }
    }

    /// An EOI-induced exit: the CPU has ended this interrupt, and the EOI-exit bitmap asks for word
    /// of it. Level-triggered vectors must be in that bitmap.
    pub fn eoi_exit(&mut self, vector: u8) -> Effect {
        Effect::Eoi { vector, broadcast: self.page.has(Vectors::Tmr, vector) }
    }

    /// The TPR threshold when the CPU keeps the task priority and nothing else ("use TPR shadow"
    /// without virtual-interrupt delivery): the guest exits when its priority class falls below
    /// it. 0 unless an interrupt waits that the task priority holds back.
    pub fn tpr_threshold(&self) -> u8 {
        let class = self.rvi() >> 4;
        if class > self.tpr() >> 4 { 0 } else { class }
    }
}
