//! The console's two ends for a virtio console: stdout, which the serial port has as well, and stdin.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::devices::uart::Drained;
use crate::devices::virtio::console::{Console, Keyboard, Output, Window, Wrote};
use crate::io::console::{Now, Shared, window_size};
use crate::io::signals;

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

    /// The device between them.
    pub(super) fn console(&self) -> Result<Console, Error> {
        let Some(keyboard) = &self.keyboard else {
            unreachable!("there is one where the device is")
        };
        let window = match window_size() {
            Some(_) => {
                let changed = signals::window_changes();
                let changed = changed.map_err(Error::system("hear of the window's size"))?;
                Some(Window { size: window_size, changed })
            }
            None => None,
        };
        Ok(Console::new(Box::new(self.stdout.clone()), Arc::clone(keyboard), window))
    }
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
