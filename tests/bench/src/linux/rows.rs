//! What is measured, and what is asked of it: the rows of the table.

use std::fmt;

use Goal::{AtLeast, AtMost};

/// The part of a machine that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The user-mode network, of runner and of QEMU.
    User,
    /// A tap device; QEMU's virtio-net beside it is served without vhost, by QEMU itself.
    Tap,
    /// A raw file as a virtio disk, by way of the host's page cache.
    Disk,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Tap => "tap",
            Self::Disk => "disk",
        })
    }
}

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Milliseconds from the start of the monitor to the first answer by HTTP.
    FirstAnswer,
    /// Mbit/s from the guest, one connection.
    Up,
    /// To the guest.
    Down,
    /// From the guest, eight connections.
    Up8,
    /// To the guest.
    Down8,
    /// Microseconds, the median of a byte there and back.
    Median,
    /// The slowest of a hundred.
    Slowest,
    /// Connections a second.
    Connections,
    /// Mbit/s from the guest beside idle connections.
    UpBesideIdle,
    /// The median beside them.
    MedianBesideIdle,
    /// Wake-ups a second of the thread that serves the network, when nothing happens.
    WakeUps,
    /// Mbit/s from the guest without offloads.
    UpPlain,
    /// To the guest.
    DownPlain,
    /// Requests a second of fio's, 4 KiB each, past the guest's page cache.
    Fio(Fio),
    /// The same, each write followed by fdatasync.
    Durable,
    /// How often the host's file was synced for each flush of the guest's meanwhile.
    Honoured,
    /// Microseconds, the median of a byte there and back while fio writes.
    MedianBesideFio,
    /// The slowest of a hundred.
    SlowestBesideFio,
    /// Microseconds, the longest time in which a stream to the guest brings nothing while fio writes.
    SilenceBesideFio,
}

/// What fio does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fio {
    /// By fio's name for it (fio(1), `rw`).
    pub way: &'static str,
    /// Requests in flight.
    pub depth: u32,
}

/// What is asked of a value beside the peer's: a ratio, runner's to the peer's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Goal {
    /// Whether `ratio` is what is asked for. What could not be measured is not.
    #[must_use]
    pub fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(goal) => ratio >= goal,
            Self::AtMost(goal) => ratio <= goal,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, ">= {goal}"),
            Self::AtMost(goal) => write!(f, "<= {goal}"),
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Of what.
    pub part: Part,
    /// What.
    pub what: What,
    name: &'static str,
    /// What is asked for.
    pub goal: Goal,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}: {}", self.part, self.name))
    }
}

const fn user(what: What, name: &'static str, goal: Goal) -> Row {
    Row { part: Part::User, what, name, goal }
}

/// Over tap nothing but the device is compared, as both use the same of the kernel's.
const fn tap(what: What, name: &'static str, goal: Goal) -> Row {
    Row { part: Part::Tap, what, name, goal }
}

const fn disk(what: What, name: &'static str, goal: Goal) -> Row {
    Row { part: Part::Disk, what, name, goal }
}

const fn fio(way: &'static str, depth: u32, name: &'static str) -> Row {
    disk(What::Fio(Fio { way, depth }), name, AtLeast(1.2))
}

const ROWS: [Row; 33] = [
    user(What::FirstAnswer, "first answer by HTTP, ms", AtMost(1.0)),
    user(What::Up, "up, 1 connection, Mbit/s", AtLeast(5.0)),
    user(What::Down, "down, 1 connection, Mbit/s", AtLeast(5.0)),
    user(What::Up8, "up, 8 connections, Mbit/s", AtLeast(5.0)),
    user(What::Down8, "down, 8 connections, Mbit/s", AtLeast(5.0)),
    user(What::Median, "round trip, median, us", AtMost(0.8)),
    user(What::Slowest, "round trip, p99, us", AtMost(1.0)),
    user(What::Connections, "connections, /s", AtLeast(1.0)),
    user(What::UpBesideIdle, "up, beside 1000 idle, Mbit/s", AtLeast(5.0)),
    user(What::MedianBesideIdle, "median, beside them, us", AtMost(0.8)),
    user(What::WakeUps, "wake-ups when idle, /s", AtMost(1.0)),
    user(What::UpPlain, "up, no offloads, Mbit/s", AtLeast(1.5)),
    user(What::DownPlain, "down, no offloads, Mbit/s", AtLeast(1.5)),
    tap(What::Up, "up, 1 connection, Mbit/s", AtLeast(1.2)),
    tap(What::Down, "down, 1 connection, Mbit/s", AtLeast(1.2)),
    tap(What::Up8, "up, 8 connections, Mbit/s", AtLeast(1.2)),
    tap(What::Down8, "down, 8 connections, Mbit/s", AtLeast(1.2)),
    tap(What::Median, "round trip, median, us", AtMost(0.83)),
    tap(What::Slowest, "round trip, p99, us", AtMost(1.0)),
    tap(What::Connections, "connections, /s", AtLeast(1.2)),
    fio("read", 1, "read in order, QD 1, /s"),
    fio("read", 32, "read in order, QD 32, /s"),
    fio("randread", 1, "read anywhere, QD 1, /s"),
    fio("randread", 32, "read anywhere, QD 32, /s"),
    fio("write", 1, "write in order, QD 1, /s"),
    fio("write", 32, "write in order, QD 32, /s"),
    fio("randwrite", 1, "write anywhere, QD 1, /s"),
    fio("randwrite", 32, "write anywhere, QD 32, /s"),
    disk(What::Durable, "write and fdatasync, /s", AtLeast(1.2)),
    disk(What::Honoured, "host's syncs for 1000 flushes", AtLeast(0.99)),
    disk(What::MedianBesideFio, "round trip beside it, median, us", AtMost(0.83)),
    disk(What::SlowestBesideFio, "round trip beside it, p99, us", AtMost(1.0)),
    disk(What::SilenceBesideFio, "longest gap of a stream, us", AtMost(1.0)),
];

/// The rows about `part` that have `filter` in their names, as printed.
#[must_use]
pub fn chosen(part: Part, filter: &str) -> Vec<Row> {
    let wanted = |row: &&Row| row.part == part && row.to_string().contains(filter);
    ROWS.iter().filter(wanted).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_for_the_names_as_they_are_printed() {
        assert_eq!(chosen(Part::User, "").len(), 13);
        assert_eq!(chosen(Part::User, "tap: ").len(), 0);
        assert_eq!(chosen(Part::Tap, "tap: ").len(), 7);
        let eight: Vec<_> = chosen(Part::User, "8 connections").iter().map(|r| r.what).collect();
        assert_eq!(eight, [What::Up8, What::Down8]);
    }

    #[test]
    fn what_could_not_be_measured_meets_no_goal() {
        assert!(AtLeast(1.2).is_met(1.2) && !AtLeast(1.2).is_met(1.1));
        assert!(AtMost(0.8).is_met(0.8) && !AtMost(0.8).is_met(0.9));
        assert!(!AtLeast(1.2).is_met(f64::NAN) && !AtMost(0.8).is_met(f64::NAN));
    }
}
