//! What runner says on stderr: one facade, rate-limited per call site, guest bytes escaped.
//!
//! stdout belongs to the guest's console. Nothing is said on success without `-v`, and nothing a
//! guest does can fill a disk with our words: a call site says ten lines in five seconds, then
//! counts.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::io::stderr;

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Whether [`info!`](crate::info) says anything.
pub fn set_verbose(verbose: bool) {
    VERBOSE.store(verbose, Ordering::Relaxed);
}

/// Whether the user asked to be told what is done.
pub fn verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// Writes one line to stderr. A stderr that is gone, or that nobody reads, is no reason to stop.
pub fn line(text: fmt::Arguments<'_>) {
    let line = format!("{text}\n");
    // One line at a time.
    let _lock = std::io::stderr().lock();
    stderr::write(line.as_bytes());
}

const WINDOW: Duration = Duration::from_secs(5);
const LINES_PER_WINDOW: u64 = 10;

/// What one call site has said lately.
#[derive(Debug)]
pub struct Site {
    window: AtomicU64,
    said: AtomicU64,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// A call site that has said nothing.
    pub const fn new() -> Self {
        Self { window: AtomicU64::new(0), said: AtomicU64::new(0) }
    }

    /// Says `text`, or counts it.
    pub fn say(&self, text: fmt::Arguments<'_>) {
        match self.admit(process_time()) {
            Admission::Say { suppressed: 0 } => line(format_args!("runner: {text}")),
            Admission::Say { suppressed } => {
                line(format_args!("runner: {text} (and {suppressed} more like it before)"));
            }
            Admission::Count => {}
        }
    }

    fn admit(&self, now: Duration) -> Admission {
        // Window 0 means never used.
        let window = now.as_secs() / WINDOW.as_secs() + 1;
        let before = self.window.swap(window, Ordering::Relaxed);
        if before != window {
            let said = self.said.swap(1, Ordering::Relaxed);
            return Admission::Say { suppressed: said.saturating_sub(LINES_PER_WINDOW) };
        }
        match self.said.fetch_add(1, Ordering::Relaxed) < LINES_PER_WINDOW {
            true => Admission::Say { suppressed: 0 },
            false => Admission::Count,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Say { suppressed: u64 },
    Count,
}

/// Time since the first line.
fn process_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Says one line on stderr, whatever the verbosity, rate-limited for this call site.
#[macro_export]
macro_rules! warning {
    ($($arg:tt)*) => {{
        static SITE: $crate::log::Site = $crate::log::Site::new();
        SITE.say(format_args!($($arg)*));
    }};
}

/// Says one line on stderr under `-v`.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => {
        if $crate::log::verbose() {
            $crate::log::line(format_args!($($arg)*));
        }
    };
}

/// Bytes of a guest's making, fit for a terminal: printable ASCII as it is, everything else escaped.
#[derive(Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A path as messages show it.
pub(crate) fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Text with whatever would upset a terminal escaped; quotes stay as they are.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => printable.push(c),
            _ => printable.extend(c.escape_debug()),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_site_says_ten_lines_in_five_seconds_and_then_counts() {
        let site = Site::new();
        let at = Duration::from_secs;
        for _ in 0..10 {
            assert_eq!(site.admit(at(1)), Admission::Say { suppressed: 0 });
        }
        for _ in 0..90 {
            assert_eq!(site.admit(at(4)), Admission::Count);
        }
        assert_eq!(site.admit(at(6)), Admission::Say { suppressed: 90 });
        assert_eq!(site.admit(at(6)), Admission::Say { suppressed: 0 });
    }

    #[test]
    fn guest_bytes_cannot_move_a_cursor() {
        assert_eq!(Escaped(b"ok\x1b[2J\xff").to_string(), r"ok\x1b[2J\xff");
    }
}
