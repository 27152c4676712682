//! The half of the network device that serves its queues, on the I/O loop's thread.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hv::GuestMemory;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MRG_RXBUF,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;

use super::room::{Counts, Gathered, NoRoom, Room};
use super::{RECEIVE, TRANSMIT};
use crate::devices::state::{Refused, Undescribed};
use crate::devices::virtio::Fault;
use crate::devices::virtio::chain::{Broken, Chain};
use crate::devices::virtio::interrupts::Queues;
use crate::devices::virtio::ring::Ring;
use crate::devices::virtio::state::{Own, VirtioState};
use crate::devices::virtio::transport::Transport;
use crate::devices::virtio::worker::{Activation, Command};
use crate::net::frame::{Bytes, Family, Frame, HEADER, LARGEST, Offload};
use crate::net::{ETHERNET, Link, Sent};

/// Frames that are taken from the guest before others have their turn: all that a queue can hold.
const BATCH: u16 = super::QUEUE_SIZE;

/// Batches that are taken when the guest has ended.
const LAST: usize = 16;

/// What may have to be done: who calls [`Nic::serve`] says what was announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// There are commands of the transport's.
    pub commands: bool,
    /// The guest has sent frames.
    pub transmit: bool,
    /// The guest has made room.
    pub receive: bool,
}

/// What serving needs for as long as guest memory is borrowed, so that nothing is allocated in it.
#[derive(Debug, Default)]
pub struct Scratch<'m> {
    chain: Chain<'m>,
    gathered: Gathered<'m>,
}

/// The device's queues, their link, and what is to be done.
pub struct Nic {
    transport: Arc<Transport>,
    commands: mpsc::Receiver<(usize, Command)>,
    link: Box<dyn Link>,
    active: Option<Active>,
    work: Work,
    /// The link takes no frame until it has been ready.
    blocked: bool,
    sent: Counts,
    received: Counts,
    dropped: u64,
}

struct Active {
    generation: u64,
    features: u64,
    receive: Option<Ring>,
    transmit: Option<Ring>,
}

impl fmt::Debug for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, state) = (&self.transport.identity().name, self.transport.describe());
        let (sent, dropped) = (self.sent.frames, self.dropped);
        let (received, too_large) = (self.received.frames, self.received.too_large);
        write!(
            f,
            "{name}: {state}, frames: {sent} sent, {dropped} of them not valid, {received} received, \
             {too_large} too large for the guest"
        )
    }
}

impl Nic {
    /// A device before its driver has found it. `commands` come from its `transport`.
    pub fn new(
        transport: Arc<Transport>,
        commands: mpsc::Receiver<(usize, Command)>,
        link: Box<dyn Link>,
    ) -> Self {
        let (sent, received) = Default::default();
        let (active, work, blocked, dropped) = (None, Work::default(), false, 0);
        Self { transport, commands, link, active, work, blocked, sent, received, dropped }
    }

    /// What it is between two turns.
    ///
    /// # Errors
    /// [`Undescribed`]: it has not heard of all that its driver did.
    pub fn describe(&self) -> Result<VirtioState, Undescribed> {
        let busy = || self.transport.busy("a frame under way");
        let positions = self.active.as_ref().map(|active| {
            let rings = [(RECEIVE, &active.receive), (TRANSMIT, &active.transmit)];
            let rings = rings.iter().filter_map(|(queue, ring)| Some((*queue, ring.as_ref()?)));
            let positions = rings.map(|(queue, ring)| ring.position(queue));
            positions.collect::<Option<Vec<_>>>().ok_or_else(busy)
        });
        let registers = self.transport.saved(positions.transpose()?.as_deref())?;
        let device = self.transport.identity().device;
        Ok(VirtioState { device, registers, own: Own::Nothing })
    }

