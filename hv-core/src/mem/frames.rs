//! Physical memory, handed out in aligned ranges.
//!
//! Memory is allocated when a VM is made and given back when it ends, never on the exit path, so a
//! short sorted list of free ranges and first fit are enough.

/// Size of a page, and the grain of every range, in bytes.
pub const PAGE: u64 = 4096;

/// The most free ranges that can be kept.
pub const MAX_RANGES: usize = 128;

/// A range of physical addresses, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first byte.
    pub start: u64,
    /// The byte behind the last.
    pub end: u64,
}

impl Range {
    /// The range from `start` to `end`; an end below the start gives the empty range.
    pub const fn new(start: u64, end: u64) -> Range {
        Range { start, end: if end < start { start } else { end } }
    }

    /// `length` bytes from `start`; `None` if that wraps.
    pub fn sized(start: u64, length: u64) -> Option<Range> {
        Some(Range { start, end: start.checked_add(length)? })
    }

    /// Its length in bytes.
    pub const fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether `other` lies in it as a whole.
    pub const fn contains(self, other: Range) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// The free physical memory.
#[derive(Debug)]
pub struct Frames {
    /// Sorted, disjoint, not adjacent, not empty.
    free: [Range; MAX_RANGES],
    count: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Frames { free: [Range::default(); MAX_RANGES], count: 0 }
    }
}

impl Frames {
    /// The free ranges, in ascending order.
    pub fn free_ranges(&self) -> &[Range] {
        self.free.get(..self.count).unwrap_or(&[])
    }

    /// Free memory in bytes.
    pub fn free_bytes(&self) -> u64 {
        self.free_ranges().iter().fold(0, |sum, r| sum.wrapping_add(r.length()))
    }

    /// Gives a range to the allocator; parts of pages at its ends are left out.
    ///
    /// The range must not be free already. Where the list is full the range is lost, which costs
    /// memory and nothing else.
    pub fn release(&mut self, range: Range) {
        let start = range.start.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let mut range = Range::new(start, range.end & !(PAGE.wrapping_sub(1)));
        if range.is_empty() {
            return;
        }
        let mut at = self.free_ranges().partition_point(|r| r.end < range.start);
        // Whatever touches the range becomes part of it.
        while let Some(&next) = self.free_ranges().get(at) {
            if next.start > range.end {
                break;
            }
            range = Range::new(range.start.min(next.start), range.end.max(next.end));
            self.remove(at);
        }
        at = at.min(self.count);
        self.insert(at, range);
    }

    /// Takes `length` bytes, a multiple of [`PAGE`], aligned to `align`, a power of two of at least
    /// [`PAGE`], from the highest place that has them: low memory is rarer. The contents are what
    /// the last owner left.
    pub fn allocate(&mut self, length: u64, align: u64) -> Option<Range> {
        self.allocate_below(length, align, u64::MAX)
    }

    /// As [`Frames::allocate`], with every byte below `limit`.
    pub fn allocate_below(&mut self, length: u64, align: u64, limit: u64) -> Option<Range> {
        if length == 0 || !align.is_power_of_two() {
            return None;
        }
        let mask = !align.wrapping_sub(1);
        let (at, taken) = self.free_ranges().iter().enumerate().rev().find_map(|(at, r)| {
            let start = r.end.min(limit).checked_sub(length)? & mask;
            (start >= r.start).then_some((at, Range::sized(start, length)?))
        })?;
        self.carve(at, taken);
        Some(taken)
    }

    /// Takes a range out of the free memory, free or not: what lies there is in use.
    pub fn reserve(&mut self, range: Range) {
        let start = range.start & !(PAGE.wrapping_sub(1));
        let end = range.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let mut at = 0;
        while let Some(&r) = self.free_ranges().get(at) {
            let part = Range::new(start.max(r.start), end.min(r.end));
            if part.is_empty() {
                at = at.saturating_add(1);
            } else {
                self.carve(at, part);
            }
        }
    }

    /// Removes `part` from the free range at `at`, which contains it.
    fn carve(&mut self, at: usize, part: Range) {
        let Some(&whole) = self.free_ranges().get(at) else { return };
        self.remove(at);
        let above = Range::new(part.end, whole.end);
        let below = Range::new(whole.start, part.start);
        for rest in [above, below] {
            if !rest.is_empty() {
                self.insert(at, rest);
            }
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(tail) = self.free.get_mut(at..self.count) {
            tail.rotate_left(1);
            self.count = self.count.saturating_sub(1);
        }
    }

    fn insert(&mut self, at: usize, range: Range) {
        let end = self.count.saturating_add(1);
        if let Some(tail) = self.free.get_mut(at..end) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = range;
            }
            self.count = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(ranges: &[(u64, u64)]) -> Frames {
        let mut frames = Frames::default();
        for &(start, end) in ranges {
            frames.release(Range::new(start, end));
        }
        frames
    }

    #[test]
    fn neighbours_grow_together_in_any_order() {
        let f = frames(&[(0x1000, 0x2000), (0x3000, 0x4000), (0x2000, 0x3000)]);
        assert_eq!(f.free_ranges(), [Range::new(0x1000, 0x4000)]);
    }

    #[test]
    fn parts_of_pages_are_left_out() {
        assert_eq!(frames(&[(0x1001, 0x3fff)]).free_ranges(), [Range::new(0x2000, 0x3000)]);
        assert!(frames(&[(0x1001, 0x1fff)]).free_ranges().is_empty());
        assert!(frames(&[(u64::MAX - 1, u64::MAX)]).free_ranges().is_empty());
    }

    #[test]
    fn allocation_honours_alignment_and_limit() {
        let mut f = frames(&[(0x1000, 0x50_0000)]);
        let large = f.allocate(0x20_0000, 0x20_0000).unwrap();
        assert_eq!(large, Range::new(0x20_0000, 0x40_0000));
        let low = f.allocate_below(0x1000, 0x1000, 0x10_0000).unwrap();
        assert_eq!(low, Range::new(0xff000, 0x10_0000));
        assert_eq!(f.allocate(0x20_0000, 0x20_0000), None);
        assert_eq!(f.allocate(0, 0x1000), None);
    }

    #[test]
    fn reserved_memory_is_never_handed_out() {
        let mut f = frames(&[(0x1000, 0x4000), (0x6000, 0x9000)]);
        f.reserve(Range::new(0x2800, 0x6001));
        assert_eq!(f.free_ranges(), [Range::new(0x1000, 0x2000), Range::new(0x7000, 0x9000)]);
    }

    proptest! {
        #[test]
        fn what_is_allocated_is_disjoint_and_comes_back_whole(
            sizes in prop::collection::vec((1u64..64, 0u32..6), 1..40),
            order in any::<u64>(),
        ) {
            let mut f = frames(&[(0x1000, 0x40_0000), (0x80_0000, 0x90_0000)]);
            let before = f.free_bytes();
            let mut taken: std::vec::Vec<Range> = sizes
                .iter()
                .filter_map(|&(pages, shift)| f.allocate(pages * PAGE, PAGE << shift))
                .collect();
            for (i, a) in taken.iter().enumerate() {
                for b in &taken[..i] {
                    prop_assert!(a.end <= b.start || b.end <= a.start);
                }
            }
            let length = taken.len().max(1);
            taken.rotate_left(order as usize % length);
            for range in taken {
                f.release(range);
            }
            prop_assert_eq!(f.free_bytes(), before);
            prop_assert_eq!(f.free_ranges().len(), 2);
        }
    }
}
