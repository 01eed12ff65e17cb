//! What CPUs tell each other of vCPUs, without locks.
//!
//! Each vCPU has a [`Post`]: others leave notices there, and the vCPU takes them before it is entered. Each
//! CPU has a [`Mail`]: which of the vCPUs that sleep on it have been left something. Whoever leaves a notice
//! learns whether a CPU is to be interrupted for it.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;
use spin::Mutex;

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
    /// [`Post::ask_start`] was answered by yes.
    Start,
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
    /// It runs on this CPU, or is halted there: then no other vCPU is on it, nor one of its VM anywhere.
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

/// How a vCPU starts that has waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    /// In real mode, at the page with this number: by a startup IPI.
    Page(u8),
    /// In 64-bit mode, by a call.
    Called {
        /// The linear address of the first instruction.
        entry: u64,
        /// CR3.
        tables: u64,
        /// RDI.
        argument: u64,
    },
}

/// What a vCPU is asked that waits to be started.
#[derive(Debug)]
struct Starts {
    /// It waits, and nobody has asked.
    open: bool,
    asked: Option<Startup>,
}

/// [`Post::kick`]: it was kicked, and has not waited since.
const KICKED: u8 = 1 << 0;
/// [`Post::kick`]: it waits to be.
const WAITING: u8 = 1 << 1;

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
    /// [`KICKED`] and [`WAITING`].
    kick: AtomicU8,
    /// Flushes that were asked for so far, and up to which of them they are done.
    flushes: AtomicU64,
    flushed: AtomicU64,
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
            vectors: [const { AtomicU64::new(0) }; 4],
            levels: [const { AtomicU64::new(0) }; 4],
            kick: AtomicU8::new(0),
            flushes: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
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
        let all = |words: &[AtomicU64; 4]| {
            core::array::from_fn(|i| words.get(i).map_or(0, |word| word.swap(0, Ordering::Relaxed)))
        };
        let vectors = all(&self.vectors);
        let notices = Notices::from_bits_retain(self.notices.swap(0, Ordering::Relaxed));
        Some(Taken { vectors, levels: all(&self.levels), notices })
    }

    /// The vCPU may be asked to start, or no longer.
    pub fn may_start(&self, may: bool) {
        *self.starts.lock() = Starts { open: may, asked: None };
    }

    /// Asks the vCPU to start. `false` if it does not wait for that, or has been asked. Otherwise the
    /// caller leaves [`Notice::Start`].
    pub fn ask_start(&self, start: Startup) -> bool {
        let mut starts = self.starts.lock();
        let open = core::mem::take(&mut starts.open);
        if open {
            starts.asked = Some(start);
        }
        open
    }

    /// How the vCPU, which has taken this and waits for it, is to start.
    pub fn startup(&self, taken: &Taken) -> Option<Startup> {
        let asked = self.starts.lock().asked.take();
        asked.or_else(|| taken.startup().map(Startup::Page))
    }

    /// Kicks the vCPU. Returns where it is if it must be fetched for it.
    pub fn kick(&self) -> Place {
        // Either this sees that the vCPU waits, or the vCPU, which says so before it looks, sees this. It
        // looks again wherever it moves until it sleeps.
        match self.kick.fetch_or(KICKED, Ordering::SeqCst) {
            WAITING => match self.place() {
                Place::Running(_) => Place::Queued,
                place => place,
            },
            _ => Place::Queued,
        }
    }

    /// The vCPU begins to wait for a kick. `false` if it was kicked since the last time.
    pub fn begin_wait(&self) -> bool {
        let kicked = self.kick.swap(WAITING, Ordering::SeqCst) & KICKED != 0;
        if kicked {
            self.kick.store(0, Ordering::SeqCst);
        }
        !kicked
    }

    /// The vCPU waits no longer. A kick that has come by now was for this time.
    #[inline]
    pub fn end_wait(&self) {
        if self.kick.load(Ordering::Relaxed) & WAITING != 0 {
            self.kick.store(0, Ordering::SeqCst);
        }
    }

    /// Forgets a kick, and that the vCPU waits for one.
    pub fn forget_kick(&self) {
        self.kick.store(0, Ordering::SeqCst);
    }

    /// Asks for a flush of the vCPU's translations; returns its number.
    ///
    /// Who asks counts up and then looks where the vCPU is. The vCPU says that it runs, then looks at the
    /// count, and is entered only after that. So either the one who asks sees that it runs, or it sees that
    /// it is asked: a vCPU that does not run need not be told. One that runs may have looked before; it is
    /// interrupted, which ends guest mode however far the entry had come, looks again, flushes, and
    /// says up to which number that was good. Where it was not running meanwhile it has looked as well.
    pub fn ask_flush(&self) -> u64 {
        self.flushes.fetch_add(1, Ordering::SeqCst).wrapping_add(1)
    }

    /// The CPU on which the vCPU runs and may not have done the flush with that number.
    pub fn runs_unflushed(&self, asked: u64) -> Option<u16> {
        match self.place() {
            Place::Running(cpu) if self.flushed.load(Ordering::SeqCst) < asked => Some(cpu),
            _ => None,
        }
    }

    /// The number up to which the vCPU is to flush, if it owes that.
    #[inline]
    pub fn flush_owed(&self) -> Option<u64> {
        let asked = self.flushes.load(Ordering::SeqCst);
        (asked != self.flushed.load(Ordering::Relaxed)).then_some(asked)
    }

    /// The vCPU executes nothing before its translations are flushed: all that were made before that number
    /// was asked for.
    pub fn flushed(&self, asked: u64) {
        self.flushed.store(asked, Ordering::SeqCst);
    }

    fn place(&self) -> Place {
        Place::unpack(self.place.load(Ordering::SeqCst))
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
