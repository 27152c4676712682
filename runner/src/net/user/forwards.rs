//! Ports of the host's whose datagrams go to the guest. It sees each client under an address that it
//! can answer to: the client's own, or the gateway's for one on this host, by IPv6, or on a network
//! that has the guest's addresses. The answer leaves by the port that the client has sent to.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use super::addresses::{GATEWAY, is_local};
use super::counters::Cause;
use super::datagram::{self, Datagram};
use super::flows::{Flows, Patience};
use super::list::List;
use super::out::Out;
use super::packet::Owner;
use super::udp::BURST;
use crate::io::event_loop::Watcher;
use crate::io::socket::Datagrams;
use crate::net::Forward;

/// Clients that are remembered. For another one the one that was idle longest is forgotten.
const MOST: usize = 2048;
/// How long.
const LONG: Duration = Duration::from_secs(240);

/// Ports that are tried for a client whose own is another's.
const TRIES: u16 = 16;
/// The first of them (RFC 6335 §6: the dynamic ports).
const DYNAMIC: u16 = 49_152;

/// A port of the host's.
#[derive(Debug)]
struct Port {
    forward: Forward,
    socket: Datagrams,
}

/// The guest's port, and who the client is to it.
type Key = (u16, SocketAddr);

/// Who the client is, and which of our ports it has sent to.
type Client = (usize, SocketAddr);

/// The ports, and their clients.
#[derive(Debug)]
pub(super) struct Forwards {
    ports: Vec<Port>,
    clients: Flows<Key, Client>,
    numbers: HashMap<Client, usize>,
    /// Ports at which something waits.
    ready: List,
    /// The port last tried for a client whose own is another's.
    tried: u16,
}

impl Forwards {
    pub(super) fn new(ports: Vec<(Forward, Datagrams)>) -> Self {
        let ready = List::new(ports.len());
        let ports = ports.into_iter().map(|(forward, socket)| Port { forward, socket }).collect();
        let clients = Flows::new(MOST, LONG, LONG);
        Self { ports, clients, numbers: HashMap::new(), ready, tried: 0 }
    }

    pub(super) fn watch(&self, watcher: &Watcher) -> io::Result<()> {
        for (number, port) in self.ports.iter().enumerate() {
            watcher.watch_reading(port.socket.as_fd(), Owner::UdpForward.key(number))?;
        }
        Ok(())
    }

    /// Something has come at a port.
    pub(super) fn ready(&mut self, number: usize) {
        if number < self.ports.len() {
            self.ready.push(number);
        }
    }

    /// Sends what the guest answers to a client. `None`: it is to nobody who is one.
    pub(super) fn answer(
        &mut self,
        datagram: &Datagram<'_>,
        now: Duration,
    ) -> Option<Result<(), Cause>> {
        let key = (datagram.source.port(), datagram.destination);
        let number = self.clients.find(&key)?;
        self.clients.touch_again(number, now);
        let (_, (port, client)) = self.clients.get(number)?;
        let port = self.ports.get(*port)?;
        // An error may be an earlier answer's, to a client that is gone.
        let sent = port.socket.send(datagram.bytes, *client);
        let sent = sent.or_else(|_| port.socket.send(datagram.bytes, *client));
        Some(if matches!(sent, Ok(true)) { Ok(()) } else { Err(Cause::Unsent) })
    }

    /// Gives the guest, at `guest`, what has come, as far as it has room: a burst. Whether there is more.
    pub(super) fn emit(
        &mut self,
        guest: Ipv4Addr,
        scratch: &mut [u8],
        out: &mut Out<'_>,
        now: Duration,
    ) -> bool {
        if self.ready.first().is_some()
            && out.has_room()
            && let Some(number) = self.ready.pop()
            && !self.drain(number, guest, scratch, out, now)
        {
            self.ready.push(number);
        }
        self.ready.first().is_some()
    }

    /// Reads a port. Whether it is empty.
    fn drain(
        &mut self,
        number: usize,
        guest: Ipv4Addr,
        scratch: &mut [u8],
        out: &mut Out<'_>,
        now: Duration,
    ) -> bool {
        for _ in 0..BURST {
            if !out.has_room() {
                return false;
            }
            let Some(port) = self.ports.get(number) else { return true };
            let guest = SocketAddr::new(IpAddr::V4(guest), port.forward.guest);
            match port.socket.receive(scratch) {
                Ok(None) => return true,
                Ok(Some((len, client))) => match self.seen((number, client), guest.port(), now) {
                    Some(from) => {
                        datagram::deliver(from, guest, scratch.get(..len).unwrap_or_default(), out);
                    }
                    None => out.drop(Cause::Unheard),
                },
                // About an answer to a client that is gone.
                Err(_) => {}
            }
        }
        false
    }

