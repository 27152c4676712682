//! Packets for the guest: into its memory where there is room, and into the outbox where there is not
//! or the guest is being listened to. What is larger than the network's largest packet goes in
//! fragments (RFC 791 §3.2, RFC 8200 §4.5).

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{IpProtocol, Ipv4Packet};

use super::addresses::{DNS, DNS_6, DNS_MAC, GATEWAY_MAC};
use super::counters::{Cause, Counters};
use super::outbox::Outbox;
use super::wire::{HEAD, Path, head};
use crate::net::frame::Offload;
use crate::net::{ETHERNET, Inbox, Put};

/// Bytes of an IPv4 header of ours, and of the header that a fragment of IPv6 has more.
const IPV4: usize = 20;
const EXTENSION: usize = 8;

/// What all parts of the network have in common.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) outbox: Outbox,
    pub(super) counters: Counters,
    /// The guest's hardware address.
    guest: [u8; 6],
    /// Bytes of the largest packet.
    pub(super) mtu: u16,
    /// Of the next packet that goes in fragments.
    identification: u16,
}

impl Desk {
    pub(super) fn new(guest: [u8; 6], mtu: u16) -> Self {
        let (outbox, counters) = (Outbox::default(), Counters::default());
        Self { outbox, counters, guest, mtu, identification: 0 }
    }

    /// The guest, that has no room now: whatever is for it waits.
    pub(super) fn out(&mut self) -> Out<'_> {
        Out { desk: self, inbox: None }
    }

    /// The guest, that may have room.
    pub(super) fn out_to<'a>(&'a mut self, inbox: &'a mut dyn Inbox) -> Out<'a> {
        Out { desk: self, inbox: Some(inbox) }
    }

    /// The two ends of the guest's cable, for what comes from `source`.
    pub(super) fn path(&self, source: IpAddr) -> Path {
        Path { ours: mac(source), guest: self.guest }
    }
}

/// What a part of the network answers by.
pub(super) struct Out<'a> {
    pub(super) desk: &'a mut Desk,
    /// The guest's memory, when there may be room.
    inbox: Option<&'a mut dyn Inbox>,
}

impl Out<'_> {
    /// Whether there is room in the guest's memory, and nothing waits before it.
    pub(super) fn has_room(&mut self) -> bool {
        self.desk.outbox.is_empty() && self.inbox.as_mut().is_some_and(|inbox| inbox.room(1) > 0)
    }

    /// A packet is dropped.
    pub(super) fn drop(&mut self, cause: Cause) {
        self.desk.counters.drop(cause);
    }

    /// A frame, its checksums done.
    pub(super) fn frame(&mut self, pieces: &[&[u8]]) {
        if let (true, Some(inbox)) = (self.desk.outbox.is_empty(), self.inbox.as_mut())
            && inbox.put(Offload::default(), pieces) == Put::Done
        {
            return;
        }
        self.desk.outbox.push(pieces);
    }

    /// A packet whose body lies in two pieces.
    pub(super) fn packet(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
        protocol: IpProtocol,
        body: [&[u8]; 2],
    ) {
        let mut path = self.desk.path(source);
        match destination {
            IpAddr::V4(Ipv4Addr::BROADCAST) => path.guest = [0xff; 6],
            // RFC 2464 §7.
            IpAddr::V6(all) if all.is_multicast() => {
                let [.., a, b, c, d] = all.octets();
                path.guest = [0x33, 0x33, a, b, c, d];
            }
            _ => {}
        }
        let [first, second] = body;
        let len = first.len().saturating_add(second.len());
        let mut out = [0; HEAD];
        let Some(headers) = head(path, source, destination, protocol, len, &mut out) else {
            return self.desk.counters.drop(Cause::Size);
        };
        let most = usize::from(self.desk.mtu).saturating_add(ETHERNET).saturating_sub(headers);
        if len <= most {
            let head = out.get(..headers).unwrap_or_default();
            return self.frame(&[head, first, second]);
        }
        self.desk.identification = self.desk.identification.wrapping_add(1);
        let extension = if source.is_ipv4() { 0 } else { EXTENSION };
        // Fragments are counted in units of eight bytes.
        let most = most.saturating_sub(extension) & !7;
        let mut from = 0;
        while from < len && most > 0 {
            let to = from.saturating_add(most).min(len);
            let fragment = Fragment { from, to, more: to < len };
            let [first, second] = cut(body, from, to);
            match source {
                IpAddr::V4(_) => {
                    self.fragment(&mut out, fragment);
                    let head = out.get(..headers).unwrap_or_default();
                    self.frame(&[head, first, second]);
                }
                IpAddr::V6(_) => {
                    let len = to.saturating_sub(from).saturating_add(EXTENSION);
                    let kind = IpProtocol::Ipv6Frag;
                    if head(path, source, destination, kind, len, &mut out).is_some() {
                        let head = out.get(..headers).unwrap_or_default();
                        self.frame(&[head, &self.extension(protocol, fragment), first, second]);
                    }
                }
            }
            from = to;
        }
    }

    /// Makes the headers of a packet of IPv4 those of a fragment.
    fn fragment(&self, out: &mut [u8; HEAD], Fragment { from, to, more }: Fragment) {
        let Some(header) = out.get_mut(ETHERNET..) else { return };
        let mut packet = Ipv4Packet::new_unchecked(header);
        packet.set_total_len(narrow(to.saturating_sub(from).saturating_add(IPV4)));
        packet.set_ident(self.desk.identification);
        packet.set_dont_frag(false);
        packet.set_more_frags(more);
        packet.set_frag_offset(narrow(from));
        packet.fill_checksum();
    }

    /// The header that a fragment of IPv6 has more (RFC 8200 §4.5).
    fn extension(&self, protocol: IpProtocol, fragment: Fragment) -> [u8; EXTENSION] {
        let [high, low] = (narrow(fragment.from) & !7 | u16::from(fragment.more)).to_be_bytes();
        let [id_high, id_low] = self.desk.identification.to_be_bytes();
        [protocol.into(), 0, high, low, 0, 0, id_high, id_low]
    }
}

