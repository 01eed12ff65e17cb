//! The local APIC of a vCPU (SDM vol. 3, Advanced Programmable Interrupt Controller).
//!
//! [`VirtualApic`] is state and rules only. It works in one of two ways, and the guest sees the same
//! in both:
//!
//! - **in software**: every access of the guest comes here ([`VirtualApic::mmio_write`],
//!   [`VirtualApic::msr_write`], ...). Before an entry the caller asks
//!   [`VirtualApic::deliverable`] and, when it injects that vector, calls
//!   [`VirtualApic::acknowledge`];
//! - **with APIC virtualization**: the page is the CPU's virtual-APIC page. The CPU evaluates
//!   priorities, delivers and ends interrupts; what it leaves to software comes as
//!   [`VirtualApic::complete_write`] and [`VirtualApic::eoi_exit`], and software's part of the guest
//!   interrupt status is [`VirtualApic::rvi`] and [`VirtualApic::svi`].
//!
//! Time is the guest's TSC, given with each call as `now`. Nothing happens by itself: the caller
//! arranges to call [`VirtualApic::advance`] at [`VirtualApic::timer_due`].
//!
//! What is not there: CMCI, extended LVT entries, EOI-broadcast suppression, SMM, the arbitration
//! and remote-read registers (they read 0). IPIs arrive at once, so delivery status is always idle.

mod base;
mod deliver;
mod frequent;
mod icr;
mod msr;
mod page;
mod registers;
mod source;
#[cfg(test)]
mod tests;
mod timer;
mod virtualized;

use core::ops::Deref;

pub use base::Mode;
pub use deliver::is_addressed;
pub use icr::{DeliveryMode, Destination, Ipi};
pub use page::{ApicPage, Vectors, offset};
pub use registers::LocalInterrupt;
pub use timer::TimerRatio;
pub use virtualized::{msr_read_passes, msr_write_passes, register_read_passes};

use timer::Timer;

/// Guest-physical address of the registers after reset, in xAPIC mode.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;
/// The number of the IA32_APIC_BASE MSR.
pub const MSR_APIC_BASE: u32 = 0x1b;
/// The number of the IA32_TSC_DEADLINE MSR.
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// The x2APIC registers' MSRs.
pub const MSR_X2APIC: core::ops::RangeInclusive<u32> = 0x800..=0x8ff;

/// What is left for the caller to do after an access or an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// A priority changed: an interrupt that was held back may now be [`VirtualApic::deliverable`],
    /// or the other way round.
    Priority,
    /// [`VirtualApic::timer_due`] may have changed.
    Timer,
    /// This vector now waits in this vCPU's own IRR. It may be the timer's own, so that
    /// [`VirtualApic::timer_due`] may have changed as well.
    Posted(u8),
    /// An interprocessor interrupt is to be handed round: see [`Ipi`].
    Ipi(Ipi),
    /// This vCPU takes an NMI.
    Nmi,
    /// This vCPU takes an INIT; the caller then calls [`VirtualApic::init`].
    Init,
    /// This vCPU takes a start-up IPI with this vector, if it waits for one.
    Startup(u8),
    /// This vCPU takes the vector of an external interrupt controller.
    ExtInt,
    /// The interrupt with this vector is over; priorities changed as well.
    Eoi {
        /// Its vector.
        vector: u8,
        /// It was level-triggered: the I/O APICs are to be told.
        broadcast: bool,
    },
    /// [`VirtualApic::mode`], [`VirtualApic::base_address`] or
    /// [`VirtualApic::may_be_virtualized`] changed.
    Mode,
}

/// The guest's access is illegal: inject #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

/// How an interrupt is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By an edge.
    Edge,
    /// By a level: its end is broadcast ([`Effect::Eoi`]).
    Level,
}

