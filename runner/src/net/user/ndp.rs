//! Neighbours and routers of IPv6 (RFC 4861): the guest learns the hardware addresses of the gateway
//! and of the name server, makes itself an address (RFC 4862), and is told who the name server is
//! (RFC 8106).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use smoltcp::wire::IpProtocol;

use super::addresses::{DNS_6, GATEWAY_6, ROUTER_6};
use super::counters::Cause;
use super::icmp;
use super::out::{Out, mac};

/// Types of ICMPv6.
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Hops that a message has which has come through no router: any other is forged (§6.1, §7.1).
const HOPS: u8 = 255;

/// How long we are a router to a guest that hears nothing more of us, in seconds (§6.2.1), and how
/// often it does.
const LIFETIME: u16 = 9000;
const AGAIN: Duration = Duration::from_secs(3000);

/// All nodes.
const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What the guest has been told.
#[derive(Debug, Default)]
pub(super) struct Ndp {
    /// When it is told again that there is a router, once it has asked.
    again: Option<Duration>,
}

impl Ndp {
    /// Serves a message of the guest's from `source`, whose checksum is right. Whether it was one for
    /// us.
    pub(super) fn message(
        &mut self,
        source: Ipv6Addr,
        hops: u8,
        message: &[u8],
        out: &mut Out<'_>,
        now: Duration,
    ) -> Result<bool, Cause> {
        match message.first() {
            Some(&(ROUTER_SOLICITATION | NEIGHBOUR_SOLICITATION)) if hops != HOPS => {
                Err(Cause::Malformed)
            }
            Some(&ROUTER_SOLICITATION) => {
                advertise(out);
                self.again = Some(now.saturating_add(AGAIN));
                Ok(true)
            }
            Some(&NEIGHBOUR_SOLICITATION) => {
                let target = message.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                let target = Ipv6Addr::from(target.ok_or(Cause::Malformed)?);
                if [GATEWAY_6, DNS_6, ROUTER_6].contains(&target) {
                    answer(source, target, out);
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Tells the guest again, when it is time.
    pub(super) fn expire(&mut self, out: &mut Out<'_>, now: Duration) {
        if self.again.is_some_and(|again| again <= now) {
            advertise(out);
            self.again = Some(now.saturating_add(AGAIN));
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.again
    }
}

/// A router advertisement (§4.2): the network's addresses are for everybody to make (RFC 4862), and the
/// name server and the largest packet are these. Nothing is to be had by DHCP.
fn advertise(out: &mut Out<'_>) {
    let network = Ipv6Addr::from_bits(GATEWAY_6.to_bits() >> 64 << 64).octets();
    let lifetime = LIFETIME.to_be_bytes();
    let for_ever = [0xff; 4];
    let mut message = [0; 88];
    let pieces: [&[u8]; 14] = [
        &[ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0],
        &lifetime,
        &[0; 8],
        // Our hardware address.
        &[1, 1],
        &mac(ROUTER_6.into()),
        // The largest packet.
        &[5, 1, 0, 0, 0, 0],
        &out.desk.mtu.to_be_bytes(),
        // The network: on the link, and for addresses of one's own making.
        &[3, 4, 64, 0xc0],
        &for_ever,
        &for_ever,
        &[0; 4],
        &network,
        // The name server.
        &[25, 3, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &DNS_6.octets(),
    ];
    fill(&mut message, &pieces);
    send(ROUTER_6, ALL, &mut message, out);
}

/// A neighbour advertisement (§4.4), to all when whoever asks has no address yet.
fn answer(guest: Ipv6Addr, asked: Ipv6Addr, out: &mut Out<'_>) {
    let (solicited, to) = if guest.is_unspecified() { (0, ALL) } else { (0x40, guest) };
    let router = if asked == DNS_6 { 0 } else { 0x80 };
    let mut message = [0; 32];
    let pieces: [&[u8]; 5] = [
        &[NEIGHBOUR_ADVERTISEMENT, 0, 0, 0],
        &[router | solicited | 0x20, 0, 0, 0],
        &asked.octets(),
        &[2, 1],
        &mac(asked.into()),
    ];
    fill(&mut message, &pieces);
    send(asked, to, &mut message, out);
}

fn fill(message: &mut [u8], pieces: &[&[u8]]) {
    let bytes = pieces.iter().copied().flatten();
    for (place, byte) in message.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

fn send(source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8], out: &mut Out<'_>) {
    let (source, destination) = (IpAddr::V6(source), IpAddr::V6(destination));
    icmp::sum(source, destination, message);
    out.packet(source, destination, IpProtocol::Icmpv6, [message, &[]]);
}
