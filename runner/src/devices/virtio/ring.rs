//! A split virtqueue in service (virtio 1.2 §2.7; crate `virtio-queue`), on the worker's side.

use std::sync::atomic::Ordering;

use hv::GuestMemory;
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::Fault;
use super::chain::{Broken, Chain, MAX_SEGMENTS, Table};

/// One bit for each descriptor a chain can begin with.
type Heads = [u64; MAX_SEGMENTS as usize / 64];

/// A queue in service. Nothing the guest does to registers reaches it.
pub(super) struct Ring {
    queue: Queue,
    table: Table,
    /// The chains of this wake, in order.
    heads: Vec<u16>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (available, used) = (self.queue.next_avail(), self.queue.next_used());
        write!(f, "size {}, available {available}, used {used}", self.table.size)
    }
}

/// What is left after a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drained {
    /// The driver made more available meanwhile.
    pub(super) more: bool,
    /// The driver wants to hear of what was used.
    pub(super) interrupt: bool,
}

impl Ring {
    /// Takes a queue into service.
    pub(super) fn new(queue: Queue, indirect: bool) -> Self {
        let table = Table { address: queue.desc_table(), size: queue.size(), indirect };
        Self { queue, table, heads: Vec::new() }
    }

    /// Serves what is available now, at most as many chains as the queue has entries. `serve`
    /// returns how many bytes it wrote to the chain, or `None` to leave it and all behind it: the
    /// device is being reset.
    ///
    /// # Errors
    /// [`Fault`]: the ring is beyond service. Chains before the bad one have been served.
    pub(super) fn drain(
        &mut self,
        memory: &GuestMemory,
        mut serve: impl FnMut(Chain<'_>) -> Result<Option<u32>, Broken>,
    ) -> Result<Drained, Fault> {
        let out_of_reach = |_| Fault::Ring;
        self.queue.disable_notification(memory).map_err(out_of_reach)?;
        self.collect(memory)?;
        for index in 0..self.heads.len() {
            let Some(&head) = self.heads.get(index) else { break };
            let chain = Chain::read(memory, self.table, head);
            let written = chain.and_then(&mut serve);
            match written.map_err(|error| Fault::Chain { head, error })? {
                Some(written) => {
                    self.queue.add_used(memory, head, written).map_err(out_of_reach)?;
                }
                None => return Ok(Drained { more: false, interrupt: false }),
            }
        }
        let interrupt = !self.heads.is_empty() && self.interrupt_wanted(memory)?;
        let more = self.queue.enable_notification(memory).map_err(out_of_reach)?;
        Ok(Drained { more, interrupt })
    }

    /// Notes the chains that are available now. The index is read once, and nothing has been given
    /// back since: a chain that is there twice was never the driver's to offer again.
    fn collect(&mut self, memory: &GuestMemory) -> Result<(), Fault> {
        self.heads.clear();
        let mut seen = Heads::default();
        let chains = self.queue.iter(memory).map_err(|error| match error {
            virtio_queue::Error::InvalidAvailRingIndex => Fault::AvailableIndex,
            _ => Fault::Ring,
        })?;
        for chain in chains {
            let head = chain.head_index();
            let word = seen.get_mut(usize::from(head / 64));
            let word = word.ok_or(Fault::Chain { head, error: Broken::Index(head) })?;
            let bit = 1u64 << (head % 64);
            if *word & bit != 0 {
                return Err(Fault::Duplicate(head));
            }
            *word |= bit;
            self.heads.push(head);
        }
        Ok(())
    }

    /// The crate knows `used_event` (§2.7.7.2) and leaves the flag that serves without it.
    fn interrupt_wanted(&mut self, memory: &GuestMemory) -> Result<bool, Fault> {
        let wanted = self.queue.needs_notification(memory).map_err(|_| Fault::Ring)?;
        if self.queue.event_idx_enabled() {
            return Ok(wanted);
        }
        let flags = GuestAddress(self.queue.avail_ring());
        let flags: u16 = memory.load(flags, Ordering::Relaxed).map_err(|_| Fault::Ring)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }
}