/// Bytes of a packet's body that go by themselves.
#[derive(Clone, Copy)]
struct Fragment {
    from: usize,
    to: usize,
    more: bool,
}

/// All lengths of a packet fit.
fn narrow(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// The hardware address of `source` as the guest sees it.
pub(super) fn mac(source: IpAddr) -> [u8; 6] {
    match source == IpAddr::V4(DNS) || source == IpAddr::V6(DNS_6) {
        true => DNS_MAC,
        false => GATEWAY_MAC,
    }
}

/// The bytes `from..to` of what lies in two pieces.
fn cut(pieces: [&[u8]; 2], from: usize, to: usize) -> [&[u8]; 2] {
    let [first, second] = pieces;
    let within = |piece: &[u8], at: usize| at.min(piece.len());
    let (start, end) = (within(first, from), within(first, to));
    let behind = |at: usize| within(second, at.saturating_sub(first.len()));
    [
        first.get(start..end).unwrap_or_default(),
        second.get(behind(from)..behind(to)).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::Mailbox;

    fn send(mailbox: &mut Mailbox, desk: &mut Desk, len: usize) {
        let body: Vec<u8> = (0..251).cycle().take(len).collect();
        let (first, second) = body.split_at(8);
        let (source, destination) = ("1.2.3.4".parse().unwrap(), "10.0.2.15".parse().unwrap());
        desk.out_to(mailbox).packet(source, destination, IpProtocol::Udp, [first, second]);
    }

    #[test]
    fn a_packet_that_fits_goes_in_one_frame_and_a_larger_one_in_fragments_that_add_up() {
        for (len, frames) in [(1480, 1), (1481, 2), (8000, 6), (65_515, 45)] {
            let (mut mailbox, mut desk) = (Mailbox::with_room(100), Desk::new([4; 6], 1500));
            send(&mut mailbox, &mut desk, len);
            assert_eq!(mailbox.frames.len(), frames);
            let mut whole = Vec::new();
            for (index, frame) in mailbox.bytes().into_iter().enumerate() {
                assert!(frame.len() <= 1514);
                let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
                assert!(packet.verify_checksum());
                assert_eq!(usize::from(packet.frag_offset()), whole.len());
                assert_eq!(packet.more_frags(), index + 1 < frames);
                assert_eq!(packet.ident(), if frames > 1 { 1 } else { 0 });
                whole.extend_from_slice(packet.payload());
            }
            assert!(whole.iter().copied().eq((0..251).cycle().take(len)));
            assert_eq!(whole.len(), len);
        }
    }

    #[test]
    fn what_the_guest_has_no_room_for_waits_and_stays_in_order() {
        let (mut mailbox, mut desk) = (Mailbox::with_room(1), Desk::new([4; 6], 1500));
        send(&mut mailbox, &mut desk, 4000);
        assert_eq!(mailbox.frames.len(), 1);
        mailbox.room = 1;
        send(&mut mailbox, &mut desk, 100);
        assert_eq!(mailbox.frames.len(), 1, "the fragments wait before it");
        mailbox.room = 9;
        assert!(desk.outbox.deliver(&mut mailbox));
        let sizes: Vec<_> = mailbox.bytes().into_iter().map(<[u8]>::len).collect();
        assert_eq!(sizes, [1514, 1514, 1074, 134]);
    }
}
