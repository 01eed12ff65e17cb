//! When those that sleep on a CPU have something to do by themselves.

extern crate alloc;

use alloc::vec::Vec;

/// Times by the numbers of those that sleep. The first is at hand; a change costs O(log n).
#[derive(Debug, Default)]
pub struct Alarms {
    /// A heap: none is before the one at half its place.
    heap: Vec<(u64, u16)>,
    /// Where each number stands in it, plus one; 0 for those that are not.
    places: Vec<u16>,
}

/// Children of a place.
const CHILDREN: usize = 2;

impl Alarms {
    /// The earliest time, and whose it is.
    #[inline]
    pub fn first(&self) -> Option<(u64, u16)> {
        self.heap.first().copied()
    }

    /// This one sleeps until then; `u64::MAX` for no time.
    #[inline(never)]
    pub fn set(&mut self, number: u16, time: u64) {
        self.remove(number);
        if time == u64::MAX {
            return;
        }
        if self.places.len() <= usize::from(number) {
            self.places.resize(usize::from(number).saturating_add(1), 0);
        }
        self.heap.push((time, number));
        self.rise(self.heap.len().saturating_sub(1));
    }

    /// This one does not sleep, or without a time.
    #[inline(never)]
    pub fn remove(&mut self, number: u16) {
        let Some(place) = self.places.get_mut(usize::from(number)) else { return };
        let Some(at) = usize::from(core::mem::take(place)).checked_sub(1) else { return };
        let last = self.heap.pop();
        // The last one takes its place, unless that was its own.
        if let (Some(last), Some(hole)) = (last, self.heap.get_mut(at)) {
            *hole = last;
            let at = self.sink(at);
            self.rise(at);
        }
    }

    /// Lets what is at `at` go up while it is earlier than what is above it.
    fn rise(&mut self, mut at: usize) {
        while let Some(above) = at.checked_sub(1).map(|below| below.wrapping_div(CHILDREN))
            && self.heap.get(at) < self.heap.get(above)
        {
            self.exchange(at, above);
            at = above;
        }
        self.note(at);
    }

    /// Lets what is at `at` go down while something below is earlier, and says where it then is.
    fn sink(&mut self, mut at: usize) -> usize {
        loop {
            let first = at.saturating_mul(CHILDREN).saturating_add(1);
            let below = (first..first.saturating_add(CHILDREN))
                .filter_map(|at| Some((self.heap.get(at)?, at)))
                .min();
            match below {
                Some((time, below)) if self.heap.get(at).is_some_and(|own| time < own) => {
                    self.exchange(at, below);
                    at = below;
                }
                _ => return at,
            }
        }
    }

    /// Two change places, and the first is noted at its new one only when it stays there.
    fn exchange(&mut self, at: usize, with: usize) {
        self.heap.swap(at, with);
        self.note(at);
    }

    fn note(&mut self, at: usize) {
        if let Some(&(_, number)) = self.heap.get(at)
            && let Some(place) = self.places.get_mut(usize::from(number))
        {
            *place = at.saturating_add(1) as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_earliest_is_first_and_a_later_time_replaces_an_earlier() {
        let mut alarms = Alarms::default();
        assert_eq!(alarms.first(), None);
        alarms.set(3, 30);
        alarms.set(0, 20);
        alarms.set(7, 10);
        assert_eq!(alarms.first(), Some((10, 7)));
        alarms.set(7, 40);
        assert_eq!(alarms.first(), Some((20, 0)));
        alarms.set(0, u64::MAX);
        assert_eq!(alarms.first(), Some((30, 3)), "no time is none");
    }

    #[test]
    fn a_change_costs_few_steps_among_many() {
        let mut alarms = Alarms::default();
        for number in 0..1000 {
            alarms.set(number, u64::from(number) * 7 % 1000);
        }
        assert!(alarms.heap.len() == 1000 && alarms.places.len() == 1000);
        for at in 1..1000 {
            assert!(
                alarms.heap[at] >= alarms.heap[(at - 1) / 2],
                "{at} is before what is above it"
            );
        }
    }

    proptest! {
        /// Against a map that is searched.
        #[test]
        fn they_come_in_order(
            steps in prop::collection::vec((0u16..20, prop::option::of(0u64..50)), 0..300),
        ) {
            let mut alarms = Alarms::default();
            let mut model = BTreeMap::new();
            for (number, time) in steps {
                match time {
                    Some(time) => {
                        alarms.set(number, time);
                        model.insert(number, time);
                    }
                    None => {
                        alarms.remove(number);
                        model.remove(&number);
                    }
                }
                let first = model.iter().map(|(&number, &time)| (time, number)).min();
                prop_assert_eq!(alarms.first(), first);
                prop_assert_eq!(alarms.heap.len(), model.len());
            }
            let mut sorted: Vec<_> = model.into_iter().map(|(number, time)| (time, number)).collect();
            sorted.sort_unstable();
            for next in sorted {
                prop_assert_eq!(alarms.first(), Some(next));
                alarms.remove(next.1);
            }
        }
    }
}