/// What does not change while the VM exists.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The APIC ID.
    pub id: u32,
    /// Whether this is the bootstrap processor: bit 8 of IA32_APIC_BASE.
    pub bootstrap: bool,
    /// Physical-address bits of the vCPU: which bits of IA32_APIC_BASE are reserved.
    pub physical_bits: u8,
    /// How fast the timer counts.
    pub timer: TimerRatio,
    /// A periodic timer interrupts no more often than once in this many TSC ticks: with a period that is over
    /// before the guest is entered again it would execute nothing.
    pub shortest_period: u64,
}

/// The local APIC of one vCPU. `P` is where its registers are: `&ApicPage`, or a box.
#[derive(Debug)]
pub struct VirtualApic<P> {
    page: P,
    config: Config,
    base: u64,
    timer: Timer,
    /// Errors since the last write to the ESR, which then shows them.
    errors: u32,
    /// Bit 8 of the SVR.
    enabled: bool,
    /// Writes of the guest that started or moved the timer.
    timer_writes: u64,
    /// A bit for each word of the IRR that may not be empty, so that the common question, whether
    /// anything waits, is one test. Where the CPU delivers interrupts it says nothing:
    /// [`VirtualApic::resume_software`].
    waiting: u8,
    /// The same for the ISR.
    serving: u8,
    /// Software has changed the IRR or the ISR since [`VirtualApic::take_changed`].
    changed: bool,
}

impl<P: Deref<Target = ApicPage>> VirtualApic<P> {
    /// An APIC in the state after power-up: xAPIC mode, disabled by software.
    pub fn new(page: P, config: Config) -> VirtualApic<P> {
        let mut apic = VirtualApic {
            page,
            base: 0,
            config,
            timer: Timer::new(config.timer, config.shortest_period),
            errors: 0,
            enabled: false,
            timer_writes: 0,
            waiting: 0,
            serving: 0,
            changed: true,
        };
        apic.power_up();
        apic
    }

    /// Brings it to the state after power-up: the default base, xAPIC mode.
    pub fn power_up(&mut self) {
        let bootstrap = if self.config.bootstrap { base::BOOTSTRAP } else { 0 };
        self.base = DEFAULT_BASE | base::ENABLE | bootstrap;
        self.init();
    }

    /// The registers.
    pub fn page(&self) -> &ApicPage {
        &self.page
    }

    /// The APIC ID.
    pub fn id(&self) -> u32 {
        self.config.id
    }

    /// Brings the registers to their state after INIT, which keeps the ID and IA32_APIC_BASE.
    pub fn init(&mut self) {
        use page::offset::*;
        self.page.clear();
        self.timer.reset();
        self.errors = 0;
        self.enabled = false;
        self.waiting = 0;
        self.serving = 0;
        self.changed = true;
        self.page.set(VERSION, registers::VERSION_VALUE);
        self.page.set(DFR, u32::MAX);
        self.page.set(SVR, 0xff);
        for lvt in LocalInterrupt::ALL {
            self.page.set(lvt.offset(), registers::MASKED);
        }
        self.show_id();
    }

    /// When the timer must be looked at next, by [`VirtualApic::advance`]: a guest TSC, which may
    /// be in the past.
    #[inline]
    pub fn timer_due(&self) -> Option<u64> {
        self.timer.due()
    }

    /// How often the guest has started or moved the timer.
    pub fn timer_writes(&self) -> u64 {
        self.timer_writes
    }

    /// The guest's TSC has moved by `delta`, modulo 2^64: a countdown is not disturbed by that.
    pub fn time_moved(&mut self, delta: u64) {
        self.timer.time_moved(delta);
    }

    /// Brings the timer up to `now`. If it fires, its vector is posted.
    #[inline(never)]
    pub fn advance(&mut self, now: u64) -> Effect {
        self.advance_at_once(now)
    }

    /// The same, with no call.
    #[inline(always)]
    pub fn advance_at_once(&mut self, now: u64) -> Effect {
        if self.timer.expire(now) { self.raise(LocalInterrupt::Timer) } else { Effect::None }
    }
}
