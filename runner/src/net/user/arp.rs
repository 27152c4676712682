//! ARP (RFC 826): the guest learns the hardware addresses of the gateway and of the name server, and
//! of nobody else's.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr,
};

use super::addresses::{DNS, GATEWAY};
use super::counters::Cause;
use super::out::Out;
use crate::net::ETHERNET;

/// Bytes of an ARP packet for Ethernet and IPv4.
const ARP: usize = 28;

/// Serves a packet. Returns the address that the guest has shown, 0.0.0.0 for a probe (RFC 5227).
pub(super) fn packet(bytes: &[u8], out: &mut Out<'_>) -> Result<Ipv4Addr, Cause> {
    let packet = ArpPacket::new_checked(bytes).map_err(|_| Cause::Arp)?;
    let Ok(ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(hardware),
        source_protocol_addr: source,
        target_protocol_addr: target,
        ..
    }) = ArpRepr::parse(&packet)
    else {
        return Err(Cause::Arp);
    };
    if hardware != out.desk.path(IpAddr::V4(GATEWAY)).guest {
        return Err(Cause::Arp);
    }
    if operation == ArpOperation::Request && (target == GATEWAY || target == DNS) {
        answer(source, target, out);
    }
    Ok(source)
}

fn answer(guest: Ipv4Addr, asked: Ipv4Addr, out: &mut Out<'_>) {
    let mut frame = [0; ETHERNET + ARP];
    let (ethernet, arp) = frame.split_at_mut(ETHERNET);
    let path = out.desk.path(IpAddr::V4(asked));
    let (ours, theirs) = (EthernetAddress(path.ours), EthernetAddress(path.guest));
    EthernetRepr { src_addr: ours, dst_addr: theirs, ethertype: EthernetProtocol::Arp }
        .emit(&mut EthernetFrame::new_unchecked(ethernet));
    ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: ours,
        source_protocol_addr: asked,
        target_hardware_addr: theirs,
        target_protocol_addr: guest,
    }
    .emit(&mut ArpPacket::new_unchecked(arp));
    out.frame(&[&frame]);
}
