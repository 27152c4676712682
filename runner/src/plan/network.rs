//! The guest's network: opened, given a place in the machine.

use std::fmt;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use crate::config::network::{Asked, Network};
use crate::config::{Addresses, NetChoice, Settings};
use crate::io::allow_files;
use crate::log::{self, printable_path};
use crate::machine::slot::VirtioSlot;
use crate::net::dgram::Datagram;
use crate::net::pcap::{self, Recorded};
use crate::net::stream::Stream;
use crate::net::tap::Tap;
use crate::net::user::addresses::{GATEWAY, GATEWAY_6, GUEST_MAC, NETMASK, may_be_guest};
use crate::net::user::policy::Policy;
use crate::net::user::{self, GuestAddress, User};
use crate::net::{Forward, Link, Offer, mac_text, random_mac};
use crate::warning;

/// Descriptors of a run whose user-mode network has as many connections and ports as it may have, and
/// of what else it may have. Systems give a process 256 or 1024 at first.
const MOST_FILES: u64 = 10_000;

/// The guest's network device and what is behind it.
#[derive(Debug)]
pub struct NetworkPlan {
    /// Stable name.
    pub id: String,
    /// Where it stands in the machine.
    pub slot: VirtioSlot,
    /// The network.
    cable: Cable,
}

impl NetworkPlan {
    /// A device in `slot` before `link`, which is called `about`.
    pub fn new(slot: VirtioSlot, about: impl Into<String>, link: Box<dyn Link>) -> Self {
        Self { id: "net0".into(), slot, cable: Cable::new(about.into(), None, link) }
    }

    /// The network itself, for the one who runs the guest: the second time there is none.
    pub fn take_link(&self) -> Option<Box<dyn Link>> {
        self.cable.take_link()
    }

    /// How many descriptors it may open while the guest runs.
    pub fn descriptors(&self) -> u64 {
        self.cable.descriptors()
    }

    /// The file that is written, and its name.
    pub(super) fn capture(&self) -> Option<(&File, &str)> {
        self.cable.capture()
    }

    /// The device for a person, one line.
    pub(super) fn describe(&self) -> String {
        format!("device: {}, {}: {}", self.id, self.slot.place, self.cable.about)
    }
}

/// A network that is open, before any device stands at its end.
pub struct Cable {
    /// What the network is, for a person, and printable.
    about: String,
    /// What goes over it is written here: the file, and its name.
    capture: Option<(Arc<File>, String)>,
    offer: Offer,
    /// Taken by whoever runs the guest.
    link: Mutex<Option<Box<dyn Link>>>,
}

impl fmt::Debug for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cable").field("about", &self.about).finish()
    }
}

impl Cable {
    fn new(about: String, capture: Option<(Arc<File>, String)>, link: Box<dyn Link>) -> Self {
        let offer = link.offer();
        Self { about, capture, offer, link: Mutex::new(Some(link)) }
    }

    /// The network itself, for the one who runs the guest: the second time there is none.
    pub fn take_link(&self) -> Option<Box<dyn Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How many descriptors it may open while the guest runs.
    pub fn descriptors(&self) -> u64 {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().map_or(0, |link| link.descriptors())
    }

    /// The guest's hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.offer.mac
    }

    /// Bytes of the largest IP packet.
    pub fn mtu(&self) -> u16 {
        self.offer.mtu
    }

    /// The file that is written, and its name.
    pub(super) fn capture(&self) -> Option<(&File, &str)> {
        self.capture.as_ref().map(|(file, name)| (&**file, name.as_str()))
    }

    /// What it is, for a person.
    pub(super) fn about(&self) -> &str {
        &self.about
    }
}

