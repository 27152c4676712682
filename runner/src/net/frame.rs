//! A frame of the guest's as it lies in guest memory, and the header that virtio puts before it
//! (virtio 1.2 §5.1.6).
//!
//! The guest may write its memory at any time: whoever looks at headers copies them out once, and
//! believes the copy.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_NONE,
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
};
use vm_memory::VolatileSlice;

/// Bytes of struct virtio_net_hdr_v1, `num_buffers` included: the modern interface has always all.
pub const HEADER: usize = 12;

/// The most bytes of a frame: a TCP segment to be cut, of an IP packet with 65,535 bytes.
pub const LARGEST: usize = super::ETHERNET + 65_535;

/// A TCP segment that is to be cut into packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// TCP over IPv4.
    V4,
    /// TCP over IPv6.
    V6,
}

/// What has been left for others to do with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum of what begins at the first number, to be written that many bytes behind it. The
    /// place holds the sum of the pseudo-header.
    pub checksum: Option<(u16, u16)>,
    /// To be cut into segments with so many bytes of data, never 0.
    pub segment: Option<(Family, u16)>,
}

impl Offload {
    /// Reads a header of the guest's for a frame of `len` bytes. `None` when it asks for what makes no
    /// sense or was not negotiated: such a frame is dropped.
    pub fn parse(header: &[u8; HEADER], len: usize) -> Option<Self> {
        let [flags, gso, _, _, size_low, size_high, start_low, start_high, at_low, at_high, _, _] =
            *header;
        let half = |low, high| u16::from_le_bytes([low, high]);
        let (size, start) = (half(size_low, size_high), half(start_low, start_high));
        let offset = half(at_low, at_high);
        let checksum = match u32::from(flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM {
            0 => None,
            _ => {
                let end = usize::from(start).checked_add(usize::from(offset))?.checked_add(2)?;
                (end <= len).then_some(Some((start, offset)))?
            }
        };
        let kind = u32::from(gso) & !VIRTIO_NET_HDR_GSO_ECN;
        let segment = match kind {
            VIRTIO_NET_HDR_GSO_NONE => None,
            VIRTIO_NET_HDR_GSO_TCPV4 => Some((Family::V4, size)),
            VIRTIO_NET_HDR_GSO_TCPV6 => Some((Family::V6, size)),
            _ => return None,
        };
        // Segments have checksums of their own, which are as much left to be done (§5.1.6.2.1).
        let complete = segment.is_none_or(|(_, size)| size > 0 && checksum.is_some());
        complete.then_some(Self { checksum, segment })
    }

    /// The header that says the same to the guest, for a frame whose headers (Ethernet, IP, TCP) have
    /// `headers` bytes and that lies in `buffers` of the guest's chains.
    pub fn header(self, headers: u16, buffers: u16) -> [u8; HEADER] {
        let (start, offset) = self.checksum.unwrap_or_default();
        let needs = if self.checksum.is_some() { VIRTIO_NET_HDR_F_NEEDS_CSUM } else { 0 };
        let (kind, size, length) = match self.segment {
            None => (VIRTIO_NET_HDR_GSO_NONE, 0, 0),
            Some((Family::V4, size)) => (VIRTIO_NET_HDR_GSO_TCPV4, size, headers),
            Some((Family::V6, size)) => (VIRTIO_NET_HDR_GSO_TCPV6, size, headers),
        };
        let mut header = [0; HEADER];
        let bytes = u8::try_from(needs).into_iter().chain(u8::try_from(kind));
        let halves = [length, size, start, offset, buffers].into_iter().flat_map(u16::to_le_bytes);
        for (to, from) in header.iter_mut().zip(bytes.chain(halves)) {
            *to = from;
        }
        header
    }
}

/// A run of bytes in guest memory, in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    slices: &'a [VolatileSlice<'a>],
    skip: usize,
    len: usize,
}

