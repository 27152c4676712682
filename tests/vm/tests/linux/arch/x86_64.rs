//! Debian's kernel on x86_64: a bzImage, which has an ELF kernel inside.

use super::super::support::program::Finished;

/// The file that is booted, and how it is entered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    /// As Debian ships it.
    BzImage,
    /// The same by its 32-bit entry, where its own code unpacks and finds its way to 64 bits.
    BzImage32,
    /// The ELF inside, by its PVH entry.
    Pvh,
}

impl Kernel {
    /// Those that differ all the way.
    pub(super) const ALL: [Self; 2] = [Self::BzImage, Self::Pvh];

    /// In the folder of guests, and the option that says how it is entered.
    pub(super) fn file(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::BzImage => ("vmlinuz", None),
            Self::BzImage32 => ("vmlinuz", Some("--entry=linux32")),
            Self::Pvh => ("vmlinux", None),
        }
    }
}

/// What Linux calls the serial line.
pub(super) const CONSOLE: &str = "ttyS0";

/// What it counts time with.
pub(super) const CLOCK: &str = "kvm-clock";

/// The status that a guest's /init gave, and what runner said: there is a port for it.
pub(super) fn end(finished: &Finished) -> (Option<i32>, &str) {
    (finished.status, &finished.stderr)
}
