//! What serial ports have in common: bytes of a guest's on their way to the console, and the way in
//! for the console's.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Called, from a vCPU's thread, when the guest has taken all input or takes input again: time for more.
pub type Drained = Box<dyn Fn() + Send + Sync>;

/// A serial port as whoever brings it input sees it.
pub trait Uart: Send + Sync {
    /// Bytes of input it can take now; none while the guest does not want any.
    fn room(&self) -> usize;

    /// Gives the guest input; what exceeds [`Uart::room`] is not taken. Returns how much was.
    fn receive(&self, input: &[u8]) -> usize;
}

/// The console behind a serial port, with a lock of its own: one that blocks must not keep the guest,
/// or its input, from the registers.
pub(super) struct Console<W>(Mutex<W>);

impl<W: Write + Send> Console<W> {
    pub(super) fn new(console: W) -> Self {
        Self(Mutex::new(console))
    }

    /// Sends `bytes`.
    pub(super) fn send(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let mut console = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // The console reports its own failures.
            let _ = console.write_all(bytes);
        }
    }
}
