//! Ports of the host's whose datagrams go to the guest. It sees each client under an address that it
//! can answer to: the client's own, or the gateway's for one on this host, on a network that has the
//! guest's addresses, or by IPv6 where the guest has none. The answer leaves by the port, and from the
//! address, that the client has sent to.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use super::addresses::{GATEWAY, GATEWAY_6};
use super::counters::Cause;
use super::datagram::{self, Datagram};
use super::flows::{Flows, Patience};
use super::guest::Addresses;
use super::list::List;
use super::out::Out;
use super::packet::Owner;
use super::udp::BURST;
use crate::io::event_loop::Watcher;
use crate::io::socket::{Arrival, Datagrams};
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

/// Which of our ports a client has sent to, and how.
type Client = (usize, Arrival);

/// Takes datagrams where `forward` says. What is bound to all addresses is told of each to which it came.
///
/// # Errors
/// What the operating system says, `AddrInUse` for instance.
pub(super) fn listen(forward: Forward) -> io::Result<Datagrams> {
    let socket = Datagrams::bind(forward.host)?;
    let host = forward.host.ip();
    if host.is_unspecified() {
        socket.say_addresses(host)?;
    }
    Ok(socket)
}

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
        let sent = port.socket.answer(datagram.bytes, *client);
        let sent = sent.or_else(|_| port.socket.answer(datagram.bytes, *client));
        Some(if matches!(sent, Ok(true)) { Ok(()) } else { Err(Cause::Unsent) })
    }

    /// Gives the guest what has come, as far as it has room: a burst. Whether there is more.
    pub(super) fn emit(
        &mut self,
        guest: Addresses,
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
        guest: Addresses,
        scratch: &mut [u8],
        out: &mut Out<'_>,
        now: Duration,
    ) -> bool {
        for _ in 0..BURST {
            if !out.has_room() {
                return false;
            }
            let Some(port) = self.ports.get(number) else { return true };
            let to = port.forward.guest;
            match port.socket.receive_at(scratch) {
                Ok(None) => return true,
                Ok(Some((len, client))) => match self.seen((number, client), guest, to, now) {
                    Some((from, at)) => {
                        let bytes = scratch.get(..len).unwrap_or_default();
                        datagram::deliver(from, SocketAddr::new(at, to), bytes, out);
                    }
                    None => out.drop(Cause::Unheard),
                },
                // About an answer to a client that is gone.
                Err(_) => {}
            }
        }
        false
    }

    /// Who a client is to the guest's port, and at which of the guest's addresses.
    fn seen(
        &mut self,
        client: Client,
        guest: Addresses,
        port: u16,
        now: Duration,
    ) -> Option<(SocketAddr, IpAddr)> {
        let (at, name) = guest.ends(client.1.from.ip());
        if let Some(number) = self.numbers.get(&client).copied() {
            let ((_, seen), _) = self.clients.get(number)?;
            if seen.is_ipv4() == name.is_ipv4() {
                self.clients.touch_again(number, now);
                return Some((seen, at));
            }
            // The guest has got IPv6 meanwhile.
            self.forget(number);
        }
        let seen = self.free_name(SocketAddr::new(name, client.1.from.port()), port)?;
        if let (true, Some(oldest)) = (self.clients.is_full(), self.clients.oldest()) {
            self.forget(oldest);
        }
        let number = self.clients.insert((port, seen), client, Patience::Long, now);
        self.numbers.insert(client, number);
        Some((seen, at))
    }

    /// A name for a client that no other has: `name`, or one of the gateway's.
    fn free_name(&mut self, name: SocketAddr, guest: u16) -> Option<SocketAddr> {
        let is_free = |name: &SocketAddr| self.clients.find(&(guest, *name)).is_none();
        if is_free(&name) {
            return Some(name);
        }
        let gateway = if name.is_ipv4() { IpAddr::V4(GATEWAY) } else { IpAddr::V6(GATEWAY_6) };
        let tried = self.tried;
        let others = (1..=TRIES).map(|step| {
            let port = DYNAMIC | tried.wrapping_add(step);
            SocketAddr::new(gateway, port)
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

    fn arrival(from: &str, at: Option<&str>) -> Arrival {
        Arrival { from: from.parse().unwrap(), at: at.map(|at| at.parse().unwrap()) }
    }

    fn seen(forwards: &mut Forwards, client: Client, guest: Addresses) -> String {
        let (seen, at) = forwards.seen(client, guest, 80, Duration::ZERO).unwrap();
        assert_eq!(seen.is_ipv4(), at.is_ipv4());
        seen.to_string()
    }

    #[test]
    fn a_client_has_its_own_address_or_the_gateways_and_no_two_have_the_same() {
        let (mut forwards, guest) = (Forwards::new(Vec::new()), Addresses::default());
        for _ in 0..2 {
            for (client, name) in [
                ("192.168.1.7:5000", "192.168.1.7:5000"),
                ("127.0.0.1:5000", "10.0.2.2:5000"),
                ("127.0.0.2:5000", "10.0.2.2:49153"),
                ("[::1]:5000", "10.0.2.2:49154"),
                ("10.0.2.15:6000", "10.0.2.2:6000"),
                ("[2001:db8::1]:7000", "10.0.2.2:7000"),
            ] {
                assert_eq!(seen(&mut forwards, (0, arrival(client, None)), guest), name);
            }
            let again = arrival("127.0.0.1:5000", None);
            assert_eq!(seen(&mut forwards, (1, again), guest), "10.0.2.2:49155", "another port");
            let again = arrival("192.168.1.7:5000", Some("192.168.1.9"));
            assert_eq!(
                seen(&mut forwards, (0, again), guest),
                "10.0.2.2:49156",
                "to another of ours"
            );
        }
    }

    #[test]
    fn a_client_by_ipv6_is_seen_by_it_as_soon_as_the_guest_has_it() {
        let (mut forwards, four) = (Forwards::new(Vec::new()), Addresses::default());
        let six = Addresses { six: Some("fec0::15".parse().unwrap()), ..four };
        for (client, by_four, by_six) in [
            ("[::1]:5000", "10.0.2.2:5000", "[fec0::2]:5000"),
            ("[fec0::77]:5000", "10.0.2.2:5000", "[fec0::2]:49153"),
            ("[2001:db8::1]:5000", "10.0.2.2:5000", "[2001:db8::1]:5000"),
            ("127.0.0.1:7000", "10.0.2.2:7000", "10.0.2.2:7000"),
        ] {
            let client = (0, arrival(client, None));
            for (guest, name) in [(four, by_four), (six, by_six), (six, by_six)] {
                assert_eq!(seen(&mut forwards, client, guest), name);
            }
            assert_eq!(forwards.numbers.len(), forwards.clients.len());
        }
    }

    #[test]
    fn clients_are_forgotten_when_they_are_too_many_or_idle() {
        let (mut forwards, guest) = (Forwards::new(Vec::new()), Addresses::default());
        for port in 0..3000 {
            let from = SocketAddr::from(([127, 0, 0, 1], 1000 + port));
            let client = (0, Arrival { from, at: None });
            forwards.seen(client, guest, 80, Duration::from_secs(port.into())).unwrap();
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
