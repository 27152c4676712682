//! The device that serves the queues.

use std::io;
use std::time::Duration;

use hv::GuestMemory;
use vm_memory::VolatileSlice;

use super::exchange::Exchange;
use super::host::Sockets;
use super::inbox::Inbox;
use super::packet::{HEADER, Header};
use super::{EVENT, QUEUE_SIZE, TRANSMIT, identity};
use crate::devices::state::Refused;
use crate::devices::virtio::chain::{Broken, Chain};
use crate::devices::virtio::served::Served;
use crate::devices::virtio::state::Own;
use crate::devices::virtio::transport::Identity;
use crate::devices::virtio::virtqueues::{Request, Virtqueues};
use crate::io::event_loop::{Ready, Watcher};
use crate::net::frame::Bytes;

/// Packets each way before others have their turn.
const BATCH: u16 = QUEUE_SIZE;

/// struct virtio_vsock_event (§5.10.6.7): VIRTIO_VSOCK_EVENT_TRANSPORT_RESET.
const TRANSPORT_RESET: [u8; TRANSPORT_RESET_LEN as usize] = 0u32.to_le_bytes();
const TRANSPORT_RESET_LEN: u32 = 4;

/// Batches that are taken when the guest has ended.
const LAST: usize = 16;

/// The socket device.
#[derive(Debug)]
pub struct Vsock {
    cid: u64,
    exchange: Exchange,
    /// The driver has started it, and the guest may know of connections.
    in_service: bool,
    /// Connections were lost, which the driver has not been told.
    interrupted: bool,
}

impl Vsock {
    /// A device whose guest has the address `cid`, before `sockets` of the host's.
    pub fn new(cid: u64, sockets: Sockets) -> Self {
        Self { cid, exchange: Exchange::new(cid, sockets), in_service: false, interrupted: false }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.exchange.len()
    }

    /// Takes packets from the guest, as long as they can be answered.
    fn transmit(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, now: Duration) {
        let mut chain = Chain::default();
        for _ in 0..BATCH {
            if !self.exchange.can_answer() {
                return;
            }
            let Some(head) = queues.take_into(memory, TRANSMIT, &mut chain) else { return };
            let slices: &[VolatileSlice<'_>] = chain.readable.slices();
            let bytes = Bytes::new(slices);
            let Some(header) = Header::read(bytes) else {
                return queues.refuse(head, Broken::NoHeader);
            };
            self.exchange.packet(&header, bytes.skip(HEADER), now);
            queues.give_back(memory, TRANSMIT, head, 0);
        }
    }

    /// Tells the driver that its connections are no more, once it has room for that.
    fn announce(&mut self, queues: &mut Virtqueues, memory: &GuestMemory) {
        if !self.interrupted {
            return;
        }
        let Some(Request { head, chain }) = queues.take(memory, EVENT) else { return };
        match chain.writable.copy_from(&TRANSPORT_RESET) {
            written if written == TRANSPORT_RESET.len() => {
                queues.give_back(memory, EVENT, head, TRANSPORT_RESET_LEN);
                self.interrupted = false;
            }
            _ => queues.refuse(head, Broken::NoAnswer),
        }
    }

    /// Gives the guest what there is for it. Whether there may be more than was given now.
    fn receive(&mut self, queues: &mut Virtqueues, memory: &GuestMemory) -> bool {
        let mut inbox = Inbox::new(memory, queues);
        let more = (0..BATCH).all(|_| self.exchange.give(&mut inbox));
        inbox.close();
        more
    }
}

impl Served for Vsock {
    fn identity(&self, name: &str) -> Identity {
        identity(name, self.cid)
    }

    fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        self.exchange.watch(watcher)
    }

    fn ready(&mut self, ready: Ready) {
        self.exchange.ready(ready);
    }

    fn reset(&mut self) {
        self.exchange.guest_gone();
        (self.in_service, self.interrupted) = (false, false);
    }

    fn describe(&self) -> Own {
        let some = self.exchange.len() > 0 || self.exchange.has_something();
        Own::Vsock { interrupted: self.interrupted || some }
    }

    fn restore(&mut self, own: &Own) -> Result<(), Refused> {
        let Own::Vsock { interrupted } = *own else { return Err(Own::foreign("`vsock`")) };
        self.interrupted = interrupted;
        Ok(())
    }

    fn serve(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, now: Duration) -> bool {
        self.announce(queues, memory);
        self.transmit(queues, memory, now);
        self.exchange.attend(now);
        let more = self.receive(queues, memory);
        let was_in_service = std::mem::replace(&mut self.in_service, queues.features().is_some());
        if was_in_service && !self.in_service {
            // The driver broke the rules, and has no connections until it starts again.
            self.exchange.guest_gone();
        }
        // What cannot be answered waits for room.
        more || self.exchange.can_answer() && queues.is_waiting(TRANSMIT)
    }

    fn deadline(&self) -> Option<Duration> {
        self.exchange.deadline()
    }

    fn finish(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, now: Duration) {
        queues.ring(TRANSMIT);
        for _ in 0..LAST {
            self.transmit(queues, memory, now);
            if !self.exchange.can_answer() || !queues.is_waiting(TRANSMIT) {
                break;
            }
        }
        self.exchange.finish();
    }
}
