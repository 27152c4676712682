//! A split virtqueue in service (virtio 1.2 §2.7; crate `virtio-queue`), on the worker's side.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use hv::GuestMemory;
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::Fault;
use super::chain::{Broken, MAX_SEGMENTS, Table};

/// One bit for each descriptor a chain can begin with.
type Heads = [u64; MAX_SEGMENTS as usize / 64];

/// A queue in service. Nothing the guest does to registers reaches it.
pub(super) struct Ring {
    queue: Queue,
    table: Table,
    /// Chains that were made available and not begun, in order.
    waiting: VecDeque<u16>,
    /// Chains that are the device's: waiting, or being served.
    held: Heads,
    /// The driver has not been told of all that was used.
    untold: bool,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (available, used) = (self.queue.next_avail(), self.queue.next_used());
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
        let (waiting, held) = (VecDeque::new(), Heads::default());
        Self { queue, table, waiting, held, untold: false }
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
        let (word, bit) = held(&mut self.held, head)?;
        *word &= !bit;
        self.untold = true;
        self.queue.add_used(memory, head, written).map_err(out_of_reach)
    }

    /// Whether the driver is to be told of what was used since the last call.
    ///
    /// # Errors
    /// [`Fault`]: the ring is beyond service.
    pub(super) fn tell(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        match std::mem::take(&mut self.untold) {
            true => self.interrupt_wanted(memory),
            false => Ok(false),
        }
    }

    /// The crate knows `used_event` (§2.7.7.2) and leaves the flag that serves without it.
    fn interrupt_wanted(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        let wanted = self.queue.needs_notification(memory).map_err(out_of_reach)?;
        if self.queue.event_idx_enabled() {
            return Ok(wanted);
        }
        let flags = GuestAddress(self.queue.avail_ring());
        let flags: u16 = memory.load(flags, Ordering::Relaxed).map_err(|_| Fault::Ring)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }
}

/// The word and the bit in it that stand for the chain at `head`.
fn held(heads: &mut Heads, head: u16) -> Result<(&mut u64, u64), Fault> {
    let word = heads.get_mut(usize::from(head / 64));
    let word = word.ok_or(Fault::Chain { head, error: Broken::Index(head) })?;
    Ok((word, 1 << (head % 64)))
}
