//! Bits that some set and one takes, without locks: words, and above them a word that says where to look.

use core::array::from_fn;

use super::post::lowest;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Words of [`Bits`].
pub const WORDS: usize = 16;

/// 1024 bits, numbered from 0.
#[derive(Debug)]
pub struct Bits {
    /// A bit for each word that may not be empty. The rest is the owner's.
    summary: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// The bits of [`Bits::summary`] that stand for words.
const ALL: u64 = (1 << WORDS) - 1;

impl Bits {
    /// None is set.
    pub fn new() -> Bits {
        Bits { summary: AtomicU64::new(0), words: from_fn(|_| AtomicU64::new(0)) }
    }

    /// Sets a bit.
    pub fn set(&self, number: u16) {
        let (word, bit) = (usize::from(number >> 6), 1u64 << (number & 63));
        if let Some(place) = self.words.get(word) {
            place.fetch_or(bit, Ordering::Relaxed);
            self.summary.fetch_or(1 << word, Ordering::SeqCst);
        }
    }

    /// Sets one of the owner's bits, 16 to 63 of the summary.
    pub fn announce(&self, own: u64) {
        self.summary.fetch_or(own & !ALL, Ordering::SeqCst);
    }

    /// Whether a bit may be set, or one of the owner's is.
    #[inline]
    pub fn any(&self) -> bool {
        self.summary.load(Ordering::SeqCst) != 0
    }

    /// Takes all: gives `each` the words with their numbers, and returns the owner's bits.
    pub fn take(&self, mut each: impl FnMut(u16, u64)) -> u64 {
        let summary = self.summary.swap(0, Ordering::SeqCst);
        let mut words = summary & ALL;
        while let Some(word) = lowest(&mut words) {
            let place = self.words.get(usize::from(word));
            let bits = place.map_or(0, |word| word.swap(0, Ordering::Relaxed));
            each(word, bits);
        }
        summary & !ALL
    }
}

impl Default for Bits {
    fn default() -> Bits {
        Bits::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn taken(bits: &Bits) -> (BTreeSet<u16>, u64) {
        let mut all = BTreeSet::new();
        let own = bits.take(|word, mut bits| {
            while let Some(bit) = lowest(&mut bits) {
                all.insert(word << 6 | bit);
            }
        });
        (all, own)
    }

    proptest! {
        /// Whatever is set is taken once, and numbers that are not there are nobody's.
        #[test]
        fn it_is_a_set(steps in prop::collection::vec(prop::option::of(0u16..1100), 0..80)) {
            let (bits, mut model) = (Bits::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Some(number) => {
                        bits.set(number);
                        model.extend((number < 1024).then_some(number));
                        prop_assert_eq!(bits.any(), !model.is_empty());
                    }
                    None => {
                        prop_assert_eq!(taken(&bits), (core::mem::take(&mut model), 0));
                        prop_assert!(!bits.any());
                    }
                }
            }
        }
    }

    #[test]
    fn the_owners_bits_are_apart() {
        let bits = Bits::new();
        bits.announce(1 << 63 | 1);
        assert!(bits.any());
        bits.set(1023);
        assert_eq!(taken(&bits), (BTreeSet::from([1023]), 1 << 63));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let bits = Bits::new();
        let mut seen = BTreeSet::new();
        std::thread::scope(|scope| {
            let setters: Vec<_> = (0..4u16)
                .map(|first| {
                    let bits = &bits;
                    scope.spawn(move || (first..1024).step_by(4).for_each(|n| bits.set(n)))
                })
                .collect();
            while setters.iter().any(|setter| !setter.is_finished()) {
                seen.extend(taken(&bits).0);
            }
        });
        seen.extend(taken(&bits).0);
        assert_eq!(seen.len(), 1024);
    }
}
