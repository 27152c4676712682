//! The network's part of config files and command line, brought together.

use super::ports::MOST;
use super::{Addresses, Asked, NetChoice, Network, Ports, Typed, tap_and_bridge};
use crate::config::named::{self, NamedNet};
use crate::config::parse::{Set, Value};
use crate::config::{Config, Error};
use crate::net::{Forward, Transport};

/// Decides what the network is, as far as the image has no say. `-p` and `--udp` are added to what the
/// config forwards, as in OPS; all else that is typed replaces it.
///
/// # Errors
/// Two networks at once, forwards that meet, and forwards where nothing forwards them.
pub(in crate::config) fn settle(typed: Typed, config: &Config) -> Result<Network, Error> {
    let forwards = forwards(&typed, config)?;
    let network = Network {
        choice: choice(&typed, config)?,
        forwards,
        addresses: addresses(typed.addresses, config),
        mac: typed.mac.or_else(|| config.mac("Runner.Mac")),
        host_loopback: typed.host_loopback || config.flag("Runner.HostLoopback"),
        link_local: typed.link_local || config.flag("Runner.LinkLocal"),
        port_wait: typed.port_wait.or_else(|| config.time("Runner.PortWait")),
        pcap: typed.pcap.or_else(|| config.path("Runner.Pcap")),
        named: named(typed.named, config)?,
    };
    if let (Some(choice), Some(forward)) = (&network.choice, network.forwards.first())
        && choice.value != NetChoice::User
    {
        return Err(Error(format!(
            "{}: only the user-mode network forwards ports, and {} is another: leave out one of the two{}",
            forward.by,
            choice.by,
            match choice.value {
                NetChoice::None => "",
                _ => "; on that network clients use the guest's own address",
            }
        )));
    }
    if typed.port_wait.is_some() && !network.forwards.iter().any(|asked| is_tcp(&asked.value)) {
        return Err(Error(
            "--port-wait, and no TCP port is forwarded to the guest: forward one (-p), or leave it out"
                .to_owned(),
        ));
    }
    Ok(network)
}

fn is_tcp(forward: &Forward) -> bool {
    forward.transport == Transport::Tcp
}

/// The network that was asked for: by `--net`, by OPS's options, by `Runner.Net`, by OPS's fields.
fn choice(typed: &Typed, config: &Config) -> Result<Option<Asked<NetChoice>>, Error> {
    let ops = tap_and_bridge(typed.tap.clone(), typed.bridged, typed.bridge.clone());
    let ops_by = match (&typed.tap, typed.bridged) {
        (Some(tap), _) => format!("--tapname {tap}"),
        (None, true) => "--bridged".to_owned(),
        (None, false) => "--bridgename".to_owned(),
    };
    match (&typed.net, ops) {
        (Some(net), Some(_)) => {
            return Err(Error(format!(
                "two networks, --net={net} and {ops_by}; the guest has one: leave one out"
            )));
        }
        (Some(net), None) => {
            return Ok(Some(Asked { value: net.clone(), by: format!("--net={net}") }));
        }
        (None, Some(value)) => return Ok(Some(Asked { value, by: ops_by })),
        (None, None) => {}
    }
    if let Some(Set { value: Value::Net(net), place }) = config.get("Runner.Net") {
        return Ok(Some(Asked { value: net.clone(), by: format!("{place}: Runner.Net") }));
    }
    let text = |path| config.text(path);
    let value = tap_and_bridge(
        text("RunConfig.TapName"),
        config.flag("RunConfig.Bridged"),
        text("RunConfig.BridgeName"),
    );
    let fields = ["RunConfig.TapName", "RunConfig.Bridged", "RunConfig.BridgeName"];
    let first = fields.into_iter().find_map(|path| {
        let set = config.get(path).filter(|set| set.value != Value::Flag(false))?;
        Some(format!("{}: {path}", set.place))
    });
    Ok(value.zip(first).map(|(value, by)| Asked { value, by }))
}

/// Networks by name: what is typed stands before what a config has by that name.
fn named(typed: Vec<NamedNet>, config: &Config) -> Result<Vec<NamedNet>, Error> {
    let mut nets = config.named("Runner.Nets", |text| match named::net(text)? {
        Ok(net) => Ok(net),
        Err(_) => Err("is no name of a device: use letters and digits, at most 67".to_owned()),
    })?;
    nets.retain(|net| typed.iter().all(|other| other.name != net.name));
    nets.extend(typed);
    Ok(nets)
}

fn addresses(typed: Addresses, config: &Config) -> Addresses {
    Addresses {
        ip: typed.ip.or_else(|| config.ip4("RunConfig.IPAddress")),
        gateway: typed.gateway.or_else(|| config.ip4("RunConfig.Gateway")),
        netmask: typed.netmask.or_else(|| config.ip4("RunConfig.NetMask")),
        ipv6: typed.ipv6.or_else(|| config.ip6("RunConfig.IPv6Address")),
    }
}

/// All forwards, each once: what is said twice is meant once, as in OPS.
fn forwards(typed: &Typed, config: &Config) -> Result<Vec<Asked<Forward>>, Error> {
    let mut all: Vec<Asked<Forward>> = Vec::new();
    for (path, option, typed, transport) in [
        ("RunConfig.Ports", "-p", &typed.ports, Transport::Tcp),
        ("RunConfig.UDPPorts", "--udp", &typed.udp, Transport::Udp),
    ] {
        if let Some(Set { value: Value::Ports(ports), place }) = config.get(path) {
            for ports in ports {
                add(&mut all, ports, transport, &format!("{place}: {path} {}", ports.text))?;
            }
        }
        for ports in typed {
            add(&mut all, ports, transport, &format!("{option} {}", ports.text))?;
        }
    }
    Ok(all)
}

fn add(
    all: &mut Vec<Asked<Forward>>,
    ports: &Ports,
    transport: Transport,
    by: &str,
) -> Result<(), Error> {
    for forward in ports.ranges.iter().flat_map(|range| range.forwards(transport)) {
        if let Some(other) = all.iter().find(|other| meet(other.value, forward)) {
            if other.value == forward {
                continue;
            }
            return Err(Error(format!(
                "{by}: the host's {transport} port {} leads to the guest already, by {}: \
                 leave out one, or choose another port",
                forward.host.port(),
                other.by
            )));
        }
        if all.len() >= MOST {
            return Err(Error(format!(
                "{by}: more than {MOST} ports to forward; a tap device has them all (--net=tap:NAME)"
            )));
        }
        all.push(Asked { value: forward, by: by.to_owned() });
    }
    Ok(())
}

/// Whether two forwards need the same port of the host's.
fn meet(a: Forward, b: Forward) -> bool {
    let (one, other) = (a.host.ip(), b.host.ip());
    let overlap = one == other
        || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified());
    let same = a.transport == b.transport && a.host.port() == b.host.port() && overlap;
    // Each 0 is a port of its own.
    same && a.host.port() != 0
}
