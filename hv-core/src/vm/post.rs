//! What CPUs tell each other of vCPUs, without locks.
//!
//! Each vCPU has a [`Post`]: others leave notices there, and the vCPU takes them before it is entered. Each
//! CPU has a [`Mail`]: which of the vCPUs that sleep on it have been left something. Whoever leaves a notice
//! learns whether a CPU is to be interrupted for it.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;

use crate::device::apic::{ApicPage, Ipi, Mode, Trigger, is_addressed};

/// Something that a vCPU is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An interrupt with this vector.
    Vector(u8, Trigger),
    /// An NMI.
    Nmi,
    /// INIT.
    Init,
    /// A startup IPI with this vector.
    Startup(u8),
    /// The board is to be looked at.
    Board,
    /// The VM stops.
    Stop,
}

bitflags! {
    /// Notices that are one bit each.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Notices: u32 {
        /// [`Notice::Nmi`].
        const NMI = 1 << 8;
        /// [`Notice::Init`].
        const INIT = 1 << 9;
        /// [`Notice::Startup`]. Its vector is in bits 7:0.
        const STARTUP = 1 << 10;
        /// [`Notice::Board`].
        const BOARD = 1 << 11;
        /// The vector of a startup IPI.
        const VECTOR_BITS = 0xff;
    }
}

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On no CPU, but it will be: it looks at its post before.
    Queued,
    /// It runs on this CPU.
    Running(u16),
    /// It sleeps, and belongs to this CPU under this number.
    Asleep {
        /// The CPU.
        cpu: u16,
        /// Its number there.
        slot: u16,
    },
}

impl Place {
    const fn pack(self) -> u64 {
        match self {
            Place::Queued => 0,
            Place::Running(cpu) => 1 | (cpu as u64) << 8,
            Place::Asleep { cpu, slot } => 2 | (cpu as u64) << 8 | (slot as u64) << 32,
        }
    }

    const fn unpack(packed: u64) -> Place {
        let (cpu, slot) = ((packed >> 8) as u16, (packed >> 32) as u16);
        match packed as u8 {
            1 => Place::Running(cpu),
            2 => Place::Asleep { cpu, slot },
            _ => Place::Queued,
        }
    }
}

/// What was taken from a [`Post`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Vectors, a bit for each.
    pub vectors: [u64; 4],
    /// Those of them that are triggered by a level.
    pub levels: [u64; 4],
    /// The rest.
    pub notices: Notices,
}

impl Taken {
    /// The vector of the startup IPI, if there is one.
    pub fn startup(&self) -> Option<u8> {
        self.notices.contains(Notices::STARTUP).then_some(self.notices.bits() as u8)
    }
}

