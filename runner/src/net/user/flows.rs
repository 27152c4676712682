//! What is kept of flows: so many at most, each found by its key or by its number, and forgotten when
//! it has been idle for long, or longest of all when there is no room for another.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::list::List;

/// How soon an idle flow is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// One that will hardly go on.
    Short,
    /// Any other.
    Long,
}

/// Flows with keys `K`, of which is kept `V`.
#[derive(Debug)]
pub(super) struct Flows<K, V> {
    most: usize,
    short: Duration,
    long: Duration,
    /// Never made anew, for that calls getrandom(2), which the jail has not either.
    numbers: HashMap<K, usize>,
    /// With room for all from the start: one that grows calls mremap(2), which the jail has not.
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<usize>,
    /// Those with short patience and those with long, the one that was idle longest first.
    idle: [List; 2],
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    patience: Patience,
    used: Duration,
}

impl<K: Copy + Eq + Hash, V> Flows<K, V> {
    /// Room for `most`, which are forgotten when idle for `short` or `long`.
    pub(super) fn new(most: usize, short: Duration, long: Duration) -> Self {
        Self {
            most,
            short,
            long,
            numbers: HashMap::new(),
            slots: Vec::with_capacity(most),
            free: Vec::with_capacity(most),
            idle: [List::new(most), List::new(most)],
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of the one with that key.
    pub(super) fn find(&self, key: &K) -> Option<usize> {
        self.numbers.get(key).copied()
    }

    /// The one with that number.
    pub(super) fn get(&mut self, number: usize) -> Option<(K, &mut V)> {
        let slot = self.slots.get_mut(number)?.as_mut()?;
        Some((slot.key, &mut slot.value))
    }

    /// It is in use.
    pub(super) fn touch(&mut self, number: usize, patience: Patience, now: Duration) {
        let Some(slot) = self.slots.get_mut(number).and_then(Option::as_mut) else { return };
        (slot.patience, slot.used) = (patience, now);
        let [short, long] = &mut self.idle;
        let (list, other) = match patience {
            Patience::Short => (short, long),
            Patience::Long => (long, short),
        };
        other.remove(number);
        list.push(number);
    }

    /// As [`Flows::touch`], with the patience it has.
    pub(super) fn touch_again(&mut self, number: usize, now: Duration) {
        if let Some(slot) = self.slots.get(number).and_then(Option::as_ref) {
            self.touch(number, slot.patience, now);
        }
    }

    /// Another one, whose key none has. Whether there must be room made for it first
    /// ([`Flows::evict`]).
    pub(super) fn is_full(&self) -> bool {
        self.numbers.len() >= self.most
    }

    /// Another one, whose key none has, for which there is room: its number.
    pub(super) fn insert(&mut self, key: K, value: V, patience: Patience, now: Duration) -> usize {
        let slot = Some(Slot { key, value, patience, used: now });
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = self.slots.get_mut(number) {
                    *place = slot;
                }
                number
            }
            None => {
                self.slots.push(slot);
                self.slots.len().saturating_sub(1)
            }
        };
        self.numbers.insert(key, number);
        self.touch(number, patience, now);
        number
    }

    /// Forgets the one with that number.
    pub(super) fn remove(&mut self, number: usize) -> Option<V> {
        let slot = self.slots.get_mut(number)?.take()?;
        self.numbers.remove(&slot.key);
        self.free.push(number);
        for list in &mut self.idle {
            list.remove(number);
        }
        Some(slot.value)
    }

    /// The one that has been idle longest, whatever the patience.
    pub(super) fn oldest(&self) -> Option<usize> {
        let [short, long] = self.idle.each_ref().map(|list| {
            let number = list.first()?;
            Some((self.used(number), number))
        });
        [short, long].into_iter().flatten().min().map(|(_, number)| number)
    }

    /// One that has been idle for longer than it may be.
    pub(super) fn expired(&self, now: Duration) -> Option<usize> {
        self.next().filter(|(end, _)| *end <= now).map(|(_, number)| number)
    }

    /// When the next one will be.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.next().map(|(end, _)| end)
    }

    /// The one that is forgotten next, and when.
    fn next(&self) -> Option<(Duration, usize)> {
        let [short, long] = &self.idle;
        let ends = [(short, self.short), (long, self.long)].map(|(list, patience)| {
            let number = list.first()?;
            Some((self.used(number).saturating_add(patience), number))
        });
        ends.into_iter().flatten().min()
    }

    fn used(&self, number: usize) -> Duration {
        let slot = self.slots.get(number).and_then(Option::as_ref);
        slot.map_or(Duration::ZERO, |slot| slot.used)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
        self.slots.clear();
        self.free.clear();
        for list in &mut self.idle {
            list.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn three() -> Flows<u8, char> {
        let mut flows = Flows::new(3, seconds(10), seconds(240));
        for (at, (key, patience)) in
            [(1, Patience::Long), (2, Patience::Short), (3, Patience::Long)].into_iter().enumerate()
        {
            assert!(!flows.is_full());
            let number = flows.insert(key, char::from(key), patience, seconds(at as u64));
            assert_eq!(number, at);
        }
        flows
    }

    #[test]
    fn flows_are_forgotten_when_they_have_been_idle_for_as_long_as_their_patience() {
        let mut flows = three();
        assert_eq!(flows.deadline(), Some(seconds(11)));
        assert_eq!(flows.expired(seconds(10)), None);
        let number = flows.expired(seconds(11)).unwrap();
        assert_eq!(flows.remove(number), Some('\x02'));
        assert_eq!(flows.deadline(), Some(seconds(240)));
        flows.touch_again(0, seconds(20));
        assert_eq!(flows.deadline(), Some(seconds(242)), "the third one's");
        flows.touch(0, Patience::Short, seconds(30));
        assert_eq!(flows.deadline(), Some(seconds(40)));
        assert_eq!((flows.remove(0), flows.remove(0), flows.len()), (Some('\x01'), None, 1));
        assert_eq!((flows.find(&1), flows.find(&3)), (None, Some(2)));
    }

    #[test]
    fn the_one_that_was_idle_longest_makes_room_for_another() {
        let mut flows = three();
        assert!(flows.is_full());
        flows.touch_again(0, seconds(5));
        let oldest = flows.oldest().unwrap();
        assert_eq!(flows.remove(oldest), Some('\x02'));
        assert_eq!(flows.insert(9, '\x09', Patience::Long, seconds(6)), oldest, "its place");
        assert_eq!(flows.get(oldest), Some((9, &mut '\x09')));
        assert_eq!(flows.oldest(), Some(2));
        flows.clear();
        assert_eq!((flows.oldest(), flows.deadline(), flows.len()), (None, None, 0));
        assert_eq!(flows.insert(9, '\x09', Patience::Long, seconds(7)), 0);
    }
}
