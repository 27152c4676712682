//! Where the time goes while something is measured: who had the CPU, by the kernel's accounts of threads
//! (proc(5), `/proc/PID/task/TID/stat`), how often the guest was left, by KVM's counters in debugfs
//! (`virt/kvm/kvm_main.c`), and what went through the guest's network card or disk, by the guest's own.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use peer::Result;
use peer::guest::Guest;

/// What KVM counts of each machine, for whoever may read it.
const KVM: &str = "/sys/kernel/debug/kvm";

/// Counters of KVM's on x86: exits of all kinds, those for HLT, those for devices that are ours, and
/// interrupts that the guest was given.
const COUNTERS: [&str; 5] = ["exits", "halt_exits", "io_exits", "mmio_exits", "irq_injections"];

/// The kernel's ticks a second, in which it accounts for time (proc(5), USER_HZ).
const TICKS: f64 = 100.0;

/// What goes in and out of a guest, as the guest itself counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Frames of its network card.
    Frames,
    /// Requests to its disk.
    Requests,
}

impl Traffic {
    /// What the guest prints, a number a line: how many came to it and their bytes, how many left and
    /// theirs; interrupts and context switches.
    fn question(self) -> String {
        let counts = match self {
            Self::Frames => {
                "cd /sys/class/net/eth0/statistics; cat rx_packets rx_bytes tx_packets tx_bytes; cd /"
            }
            Self::Requests => {
                "awk '{ print $1; print $3 * 512; print $5; print $7 * 512 }' /sys/block/vda/stat"
            }
        };
        format!(
            "{counts}; awk '/virtio/ {{ n += $2 }} END {{ print n + 0 }}' /proc/interrupts; \
             awk '/^ctxt/ {{ print $2 }}' /proc/stat"
        )
    }

    /// What they are called, those that come to the guest first.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Frames => ["frames to the guest", "from it"],
            Self::Requests => ["requests to read", "to write"],
        }
    }
}

/// Counters as they stand.
#[derive(Clone, Debug, Default)]
struct Counts {
    /// In ticks: the guest itself, the rest of the threads that run it, the monitor's other threads, and
    /// this process, which is the host's end of every connection.
    cpu: [f64; 4],
    /// How often the monitor's other threads have waited.
    waits: f64,
    /// Nothing where KVM's counters are closed to us.
    kvm: Option<[f64; COUNTERS.len()]>,
    guest: [f64; 6],
}

/// Counters at a beginning.
#[derive(Debug)]
pub(super) struct Begun {
    traffic: Traffic,
    at: Instant,
    counts: Counts,
}

/// What was counted in the meantime.
#[derive(Clone, Debug)]
pub struct Profile {
    traffic: Traffic,
    seconds: f64,
    counts: Counts,
}

impl Begun {
    /// Before something is measured.
    pub(super) fn new(guest: &mut Guest, traffic: Traffic) -> Result<Self> {
        let counts = Counts::of(guest, traffic)?;
        Ok(Self { traffic, at: Instant::now(), counts })
    }

    /// Behind it.
    pub(super) fn end(self, guest: &mut Guest) -> Result<Profile> {
        let seconds = self.at.elapsed().as_secs_f64();
        let Self { traffic, counts, .. } = self;
        Ok(Profile { traffic, seconds, counts: Counts::of(guest, traffic)?.since(&counts) })
    }
}

impl Counts {
    fn of(guest: &mut Guest, traffic: Traffic) -> Result<Self> {
        let said = guest.must(&traffic.question())?;
        let numbers: Vec<f64> = said.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let numbers = numbers.try_into().map_err(|_| format!("not six numbers: {said}"))?;
        let mut counts = Self { guest: numbers, kvm: kvm(guest.id()), ..Self::default() };
        for thread in threads(guest.id())? {
            let stat = Stat::of(&thread)?;
            if stat.guest > 0.0 {
                counts.cpu[0] += stat.guest;
                counts.cpu[1] += stat.all - stat.guest;
            } else {
                counts.cpu[2] += stat.all;
                counts.waits += waits(&thread).unwrap_or(0.0);
            }
        }
        for thread in threads(std::process::id())? {
            counts.cpu[3] += Stat::of(&thread)?.all;
        }
        Ok(counts)
    }

