//! The guest's network: opened, given a place in the machine.

use std::sync::Mutex;

use crate::machine::map::VirtioSlot;
use crate::net::Link;

/// A network of the guest's.
#[derive(Debug)]
pub struct NetworkPlan {
    /// Where it stands in the machine.
    pub slot: VirtioSlot,
    link: Mutex<Option<Box<dyn Link>>>,
}

impl NetworkPlan {
    /// What is behind the device, once.
    pub fn take_link(&self) -> Option<Box<dyn Link>> {
        self.link.lock().ok()?.take()
    }

    /// How many descriptors it may open while the guest runs.
    pub fn descriptors(&self) -> u64 {
        let link = self.link.lock();
        link.ok().and_then(|link| Some(link.as_ref()?.descriptors())).unwrap_or(0)
    }
}
