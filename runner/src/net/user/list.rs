//! A list of small numbers in which each stands at most once: put at its end, taken from its start or
//! from anywhere, in constant time and without allocation once it has seen its largest number.

/// A number's neighbours. Its own number at an end of the list.
#[derive(Clone, Copy, Debug)]
struct Neighbours {
    before: usize,
    behind: usize,
}

/// A list of numbers.
#[derive(Debug, Default)]
pub(super) struct List {
    places: Vec<Option<Neighbours>>,
    ends: Option<(usize, usize)>,
}

impl List {
    /// An empty list for numbers below `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { places: Vec::with_capacity(most), ends: None }
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<usize> {
        self.ends.map(|(first, _)| first)
    }

    /// Takes the first one out.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// Puts `number` at the end, wherever it was before.
    pub(super) fn push(&mut self, number: usize) {
        self.remove(number);
        if self.places.len() <= number {
            self.places.resize(number.saturating_add(1), None);
        }
        let last = self.ends.map_or(number, |(_, last)| last);
        if let Some(last) = self.neighbours(last) {
            last.behind = number;
        }
        if let Some(place) = self.places.get_mut(number) {
            *place = Some(Neighbours { before: last, behind: number });
        }
        self.ends = Some((self.ends.map_or(number, |(first, _)| first), number));
    }

    /// Takes `number` out, if it is in.
    pub(super) fn remove(&mut self, number: usize) {
        let Some(place) = self.places.get_mut(number).and_then(Option::take) else { return };
        let Some((first, last)) = self.ends else { return };
        let (before, behind) = (place.before, place.behind);
        match (first == number, last == number) {
            (true, true) => return self.ends = None,
            (true, false) => self.ends = Some((behind, last)),
            (false, true) => self.ends = Some((first, before)),
            (false, false) => {}
        }
        if let Some(neighbour) = self.neighbours(before) {
            neighbour.behind = if last == number { before } else { behind };
        }
        if let Some(neighbour) = self.neighbours(behind) {
            neighbour.before = if first == number { behind } else { before };
        }
    }

    /// Takes all out.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.ends = None;
    }

    fn neighbours(&mut self, number: usize) -> Option<&mut Neighbours> {
        self.places.get_mut(number)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn a_list_does_what_a_queue_does_whatever_is_put_and_taken() {
        let (mut list, mut queue) = (List::new(8), VecDeque::new());
        let mut random = 1u32;
        for _ in 0..100_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (random >> 8) as usize % 9;
            match random >> 28 {
                0..4 => assert_eq!(list.pop(), queue.pop_front()),
                4..8 => {
                    queue.retain(|other| *other != number);
                    list.remove(number);
                }
                15 if random & 0xf00_0000 == 0 => {
                    list.clear();
                    queue.clear();
                }
                _ => {
                    queue.retain(|other| *other != number);
                    queue.push_back(number);
                    list.push(number);
                }
            }
            assert_eq!(list.first(), queue.front().copied());
        }
        while let Some(number) = queue.pop_front() {
            assert_eq!(list.pop(), Some(number));
        }
        assert_eq!(list.pop(), None);
    }
}
