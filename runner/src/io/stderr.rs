//! Lines to stderr, which nobody need read: whoever writes waits a moment, and no longer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long a line waits for a stderr that is full before it is dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// A pipe that can be written at all takes so much without waiting (pipe(7), `PIPE_BUF`; macOS has
/// 512).
const PIECE: usize = 512;

/// A line has been dropped, and none was written since: the next one does not wait.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// Writes `bytes`, or as much of them as stderr takes in time. Async-signal-safe.
pub fn write(mut bytes: &[u8]) {
    let stderr = std::io::stderr();
    let patience = if UNREAD.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
    let end = Instant::now() + patience;
    while !bytes.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        let ready = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&left));
        match ready {
            Ok(0) => return UNREAD.store(true, Ordering::Relaxed),
            // A kick, or any other signal: `end` is as it was.
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        match rustix::io::write(&stderr, piece) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
    UNREAD.store(false, Ordering::Relaxed);
}
