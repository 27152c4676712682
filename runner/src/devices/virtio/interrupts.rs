//! How a device tells its driver something, whatever bus it is on (virtio 1.2 §2.3).

/// Queues of a device, by number; the first 64, which is more than any device here has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues(u64);

impl Queues {
    /// One more.
    pub fn insert(&mut self, queue: usize) {
        let bit = u32::try_from(queue).ok().and_then(|queue| 1u64.checked_shl(queue));
        self.0 |= bit.unwrap_or_default();
    }

    /// Those of `others`, too.
    pub fn extend(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their numbers.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..64usize).filter(move |queue| self.0 >> queue & 1 != 0)
    }
}

/// A device's way to interrupt its driver.
///
/// `pending` says whether the interrupt status has a bit that the driver has not seen, at the time of
/// the call. Who calls does not hold the transport's lock.
pub trait Interrupts: Send + Sync {
    /// The device has used buffers of `queues`; the interrupt status says so already.
    fn used(&self, queues: Queues, pending: &dyn Fn() -> bool);
    /// The device's configuration or status changed; the interrupt status says so already.
    fn config(&self, pending: &dyn Fn() -> bool);
    /// The interrupt status has lost bits: the driver has seen them, or a reset has.
    fn settle(&self, pending: &dyn Fn() -> bool);
}

/// An edge-triggered line: whatever there is to tell is one event on it.
impl<F: Fn() + Send + Sync> Interrupts for F {
    fn used(&self, _queues: Queues, _pending: &dyn Fn() -> bool) {
        self();
    }

    fn config(&self, _pending: &dyn Fn() -> bool) {
        self();
    }

    fn settle(&self, _pending: &dyn Fn() -> bool) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_queues_has_those_that_were_put_in_and_none_that_cannot_be() {
        let mut queues = Queues::default();
        assert!(queues.is_empty());
        for queue in [3, 0, 63, 64, usize::MAX] {
            queues.insert(queue);
        }
        assert_eq!(queues.iter().collect::<Vec<_>>(), [0, 3, 63]);
    }
}
