//! What is asked of the network: which one, what is forwarded, addresses.

mod choice;
mod ports;
mod settle;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::named::NamedNet;
use crate::net::Forward;

pub use choice::{BRIDGE, NetChoice, mac, net};
pub(crate) use choice::{interface, tap_and_bridge};
pub use ports::{PortRange, Ports, ports};
pub(super) use settle::settle;

/// What the guest's network is to be, decided as far as it can be without the image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Which one; `None` when nobody says: then an OPS disk image has the user-mode network, and any
    /// other kernel only if something is forwarded to it.
    pub choice: Option<Asked<NetChoice>>,
    /// Ports of the host's that lead to the guest's, all different.
    pub forwards: Vec<Asked<Forward>>,
    /// Addresses for the guest's interface.
    pub addresses: Addresses,
    /// The guest's hardware address, when somebody wants a certain one.
    pub mac: Option<[u8; 6]>,
    /// The guest reaches the host's own services at the gateway's address.
    pub host_loopback: bool,
    /// The guest reaches link-local addresses, the metadata of clouds among them.
    pub link_local: bool,
    /// For how long, from the start on, clients wait for a guest that refuses them.
    pub port_wait: Option<Duration>,
    /// Where to write what goes over the network.
    pub pcap: Option<PathBuf>,
    /// Networks of guests that have names for them.
    pub named: Vec<NamedNet>,
}

/// A value and what asked for it, as a user knows it: `-p 8080`, `config.json:4:14: RunConfig.TapName`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<T> {
    /// What is wanted.
    pub value: T,
    /// By what.
    pub by: String,
}

/// Addresses for the guest's network interface; what is `None` the guest finds out by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// The guest's IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// Its IPv4 gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Its IPv4 network mask, contiguous.
    pub netmask: Option<Ipv4Addr>,
    /// The guest's IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Whether nobody wants any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The command line's part, as typed; `None`, empty and `false` mean not typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Typed {
    /// `--net`.
    pub net: Option<NetChoice>,
    /// `-p`.
    pub ports: Vec<Ports>,
    /// `--udp`.
    pub udp: Vec<Ports>,
    /// `--tapname`.
    pub tap: Option<String>,
    /// `--bridged`.
    pub bridged: bool,
    /// `--bridgename`.
    pub bridge: Option<String>,
    /// `--ip-address`, `--gateway`, `--netmask`, `--ipv6-address`.
    pub addresses: Addresses,
    /// `--mac`.
    pub mac: Option<[u8; 6]>,
    /// `--host-loopback`.
    pub host_loopback: bool,
    /// `--link-local`.
    pub link_local: bool,
    /// `--port-wait`.
    pub port_wait: Option<Duration>,
    /// `--pcap`.
    pub pcap: Option<PathBuf>,
    /// `--net NAME=`.
    pub named: Vec<NamedNet>,
}