/// Which network a guest has; `None` for none. Nobody having said, what OPS builds has the user-mode
/// network, as under OPS, and any other kernel only if something is forwarded to it: it may not want
/// the device.
///
/// # Errors
/// What goes with a network was asked for, and there is none.
pub(super) fn choose(settings: &Settings, ops_image: bool) -> Result<Option<NetChoice>, Error> {
    let network = &settings.network;
    let choice = match &network.choice {
        Some(Asked { value, .. }) => value.clone(),
        None if ops_image || !network.forwards.is_empty() => NetChoice::User,
        None => NetChoice::None,
    };
    if choice != NetChoice::None {
        return Ok(Some(choice));
    }
    refuse_without(
        network,
        "this guest has no network: give it one (--net=user), or leave it out",
    )?;
    Ok(None)
}

/// What goes with a network, for a guest that has none: `why`, and what to do.
///
/// # Errors
/// Names it.
pub(super) fn refuse_without(network: &Network, why: &str) -> Result<(), Error> {
    // Whoever says that there is none knows that the rest of a config means nothing then.
    let unsaid = network.choice.is_none();
    let wanted = [
        ("--pcap", network.pcap.is_some()),
        ("--mac", network.mac.is_some()),
        ("--host-loopback", unsaid && network.host_loopback),
        ("--link-local", unsaid && network.link_local),
        ("an address for the guest", unsaid && !network.addresses.is_empty()),
    ];
    match wanted.into_iter().find(|(_, wanted)| *wanted) {
        Some((option, _)) => Err(Error::Asked(format!("{option}, and {why}"))),
        None => Ok(()),
    }
}

/// The addresses that the guest is told.
///
/// # Errors
/// Addresses that are not on the user-mode network, if that is what it has.
pub(super) fn addresses(
    settings: &Settings,
    choice: Option<&NetChoice>,
) -> Result<Addresses, Error> {
    let asked = settings.network.addresses.clone();
    match choice {
        None => Ok(Addresses::default()),
        Some(NetChoice::User) => on_user_network(asked),
        Some(_) => Ok(asked),
    }
}

fn on_user_network(mut asked: Addresses) -> Result<Addresses, Error> {
    if let Some(address) = asked.ipv6.filter(|address| !may_be_guest((*address).into())) {
        return Err(Error::Asked(format!(
            "address {address}: the user-mode network is fec0::/64 with gateway {GATEWAY_6}; give the guest \
             another address there, or use a tap device"
        )));
    }
    if asked.ip.is_some() {
        guest_address(&asked)?;
        asked.gateway = Some(GATEWAY);
        asked.netmask = Some(NETMASK);
    }
    Ok(asked)
}

/// Where the guest is on the user-mode network.
fn guest_address(asked: &Addresses) -> Result<GuestAddress, Error> {
    match asked.ip {
        Some(ip) => Ok(GuestAddress::new(ip, asked.gateway, asked.netmask)?),
        None => Ok(GuestAddress::default()),
    }
}

/// Nanos's names for the first interface's addresses.
pub(super) fn nanos_names(addresses: &Addresses) -> Vec<(&'static str, String)> {
    let text = |value: Option<Ipv4Addr>| value.map(|address| address.to_string());
    [
        ("en1.ipaddr", text(addresses.ip)),
        ("en1.netmask", text(addresses.netmask)),
        ("en1.gateway", text(addresses.gateway)),
        ("en1.ip6addr", addresses.ipv6.map(|address| address.to_string())),
    ]
    .into_iter()
    .filter_map(|(path, value)| Some((path, value?)))
    .collect()
}

/// Opens the network of the device in `slot`.
///
/// # Errors
/// Names what cannot be opened and says what to do.
pub(super) fn open(
    choice: &NetChoice,
    settings: &Settings,
    slot: VirtioSlot,
) -> Result<NetworkPlan, Error> {
    Ok(NetworkPlan { id: "net0".into(), slot, cable: cable(choice, settings)? })
}

/// Opens a network.
///
/// # Errors
/// As [`open`].
pub(super) fn cable(choice: &NetChoice, settings: &Settings) -> Result<Cable, Error> {
    let network = &settings.network;
    // Before the ports and devices: it is the one that may be somebody else's.
    let pcap = match &network.pcap {
        Some(path) => Some((Arc::new(pcap::create(path).map_err(Error::Asked)?), path)),
        None => None,
    };
    let (mut link, mut about) = link(choice, settings)?;
    about += &format!(", guest {}", mac_text(link.offer().mac));
    let mut capture = None;
    if let Some((file, path)) = pcap {
        let name = printable_path(path);
        let recorded = Recorded::new(link, Arc::clone(&file), &name).map_err(Error::Asked)?;
        link = Box::new(recorded);
        about += &format!(", written to {name}");
        capture = Some((file, name));
    }
    Ok(Cable::new(about, capture, link))
}

