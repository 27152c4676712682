//! The guest's socket device: its sockets on the host, opened.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::config::Vsock as Asked;
use crate::devices::virtio::vsock::{DESCRIPTORS, Sockets, Vsock};
use crate::log::printable_path;

/// A socket device.
#[derive(Debug)]
pub struct VsockPlan {
    asked: Asked,
    /// Once they are open, and until whoever runs the guest takes them.
    sockets: Mutex<Option<Sockets>>,
}

impl VsockPlan {
    /// The device that was asked for.
    pub fn new(asked: Asked) -> Self {
        Self { asked, sockets: Mutex::default() }
    }

    /// Listens: from here on clients may come.
    pub(super) fn open(&self) -> Result<(), String> {
        let sockets = Sockets::open(&self.asked.path)?;
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = Some(sockets);
        Ok(())
    }

    fn take(&self) -> Option<Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The device, for the one who runs the guest: the second time there is none.
    pub fn take_device(&self) -> Option<Vsock> {
        Some(Vsock::new(self.asked.cid.into(), self.take()?))
    }

    /// Makes the sockets' folder the process's, in which it finds them from then on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn enter(&self) -> io::Result<()> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.as_mut().map_or(Ok(()), Sockets::enter)
    }

    /// There is no run: removes its socket, if nobody has taken it.
    pub fn close(&self) {
        drop(self.take());
    }

    /// How many descriptors it may open while the guest runs.
    pub fn descriptors(&self) -> u64 {
        DESCRIPTORS
    }
}

/// `CID 3, v.sock to the guest, v.sock_PORT from it`
impl fmt::Display for VsockPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, cid) = (printable_path(&self.asked.path), self.asked.cid);
        write!(f, "CID {cid}, {name} to the guest, {name}_PORT from it")
    }
}
