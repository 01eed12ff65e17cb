//! Memory that nothing may change while workloads run: what is there says where it is, and whose.

use core::slice;

use guest_kernel::{frames, info};

/// Numbers in a MiB.
const WORDS: u64 = (1 << 20) / 8;

/// The memory, and whose it is.
pub struct Pattern {
    memory: &'static mut [u64],
    tag: u64,
}

impl Pattern {
    /// Writes it, into as many MiB as the option `pattern` says, with the option `tag` in it; `None` without the
    /// option.
    pub fn write() -> Option<Pattern> {
        let options = info::options();
        let words = options.number("pattern").filter(|&mib| mib > 0)? * WORDS;
        let tag = options.number("tag").unwrap_or(1) << 48;
        let first = frames::allocate_run(words / 512).start_address().as_u64();
        // SAFETY: the frames are identity mapped, one behind the other, and were just given to this.
        let memory = unsafe { slice::from_raw_parts_mut(first as *mut u64, words as usize) };
        (0u64..).zip(memory.iter_mut()).for_each(|(n, word)| *word = tag | n);
        Some(Pattern { memory, tag })
    }

    /// The address of the first number that is another one.
    pub fn damage(&self) -> Option<u64> {
        let mut all = (0u64..).zip(self.memory.iter());
        // SAFETY: it is a reference; somebody else may have written what it refers to.
        let is_other =
            |n, word: &u64| unsafe { (&raw const *word).read_volatile() } != self.tag | n;
        all.find(|&(n, word)| is_other(n, word)).map(|(_, word)| &raw const *word as u64)
    }
}
