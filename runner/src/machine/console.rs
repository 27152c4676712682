//! The console's two ends for a virtio console: stdout, which the serial port has as well, and stdin.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::devices::uart::Drained;
use crate::devices::virtio::console::{Console, Keyboard, Output, Window, Wrote};
use crate::io::console::{Now, Shared, window_size};
use crate::io::signals;
use crate::plan::ConsolePlan;

/// What consoles of the guest's are connected to.
pub(super) struct Ends {
    stdout: Shared,
    /// Input for the virtio console, where that has it.
    pub(super) keyboard: Option<Arc<Keyboard>>,
}

impl Ends {
    /// With input for a virtio console, if `drained` is given.
    pub(super) fn new(stdout: Shared, drained: Option<Drained>) -> Result<Self, Error> {
        let keyboard = drained.map(Keyboard::new).transpose();
        let keyboard = keyboard.map_err(Error::system("open the console"))?;
        Ok(Self { stdout, keyboard: keyboard.map(Arc::new) })
    }

    /// The device of a plan: between the two, where it is a console.
    pub(super) fn console(&self, plan: &ConsolePlan) -> Result<Console, Error> {
        let mut console = match &self.keyboard {
            Some(keyboard) if plan.is_console => {
                Console::new(Box::new(self.stdout.clone()), Arc::clone(keyboard), window()?)
            }
            _ => Console::without_console(),
        };
        for channel in plan.take_channels() {
            console.add(channel).map_err(Error::system("open the console"))?;
        }
        Ok(console)
    }
}

/// The terminal's window, where the console is on one.
fn window() -> Result<Option<Window>, Error> {
    if window_size().is_none() {
        return Ok(None);
    }
    let changed = signals::window_changes();
    let changed = changed.map_err(Error::system("hear of the window's size"))?;
    Ok(Some(Window { size: window_size, changed }))
}

impl Output for Shared {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        match self.write_now(bytes) {
            Now::Taken(count) => Wrote::Taken(count),
            Now::Full => Wrote::Full,
            Now::Busy => Wrote::Busy,
        }
    }

    fn wait(&mut self, patience: Duration) -> bool {
        Shared::wait(self, patience)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}
