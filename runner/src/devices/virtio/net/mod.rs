//! The network device (virtio 1.2 §5.1): a queue for what the guest receives, one for what it sends,
//! and a [`Link`](crate::net::Link) behind them. Served by the I/O loop, so that a frame changes no
//! thread on its way between a socket and the guest.

mod nic;
mod room;
#[cfg(test)]
mod tests;

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,
    VIRTIO_NET_S_LINK_UP,
};

use super::COMMON_FEATURES;
use super::chain::MAX_SEGMENTS;
use super::transport::Identity;
use crate::net::Offer;
pub use nic::{Nic, Scratch, Work};

/// Entries of each queue.
const QUEUE_SIZE: u16 = MAX_SEGMENTS;

/// The queues by their numbers (§5.1.2); there is one pair.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// What the driver is told of a device with `name` and a link that offers `offer`.
pub fn identity(name: &str, offer: &Offer) -> Identity {
    let own = 1 << VIRTIO_NET_F_MAC
        | 1 << VIRTIO_NET_F_MTU
        | 1 << VIRTIO_NET_F_STATUS
        | 1 << VIRTIO_NET_F_MRG_RXBUF;
    Identity {
        name: name.to_owned(),
        device: VIRTIO_ID_NET,
        features: COMMON_FEATURES | own | offer.features,
        queues: vec![QUEUE_SIZE; 2],
        config: config(offer),
        writable: 0..0,
    }
}

/// struct virtio_net_config (§5.1.4), as far as the features go.
fn config(offer: &Offer) -> Vec<u8> {
    let status = u16::try_from(VIRTIO_NET_S_LINK_UP).unwrap_or_default();
    let pairs = 1u16;
    let halves = [status, pairs, offer.mtu].into_iter().flat_map(u16::to_le_bytes);
    offer.mac.into_iter().chain(halves).collect()
}
