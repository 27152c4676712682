//! The socket device (virtio 1.2 §5.10): streams between programs in the guest and programs on the
//! host, which meet at stream sockets in the file system.
//!
//! A program of the host's connects to the socket, writes `CONNECT <port>` and a newline, and reads
//! `OK <port>` and a newline when somebody in the guest has accepted; then the stream begins, both ways.
//! A program of the guest's connects to CID 2 and a port, and reaches who listens at the socket's path
//! with `_<port>` behind it. This is Firecracker's convention (docs/vsock.md).
//!
//! `packet` is what lies in the queues, `credit` who may send how much, `flow` one connection, `table` all of
//! them, `host` the sockets; `exchange` what goes on between them; [`Vsock`] serves the queues, on the I/O
//! loop's thread, so that a byte changes no thread on its way. Bytes go straight between guest memory and a
//! socket. Only what a program of the host's does not read at once is kept, up to what the guest was told that
//! it may send.

mod credit;
mod device;
mod exchange;
mod flow;
mod host;
mod inbox;
mod packet;
mod table;
#[cfg(test)]
mod tests;

use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

use super::COMMON_FEATURES;
use super::chain::MAX_SEGMENTS;
use super::transport::Identity;
pub use device::Vsock;
pub use host::Sockets;
pub use packet::HEADER;

/// The host's address (§5.10.4; vsock(7)).
pub const HOST: u64 = 2;

/// The first address that a guest can have: 0 to 2 are nobody's, the hypervisor's, the host's.
pub const FIRST_CID: u64 = 3;

/// The last one: 2³² - 1 is anybody's, and more are reserved (§5.10.4).
pub const LAST_CID: u64 = 0xffff_fffe;

/// Connections there can be, those included that are not there yet, and those of which only the rest
/// is on its way to a program of the host's.
pub const CONNECTIONS: u16 = 1024;

/// Bytes that a guest may send on a connection before the host's program has read any, and how many
/// connections may be like that at a time.
const WINDOW: u32 = 256 << 10;
const WIDE: u16 = 64;

/// The same on all others: so all that can be kept is 31 MiB.
const NARROW: u32 = 16 << 10;

/// Streams (§5.10.3): VIRTIO_VSOCK_F_STREAM.
const F_STREAM: u64 = 1;

/// Entries of each queue.
const QUEUE_SIZE: u16 = MAX_SEGMENTS;

/// The queues by their numbers (§5.10.2).
pub const RECEIVE: usize = 0;
/// What the guest sends.
pub const TRANSMIT: usize = 1;
/// What the device has to say beside packets.
pub const EVENT: usize = 2;

/// How many descriptors may be opened for connections.
pub const DESCRIPTORS: u64 = CONNECTIONS as u64 + 1;

/// What the driver is told of a device with `name`, whose guest has the address `cid`.
pub fn identity(name: &str, cid: u64) -> Identity {
    Identity {
        name: name.to_owned(),
        device: VIRTIO_ID_VSOCK,
        features: COMMON_FEATURES | F_STREAM,
        queues: vec![QUEUE_SIZE; 3],
        // struct virtio_vsock_config (§5.10.4).
        config: cid.to_le_bytes().into(),
        writable: 0..0,
    }
}
