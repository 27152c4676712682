//! A split virtqueue in service (virtio 1.2 §2.7; crate `virtio-queue`), on the worker's side.
//!
//! The crate reads the available ring. The used ring is written here: a frame of several buffers must
//! be there as a whole before the driver sees the first of them (§5.1.6.4), and the crate publishes
//! each one alone.

use std::collections::VecDeque;
use std::num::Wrapping;
use std::sync::atomic::{Ordering, fence};

use hv::GuestMemory;
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::Fault;
use super::chain::{Broken, MAX_SEGMENTS, Table};

/// One bit for each descriptor a chain can begin with.
type Heads = [u64; MAX_SEGMENTS as usize / 64];

/// Where a queue is that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Its number.
    pub(super) queue: usize,
    /// How many chains were taken from it, and used.
    pub(super) used: u16,
}

/// A queue in service. Nothing the guest does to registers reaches it.
pub(super) struct Ring {
    queue: Queue,
    table: Table,
    /// Chains that were made available and not begun, in order.
    waiting: VecDeque<u16>,
    /// Chains that are the device's: waiting, or being served.
    held: Heads,
    /// How many chains were used, as the driver knows it.
    used: Wrapping<u16>,
    /// How many of them when it was last considered whether to tell it.
    told: Wrapping<u16>,
}

/// The used ring: flags and index, then elements of 8 bytes (§2.7.8).
const USED_INDEX: u64 = 2;
const USED_ELEMENTS: u64 = 4;
const USED_ELEMENT: u64 = 8;

/// The available ring: flags and index, then heads of 2 bytes, then `used_event` (§2.7.6).
const AVAILABLE_HEADS: u64 = 4;
const AVAILABLE_HEAD: u64 = 2;

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (available, used) = (self.queue.next_avail(), self.used);
        let (size, waiting) = (self.table.size, self.waiting.len());
        write!(f, "size {size}, available {available}, used {used}, waiting {waiting}")
    }
}

fn out_of_reach(_: virtio_queue::Error) -> Fault {
    Fault::Ring
}

impl Ring {
    /// Takes a queue into service.
    pub(super) fn new(queue: Queue, indirect: bool) -> Self {
        let table = Table { address: queue.desc_table(), size: queue.size(), indirect };
        // All of it now: a ring is served without allocations.
        let waiting = VecDeque::with_capacity(queue.size().into());
        let used = Wrapping(queue.next_used());
        Self { queue, table, waiting, held: Heads::default(), used, told: used }
    }

    /// How many chains were taken and used, unless one was taken and not used, or the driver has yet to be
    /// told: what [`Ring::new`] begins with for a queue whose indices say so.
    pub(super) fn position(&self, queue: usize) -> Option<Position> {
        let waiting = u16::try_from(self.waiting.len()).ok()?;
        let taken = Wrapping(self.queue.next_avail()) - Wrapping(waiting);
        let still = taken == self.used && self.told == self.used;
        still.then_some(Position { queue, used: taken.0 })
    }

    /// Where its chains are.
    pub(super) fn table(&self) -> Table {
        self.table
    }

    /// Notes the chains that are available now: as many as the queue has entries, at most. The
    /// index is read once. Until the last of them is taken the driver need not notify.
    ///
    /// # Errors
    /// [`Fault`]: the ring is beyond service. A chain that the device already has was never the
    /// driver's to offer again.
    pub(super) fn collect(&mut self, memory: &GuestMemory) -> Result<(), Fault> {
        let chains = self.queue.iter(memory).map_err(|error| match error {
            virtio_queue::Error::InvalidAvailRingIndex => Fault::AvailableIndex,
            _ => Fault::Ring,
        })?;
        for chain in chains {
            let head = chain.head_index();
            let (word, bit) = held(&mut self.held, head)?;
            if *word & bit != 0 {
                return Err(Fault::Duplicate(head));
            }
            *word |= bit;
            self.waiting.push_back(head);
        }
        match self.waiting.is_empty() {
            true => Ok(()),
            false => self.queue.disable_notification(memory).map_err(out_of_reach),
        }
    }

