//! The flows: found by their two ends, by the number their socket is watched with, and by the slot
//! they live in.

use std::collections::HashMap;
use std::hash::RandomState;

use super::flow::Flow;
use super::segment::Key;

/// The most flows there are.
pub(super) const FLOWS: usize = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 12;

/// A slot has as many numbers, one after the other, so that what is announced about a socket that is
/// closed is not taken for the next one's.
const GENERATIONS: usize = 1 << 16;

#[derive(Debug, Default)]
struct Slot {
    flow: Option<Flow>,
    generation: usize,
    /// It is in the queue, whoever lives in it.
    queued: bool,
}

/// All flows.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize, RandomState>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::with_capacity(FLOWS),
            free: Vec::with_capacity(FLOWS),
            by_key: HashMap::with_capacity_and_hasher(FLOWS, RandomState::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= FLOWS
    }

    /// The slot of the flow between these ends.
    pub(super) fn find(&self, key: &Key) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&mut self, slot: usize) -> Option<&mut Flow> {
        self.slots.get_mut(slot)?.flow.as_mut()
    }

    /// The number to watch a slot's socket with.
    pub(super) fn number(&self, slot: usize) -> usize {
        let generation = self.slots.get(slot).map_or(0, |slot| slot.generation);
        generation << SLOT_BITS | slot
    }

    /// The slot of a number that is still that of its flow.
    pub(super) fn slot(&self, number: usize) -> Option<usize> {
        let slot = number % FLOWS;
        (self.number(slot) == number && self.slots.get(slot)?.flow.is_some()).then_some(slot)
    }

    /// Notes that a slot is in the queue, or no longer. Returns whether that is new.
    pub(super) fn queued(&mut self, slot: usize, queued: bool) -> bool {
        let Some(slot) = self.slots.get_mut(slot) else { return false };
        std::mem::replace(&mut slot.queued, queued) != queued
    }

    /// Takes a flow in, unless the table is full or has one with these ends.
    pub(super) fn insert(&mut self, flow: Flow) -> Option<usize> {
        if self.is_full() || self.by_key.contains_key(&flow.key) {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len().saturating_sub(1)
        });
        self.by_key.insert(flow.key, slot);
        self.slots.get_mut(slot)?.flow = Some(flow);
        Some(slot)
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, slot: usize) -> Option<Flow> {
        let place = self.slots.get_mut(slot)?;
        let flow = place.flow.take()?;
        place.generation = place.generation.wrapping_add(1) % GENERATIONS;
        self.free.push(slot);
        self.by_key.remove(&flow.key);
        Some(flow)
    }

    /// Gives a flow other ends, unless another has them.
    pub(super) fn rename(&mut self, slot: usize, key: Key) {
        if self.by_key.contains_key(&key) {
            return;
        }
        let Some(flow) = self.slots.get_mut(slot).and_then(|slot| slot.flow.as_mut()) else {
            return;
        };
        self.by_key.remove(&flow.key);
        flow.key = key;
        self.by_key.insert(key, slot);
    }

    /// The slots that there have been so far, with and without flows.
    pub(super) fn slots(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }
}
