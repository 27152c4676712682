//! Ports to forward, as people write them: `8080`, `8080:80`, `0.0.0.0:8080:80`, `[::1]:8080:80`,
//! ranges `8080-8090` and `8080-8090:80-90`, and lists of all that with commas.
//!
//! OPS (`cmd/network_ports.go`) knows `80`, `80,443` and, for a port of the guest's that differs,
//! `8080-80`; here that is a range, as on OPS's clouds, and one that goes backwards is refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::net::{Forward, Transport};

/// The most ports that can be forwarded: each is a listening socket.
pub(super) const MOST: usize = 1024;

/// What one option, or one item of a config's list, asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// As it was written.
    pub text: String,
    /// What it means, in its order.
    pub ranges: Vec<PortRange>,
}

/// Consecutive ports of the host's that lead to as many of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// Where the host listens, with the first port; 0: any that is free.
    pub host: SocketAddr,
    /// The guest's first port, not 0.
    pub guest: u16,
    /// How many, not 0.
    pub count: u16,
}

impl PortRange {
    /// The forwards it stands for.
    pub fn forwards(self, transport: Transport) -> impl Iterator<Item = Forward> {
        (0..self.count).filter_map(move |step| {
            let port = self.host.port().checked_add(step)?;
            let host = SocketAddr::new(self.host.ip(), port);
            Some(Forward { transport, host, guest: self.guest.checked_add(step)? })
        })
    }
}

const HOW: &str =
    "write 8080, 8080:80, 0.0.0.0:8080:80, [::1]:8080:80, 8080-8090:80-90, or a list with commas";

/// Ports to forward.
///
/// # Errors
/// What is wrong with the first part that is.
pub fn ports(text: &str) -> Result<Ports, String> {
    let ranges: Result<Vec<_>, _> = text.split(',').map(range).collect();
    let ranges = ranges?;
    let count: usize = ranges.iter().map(|range| usize::from(range.count)).sum();
    if count > MOST {
        return Err(format!(
            "is {count} ports, and at most {MOST} are forwarded; a tap device has them all (--net=tap:NAME)"
        ));
    }
    Ok(Ports { text: text.to_owned(), ranges })
}

/// `[ADDRESS:]PORTS[:PORTS]`.
fn range(item: &str) -> Result<PortRange, String> {
    if let Some((_, transport @ ("tcp" | "udp"))) = item.split_once('/') {
        return Err(format!(
            "names a protocol: leave out /{transport}; -p and Ports are for TCP, --udp and UDPPorts for UDP"
        ));
    }
    let (address, rest) = address(item)?;
    let mut parts = rest.split(':');
    let (host, guest) = match (parts.next(), parts.next(), parts.next()) {
        (Some(host), guest, None) => (host, guest.unwrap_or(host)),
        _ => return Err(format!("is not a port to forward; {HOW}")),
    };
    let ((host_first, host_last), (guest_first, guest_last)) = (span(host)?, span(guest)?);
    if guest_first == 0 {
        return Err(
            "names no port of the guest's; write 0:80 for any free port of the host's that \
                    leads to the guest's port 80"
                .into(),
        );
    }
    let steps = |first: u16, last: u16| last.saturating_sub(first);
    let (host_steps, guest_steps) = (steps(host_first, host_last), steps(guest_first, guest_last));
    if host_first == 0 && host_last != 0 {
        return Err(
            "is a range from port 0, which means any that is free; begin with 1 or more".into()
        );
    }
    if host_steps != guest_steps {
        return Err(format!(
            "has two ranges of different lengths, {host} and {guest}; make them equal"
        ));
    }
    let count = host_steps.checked_add(1).ok_or("is all ports there are; name those you need")?;
    Ok(PortRange { host: SocketAddr::new(address, host_first), guest: guest_first, count })
}

/// The address before the ports, or this host alone when there is none.
fn address(item: &str) -> Result<(IpAddr, &str), String> {
    if let Some(rest) = item.strip_prefix('[') {
        let split = rest
            .split_once("]:")
            .and_then(|(address, ports)| Some((IpAddr::V6(address.parse().ok()?), ports)));
        let (address, rest) =
            split.ok_or_else(|| format!("has no IPv6 address in its brackets; {HOW}"))?;
        return Ok((of_this_host(address)?, rest));
    }
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Some((first, rest)) = item.split_once(':') else { return Ok((here, item)) };
    if let Ok(address) = first.parse::<Ipv4Addr>() {
        return Ok((of_this_host(address.into())?, rest));
    }
    let a_port = first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if a_port && !first.is_empty() {
        return Ok((here, item));
    }
    let six = |c: char| c == ':' || c.is_ascii_hexdigit();
    Err(match item.matches(':').count() > 1 && item.chars().all(six) {
        true => format!("has an IPv6 address without brackets; {HOW}"),
        false => format!("has no address or port before its first colon; {HOW}"),
    })
}

/// An address that a host may have for itself, and that says which it is. ::ffff:127.0.0.1 is 127.0.0.1.
fn of_this_host(address: IpAddr) -> Result<IpAddr, String> {
    let address = address.to_canonical();
    if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(format!(
            "has {address}, which many hosts have together; give an address of this host's alone, or \
             0.0.0.0 or [::] for all it has"
        ));
    }
    match address {
        IpAddr::V6(six) if six.is_unicast_link_local() => Err(format!(
            "has {address}, which is another host on each link; give another address of this host's, or \
             [::] for all it has"
        )),
        _ => Ok(address),
    }
}

/// `N` or `N-M`: first and last.
fn span(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u16>() {
            Ok(port) if digits => Ok(port),
            Err(_) if digits => Err(format!("has a port {text}; the largest is 65535")),
            _ => Err(format!("is not a port to forward; {HOW}")),
        }
    };
    let Some((first, last)) = text.split_once('-') else {
        let port = port(text)?;
        return Ok((port, port));
    };
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(format!(
            "is a range that goes backwards; for port {first} of the host's and {last} of the guest's \
             write {first}:{last}"
        ));
    }
    Ok((first, last))
}
