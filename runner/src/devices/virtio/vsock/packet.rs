//! Packets: a header of 44 bytes, little-endian, and bytes of a stream behind it (virtio 1.2 §5.10.6).

use vm_memory::VolatileSlice;

use crate::net::frame::Bytes;

/// Bytes of struct virtio_vsock_hdr.
pub const HEADER: usize = 44;

/// The same, as lengths in queues are.
pub(super) const HEADER_LEN: u32 = 44;

/// VIRTIO_VSOCK_TYPE_STREAM.
pub(super) const STREAM: u16 = 1;

/// Hints of a SHUTDOWN: whoever sends it receives no more, or sends no more.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
pub(super) const SHUTDOWN_SEND: u32 = 2;
pub(super) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet is for: VIRTIO_VSOCK_OP_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Wants a connection.
    Request,
    /// Accepts one.
    Response,
    /// There is no such connection, or no more.
    Reset,
    /// See the hints.
    Shutdown,
    /// Bytes.
    Data,
    /// How much room there is.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
}

impl Op {
    const ALL: [Self; 7] = [
        Self::Request,
        Self::Response,
        Self::Reset,
        Self::Shutdown,
        Self::Data,
        Self::CreditUpdate,
        Self::CreditRequest,
    ];

    fn number(self) -> u16 {
        match self {
            Op::Request => 1,
            Op::Response => 2,
            Op::Reset => 3,
            Op::Shutdown => 4,
            Op::Data => 5,
            Op::CreditUpdate => 6,
            Op::CreditRequest => 7,
        }
    }

    fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.number() == number)
    }
}

/// The two ends' ports, which tell connections apart: each is between the guest and the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) guest: u32,
    pub(super) host: u32,
}

/// A header's fields, whatever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source: u64,
    pub(super) destination: u64,
    pub(super) source_port: u32,
    pub(super) destination_port: u32,
    /// Bytes behind the header, as the sender says.
    pub(super) len: u32,
    pub(super) kind: u16,
    /// VIRTIO_VSOCK_OP_*, or anything.
    pub(super) op: u16,
    pub(super) flags: u32,
    /// The sender's room, and how much of what it was sent it has passed on.
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Header {
    /// The header in the first bytes of `bytes`. `None` when they are fewer.
    pub(super) fn read(bytes: Bytes<'_>) -> Option<Self> {
        let mut raw = [0; HEADER];
        if bytes.copy_to(&mut raw) < HEADER {
            return None;
        }
        let mut fields = Fields(&raw);
        Some(Self {
            source: u64::from_le_bytes(fields.next()?),
            destination: u64::from_le_bytes(fields.next()?),
            source_port: u32::from_le_bytes(fields.next()?),
            destination_port: u32::from_le_bytes(fields.next()?),
            len: u32::from_le_bytes(fields.next()?),
            kind: u16::from_le_bytes(fields.next()?),
            op: u16::from_le_bytes(fields.next()?),
            flags: u32::from_le_bytes(fields.next()?),
            buf_alloc: u32::from_le_bytes(fields.next()?),
            fwd_cnt: u32::from_le_bytes(fields.next()?),
        })
    }

    /// A header for the guest, which has the address `cid`.
    pub(super) fn to_guest(cid: u64, ports: Ports, op: Op) -> Self {
        Self {
            source: super::HOST,
            destination: cid,
            source_port: ports.host,
            destination_port: ports.guest,
            len: 0,
            kind: STREAM,
            op: op.number(),
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        }
    }

    /// What answers a packet that belongs nowhere.
    pub(super) fn reset(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            len: 0,
            op: Op::Reset.number(),
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
            ..*self
        }
    }

    /// What it is for; `None` for what does not exist.
    pub(super) fn op(&self) -> Option<Op> {
        Op::of(self.op)
    }

    /// The ports of a packet of the guest's.
    pub(super) fn ports(&self) -> Ports {
        Ports { guest: self.source_port, host: self.destination_port }
    }

    /// As it lies in memory.
    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut raw = [0; HEADER];
        let longs = [self.source, self.destination].into_iter().flat_map(u64::to_le_bytes);
        let words = [self.source_port, self.destination_port, self.len];
        let words = words.into_iter().flat_map(u32::to_le_bytes);
        let halves = [self.kind, self.op].into_iter().flat_map(u16::to_le_bytes);
        let rest =
            [self.flags, self.buf_alloc, self.fwd_cnt].into_iter().flat_map(u32::to_le_bytes);
        for (to, from) in raw.iter_mut().zip(longs.chain(words).chain(halves).chain(rest)) {
            *to = from;
        }
        raw
    }

    /// Writes it into the first bytes of `slices`, which have room for it.
    pub(super) fn write(&self, slices: &[VolatileSlice<'_>]) {
        let raw = self.bytes();
        let mut rest = raw.as_slice();
        for slice in slices {
            let count = rest.len().min(slice.len());
            slice.copy_from(rest.get(..count).unwrap_or_default());
            rest = rest.get(count..).unwrap_or_default();
        }
    }
}

/// Fields one behind the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { guest: 0x0102_0304, host: 0x0506_0708 };

    #[test]
    fn a_header_lies_in_memory_as_the_standard_has_it() {
        let header = Header {
            len: 0x1112_1314,
            flags: 0x2122_2324,
            buf_alloc: 0x3132_3334,
            fwd_cnt: 0x4142_4344,
            ..Header::to_guest(3, PORTS, Op::Shutdown)
        };
        let wanted = [
            2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0x14, 0x13,
            0x12, 0x11, 1, 0, 4, 0, 0x24, 0x23, 0x22, 0x21, 0x34, 0x33, 0x32, 0x31, 0x44, 0x43,
            0x42, 0x41,
        ];
        assert_eq!(header.bytes(), wanted);
        let mut memory = wanted;
        let slice = VolatileSlice::from(&mut memory[..]);
        let pieces = [slice.subslice(0, 7).unwrap(), slice.offset(7).unwrap()];
        assert_eq!(Header::read(Bytes::new(&pieces)), Some(header));
        assert_eq!(Header::read(Bytes::new(&pieces).take(43)), None);
    }

    #[test]
    fn what_answers_a_packet_goes_back_where_it_came_from() {
        let request = Header { len: 7, kind: 9, ..Header::to_guest(3, PORTS, Op::Request) };
        let reset = request.reset();
        assert_eq!((reset.source, reset.destination), (3, 2));
        assert_eq!(reset.ports(), PORTS);
        assert_eq!((reset.op(), reset.len, reset.kind), (Some(Op::Reset), 0, 9));
    }

    #[test]
    fn what_does_not_exist_is_no_operation() {
        let mut header = Header::to_guest(3, PORTS, Op::Request);
        for (number, op) in (1..).zip(Op::ALL) {
            header.op = number;
            assert_eq!(header.op(), Some(op));
        }
        for number in [0, 8, u16::MAX] {
            header.op = number;
            assert_eq!(header.op(), None);
        }
    }
}
