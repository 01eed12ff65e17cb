//! What CPUs tell each other of vCPUs, without locks.
//!
//! Each vCPU has a [`Post`]: others leave notices there, and the vCPU takes them before it is entered. Each
//! CPU has a [`Mail`]: which of the vCPUs that sleep on it have been left something. Whoever leaves a notice
//! learns whether a CPU is to be interrupted for it.

use core::array::from_fn;

use super::bits::Bits;
use crate::device::apic::{ApicPage, Ipi, Mode, Trigger, is_addressed};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

mod flush;
mod kick;
mod mail;
mod notice;
mod place;
mod start;
mod stop;

pub use mail::{Mail, SLOTS, lowest};
pub use notice::{Notice, Notices, Taken};
pub use place::Place;
pub use start::Startup;
pub use stop::{Stop, Then};

use kick::{KICKED, WAITING};
use start::Starts;

/// The notices that wait for one vCPU.
#[repr(align(64))]
pub struct Post {
    /// Something is here. It is set behind the rest, and taken before it.
    waits: AtomicBool,
    mode: AtomicU8,
    notices: AtomicU32,
    place: AtomicU64,
    /// The CPU on which the vCPU runs, or ran last.
    cpu: AtomicU32,
    vectors: [AtomicU64; 4],
    /// How each vector was triggered when it was left last. It is written before the vector, and stays.
    levels: [AtomicU64; 4],
    /// [`KICKED`] and [`WAITING`].
    kick: AtomicU8,
    /// Flushes that were asked for so far, and up to which of them they are done.
    flushes: AtomicU64,
    flushed: AtomicU64,
    /// Ports whose events have come.
    events: Bits,
    /// Locked by who starts a vCPU, and by the vCPU while it waits for that: by none that runs.
    starts: Mutex<Starts>,
    id: u32,
    apic: &'static ApicPage,
}

impl Post {
    /// That of the vCPU with this APIC ID and these registers.
    pub fn new(id: u32, apic: &'static ApicPage) -> Post {
        Post {
            waits: AtomicBool::new(false),
            mode: AtomicU8::new(Mode::XApic as u8),
            notices: AtomicU32::new(0),
            place: AtomicU64::new(0),
            cpu: AtomicU32::new(0),
            vectors: from_fn(|_| AtomicU64::new(0)),
            levels: from_fn(|_| AtomicU64::new(0)),
            kick: AtomicU8::new(0),
            flushes: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            events: Bits::new(),
            starts: Mutex::new(Starts { open: id != 0, asked: None }),
            id,
            apic,
        }
    }

    /// Leaves a notice. Returns where the vCPU is if it must be fetched for it.
    pub fn leave(&self, notice: Notice) -> Place {
        let notices = match notice {
            Notice::Vector(vector, trigger) => {
                let (word, bit) = (usize::from(vector >> 6), 1u64 << (vector & 63));
                if let Some(levels) = self.levels.get(word) {
                    let is_level = levels.load(Ordering::Relaxed) & bit != 0;
                    match trigger {
                        Trigger::Level if !is_level => _ = levels.fetch_or(bit, Ordering::Relaxed),
                        Trigger::Edge if is_level => _ = levels.fetch_and(!bit, Ordering::Relaxed),
                        _ => {}
                    }
                }
                // Who finds the vector, even before it is told, finds how it was triggered.
                if let Some(vectors) = self.vectors.get(word) {
                    vectors.fetch_or(bit, Ordering::Release);
                }
                Notices::empty()
            }
            Notice::Nmi => Notices::NMI,
            Notice::Init => Notices::INIT,
            // Of two that were not yet seen the vectors mix; a guest sends the same twice.
            Notice::Startup(vector) => Notices::STARTUP | Notices::from_bits_retain(vector.into()),
            Notice::Board => Notices::BOARD,
            Notice::Event => Notices::EVENT,
            Notice::Start | Notice::Stop => Notices::empty(),
        };
        if !notices.is_empty() {
            self.notices.fetch_or(notices.bits(), Ordering::Relaxed);
        }
        // Who found it set has fetched the vCPU already, and it has not looked since. Either this sees
        // where the vCPU is after it has moved, or the vCPU, which looks behind its move, sees this.
        if self.waits.swap(true, Ordering::SeqCst) {
            return Place::Queued;
        }
        self.place()
    }

    /// Whether something is here, or the vCPU waits for a kick that has come.
    #[inline]
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::SeqCst) || self.kick.load(Ordering::SeqCst) == KICKED | WAITING
    }

    /// Whether something is here.
    #[inline]
    pub fn has_notices(&self) -> bool {
        self.waits.load(Ordering::SeqCst)
    }

    /// Takes what is here.
    pub fn take(&self) -> Option<Taken> {
        // A look costs less than the swap, and there is seldom something.
        if !self.has_notices() || !self.waits.swap(false, Ordering::SeqCst) {
            return None;
        }
        let (mut vectors, mut levels) = ([0; 4], [0; 4]);
        let words = self.vectors.iter().zip(&self.levels);
        for ((vector, level), words) in vectors.iter_mut().zip(&mut levels).zip(words) {
            *vector = words.0.swap(0, Ordering::Acquire);
            *level = words.1.load(Ordering::Relaxed) & *vector;
        }
        let notices = Notices::from_bits_retain(self.notices.swap(0, Ordering::Relaxed));
        Some(Taken { vectors, levels, notices })
    }

    /// Forgets events and a kick, and that the vCPU waits for one.
    pub fn forget(&self) {
        self.kick.store(0, Ordering::SeqCst);
        let _ = self.events.take(|_, _| {});
    }

    /// Raises a port. Returns where the vCPU is if it must be fetched for it.
    pub fn raise(&self, port: u16) -> Place {
        self.events.set(port);
        self.leave(Notice::Event)
    }

    /// Whether ports were raised that have not been taken.
    pub fn has_events(&self) -> bool {
        self.events.any()
    }

    /// Takes the ports that were raised, as words with their numbers.
    pub fn take_events(&self, each: impl FnMut(u16, u64)) {
        let _ = self.events.take(each);
    }

    fn place(&self) -> Place {
        Place::unpack(self.place.load(Ordering::SeqCst))
    }

    /// The vCPU moves; it looks at its post after that.
    pub fn set_place(&self, place: Place) {
        if let Place::Running(cpu) = place {
            self.cpu.store(cpu.into(), Ordering::Relaxed);
        }
        self.place.store(place.pack(), Ordering::SeqCst);
    }

    /// Whether the vCPU runs.
    pub fn runs(&self) -> bool {
        matches!(self.place(), Place::Running(_))
    }

    /// The CPU for which the vCPU waits, unless it has moved meanwhile.
    pub fn waits_for(&self) -> Option<usize> {
        (self.place() == Place::Queued).then(|| self.cpu.load(Ordering::Relaxed) as usize)
    }

    /// The mode of its local APIC has changed.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Release);
    }

    /// Whether an IPI is for it; `sender` says whether it sent it.
    pub fn is_addressed(&self, ipi: &Ipi, sender: bool) -> bool {
        let mode = Mode::from_number(self.mode.load(Ordering::Acquire));
        is_addressed(self.apic, mode, self.id, ipi, sender)
    }

    /// Its task priority, by which the target of a lowest-priority interrupt is found.
    pub fn priority(&self) -> u32 {
        self.apic.get(crate::device::apic::offset::TPR) & 0xff
    }
}

#[cfg(test)]
mod tests;