/// The network itself, and what it is for a person.
fn link(choice: &NetChoice, settings: &Settings) -> Result<(Box<dyn Link>, String), Error> {
    let network = &settings.network;
    // One on a network of its own may have the same as all others there.
    let mac = network.mac.unwrap_or_else(|| match choice {
        NetChoice::User | NetChoice::None => GUEST_MAC,
        _ => random_mac(),
    });
    let tap = |name: Option<&str>, bridge: Option<&str>| {
        let by = network.choice.as_ref().map(|choice| choice.by.as_str()).unwrap_or_default();
        let tap = Tap::open(name, bridge, mac);
        tap.map_err(|error| Error::Asked(format!("{by}: {error}")))
    };
    Ok(match choice {
        NetChoice::User | NetChoice::None => user(settings, mac)?,
        NetChoice::Tap(name) => {
            let tap = tap(Some(name), None)?;
            let about = format!("tap device {}", tap.name());
            (Box::new(tap), about)
        }
        NetChoice::Bridge { bridge, tap: name } => {
            let tap = tap(name.as_deref(), Some(bridge))?;
            let about = format!("tap device {} in bridge {bridge}", tap.name());
            (Box::new(tap), about)
        }
        NetChoice::Stream(path) => {
            let link = Stream::open(path, mac).map_err(Error::Asked)?;
            (Box::new(link), format!("stream socket {}", printable_path(path)))
        }
        NetChoice::Datagram { path, own, vfkit } => {
            let link = Datagram::open(path, own.as_deref(), *vfkit, mac).map_err(Error::Asked)?;
            (Box::new(link), format!("datagram socket {}", printable_path(path)))
        }
    })
}

fn user(settings: &Settings, mac: [u8; 6]) -> Result<(Box<dyn Link>, String), Error> {
    let network = &settings.network;
    let options = user::Options {
        policy: Policy { host_loopback: network.host_loopback, link_local: network.link_local },
        forwards: network.forwards.iter().map(|forward| forward.value).collect(),
        resolvers: user::resolvers(),
        mac,
        guest: guest_address(&network.addresses)?,
        port_wait: network.port_wait.unwrap_or_default(),
    };
    allow_files(MOST_FILES);
    let link = User::open(options)?;
    // Where a port was free, it is known now.
    let real = network.forwards.iter().zip(link.forwards()).map(|(asked, (forward, host))| Asked {
        value: Forward { host, ..forward },
        by: asked.by.clone(),
    });
    if let Some(notice) = notice(&real.collect::<Vec<_>>()) {
        warning!("{notice}");
    }
    let mut about = "the user-mode network".to_owned();
    for (Forward { transport, host, guest }, real) in link.forwards() {
        if host.port() == 0 {
            // Nobody finds it otherwise: all of them are said, however many were asked for.
            log::line(format_args!("runner: {transport} port {guest} of the guest's: at {real}"));
        }
        about += &format!(", {transport} {real} to its port {guest}");
    }
    Ok((Box::new(link), about))
}

/// What to say where others than this host reach the guest, once it is so.
fn notice(forwards: &[Asked<Forward>]) -> Option<String> {
    let any = |address: IpAddr| address.to_canonical().is_unspecified();
    let mut open = forwards.iter().filter(|forward| any(forward.value.host.ip()));
    let first = open.next()?;
    let more = match open.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let Forward { transport, host, guest } = first.value;
    Some(format!(
        "{}{more}: whoever reaches this machine's {transport} port {} reaches the guest's port {guest}",
        first.by,
        host.port()
    ))
}

#[cfg(test)]
mod tests;