    fn since(self, before: &Self) -> Self {
        let kvm = self.kvm.zip(before.kvm);
        Self {
            cpu: less(self.cpu, before.cpu),
            waits: self.waits - before.waits,
            kvm: kvm.map(|(after, before)| less(after, before)),
            guest: less(self.guest, before.guest),
        }
    }
}

fn less<const N: usize>(mut after: [f64; N], before: [f64; N]) -> [f64; N] {
    for (after, before) in after.iter_mut().zip(before) {
        *after -= before;
    }
    after
}

/// A thread's time on a CPU so far, in ticks.
struct Stat {
    all: f64,
    /// Of that in a guest.
    guest: f64,
}

impl Stat {
    fn of(thread: &Path) -> Result<Self> {
        let path = thread.join("stat");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(&text).ok_or(text)
    }

    /// Fields are counted from behind the name, which may have anything in it.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self { all: field(14)? + field(15)?, guest: field(43)? })
    }
}

/// The folders of a process's threads, those that have ended left out.
pub(super) fn threads(process: u32) -> Result<Vec<PathBuf>> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("stat").exists())
        .collect())
}

/// How often a thread has waited (proc(5), status).
pub(super) fn waits(thread: &Path) -> Option<f64> {
    let status = fs::read_to_string(thread.join("status")).ok()?;
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}

/// KVM's counters of the machine of `process`, in a folder that is called by that and a descriptor.
fn kvm(process: u32) -> Option<[f64; COUNTERS.len()]> {
    let prefix = format!("{process}-");
    let mut folders = fs::read_dir(KVM).ok()?.flatten();
    let folder = folders.find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))?;
    let mut counts = [0.0; COUNTERS.len()];
    for (count, name) in counts.iter_mut().zip(COUNTERS) {
        *count = fs::read_to_string(folder.path().join(name)).ok()?.trim().parse().ok()?;
    }
    Some(counts)
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [guest, around, others, host] =
            self.counts.cpu.map(|ticks| 100.0 * ticks / TICKS / self.seconds);
        let [received, bytes, sent, more_bytes, interrupts, switches] = self.counts.guest;
        write!(
            f,
            "CPU: guest {guest:.0} %, its exits {around:.0} %, the monitor besides {others:.0} %, \
             the host's peer {host:.0} %"
        )?;
        let [to_guest, from_guest] = self.traffic.names();
        let mib = (bytes + more_bytes) / f64::from(1 << 20);
        let per_mib = |count: f64| count / mib;
        if let Some(counters) = self.counts.kvm {
            write!(f, "; a MiB:")?;
            for (name, count) in COUNTERS.iter().zip(counters) {
                write!(f, " {name} {:.1},", per_mib(count))?;
            }
        } else {
            write!(f, "; a MiB ({KVM} is closed):")?;
        }
        write!(
            f,
            " {to_guest} {:.1}, {from_guest} {:.1}, its interrupts {:.1}, its context switches {:.1}, the \
             monitor's waits {:.1}; bytes of one: {:.0} and {:.0}",
            per_mib(received),
            per_mib(sent),
            per_mib(interrupts),
            per_mib(switches),
            per_mib(self.counts.waits),
            bytes / received,
            more_bytes / sent
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_time_is_found_whatever_its_name() {
        let text = "7 (a) R (b 1) S 1 7 7 0 -1 0 0 0 0 0 11 22 0 0 20 0 1 0 5 6 7 8 9 10 11 12 13 14 15 16 17 \
                    18 19 20 21 22 23 24 25 9 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.all, stat.guest), (33.0, 9.0));
        assert!(Stat::parse("7 (a) S 1 2").is_none());
    }

    #[test]
    fn this_process_has_threads_that_wait() {
        let threads = threads(std::process::id()).unwrap();
        assert!(threads.iter().any(|thread| waits(thread).is_some_and(|count| count > 0.0)));
    }
}
