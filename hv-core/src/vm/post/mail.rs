//! What the vCPUs that sleep on a CPU have been left.

use core::array::from_fn;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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
    pub fn new() -> Mail {
        Mail {
            summary: AtomicU64::new(0),
            words: from_fn(|_| AtomicU64::new(0)),
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
