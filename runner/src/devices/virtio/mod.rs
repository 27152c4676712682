//! virtio devices (OASIS Virtual I/O Device version 1.2; modern interface only).
//!
//! A device is two halves. The [`transport::Transport`] holds what vCPUs reach: status, features,
//! queue registers; its lock is held for a few instructions. A [`worker::Worker`] on I/O threads
//! holds what serves requests: the queues as they were when the driver finished, which no register
//! write reaches any more, and a [`worker::Backend`]. Between them go [`worker::Command`]s, each
//! with the generation of the activation it belongs to. Devices that the I/O loop serves have
//! [`virtqueues::Virtqueues`] in a worker's place, and are [`served::Served`].

pub mod balloon;
pub mod block;
pub mod chain;
mod config_space;
pub mod console;
mod desk;
mod half;
mod identity;
pub mod interrupts;
pub mod mmio;
pub mod net;
pub mod p9;
pub mod pci;
pub mod queue;
mod ring;
pub mod rng;
pub mod served;
pub mod state;
pub mod status;
#[cfg(test)]
mod tests;
mod threads;
pub mod transport;
pub mod virtqueues;
pub mod vsock;
pub mod worker;

use virtio_bindings::{virtio_config, virtio_ring};

/// Features of every device here (§6): the modern interface, indirect tables (§2.7.5.3),
/// notifications by index (§2.7.7, §2.7.10).
pub const COMMON_FEATURES: u64 = 1 << virtio_config::VIRTIO_F_VERSION_1
    | 1 << virtio_ring::VIRTIO_RING_F_INDIRECT_DESC
    | 1 << virtio_ring::VIRTIO_RING_F_EVENT_IDX;

/// What a driver did that ends the device's service until the next reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The driver said that it is ready, and no queue is.
    #[error("the driver started the device without a queue")]
    NoQueue,
    /// A queue cannot be as its registers say.
    #[error("queue {queue}: {error}")]
    Queue {
        /// Its number.
        queue: usize,
        /// What is wrong.
        error: queue::Invalid,
    },
    /// The driver made more chains available than the queue has room for.
    #[error("the available index ran ahead by more than the queue's size")]
    AvailableIndex,
    /// The ring itself could not be read or written.
    #[error("the ring is out of reach")]
    Ring,
    /// A chain was made available that the device already had.
    #[error("descriptor {0} was made available twice")]
    Duplicate(u16),
    /// A chain breaks the rules for chains.
    #[error("the chain at descriptor {head}: {error}")]
    Chain {
        /// Its first descriptor.
        head: u16,
        /// What is wrong.
        error: chain::Broken,
    },
}
