//! What is kept of a virtio device (see [`devices::state`](crate::devices::state)): what its driver
//! has written, where its queues are, and what it has begun.

use serde::{Deserialize, Serialize};

use crate::devices::state::Refused;

/// A virtio device, whatever bus it is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtioState {
    /// Device type (§5).
    pub device: u32,
    /// What its driver reaches.
    pub registers: RegistersState,
    /// What else it goes on with.
    pub own: Own,
}

/// The transport's half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistersState {
    /// The status field.
    pub status: u32,
    /// Which half of the offered features the driver looks at.
    pub device_features_select: u32,
    /// Which half of its features it is about to write.
    pub driver_features_select: u32,
    /// What it has accepted.
    pub driver_features: u64,
    /// It accepted something that has no place there.
    pub unknown_features: bool,
    /// The queue that it is at.
    pub queue_select: u32,
    /// The queues, in order.
    pub queues: Vec<QueueState>,
    /// Why the device interrupted, as far as the driver has not seen it.
    pub interrupt_status: u32,
    /// The configuration space.
    pub config: Vec<u8>,
    /// How often the device has changed it.
    pub config_generation: u32,
}

/// A queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueState {
    /// Entries; the guest's word.
    pub size: u32,
    /// Whether the driver is done with it.
    pub ready: bool,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the available ring.
    pub available: u64,
    /// Guest physical address of the used ring.
    pub used: u64,
    /// How many chains were taken from it, and used, while it is in service. A device that stands still
    /// has none that was taken and not used.
    pub position: Option<u16>,
}

/// What a kind of device has beside registers and queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Own {
    /// Nothing: the entropy device, and the network device. Connections that end in runner's own
    /// network, or that the host has cut, are not kept: the guest's next segment is answered by RST.
    #[default]
    Nothing,
    /// A disk. What is on it is in its file.
    Block {
        /// The guest has written what no flush has made durable.
        unflushed: bool,
        /// A flush has failed, and so does every later one.
        failed: bool,
    },
    /// A memory balloon. What is in it only its driver knows.
    Balloon {
        /// Bytes that are done of the report that is the next request.
        reported: u64,
    },
    /// A console. What is in the hands of its readers is not kept, nor are the connections of its ports:
    /// each goes on over the one that the new device was given.
    Console {
        /// The ports, in the order of their numbers.
        ports: Vec<PortState>,
    },
    /// A socket device. Its connections end with the process that has their sockets, and the driver is
    /// told so by an event (§5.10.6.7).
    Vsock {
        /// There were some, or the driver has not been told yet that there were.
        interrupted: bool,
    },
    /// A shared folder. Its files are open in the process that opened them: the driver's session is over,
    /// which it is told by EPROTO, whatever it asks, until it begins another one.
    Share {
        /// The driver had a session.
        lost: bool,
    },
}

/// A console's port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortState {
    /// Bytes that are sent of the request that is next to be.
    pub sent: u64,
    /// Input that the guest has not taken.
    pub input: Vec<u8>,
    /// The driver has the port, where it knows of several.
    pub ready: bool,
    /// A program of the guest's has it open.
    pub open: bool,
    /// What the driver is to be told of it.
    pub due: DueState,
}

/// Messages about a port (§5.3.6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DueState {
    /// It is there.
    pub add: bool,
    /// It is a console.
    pub console: bool,
    /// It has a size.
    pub resize: bool,
    /// It has a name.
    pub name: bool,
    /// Its other end is open, or is no longer.
    pub open: bool,
}

impl Own {
    /// Nothing has to be what it is.
    pub(super) fn nothing(&self) -> Result<(), Refused> {
        Refused::unless(*self == Self::Nothing, "own", "such a device has nothing of its own")
    }

    /// Another kind's.
    pub(super) fn foreign(wanted: &str) -> Refused {
        Refused::new("own", format!("such a device has {wanted} there"))
    }
}

impl VirtioState {
    /// Whether it is of a device of that type.
    pub(super) fn check(&self, device: u32) -> Result<(), Refused> {
        let why = format!("{}, and this is of type {device}", self.device);
        Refused::unless(self.device == device, "device", &why)
    }
}
