//! A device that the I/O loop serves: what it is, and what it does with its requests. Each has a module
//! of its own beside this one; the machine gives it its place (`machine::served`).

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use hv::GuestMemory;

use super::state::{Own, VirtioState};
use super::transport::Identity;
use super::virtqueues::Virtqueues;
use crate::devices::state::{Refused, Undescribed};
use crate::io::event_loop::{Ready, Watcher};

/// A device on the I/O loop. Nothing it does may wait, and everything has a bound: others have their
/// turn after it. Times are since the run began.
pub trait Served: fmt::Debug + Send + Any {
    /// What its driver is told, of a device that is called `name`.
    fn identity(&self, name: &str) -> Identity;

    /// Has its own descriptors watched, if it has some, from now on. It hears of them by
    /// [`Served::ready`].
    ///
    /// # Errors
    /// What the operating system says.
    fn watch(&mut self, _watcher: Watcher) -> io::Result<()> {
        Ok(())
    }

    /// One of them may be ready.
    fn ready(&mut self, _ready: Ready) {}

    /// The driver has reset the device or started it: what the device knows of it is void.
    fn reset(&mut self) {}

    /// Does what there is to do, up to a bound. Returns whether more is left.
    fn serve(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, now: Duration) -> bool;

    /// What else it goes on with when another is made what it was.
    fn describe(&self) -> Own {
        Own::Nothing
    }

    /// What bytes of its configuration space it changes itself.
    fn changing(&self) -> Range<usize> {
        0..0
    }

    /// Goes on with what another one described. The queues are what that one's were.
    ///
    /// # Errors
    /// [`Refused`].
    fn restore(&mut self, own: &Own) -> Result<(), Refused> {
        own.nothing()
    }

    /// When to serve it again although nothing happens.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// The guest is gone: what it has sent goes on its way, as far as that takes no time.
    fn finish(&mut self, _queues: &mut Virtqueues, _memory: &GuestMemory, _now: Duration) {}
}

/// What `device` is between two turns.
///
/// # Errors
/// [`Undescribed`]: it has not heard of all that its driver did.
pub fn describe(device: &dyn Served, queues: &Virtqueues) -> Result<VirtioState, Undescribed> {
    let kind = queues.transport().identity().device;
    Ok(VirtioState { device: kind, registers: queues.saved()?, own: device.describe() })
}

/// Makes `device`, which nobody has used yet, what `saved` was. Its next turn goes on from there.
///
/// # Errors
/// [`Refused`].
pub fn restore(
    device: &mut dyn Served,
    queues: &mut Virtqueues,
    saved: &VirtioState,
) -> Result<(), Refused> {
    queues.transport().restore(saved, &device.changing())?;
    if queues.obey() {
        device.reset();
    }
    device.restore(&saved.own)
}
