//! A tap device of the host's: a network interface whose other end is the guest's. Linux; its frames
//! come and go behind a virtio_net_hdr, so that checksums and segmentation are left to whoever does
//! them best.

use std::io;
use std::time::Duration;

use super::frame::{Frame, LARGEST};
use super::packets::Packets;
use super::{ETHERNET, Inbox, Link, Offer, Sent, sys};
use crate::io::event_loop::{Ready, Watcher};
use crate::warning;

use virtio_bindings::virtio_net::{VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6};

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This system has none.
    #[error(
        "tap devices and bridges are Linux's: use --net=user, or --net=unix:PATH with socket_vmnet"
    )]
    System,
    /// The kernel has no driver for them, or a container has no device file.
    #[error("there is no /dev/net/tun: sudo modprobe tun, or give the container that device")]
    NoDriver,
    /// The device file is closed to this user.
    #[error("may not open /dev/net/tun: sudo chmod 0666 /dev/net/tun, as distributions have it")]
    NoAccess,
    /// There is no such device, or it is somebody else's.
    #[error(
        "tap device {name}: there is none, or it is another user's: \
         sudo ip tuntap add {name} mode tap user $USER && sudo ip link set {name} up"
    )]
    MayNot {
        /// The device.
        name: String,
    },
    /// Only root makes one and puts it into a bridge.
    #[error(
        "bridge {bridge}: only root may put the guest into it; make a tap device there \
         (sudo ip tuntap add tap0 mode tap user $USER && sudo ip link set tap0 master {bridge} up) \
         and use it: --net=tap:tap0"
    )]
    MayNotBridge {
        /// The bridge.
        bridge: String,
    },
    /// Another program uses it.
    #[error("tap device {name}: another program uses it: stop that, or use another device")]
    Busy {
        /// The device.
        name: String,
    },
    /// It is no tap device, or one of several queues.
    #[error(
        "{name} is no tap device with one queue: \
         sudo ip tuntap add NAME mode tap user $USER makes one, without multi_queue"
    )]
    Kind {
        /// The interface.
        name: String,
    },
    /// It is down, and only root brings it up.
    #[error("tap device {name} is down: sudo ip link set {name} up")]
    Down {
        /// The device.
        name: String,
    },
    /// It is in no bridge, and only root changes that.
    #[error("tap device {name} is not in bridge {bridge}: sudo ip link set {name} master {bridge}")]
    NotInBridge {
        /// The device.
        name: String,
        /// The bridge.
        bridge: String,
    },
    /// It is in another bridge.
    #[error(
        "tap device {name} is in another bridge than {bridge}: sudo ip link set {name} master {bridge}"
    )]
    OtherBridge {
        /// The device.
        name: String,
        /// The bridge.
        bridge: String,
    },
    /// It is another kind of interface.
    #[error(
        "{name} is no bridge; `ip link show type bridge` lists those there are, and \
         sudo ip link add br0 type bridge && sudo ip link set br0 up makes one"
    )]
    NotBridge {
        /// The interface.
        name: String,
    },
    /// There is no bridge of that name.
    #[error(
        "there is no bridge {bridge}: sudo ip link add {bridge} type bridge && sudo ip link set {bridge} up"
    )]
    NoBridge {
        /// The bridge.
        bridge: String,
    },
    /// Anything else.
    #[error("tap device {name}: {error}")]
    Refused {
        /// The device.
        name: String,
        /// What the operating system said.
        error: io::Error,
    },
}

/// A tap device.
#[derive(Debug)]
pub struct Tap {
    packets: Packets,
    offer: Offer,
    /// Bytes of the largest frame for the guest, as it is now.
    most: usize,
}

impl Tap {
    /// The device `name`; without a name one that is gone after the run. It is put into `bridge`, if one is
    /// named, for which it is made where there is none and we may. The guest has the address `mac`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(name: Option<&str>, bridge: Option<&str>, mac: [u8; 6]) -> Result<Self, Error> {
        let (fd, name, mtu) = sys::open(name, bridge)?;
        let offer = Offer { features: sys::OFFLOADS, mac, mtu };
        let mut tap = Self { packets: Packets::new(fd, name, true), offer, most: 0 };
        tap.set_offload(0);
        Ok(tap)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        self.packets.name()
    }

    fn set_offload(&mut self, features: u64) {
        let set = sys::set_offload(self.packets.fd(), features);
        if let (Err(error), false) = (set, self.packets.is_gone()) {
            let name = self.packets.name();
            warning!("network: {name}: the guest's offloads cannot be set: {error}");
        }
        let segments = 1 << VIRTIO_NET_F_GUEST_TSO4 | 1 << VIRTIO_NET_F_GUEST_TSO6;
        self.most = match features & segments {
            0 => ETHERNET.saturating_add(self.offer.mtu.into()),
            _ => LARGEST,
        };
    }
}

impl Link for Tap {
    fn offer(&self) -> Offer {
        self.offer
    }

    fn descriptors(&self) -> u64 {
        0
    }

    fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        self.packets.watch(watcher)
    }

    fn activate(&mut self, features: Option<u64>) {
        self.set_offload(features.unwrap_or(0));
        self.packets.discard();
    }

    fn send(&mut self, frame: &Frame<'_>, _now: Duration) -> Sent {
        self.packets.send(frame)
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, _now: Duration) {
        self.packets.receive(inbox, self.most);
    }

    fn ready(&mut self, ready: Ready, _now: Duration) {
        self.packets.ready(ready);
    }

    fn deadline(&self) -> Option<Duration> {
        self.packets.deadline()
    }

    fn finish(&mut self) {
        self.packets.finish();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
