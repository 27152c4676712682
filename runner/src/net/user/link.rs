//! What the device and the I/O loop see of the network.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
};
use vm_memory::VolatileSlice;

use super::addresses::{GATEWAY, MTU};
use super::counters::{Cause, Traffic};
use super::guest::Guest;
use super::ip::unreachable;
use super::ndp::Ndp;
use super::packet::Owner;
use super::tcp::Tcp;
use super::{User, dns, ping, udp};
use crate::io::event_loop::{Ready, Watcher};
use crate::net::frame::{Frame, Offload};
use crate::net::{Inbox, Link, Offer, Put, Sent};

/// Rounds in one turn, in each of which every part may give the guest a burst.
const ROUNDS: usize = 8;

/// What TCP can do without, and can leave to the guest: checksums, and segments that are cut.
const FEATURES: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO4;
const FEATURES_6: u64 = 1 << VIRTIO_NET_F_HOST_TSO6 | 1 << VIRTIO_NET_F_GUEST_TSO6;

impl Link for User {
    fn offer(&self) -> Offer {
        let six = if self.has_ipv6 { FEATURES_6 } else { 0 };
        Offer { features: FEATURES | six, mac: self.mac, mtu: MTU }
    }

    fn descriptors(&self) -> u64 {
        [udp::MOST, dns::MOST, ping::MOST].into_iter().fold(Tcp::descriptors(), |sum, most| {
            sum.saturating_add(u64::try_from(most).unwrap_or(u64::MAX))
        })
    }

    fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        let watcher = Arc::new(watcher);
        self.forwards.watch(&watcher)?;
        self.dns.watch(Arc::clone(&watcher));
        self.ping.watch(Arc::clone(&watcher));
        self.udp.watch(Arc::clone(&watcher));
        self.tcp.watch(watcher)
    }

    fn activate(&mut self, features: Option<u64>) {
        self.guest = Guest::new(self.address);
        self.desk.outbox.clear();
        self.fragments = Default::default();
        self.ndp = Ndp::default();
        self.dhcp.clear();
        self.dns.clear();
        self.udp.clear();
        self.forwards.clear();
        self.ping.clear();
        self.tcp.activate(features, MTU);
        self.is_new = features.is_some();
        self.more = false;
    }

    fn send(&mut self, frame: &Frame<'_>, now: Duration) -> Sent {
        self.desk.counters.sent.count(frame.bytes.len());
        if let Err(cause) = self.frame(frame, now) {
            self.desk.counters.drop(cause);
        }
        Sent::Done
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, now: Duration) {
        if std::mem::take(&mut self.is_new) {
            // TCP knows of no other address yet than the usual one.
            self.tcp.guest_spoke(self.guest.addresses(), now);
        }
        self.expire(now);
        let mut counted = Counted { inbox, traffic: self.desk.counters.received };
        self.desk.outbox.deliver(&mut counted);
        self.more = self.emit(&mut counted, now);
        self.desk.counters.received = counted.traffic;
    }

    fn ready(&mut self, ready: Ready, now: Duration) {
        let Some((owner, number)) = Owner::of(ready.key) else { return };
        match owner {
            Owner::UdpFlow => self.udp.ready(number),
            Owner::UdpForward => self.forwards.ready(number),
            Owner::Dns => self.dns.ready(number),
            Owner::Ping => self.ping.ready(number),
            Owner::TcpFlow | Owner::TcpListener => {
                self.tcp.ready(owner, number, ready.readable, ready.writable, now);
            }
        }
    }

    fn deadline(&self) -> Option<Duration> {
        let parts = [
            self.more.then_some(Duration::ZERO),
            self.fragments.deadline(),
            self.ndp.deadline(),
            self.dns.deadline(),
            self.udp.deadline(),
            self.forwards.deadline(),
            self.ping.deadline(),
            self.tcp.deadline(),
        ];
        parts.into_iter().flatten().min()
    }

    fn finish(&mut self) {
        let open = self.tcp.flows();
        self.tcp.finish();
        let (counters, outbox, tcp) = (&self.desk.counters, &self.desk.outbox, self.tcp.counters());
        crate::info!(
            "network: {counters}, {outbox}; TCP: {} connections of the guest's, {} to it, {} refused, \
             {} open at the end, {} segments dropped",
            tcp.outbound,
            tcp.forwarded,
            tcp.refused,
            open,
            tcp.dropped
        );
    }
}

impl User {
    /// Does what time has come for.
    fn expire(&mut self, now: Duration) {
        self.fragments.expire(now);
        self.desk.counters.drop_many(Cause::Fragment, self.fragments.take_dropped());
        self.ndp.expire(&mut self.desk.out(), now);
        self.dns.expire(&mut self.desk.out(), now);
        self.udp.expire(now);
        self.forwards.expire(now);
        self.ping.expire(now);
    }

    /// Gives the guest what there is for it, a burst of each part's after the other. Whether there is
    /// more, and room for it: then the I/O loop has other things to do first.
    fn emit(&mut self, inbox: &mut dyn Inbox, now: Duration) -> bool {
        let path = self.desk.path(IpAddr::V4(GATEWAY));
        for _ in 0..ROUNDS {
            let scratch = &mut self.scratch.0;
            let mut out = self.desk.out_to(inbox);
            let more = [
                self.forwards.emit(self.guest.addresses(), scratch, &mut out, now),
                self.udp.emit(scratch, &mut out, now),
                self.dns.emit(scratch, &mut out, now),
                self.ping.emit(scratch, &mut out),
            ];
            // Also without room: what the guest has sent goes on its way here.
            self.tcp.emit(path, inbox, now);
            let mut out = self.desk.out_to(inbox);
            unreachable(&mut self.tcp, &mut out);
            // Room is only looked for where something waits for it.
            if !more.contains(&true) || !out.has_room() {
                return false;
            }
        }
        true
    }
}

/// The guest's room, and what has been put there.
struct Counted<'a> {
    inbox: &'a mut dyn Inbox,
    traffic: Traffic,
}

impl Inbox for Counted<'_> {
    fn room(&mut self, most: usize) -> usize {
        self.inbox.room(most)
    }

    fn put(&mut self, offload: Offload, pieces: &[&[u8]]) -> Put {
        let put = self.inbox.put(offload, pieces);
        if put == Put::Done {
            let len = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
            self.traffic.count(len);
        }
        put
    }

    fn fill(
        &mut self,
        most: usize,
        with_header: bool,
        read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Put> {
        let mut len = 0;
        let put = self.inbox.fill(most, with_header, &mut |slices| {
            len = read(slices)?;
            Ok(len)
        })?;
        if put == Put::Done {
            self.traffic.count(len);
        }
        Ok(put)
    }
}