impl<'a> Bytes<'a> {
    /// All bytes of `slices`.
    pub fn new(slices: &'a [VolatileSlice<'a>]) -> Self {
        let len = slices.iter().fold(0usize, |sum, slice| sum.saturating_add(slice.len()));
        Self { slices, skip: 0, len }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Without the first `count`.
    #[must_use]
    pub fn skip(self, count: usize) -> Self {
        let count = count.min(self.len);
        let (skip, len) = (self.skip.saturating_add(count), self.len.saturating_sub(count));
        Self { skip, len, ..self }
    }

    /// The first `count`, or as many as there are.
    #[must_use]
    pub fn take(self, count: usize) -> Self {
        Self { len: self.len.min(count), ..self }
    }

    /// The pieces, none of which is empty.
    pub fn pieces(self) -> impl Iterator<Item = VolatileSlice<'a>> {
        let (mut skip, mut left) = (self.skip, self.len);
        self.slices.iter().filter_map(move |slice| {
            let before = skip.min(slice.len());
            skip = skip.saturating_sub(before);
            let count = slice.len().saturating_sub(before).min(left);
            left = left.saturating_sub(count);
            // Within the slice, so this cannot fail.
            (count > 0).then(|| slice.subslice(before, count).ok()).flatten()
        })
    }

    /// Copies from the first on. Returns how many.
    pub fn copy_to(self, bytes: &mut [u8]) -> usize {
        let mut done = 0usize;
        for piece in self.pieces() {
            let rest = bytes.get_mut(done..).unwrap_or_default();
            done = done.saturating_add(piece.copy_to(rest));
        }
        done
    }
}

/// A frame of the guest's.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What the guest has left to do.
    pub offload: Offload,
    /// The frame, from the destination's address on.
    pub bytes: Bytes<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv::GuestRam;
    use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _};

    /// A header: flags, kind, size, start, offset.
    fn header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        (header[0], header[1]) = (flags, gso);
        for (at, value) in [(4, size), (6, start), (8, offset)] {
            header[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        header
    }

    #[test]
    fn a_header_of_zeros_leaves_nothing_to_do() {
        assert_eq!(Offload::parse(&[0; HEADER], 0), Some(Offload::default()));
    }

    #[test]
    fn a_checksum_whose_place_is_not_in_the_frame_is_refused() {
        // N52
        let at = |start, offset| Offload::parse(&header(1, 0, 0, start, offset), 60);
        assert_eq!(at(34, 24).unwrap().checksum, Some((34, 24)));
        for (start, offset) in [(34, 25), (59, 0), (0xffff, 0xffff), (60, 0)] {
            assert_eq!(at(start, offset), None, "{start} {offset}");
        }
    }

    #[test]
    fn a_segment_of_size_0_without_checksum_or_of_an_unknown_kind_is_refused() {
        // N52
        let of = |flags, gso, size| Offload::parse(&header(flags, gso, size, 34, 16), 60);
        assert_eq!(of(1, 1, 1460).unwrap().segment, Some((Family::V4, 1460)));
        assert_eq!(of(1, 0x84, 1440).unwrap().segment, Some((Family::V6, 1440)));
        for (flags, gso, size) in [(1, 1, 0), (0, 1, 1460), (1, 3, 1460), (1, 5, 1460), (1, 2, 9)] {
            assert_eq!(of(flags, gso, size), None, "{flags} {gso} {size}");
        }
    }

    #[test]
    fn what_is_said_to_the_guest_is_what_is_read_from_it() {
        let checksum = Some((34, 16));
        for segment in [None, Some((Family::V4, 1460)), Some((Family::V6, 1440))] {
            let offload = Offload { checksum, segment };
            let header = offload.header(54, 3);
            assert_eq!(Offload::parse(&header, 60), Some(offload));
            assert_eq!(header[10..], [3, 0]);
        }
        assert_eq!(Offload::default().header(54, 1)[..10], [0; 10]);
    }

    #[test]
    fn bytes_are_cut_and_copied_across_their_pieces() {
        let memory = hv::mem::memory([(0, GuestRam::new(0x1000).unwrap())]).unwrap();
        memory.write_slice(b"abcdefgh", GuestAddress(0x10)).unwrap();
        let slice = |at, len| memory.get_slice(GuestAddress(at), len).unwrap();
        let slices = [slice(0x10, 3), slice(0, 0), slice(0x13, 1), slice(0x14, 4)];
        let all = Bytes::new(&slices);
        assert_eq!(all.len(), 8);
        let text = |bytes: Bytes<'_>| {
            let mut text = [0; 16];
            let len = bytes.copy_to(&mut text);
            assert_eq!(len, bytes.len());
            String::from_utf8(text[..len].to_vec()).unwrap()
        };
        assert_eq!(text(all), "abcdefgh");
        assert_eq!(text(all.skip(2).take(3)), "cde");
        assert_eq!(text(all.take(5).skip(4)), "e");
        assert_eq!(text(all.skip(3).skip(1)), "efgh");
        assert_eq!(text(all.skip(9)), "");
        assert_eq!(
            all.skip(2).take(2).pieces().map(|piece| piece.len()).collect::<Vec<_>>(),
            [1, 1]
        );
    }
}
