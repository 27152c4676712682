//! The 9P transport device (device type 9; virtio 1.2 §5 has its number alone: `net/9p/trans_virtio.c`
//! in Linux and `hw/9pfs/virtio-9p-device.c` in QEMU): one queue of messages, each with room for its
//! answer behind it, and a name by which the driver finds the share.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_ids::VIRTIO_ID_9P;

use super::COMMON_FEATURES;
use super::chain::{Broken, Chain};
use super::state::Own;
use super::transport::Identity;
use super::worker::Backend;
use crate::devices::state::Refused;
use crate::p9::{Folder, HEADER, SHORTEST_ANSWER, Server};

/// The configuration space has the name (`VIRTIO_9P_MOUNT_TAG`).
const MOUNT_TAG: u64 = 1;

/// As many as Linux's driver has use for (`VIRTQUEUE_NUM`).
const QUEUE_SIZE: u16 = 128;

/// A shared folder.
pub struct Share {
    name: String,
    tag: String,
    session: Mutex<Session>,
}

struct Session {
    server: Server,
    /// Room for a message and an answer, as large as the largest were.
    message: Vec<u8>,
    answer: Vec<u8>,
    /// There was one in another process, and there is none here.
    lost: bool,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fids, open) = self.session().server.fids();
        write!(f, "{}, {fids} fids, {open} open", self.name)
    }
}

impl Share {
    /// Shares `folder`, which the driver finds as `tag`. `id` and `path` are for messages.
    pub fn new(id: &str, path: &str, tag: &str, folder: Folder) -> Self {
        let (message, answer) = (Vec::new(), Vec::new());
        Self {
            name: format!("{id} ({path})"),
            tag: tag.to_owned(),
            session: Mutex::new(Session {
                server: Server::new(folder),
                message,
                answer,
                lost: false,
            }),
        }
    }

    /// What the driver is told.
    pub fn identity(&self) -> Identity {
        let len = u16::try_from(self.tag.len()).unwrap_or_default();
        let config = [&len.to_le_bytes(), self.tag.as_bytes()].concat();
        Identity {
            name: self.name.clone(),
            device: VIRTIO_ID_9P,
            features: COMMON_FEATURES | MOUNT_TAG,
            queues: vec![QUEUE_SIZE],
            config,
            writable: 0..0,
        }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Share {
    fn activate(&self, _features: u64) {
        let mut session = self.session();
        session.server.reset();
        session.lost = false;
    }

    fn describe(&self) -> Result<Own, &'static str> {
        let session = self.session();
        Ok(Own::Share { lost: session.lost || session.server.has_session() })
    }

    fn restore(&self, own: &Own) -> Result<(), Refused> {
        let Own::Share { lost } = *own else { return Err(Own::foreign("`share`")) };
        self.session().lost = lost;
        Ok(())
    }

    /// One after the other: a share has one thread.
    fn serve(&self, chain: Chain<'_>, slow: &mut dyn FnMut()) -> Result<u32, Broken> {
        let Chain { readable, writable } = chain;
        let room = usize::try_from(writable.len()).unwrap_or(usize::MAX);
        if room < SHORTEST_ANSWER {
            return Err(Broken::NoAnswer);
        }
        if readable.len() < HEADER as u64 {
            return Err(Broken::NoHeader);
        }
        slow();
        let mut session = self.session();
        let Session { server, message, answer, lost } = &mut *session;
        // Of what is longer than any message the length says that it is wrong.
        let len = readable.len().min(server.largest().into());
        message.resize(usize::try_from(len).unwrap_or(HEADER), 0);
        readable.copy_to(message);
        server.serve(message, room, answer);
        *lost &= !server.has_session();
        Ok(u32::try_from(writable.copy_from(answer)).unwrap_or(u32::MAX))
    }

    fn finish(&self) -> Result<(), String> {
        // What was written is the host's to keep, and what was to be durable is.
        self.session().server.reset();
        Ok(())
    }
}