    /// Lets go of what has not been begun.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Whether there is a chain to take.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next chain, by its first descriptor. Behind the last one the driver is asked to notify
    /// again; returns whether it has made more available before it could know that.
    ///
    /// # Errors
    /// [`Fault`]: the ring is beyond service.
    pub(super) fn take(&mut self, memory: &GuestMemory) -> Result<Option<(u16, bool)>, Fault> {
        let Some(head) = self.waiting.pop_front() else { return Ok(None) };
        let more = match self.waiting.is_empty() {
            true => self.queue.enable_notification(memory).map_err(out_of_reach)?,
            false => false,
        };
        Ok(Some((head, more)))
    }

    /// Puts a chain back that was taken, to be the next one again.
    pub(super) fn put_back(&mut self, head: u16) {
        self.waiting.push_front(head);
    }

    /// Gives a chain back, into which `written` bytes were written.
    ///
    /// # Errors
    /// [`Fault`]: the ring is beyond service.
    pub(super) fn give_back(
        &mut self,
        memory: &GuestMemory,
        head: u16,
        written: u32,
    ) -> Result<(), Fault> {
        self.give_back_all(memory, &[(head, written)])
    }

    /// Gives chains back, each with how many bytes were written into it. The driver sees all of them
    /// or none.
    ///
    /// # Errors
    /// [`Fault`]: the ring is beyond service.
    pub(super) fn give_back_all(
        &mut self,
        memory: &GuestMemory,
        chains: &[(u16, u32)],
    ) -> Result<(), Fault> {
        let mut used = self.used;
        for (head, written) in chains {
            let (word, bit) = held(&mut self.held, *head)?;
            *word &= !bit;
            let slot = u64::from(used.0.checked_rem(self.table.size).unwrap_or_default());
            let at =
                self.used_ring(USED_ELEMENTS.saturating_add(slot.saturating_mul(USED_ELEMENT)));
            let element = u64::from(*written) << 32 | u64::from(*head);
            memory.write_obj(element.to_le(), at).map_err(|_| Fault::Ring)?;
            used += 1;
        }
        self.used = used;
        let index = self.used_ring(USED_INDEX);
        memory.store(used.0.to_le(), index, Ordering::Release).map_err(|_| Fault::Ring)
    }

    /// Whether the driver is to be told of what was used since the last call.
    ///
    /// # Errors
    /// [`Fault`]: the ring is beyond service.
    pub(super) fn tell(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        let told = std::mem::replace(&mut self.told, self.used);
        match told == self.used {
            true => Ok(false),
            false => self.interrupt_wanted(memory, told),
        }
    }

    /// By `used_event` (§2.7.7.2), or by the flag that serves without it. `told` is what was used when
    /// the driver was last told, or need not be.
    fn interrupt_wanted(&self, memory: &GuestMemory, told: Wrapping<u16>) -> Result<bool, Fault> {
        // What was used is there before the driver's wish is read, or it might miss both.
        fence(Ordering::SeqCst);
        let ring = GuestAddress(self.queue.avail_ring());
        let read = |at: u64| {
            let at = GuestAddress(ring.0.saturating_add(at));
            memory.load(at, Ordering::Relaxed).map(u16::from_le).map_err(|_| Fault::Ring)
        };
        if !self.queue.event_idx_enabled() {
            return Ok(u32::from(read(0)?) & VRING_AVAIL_F_NO_INTERRUPT == 0);
        }
        let heads = u64::from(self.table.size).saturating_mul(AVAILABLE_HEAD);
        let event = Wrapping(read(AVAILABLE_HEADS.saturating_add(heads))?);
        Ok(self.used - event - Wrapping(1) < self.used - told)
    }

    /// An address in the used ring, which lies in RAM as a whole.
    fn used_ring(&self, offset: u64) -> GuestAddress {
        GuestAddress(self.queue.used_ring().saturating_add(offset))
    }
}

/// The word and the bit in it that stand for the chain at `head`.
fn held(heads: &mut Heads, head: u16) -> Result<(&mut u64, u64), Fault> {
    let word = heads.get_mut(usize::from(head / 64));
    let word = word.ok_or(Fault::Chain { head, error: Broken::Index(head) })?;
    Ok((word, 1 << (head % 64)))
}
