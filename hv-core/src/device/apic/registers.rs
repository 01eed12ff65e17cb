//! The registers: which there are, which bits of them can be written, and what a write does. Both
//! modes, and the CPU's own writes to the page, end here.

use core::ops::Deref;

use super::page::offset::*;
use super::{ApicPage, Effect, VirtualApic, icr};

/// Version 15h, highest LVT entry 5 (no CMCI), no EOI-broadcast suppression.
pub(super) const VERSION_VALUE: u32 = 5 << 16 | 0x15;

pub(super) const MASKED: u32 = 1 << 16;
const SVR_ENABLE: u32 = 1 << 8;

/// The sources of interrupts that have an entry in the local vector table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum LocalInterrupt {
    /// The APIC timer.
    Timer = LVT_TIMER,
    /// The thermal sensor.
    Thermal = LVT_THERMAL,
    /// A performance counter overflowed.
    Performance = LVT_PMC,
    /// Pin LINT0.
    Lint0 = LVT_LINT0,
    /// Pin LINT1.
    Lint1 = LVT_LINT1,
    /// An error of the APIC itself.
    Error = LVT_ERROR,
}

impl LocalInterrupt {
    pub(super) const ALL: [LocalInterrupt; 6] = [
        LocalInterrupt::Timer,
        LocalInterrupt::Thermal,
        LocalInterrupt::Performance,
        LocalInterrupt::Lint0,
        LocalInterrupt::Lint1,
        LocalInterrupt::Error,
    ];

    pub(super) const fn offset(self) -> u16 {
        self as u16
    }

    fn at(offset: u16) -> Option<LocalInterrupt> {
        LocalInterrupt::ALL.into_iter().find(|lvt| lvt.offset() == offset)
    }

    const fn writable(self) -> u32 {
        match self {
            LocalInterrupt::Timer => 0x0007_00ff,
            LocalInterrupt::Error => 0x0001_00ff,
            LocalInterrupt::Thermal | LocalInterrupt::Performance => 0x0001_07ff,
            LocalInterrupt::Lint0 | LocalInterrupt::Lint1 => 0x0001_a7ff,
        }
    }

    /// Delivery status, and for the pins remote IRR: what is written to them is ignored.
    const fn read_only(self) -> u32 {
        match self {
            LocalInterrupt::Lint0 | LocalInterrupt::Lint1 => 1 << 14 | 1 << 12,
            _ => 1 << 12,
        }
    }
}

/// A set of registers, a bit for each 16 bytes of the page.
#[derive(Clone, Copy)]
pub(super) struct Set(u64);

impl Set {
    const fn of(offsets: &[u16]) -> Set {
        let mut set = 0;
        let mut rest = offsets;
        while let [first, tail @ ..] = rest {
            set |= 1 << (*first >> 4);
            rest = tail;
        }
        Set(set)
    }

    const fn and(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub(super) const fn has(self, offset: u16) -> bool {
        offset < 0x400 && self.0 >> (offset >> 4) & 1 != 0
    }
}

/// Registers that both modes read and write.
const COMMON: Set = Set::of(&[
    TPR,
    SVR,
    ESR,
    ICR_LOW,
    LVT_TIMER,
    LVT_THERMAL,
    LVT_PMC,
    LVT_LINT0,
    LVT_LINT1,
    LVT_ERROR,
    TIMER_INITIAL,
    TIMER_DIVIDE,
]);
/// ISR, TMR and IRR: slots 10h to 27h.
const VECTOR_SETS: Set = Set(0x0000_00ff_ffff_0000);
/// Registers that both modes only read.
const READ_ONLY: Set = VECTOR_SETS.and(Set::of(&[ID, VERSION, PPR, LDR, TIMER_CURRENT]));

pub(super) const X2APIC_READ: Set = COMMON.and(READ_ONLY);
pub(super) const X2APIC_WRITE: Set = COMMON.and(Set::of(&[EOI, SELF_IPI]));
pub(super) const XAPIC_WRITE: Set = COMMON.and(Set::of(&[EOI, LDR, DFR, ICR_HIGH]));
pub(super) const XAPIC_EXISTS: Set = XAPIC_WRITE.and(READ_ONLY).and(Set::of(&[APR, RRD]));

/// The bits of `value` that a WRMSR to this register must not set.
pub(super) fn x2apic_reserved(offset: u16) -> u64 {
    let allowed = match (offset, LocalInterrupt::at(offset)) {
        (_, Some(lvt)) => lvt.writable() | lvt.read_only(),
        (TPR | SELF_IPI, _) => 0xff,
        (SVR, _) => SVR_WRITABLE,
        (TIMER_INITIAL, _) => u32::MAX,
        (TIMER_DIVIDE, _) => 0xb,
        (ICR_LOW, _) => return icr::RESERVED.into(),
        _ => 0,
    };
    !u64::from(allowed)
}

const SVR_WRITABLE: u32 = 0x3ff;

impl<P: Deref<Target = ApicPage>> VirtualApic<P> {
    /// What the guest reads from a register that exists.
    pub(super) fn load(&self, offset: u16, now: u64) -> u32 {
        match offset {
            PPR => self.ppr().into(),
            TIMER_CURRENT => self.timer.current(now),
            _ => self.page.get(offset),
        }
    }

