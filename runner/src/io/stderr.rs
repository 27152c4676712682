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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    /// A pipe with no room left.
    fn full_pipe() -> (std::io::PipeReader, OwnedFd) {
        let (reader, writer) = std::io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        let flags = fcntl_getfl(&writer).unwrap();
        fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
        for piece in [&[b'.'; 4096][..], b"."] {
            while rustix::io::write(&writer, piece).is_ok() {}
        }
        fcntl_setfl(&writer, flags).unwrap();
        (reader, writer)
    }

    #[test]
    #[ignore = "its stderr is a full pipe: started by the test below"]
    fn writes_to_a_full_pipe() {
        // A second for each would be days.
        for _ in 0..1_000_000 {
            write(b"dropped\n");
        }
        assert!(UNREAD.load(Ordering::Relaxed));
        println!("full");
        std::io::stdin().lock().read_line(&mut String::new()).unwrap();
        write(&[b'x'; 3 * PIECE + 1]);
        assert!(!UNREAD.load(Ordering::Relaxed));
    }

    #[test]
    fn behind_a_dropped_line_none_waits_until_there_is_room() {
        let (mut reader, writer) = full_pipe();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("io::stderr::tests::writes_to_a_full_pipe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(writer)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().ends_with("full")));
        // All that the pipe holds, with nobody writing.
        let mut held = vec![0; 1 << 20];
        let len = reader.read(&mut held).unwrap();
        assert!(held[..len].iter().all(|byte| *byte == b'.'), "a dropped line was written");
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.trim_start_matches('.'), "x".repeat(3 * PIECE + 1));
        assert!(child.wait().unwrap().success());
    }
}
