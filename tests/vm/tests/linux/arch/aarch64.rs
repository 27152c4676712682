//! Debian's kernel on aarch64: an Image, which ends by PSCI.

use super::super::support::program::Finished;
use peer::monitor::OFF;

/// The file that is booted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    /// As Debian ships it.
    Image,
}

impl Kernel {
    /// There is one.
    pub(super) const ALL: [Self; 1] = [Self::Image];

    /// In the folder of guests, and the option that says how it is entered.
    pub(super) fn file(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Image => ("Image", None),
        }
    }
}

/// What Linux calls the serial line.
pub(super) const CONSOLE: &str = "ttyAMA0";

/// What it counts time with.
pub(super) const CLOCK: &str = "arch_sys_counter";

/// The status that a guest's /init gave, and what else runner said: PSCI takes no status along, and it is
/// the last line of the console but the kernel's.
pub(super) fn end(finished: &Finished) -> (Option<i32>, &str) {
    let text = String::from_utf8_lossy(&finished.stdout);
    let status =
        text.lines().filter_map(|line| line.trim_end().strip_prefix("status: ")).next_back();
    match (finished.status, status, finished.stderr.strip_suffix(OFF)) {
        (Some(0), Some(status), Some(said)) => (status.parse().ok(), said),
        // It did not come to its end.
        (Some(0), _, _) => (None, &finished.stderr),
        (other, _, _) => (other, &finished.stderr),
    }
}