    /// A write to a register that exists in the current mode. The page may hold `value` already.
    pub(super) fn store(&mut self, offset: u16, value: u32, now: u64) -> Effect {
        if let Some(lvt) = LocalInterrupt::at(offset) {
            return self.store_lvt(lvt, value, now);
        }
        match offset {
            TPR => {
                self.page.set(TPR, value & 0xff);
                Effect::Priority
            }
            EOI => {
                self.page.set(EOI, 0);
                self.eoi()
            }
            LDR => self.keep(LDR, value & 0xff00_0000),
            DFR => self.keep(DFR, value | 0x0fff_ffff),
            SVR => self.store_svr(value & SVR_WRITABLE),
            ESR => {
                let errors = core::mem::take(&mut self.errors);
                self.keep(ESR, errors)
            }
            ICR_HIGH => self.keep(ICR_HIGH, value & 0xff00_0000),
            ICR_LOW => {
                let high = self.page.get(ICR_HIGH);
                self.send(value, high >> 24, 0xff)
            }
            TIMER_INITIAL => {
                self.timer_writes = self.timer_writes.wrapping_add(1);
                let fired = self.advance(now);
                self.timer.set_initial(value, now);
                self.page.set(TIMER_INITIAL, self.timer.initial());
                first(fired, Effect::Timer)
            }
            TIMER_DIVIDE => {
                let fired = self.advance(now);
                self.timer.set_divide(value, now);
                self.page.set(TIMER_DIVIDE, value & 0xb);
                first(fired, Effect::Timer)
            }
            SELF_IPI => self.send_to_self(value as u8),
            _ => Effect::None,
        }
    }

    fn keep(&self, offset: u16, value: u32) -> Effect {
        self.page.set(offset, value);
        Effect::None
    }

    fn store_lvt(&mut self, lvt: LocalInterrupt, value: u32, now: u64) -> Effect {
        // While the APIC is disabled by software the masks cannot be cleared.
        let forced = if self.enabled { 0 } else { MASKED };
        let value = value & lvt.writable() | forced;
        if lvt != LocalInterrupt::Timer {
            return self.keep(lvt.offset(), value);
        }
        // What is due by now was due under the old entry.
        let fired = self.advance(now);
        self.timer.set_lvt(value);
        self.page.set(LVT_TIMER, value);
        self.page.set(TIMER_INITIAL, self.timer.initial());
        first(fired, Effect::Timer)
    }

    fn store_svr(&mut self, value: u32) -> Effect {
        self.page.set(SVR, value);
        let enabled = value & SVR_ENABLE != 0;
        if !enabled {
            for lvt in LocalInterrupt::ALL {
                self.page.set(lvt.offset(), self.page.get(lvt.offset()) | MASKED);
            }
            self.timer.set_lvt(self.timer.lvt() | MASKED);
        }
        let changed = self.enabled != enabled;
        self.enabled = enabled;
        if changed { Effect::Mode } else { Effect::None }
    }
}

/// The first of two effects that is not nothing. A caller that is told of a posted interrupt looks
/// at the timer as well.
fn first(a: Effect, b: Effect) -> Effect {
    if a == Effect::None { b } else { a }
}