    /// Who a client is to the guest's port.
    fn seen(&mut self, client: Client, guest: u16, now: Duration) -> Option<SocketAddr> {
        if let Some(number) = self.numbers.get(&client).copied() {
            self.clients.touch_again(number, now);
            return self.clients.get(number).map(|((_, seen), _)| seen);
        }
        let seen = self.free_name(client.1, guest)?;
        if let (true, Some(oldest)) = (self.clients.is_full(), self.clients.oldest()) {
            self.forget(oldest);
        }
        let number = self.clients.insert((guest, seen), client, Patience::Long, now);
        self.numbers.insert(client, number);
        Some(seen)
    }

    /// A name for a client that no other has.
    fn free_name(&mut self, client: SocketAddr, guest: u16) -> Option<SocketAddr> {
        let own = match client.ip() {
            IpAddr::V4(ip) if !ip.is_loopback() && !is_local(ip.into()) => client.ip(),
            _ => IpAddr::V4(GATEWAY),
        };
        let is_free = |name: &SocketAddr| self.clients.find(&(guest, *name)).is_none();
        let name = SocketAddr::new(own, client.port());
        if is_free(&name) {
            return Some(name);
        }
        let tried = self.tried;
        let others = (1..=TRIES).map(|step| {
            let port = DYNAMIC | tried.wrapping_add(step);
            SocketAddr::new(IpAddr::V4(GATEWAY), port)
        });
        let free = others.into_iter().find(is_free);
        self.tried = free.map_or(tried.wrapping_add(TRIES), |name| name.port() & !DYNAMIC);
        free
    }

    fn forget(&mut self, number: usize) {
        if let Some(client) = self.clients.remove(number) {
            self.numbers.remove(&client);
        }
    }

    /// Forgets clients that have been idle for too long.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(number) = self.clients.expired(now) {
            self.forget(number);
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.clients.deadline()
    }

    /// Forgets all clients. What waits at the ports is for the guest that comes next.
    pub(super) fn clear(&mut self) {
        self.clients.clear();
        self.numbers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(forwards: &mut Forwards, port: usize, client: &str) -> String {
        let client = (port, client.parse().unwrap());
        forwards.seen(client, 80, Duration::ZERO).unwrap().to_string()
    }

    #[test]
    fn a_client_has_its_own_address_or_the_gateways_and_no_two_have_the_same() {
        let mut forwards = Forwards::new(Vec::new());
        for _ in 0..2 {
            for (client, name) in [
                ("192.168.1.7:5000", "192.168.1.7:5000"),
                ("127.0.0.1:5000", "10.0.2.2:5000"),
                ("127.0.0.2:5000", "10.0.2.2:49153"),
                ("[::1]:5000", "10.0.2.2:49154"),
                ("10.0.2.15:6000", "10.0.2.2:6000"),
                ("[2001:db8::1]:7000", "10.0.2.2:7000"),
            ] {
                assert_eq!(seen(&mut forwards, 0, client), name);
            }
            assert_eq!(seen(&mut forwards, 1, "127.0.0.1:5000"), "10.0.2.2:49155", "another port");
        }
    }

    #[test]
    fn clients_are_forgotten_when_they_are_too_many_or_idle() {
        let mut forwards = Forwards::new(Vec::new());
        for port in 0..3000 {
            let client = (0, SocketAddr::from(([127, 0, 0, 1], 1000 + port)));
            forwards.seen(client, 80, Duration::from_secs(port.into())).unwrap();
        }
        assert_eq!((forwards.clients.len(), forwards.numbers.len()), (MOST, MOST));
        let deadline = forwards.deadline().unwrap();
        assert_eq!(deadline, Duration::from_secs(3000 - MOST as u64 + 240));
        forwards.expire(deadline);
        assert_eq!(forwards.numbers.len(), MOST - 1);
        forwards.expire(Duration::from_secs(10_000));
        assert_eq!((forwards.clients.len(), forwards.numbers.len()), (0, 0));
        assert_eq!(forwards.deadline(), None);
    }
}
