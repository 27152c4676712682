//! The guest's network: opened, given a place in the machine.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use super::Error;
use crate::config::network::Asked;
use crate::config::{Addresses, NetChoice, Settings};
use crate::machine::map::VirtioSlot;
use crate::net::user::addresses::{GATEWAY, GATEWAY_6, GUEST_MAC, NETMASK, may_be_guest};
use crate::net::user::policy::Policy;
use crate::net::user::{self, GuestAddress, User};
use crate::net::{Forward, Link, Offer};
use crate::warning;

/// The guest's network device and what is behind it.
pub struct NetworkPlan {
    /// Stable name.
    pub id: String,
    /// Where it stands in the machine.
    pub slot: VirtioSlot,
    /// What the network is, for a person.
    about: String,
    /// Taken by whoever runs the guest.
    link: Mutex<Option<Box<dyn Link>>>,
}

impl fmt::Debug for NetworkPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkPlan").field("slot", &self.slot).field("about", &self.about).finish()
    }
}

impl NetworkPlan {
    /// A device in `slot` before `link`, which is called `about`.
    pub fn new(slot: VirtioSlot, about: impl Into<String>, link: Box<dyn Link>) -> Self {
        Self { id: "net0".into(), slot, about: about.into(), link: Mutex::new(Some(link)) }
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

    /// The device for a person, one line.
    pub(super) fn describe(&self) -> String {
        let VirtioSlot { base, line, .. } = self.slot;
        let (id, about) = (&self.id, self.about.escape_debug());
        format!("device: {id}, virtio-mmio {base:#x}, line {line}: {about}")
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
    let needs = |option: &str| {
        Err(Error::Asked(format!(
            "{option}, and this guest has no network: give it one (--net=user), or leave it out"
        )))
    };
    match (network.pcap.is_some(), network.mac.is_some()) {
        (true, _) => needs("--pcap"),
        (_, true) => needs("--mac"),
        _ => Ok(None),
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

/// Opens the network.
///
/// # Errors
/// Names what cannot be opened and says what to do.
pub(super) fn open(
    choice: &NetChoice,
    settings: &Settings,
    slot: VirtioSlot,
) -> Result<NetworkPlan, Error> {
    match choice {
        NetChoice::User => Ok(user(settings, slot)?),
        _ => Err(Error::Asked(format!("--net={choice}: not in this version yet: leave it out"))),
    }
}

fn user(settings: &Settings, slot: VirtioSlot) -> Result<NetworkPlan, Error> {
    let network = &settings.network;
    let options = user::Options {
        policy: Policy { host_loopback: network.host_loopback, link_local: network.link_local },
        forwards: network.forwards.iter().map(|forward| forward.value).collect(),
        resolvers: user::resolvers(),
        mac: network.mac.unwrap_or(GUEST_MAC),
        guest: guest_address(&network.addresses)?,
    };
    let link = User::open(options)?;
    let mut about = format!("the user-mode network, {}", mac(&link.offer()));
    for (Forward { transport, host, guest }, real) in link.forwards() {
        if host.port() == 0 {
            warning!("{transport} port {guest} of the guest's: at {real}");
        }
        about += &format!(", {transport} {real} to its port {guest}");
    }
    Ok(NetworkPlan::new(slot, about, Box::new(link)))
}

/// The guest's hardware address.
fn mac(offer: &Offer) -> String {
    let [a, b, c, d, e, f] = offer.mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests;
