//! The page of registers, laid out as the xAPIC lays them out.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

const WORDS: usize = 256;

/// Register offsets in the page. The x2APIC MSR of a register is `0x800 + (offset >> 4)`.
#[allow(missing_docs)]
pub mod offset {
    pub const ID: u16 = 0x020;
    pub const VERSION: u16 = 0x030;
    pub const TPR: u16 = 0x080;
    pub const APR: u16 = 0x090;
    pub const PPR: u16 = 0x0a0;
    pub const EOI: u16 = 0x0b0;
    pub const RRD: u16 = 0x0c0;
    pub const LDR: u16 = 0x0d0;
    pub const DFR: u16 = 0x0e0;
    pub const SVR: u16 = 0x0f0;
    pub const ISR: u16 = 0x100;
    pub const TMR: u16 = 0x180;
    pub const IRR: u16 = 0x200;
    pub const ESR: u16 = 0x280;
    pub const ICR_LOW: u16 = 0x300;
    /// The upper half of the ICR as x2APIC mode has it: the CPU reads MSR 830h as eight bytes here.
    pub const X2APIC_ICR_HIGH: u16 = 0x304;
    pub const ICR_HIGH: u16 = 0x310;
    pub const LVT_TIMER: u16 = 0x320;
    pub const LVT_THERMAL: u16 = 0x330;
    pub const LVT_PMC: u16 = 0x340;
    pub const LVT_LINT0: u16 = 0x350;
    pub const LVT_LINT1: u16 = 0x360;
    pub const LVT_ERROR: u16 = 0x370;
    pub const TIMER_INITIAL: u16 = 0x380;
    pub const TIMER_CURRENT: u16 = 0x390;
    pub const TIMER_DIVIDE: u16 = 0x3e0;
    pub const SELF_IPI: u16 = 0x3f0;
}

/// The registers of one local APIC.
///
/// The same page can be the virtual-APIC page of VT-x, which the CPU reads and changes while the
/// guest runs: hence atomics, so that Rust assumes nothing about the contents from one access to
/// the next.
#[repr(C, align(1024))]
pub struct ApicPage([AtomicU32; WORDS]);

const _: () = assert!(size_of::<ApicPage>() == 1024);

/// One of the three 256-bit vector sets in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// Interrupts in service.
    Isr,
    /// Of the interrupts accepted, the level-triggered ones.
    Tmr,
    /// Interrupts requested and not yet in service.
    Irr,
}

impl Vectors {
    const fn offset(self) -> u16 {
        match self {
            Vectors::Isr => offset::ISR,
            Vectors::Tmr => offset::TMR,
            Vectors::Irr => offset::IRR,
        }
    }

    /// The register that holds the bit of `vector`, and the bit.
    const fn locate(self, vector: u8) -> (u16, u32) {
        (self.offset() | ((vector >> 5) as u16) << 4, 1 << (vector & 31))
    }

    const fn register(self, word: u8) -> u16 {
        self.offset() | ((word & 7) as u16) << 4
    }
}

impl ApicPage {
    /// A page of zeros; [`super::VirtualApic::new`] fills it.
    pub const fn new() -> ApicPage {
        ApicPage([const { AtomicU32::new(0) }; WORDS])
    }

    fn word(&self, offset: u16) -> Option<&AtomicU32> {
        self.0.get(usize::from(offset) / 4)
    }

    /// The 32 bits at `offset`; 0 outside the page.
    #[inline]
    pub fn get(&self, offset: u16) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Relaxed))
    }

    /// Stores 32 bits at `offset`; outside the page it does nothing.
    #[inline]
    pub fn set(&self, offset: u16, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Relaxed);
        }
    }

    /// Whether `vector` is in the set.
    #[inline]
    pub fn has(&self, set: Vectors, vector: u8) -> bool {
        let (offset, bit) = set.locate(vector);
        self.get(offset) & bit != 0
    }

    /// Puts `vector` into the set.
    #[inline]
    pub fn insert(&self, set: Vectors, vector: u8) {
        let (offset, bit) = set.locate(vector);
        self.set(offset, self.get(offset) | bit);
    }

    /// Takes `vector` out of the set.
    #[inline]
    pub fn remove(&self, set: Vectors, vector: u8) {
        let (offset, bit) = set.locate(vector);
        self.set(offset, self.get(offset) & !bit);
    }

    /// Bits `32 * word` to `32 * word + 31` of the set.
    #[inline]
    pub fn vectors(&self, set: Vectors, word: u8) -> u32 {
        self.get(set.register(word))
    }

    /// Whether the set is empty, as most are most of the time.
    #[inline]
    pub fn is_empty(&self, set: Vectors) -> bool {
        (0..8).fold(0, |all, word| all | self.vectors(set, word)) == 0
    }

    /// The highest vector in the set.
    #[inline]
    pub fn highest(&self, set: Vectors) -> Option<u8> {
        if self.is_empty(set) {
            return None;
        }
        self.top_of(set)
    }

    /// The same, of a set that is seldom empty.
    #[inline]
    pub fn top_of(&self, set: Vectors) -> Option<u8> {
        (0..8).rev().find_map(|word| top(word, self.vectors(set, word)))
    }

    /// The words of the set that are not empty, a bit for each.
    #[inline]
    pub fn words(&self, set: Vectors) -> u8 {
        (0..8).fold(0, |words, word| words | u8::from(self.vectors(set, word) != 0) << word)
    }

    pub(super) fn clear(&self) {
        for word in &self.0 {
            word.store(0, Relaxed);
        }
    }
}

impl Default for ApicPage {
    fn default() -> ApicPage {
        ApicPage::new()
    }
}

/// The vector of the highest bit set in one register of a set.
#[inline]
pub(super) fn top(word: u8, bits: u32) -> Option<u8> {
    bits.checked_ilog2().map(|bit| word << 5 | (bit as u8 & 31))
}