    /// Makes a device that nobody has used yet what `saved` was. Its next turn goes on from there.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&mut self, saved: &VirtioState) -> Result<(), Refused> {
        self.transport.restore(saved, &(0..0))?;
        self.obey();
        saved.own.nothing()
    }

    /// The network behind it.
    pub fn link(&mut self) -> &mut dyn Link {
        &mut *self.link
    }

    /// The link was told that something is ready, and may take frames again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// The guest has ended: what it has sent up to now goes on its way, as far as the network takes it
    /// at once, and no more than a few queues of it.
    pub fn finish<'m>(
        &mut self,
        memory: &'m GuestMemory,
        scratch: &mut Scratch<'m>,
        now: Duration,
    ) {
        let all = Work { commands: true, transmit: true, receive: false };
        self.blocked = false;
        for _ in 0..LAST {
            if !self.serve(memory, scratch, all, now) {
                break;
            }
        }
        self.link.finish();
    }

    /// Does all there is to do, up to a bound, at `now` since the run began. Whether more is left.
    pub fn serve<'m>(
        &mut self,
        memory: &'m GuestMemory,
        scratch: &mut Scratch<'m>,
        new: Work,
        now: Duration,
    ) -> bool {
        if new.commands {
            self.obey();
        }
        self.work.transmit |= new.transmit;
        self.work.receive |= new.receive;
        let served = self.transmit(memory, &mut scratch.chain, now);
        let served = served.and_then(|()| self.receive(memory, &mut scratch.gathered, now));
        if let Err(fault) = served.and_then(|()| self.tell(memory)) {
            self.stop(fault);
        }
        self.work.transmit && !self.blocked && self.active.is_some()
    }

    fn obey(&mut self) {
        while let Ok((_, command)) = self.commands.try_recv() {
            match command {
                Command::Activate(Activation { generation, features, queues }) => {
                    let indirect = features & (1 << VIRTIO_RING_F_INDIRECT_DESC) != 0;
                    let (mut receive, mut transmit) = (None, None);
                    for (index, queue) in queues {
                        let ring = Some(Ring::new(queue, indirect));
                        match index {
                            RECEIVE => receive = ring,
                            TRANSMIT => transmit = ring,
                            _ => {}
                        }
                    }
                    self.active = Some(Active { generation, features, receive, transmit });
                    self.link.activate(Some(features));
                    // What was made available before is not announced again.
                    self.work = Work { commands: false, transmit: true, receive: true };
                    self.blocked = false;
                }
                Command::Reset { generation } => {
                    self.let_go();
                    self.transport.reset_done(generation);
                }
            }
        }
    }

    fn let_go(&mut self) {
        if self.active.take().is_some() {
            self.link.activate(None);
        }
    }

    fn stop(&mut self, fault: Fault) {
        let generation = self.active.as_ref().map(|active| active.generation);
        self.let_go();
        let note = generation.and_then(|generation| self.transport.fault(generation, fault));
        if let Some(note) = note {
            crate::warning!("{note}");
        }
    }

    /// Takes frames from the guest.
    fn transmit<'m>(
        &mut self,
        memory: &'m GuestMemory,
        chain: &mut Chain<'m>,
        now: Duration,
    ) -> Result<(), Fault> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let Some(ring) = &mut active.transmit else { return Ok(()) };
        if self.blocked {
            return Ok(());
        }
        for _ in 0..BATCH {
            if !ring.is_waiting() {
                if !std::mem::take(&mut self.work.transmit) {
                    return Ok(());
                }
                ring.collect(memory)?;
            }
            let Some((head, more)) = ring.take(memory)? else { return Ok(()) };
            self.work.transmit |= more;
            let broken = |error| Fault::Chain { head, error };
            chain.read_again(memory, ring.table(), head).map_err(broken)?;
            match frame(chain, active.features).map_err(broken)? {
                None => self.dropped = self.dropped.saturating_add(1),
                Some(frame) => {
                    if self.link.send(&frame, now) == Sent::Later {
                        ring.put_back(head);
                        self.work.transmit = true;
                        self.blocked = true;
                        return Ok(());
                    }
                }
            }
            self.sent.frames = self.sent.frames.saturating_add(1);
            ring.give_back(memory, head, 0)?;
        }
        self.work.transmit |= ring.is_waiting();
        Ok(())
    }

    /// Gives the guest what its link has.
    fn receive<'m>(
        &mut self,
        memory: &'m GuestMemory,
        gathered: &mut Gathered<'m>,
        now: Duration,
    ) -> Result<(), Fault> {
        let active = self.active.as_mut();
        let queue = active.and_then(|active| Some((active.features, active.receive.as_mut()?)));
        let Some((features, ring)) = queue else {
            // The link has its own affairs, and times, without a guest that listens, too.
            self.link.receive(&mut NoRoom, now);
            return Ok(());
        };
        let mergeable = features & (1 << VIRTIO_NET_F_MRG_RXBUF) != 0;
        let (rung, counts) = (&mut self.work.receive, &mut self.received);
        let mut room = Room::new(memory, ring, gathered, mergeable, rung, counts);
        self.link.receive(&mut room, now);
        room.close()
    }

    /// Tells the guest of what was used.
    fn tell(&mut self, memory: &GuestMemory) -> Result<(), Fault> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let mut wanted = Queues::default();
        let rings = [(RECEIVE, &mut active.receive), (TRANSMIT, &mut active.transmit)];
        for (queue, ring) in rings {
            if let Some(ring) = ring
                && ring.tell(memory)?
            {
                wanted.insert(queue);
            }
        }
        if !wanted.is_empty() {
            self.transport.used(active.generation, wanted);
        }
        Ok(())
    }
}

/// The frame in a chain of the transmit queue. `None` when its header asks for what makes no sense or
/// was not negotiated, or its length is none of a frame: what a bad driver sends goes nowhere.
///
/// # Errors
/// When there is not even a header: the driver does not know what it does.
fn frame<'a>(chain: &'a Chain<'_>, features: u64) -> Result<Option<Frame<'a>>, Broken> {
    let all = Bytes::new(chain.readable.slices());
    let mut header = [0; HEADER];
    if all.copy_to(&mut header) < HEADER {
        return Err(Broken::NoHeader);
    }
    let bytes = all.skip(HEADER);
    let frame = Offload::parse(&header, bytes.len()).map(|offload| Frame { offload, bytes });
    Ok(frame.filter(|frame| {
        (ETHERNET..=LARGEST).contains(&bytes.len()) && negotiated(frame.offload, features)
    }))
}

/// Whether the driver may leave that much to the device.
fn negotiated(offload: Offload, features: u64) -> bool {
    let has = |feature: u32| features & (1 << feature) != 0;
    let segment = match offload.segment {
        None => true,
        Some((Family::V4, _)) => has(VIRTIO_NET_F_HOST_TSO4),
        Some((Family::V6, _)) => has(VIRTIO_NET_F_HOST_TSO6),
    };
    segment && (offload.checksum.is_none() || has(VIRTIO_NET_F_CSUM))
}
