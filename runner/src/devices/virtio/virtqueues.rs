//! The virtqueues of a device that one thread serves, the I/O loop's: what came of the transport's
//! commands, and chains on their way to the device and back. A driver that breaks the rules ends the
//! service here, until it resets the device.

use std::fmt;
use std::sync::{Arc, mpsc};

use hv::GuestMemory;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;

use super::Fault;
use super::chain::{Broken, Chain};
use super::interrupts::Queues;
use super::ring::Ring;
use super::state::RegistersState;
use super::transport::Transport;
use super::worker::{Activation, Command};
use crate::devices::state::Undescribed;

/// The queues of one device.
pub struct Virtqueues {
    transport: Arc<Transport>,
    commands: mpsc::Receiver<(usize, Command)>,
    active: Option<Active>,
}

struct Active {
    generation: u64,
    features: u64,
    /// By their numbers; what the driver has not set up is nothing.
    queues: Vec<Option<Serving>>,
}

struct Serving {
    ring: Ring,
    /// There may be more in the ring: its doorbell rang.
    rung: bool,
}

/// A request on its way.
#[derive(Debug)]
pub struct Request<'m> {
    /// Its first descriptor, by which it is given back.
    pub head: u16,
    /// Its buffers.
    pub chain: Chain<'m>,
}

impl fmt::Debug for Virtqueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.transport.identity().name;
        write!(f, "{name}: {}", self.transport.describe())?;
        let queues = self.active.iter().flat_map(|active| active.queues.iter().enumerate());
        for (number, queue) in queues {
            if let Some(Serving { ring, .. }) = queue {
                write!(f, ", queue {number}: {ring:?}")?;
            }
        }
        Ok(())
    }
}

impl Virtqueues {
    /// Those of a device before its driver has found it. `commands` come from its `transport`.
    pub fn new(transport: Arc<Transport>, commands: mpsc::Receiver<(usize, Command)>) -> Self {
        Self { transport, commands, active: None }
    }

    /// What the driver reaches.
    pub fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    /// Carries out the commands that have come. Returns whether there were any: then what the device
    /// knows of its driver is void.
    pub fn obey(&mut self) -> bool {
        let mut any = false;
        while let Ok((_, command)) = self.commands.try_recv() {
            any = true;
            match command {
                Command::Activate(activation) => self.active = Some(Active::new(activation)),
                Command::Reset { generation } => {
                    self.active = None;
                    self.transport.reset_done(generation);
                }
            }
        }
        any
    }

    /// Its registers and where its queues are, if it stands still.
    ///
    /// # Errors
    /// [`Undescribed`].
    pub(super) fn saved(&self) -> Result<RegistersState, Undescribed> {
        let busy = || self.transport.busy("a request under way");
        let positions = self.active.as_ref().map(|active| {
            let queues = active.queues.iter().enumerate();
            let rings = queues.filter_map(|(number, queue)| Some((number, queue.as_ref()?)));
            let positions = rings.map(|(number, serving)| serving.ring.position(number));
            positions.collect::<Option<Vec<_>>>().ok_or_else(busy)
        });
        self.transport.saved(positions.transpose()?.as_deref())
    }

    /// What the driver has accepted, while the device is in service.
    pub fn features(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.features)
    }

    /// The driver has made chains of `queue` available.
    pub fn ring(&mut self, queue: usize) {
        if let Some(serving) = self.serving(queue) {
            serving.rung = true;
        }
    }

    /// The next request of `queue`. A driver that breaks the rules gets none: its device has stopped.
    pub fn take<'m>(&mut self, memory: &'m GuestMemory, queue: usize) -> Option<Request<'m>> {
        let mut chain = Chain::default();
        let head = self.take_into(memory, queue, &mut chain)?;
        Some(Request { head, chain })
    }

    /// The same by its first descriptor, with its buffers in `chain`, whose room is used again.
    pub fn take_into<'m>(
        &mut self,
        memory: &'m GuestMemory,
        queue: usize,
        chain: &mut Chain<'m>,
    ) -> Option<u16> {
        let wanted = |active: &Active| self.transport.wants(active.generation);
        if !self.active.as_ref().is_some_and(wanted) {
            return None;
        }
        let taken = self.serving(queue)?.take(memory, chain);
        taken.unwrap_or_else(|fault| {
            self.stop(fault);
            None
        })
    }

    /// Whether there may be a request to take of `queue`.
    pub fn is_waiting(&self, queue: usize) -> bool {
        let serving = self.active.as_ref().and_then(|active| active.queues.get(queue)?.as_ref());
        serving.is_some_and(|serving| serving.rung || serving.ring.is_waiting())
    }

    /// Puts a request back that was taken, to be the next one again.
    pub fn put_back(&mut self, queue: usize, head: u16) {
        if let Some(serving) = self.serving(queue) {
            serving.ring.put_back(head);
        }
    }

    /// Gives a request back, into which `written` bytes were written.
    pub fn give_back(&mut self, memory: &GuestMemory, queue: usize, head: u16, written: u32) {
        let Some(serving) = self.serving(queue) else { return };
        if let Err(fault) = serving.ring.give_back(memory, head, written) {
            self.stop(fault);
        }
    }

    /// The request cannot even be refused: the device stops until it is reset.
    pub fn refuse(&mut self, head: u16, error: Broken) {
        self.stop(Fault::Chain { head, error });
    }

    /// Tells the driver of what was used since the last call.
    pub fn tell(&mut self, memory: &GuestMemory) {
        let Some(active) = &mut self.active else { return };
        let mut wanted = Queues::default();
        let mut faults = Vec::new();
        for (number, queue) in active.queues.iter_mut().enumerate() {
            match queue.as_mut().map(|serving| serving.ring.tell(memory)) {
                Some(Ok(true)) => wanted.insert(number),
                Some(Err(fault)) => faults.push(fault),
                Some(Ok(false)) | None => {}
            }
        }
        if !wanted.is_empty() {
            self.transport.used(active.generation, wanted);
        }
        faults.into_iter().for_each(|fault| self.stop(fault));
    }

    fn serving(&mut self, queue: usize) -> Option<&mut Serving> {
        self.active.as_mut()?.queues.get_mut(queue)?.as_mut()
    }

    fn stop(&mut self, fault: Fault) {
        let Some(active) = self.active.take() else { return };
        if let Some(note) = self.transport.fault(active.generation, fault) {
            crate::warning!("{note}");
        }
    }
}

impl Active {
    fn new(activation: Activation) -> Self {
        let Activation { generation, features, queues: ready } = activation;
        let indirect = features & (1 << VIRTIO_RING_F_INDIRECT_DESC) != 0;
        let mut queues = Vec::new();
        for (number, queue) in ready {
            queues.resize_with(number, || None);
            // What was made available before is not announced again.
            queues.push(Some(Serving { ring: Ring::new(queue, indirect), rung: true }));
        }
        Self { generation, features, queues }
    }
}

impl Serving {
    fn take<'m>(
        &mut self,
        memory: &'m GuestMemory,
        chain: &mut Chain<'m>,
    ) -> Result<Option<u16>, Fault> {
        if !self.ring.is_waiting() {
            if !std::mem::take(&mut self.rung) {
                return Ok(None);
            }
            self.ring.collect(memory)?;
        }
        let Some((head, more)) = self.ring.take(memory)? else { return Ok(None) };
        self.rung |= more;
        let read = chain.read_again(memory, self.ring.table(), head);
        read.map_err(|error| Fault::Chain { head, error })?;
        Ok(Some(head))
    }
}
