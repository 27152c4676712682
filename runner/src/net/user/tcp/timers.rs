//! When flows want to be called: a heap that knows where each of them is, so that a time that changes
//! moves, and none is left behind to wake us for nothing.

use std::time::Duration;

/// Not in the heap.
const NOWHERE: usize = usize::MAX;

/// One time for each slot at most.
#[derive(Debug)]
pub(super) struct Timers {
    /// Each is no later than the two at twice its place plus 1 and 2.
    heap: Vec<(Duration, usize)>,
    /// Where a slot is in the heap.
    places: Vec<usize>,
}

impl Timers {
    /// For slots below `slots`.
    pub(super) fn new(slots: usize) -> Self {
        Self { heap: Vec::with_capacity(slots), places: vec![NOWHERE; slots] }
    }

    /// The first time.
    pub(super) fn first(&self) -> Option<Duration> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// The slot whose time came first, if it has come by `now`. It has none any more.
    pub(super) fn due(&mut self, now: Duration) -> Option<usize> {
        let (_, slot) = *self.heap.first().filter(|(at, _)| *at <= now)?;
        self.set(slot, None);
        Some(slot)
    }

    /// Gives a slot another time, or none.
    pub(super) fn set(&mut self, slot: usize, at: Option<Duration>) {
        let Some(place) = self.places.get(slot).copied() else { return };
        match (self.heap.get_mut(place), at) {
            (None, None) => {}
            (None, Some(at)) => {
                let place = self.heap.len();
                self.heap.push((at, slot));
                self.put(place);
                self.settle(place);
            }
            (Some(entry), Some(at)) => {
                if entry.0 != at {
                    entry.0 = at;
                    self.settle(place);
                }
            }
            (Some(_), None) => {
                self.heap.swap_remove(place);
                if let Some(place) = self.places.get_mut(slot) {
                    *place = NOWHERE;
                }
                self.put(place);
                self.settle(place);
            }
        }
    }

    /// Moves an entry up or down to where it belongs.
    fn settle(&mut self, mut place: usize) {
        while let Some(above) = place.checked_sub(1).map(|below| below / 2) {
            if self.at(above) <= self.at(place) {
                break;
            }
            self.swap(above, place);
            place = above;
        }
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            let least = if self.at(right) < self.at(left) { right } else { left };
            if self.at(place) <= self.at(least) {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    /// Beyond the end it is never.
    fn at(&self, place: usize) -> Duration {
        self.heap.get(place).map_or(Duration::MAX, |(at, _)| *at)
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.put(one);
        self.put(other);
    }

    /// Notes where the entry at `place` is.
    fn put(&mut self, place: usize) {
        let Some((_, slot)) = self.heap.get(place) else { return };
        if let Some(noted) = self.places.get_mut(*slot) {
            *noted = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn times_come_in_order_and_not_before_they_have_come() {
        let mut timers = Timers::new(4);
        for (slot, ms) in [(0, 30), (1, 10), (2, 20), (3, 10)] {
            timers.set(slot, Some(at(ms)));
        }
        assert_eq!((timers.first(), timers.due(at(9))), (Some(at(10)), None));
        let mut both = [timers.due(at(10)).unwrap(), timers.due(at(10)).unwrap()];
        both.sort_unstable();
        assert_eq!((both, timers.due(at(10))), ([1, 3], None));
        timers.set(0, None);
        assert_eq!((timers.due(at(99)), timers.due(at(99)), timers.first()), (Some(2), None, None));
    }

    #[test]
    fn whatever_is_set_and_taken_back_the_first_is_the_least() {
        let (mut timers, mut model) = (Timers::new(50), BTreeMap::new());
        let mut random = 1u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (slot, value) = ((random >> 40) as usize % 50, (random >> 20) % 1000);
            match value % 4 {
                0 => {
                    model.remove(&slot);
                    timers.set(slot, None);
                }
                1 => {
                    let due = timers.due(at(value));
                    let least = model.values().min().copied();
                    assert_eq!(due.is_some(), least.is_some_and(|least| least <= value));
                    if let Some(slot) = due {
                        assert_eq!(model.remove(&slot), least);
                    }
                }
                _ => {
                    model.insert(slot, value);
                    timers.set(slot, Some(at(value)));
                }
            }
            assert_eq!(timers.first(), model.values().min().map(|ms| at(*ms)));
        }
    }
}