/// The notices that wait for one vCPU.
#[repr(align(64))]
pub struct Post {
    /// Something is here. It is set behind the rest, and taken before it.
    waits: AtomicBool,
    mode: AtomicU8,
    notices: AtomicU32,
    place: AtomicU64,
    vectors: [AtomicU64; 4],
    levels: [AtomicU64; 4],
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
            vectors: [const { AtomicU64::new(0) }; 4],
            levels: [const { AtomicU64::new(0) }; 4],
            id,
            apic,
        }
    }

    /// Leaves a notice. Returns where the vCPU is if it must be fetched for it.
    pub fn leave(&self, notice: Notice) -> Place {
        let notices = match notice {
            Notice::Vector(vector, trigger) => {
                let (word, bit) = (usize::from(vector >> 6), 1u64 << (vector & 63));
                if let (Trigger::Level, Some(word)) = (trigger, self.levels.get(word)) {
                    word.fetch_or(bit, Ordering::Relaxed);
                }
                if let Some(word) = self.vectors.get(word) {
                    word.fetch_or(bit, Ordering::Relaxed);
                }
                Notices::empty()
            }
            Notice::Nmi => Notices::NMI,
            Notice::Init => Notices::INIT,
            // Of two that were not yet seen the vectors mix; a guest sends the same twice.
            Notice::Startup(vector) => Notices::STARTUP | Notices::from_bits_retain(vector.into()),
            Notice::Board => Notices::BOARD,
            Notice::Stop => Notices::empty(),
        };
        if !notices.is_empty() {
            self.notices.fetch_or(notices.bits(), Ordering::Relaxed);
        }
        // Who found it set has fetched the vCPU already, and it has not looked since. Either this sees
        // where the vCPU is after it has moved, or the vCPU, which looks behind its move, sees this.
        if self.waits.swap(true, Ordering::SeqCst) {
            return Place::Queued;
        }
        Place::unpack(self.place.load(Ordering::SeqCst))
    }

    /// Whether something is here.
    #[inline]
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::SeqCst)
    }

    /// Takes what is here.
    pub fn take(&self) -> Option<Taken> {
        // A look costs less than the swap, and there is seldom something.
        if !self.waits() || !self.waits.swap(false, Ordering::SeqCst) {
            return None;
        }
        let all = |words: &[AtomicU64; 4]| {
            core::array::from_fn(|i| words.get(i).map_or(0, |word| word.swap(0, Ordering::Relaxed)))
        };
        let vectors = all(&self.vectors);
        let notices = Notices::from_bits_retain(self.notices.swap(0, Ordering::Relaxed));
        Some(Taken { vectors, levels: all(&self.levels), notices })
    }

    /// The vCPU moves; it looks at its post after that.
    pub fn set_place(&self, place: Place) {
        self.place.store(place.pack(), Ordering::SeqCst);
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

/// Words of a [`Mail`].
const WORDS: usize = 16;
/// How many vCPUs can belong to one CPU.
pub const SLOTS: usize = WORDS * 64;

/// Which of the vCPUs that sleep on a CPU have something in their [`Post`], and whether there are new ones.
#[derive(Debug)]
#[repr(align(64))]
pub struct Mail {
    /// A bit for each word that may not be empty, and [`NEW`].
    summary: AtomicU64,
    words: [AtomicU64; WORDS],
    apic_id: AtomicU32,
}

/// vCPUs come to this CPU, or all are gone.
const NEW: u64 = 1 << 63;

impl Mail {
    /// Empty.
    pub const fn new() -> Mail {
        Mail {
            summary: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
            apic_id: AtomicU32::new(0),
        }
    }

    /// The APIC ID by which the CPU is interrupted.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Sets it, before the CPU has vCPUs.
    pub fn set_apic_id(&self, id: u32) {
        self.apic_id.store(id, Ordering::Relaxed);
    }

    /// The vCPU with this number has something in its post.
    pub fn put(&self, slot: u16) {
        let (word, bit) = (usize::from(slot >> 6), 1u64 << (slot & 63));
        if let Some(place) = self.words.get(word) {
            place.fetch_or(bit, Ordering::Relaxed);
            self.summary.fetch_or(1 << word, Ordering::SeqCst);
        }
    }

    /// There is something else to be looked at.
    pub fn announce(&self) {
        self.summary.fetch_or(NEW, Ordering::SeqCst);
    }

    /// Whether something is here.
    #[inline]
    pub fn waits(&self) -> bool {
        self.summary.load(Ordering::SeqCst) != 0
    }

    /// Takes all: gives `each` the numbers, and says whether something was announced.
    pub fn take(&self, mut each: impl FnMut(u16)) -> bool {
        let mut summary = self.summary.swap(0, Ordering::SeqCst);
        let new = summary & NEW != 0;
        summary &= !NEW;
        while let Some(word) = lowest(&mut summary) {
            let place = self.words.get(usize::from(word));
            let mut bits = place.map_or(0, |word| word.swap(0, Ordering::Relaxed));
            while let Some(bit) = lowest(&mut bits) {
                each(word << 6 | bit);
            }
        }
        new
    }
}

impl Default for Mail {
    fn default() -> Mail {
        Mail::new()
    }
}

/// Takes the lowest bit of a word.
pub fn lowest(word: &mut u64) -> Option<u16> {
    let bit = (*word != 0).then(|| word.trailing_zeros() as u16);
    *word &= word.wrapping_sub(1);
    bit
}

/// Why the vCPUs of a VM stop, and how it is told.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

/// What becomes of a VM when its vCPUs have stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Then {
    /// It is gone.
    End = 1,
    /// It starts anew.
    Reset = 2,
}

impl Stop {
    /// All are to stop. `false` if they were already.
    pub fn begin(&self, then: Then) -> bool {
        self.0.compare_exchange(0, then as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// What becomes of the VM, if all are to stop.
    pub fn then(&self) -> Option<Then> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(Then::End),
            2 => Some(Then::Reset),
            _ => None,
        }
    }

    /// The VM has been reset.
    pub fn over(&self) {
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
