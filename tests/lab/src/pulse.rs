//! Whether a process still does anything. A QEMU that has lost an interrupt of a processor that it emulates, as 7.2
//! may where it is not kept on one of the host's (architecture/x86_64.rs), has a Linux in it that waits for its
//! clock for ever, and no process of QEMU's uses any time, where the idlest Linux takes some in each second
//! (proc(5), `/proc/PID/stat`).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The time that a process has used, and when that last grew.
#[derive(Debug)]
pub(crate) struct Pulse {
    stat: PathBuf,
    used: Option<u64>,
    at: Instant,
}

impl Pulse {
    pub(crate) fn of(process: u32) -> Self {
        Self { stat: format!("/proc/{process}/stat").into(), used: None, at: Instant::now() }
    }

    /// For how long it has used no time, as far as it was asked. A process that is gone has no pulse, and the
    /// end of its output says so.
    pub(crate) fn still_for(&mut self) -> Duration {
        let used = fs::read_to_string(&self.stat).ok().and_then(|line| used(&line));
        if used != self.used {
            (self.used, self.at) = (used, Instant::now());
        }
        self.at.elapsed()
    }
}

/// User and system time of a line of `stat`, in ticks. Names of programs may have spaces and brackets.
fn used(line: &str) -> Option<u64> {
    let (_, behind_name) = line.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut time = || fields.next()?.parse::<u64>().ok();
    time()?.checked_add(time()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::thread;

    #[test]
    fn times_are_the_14th_and_15th_field_whatever_the_program_is_called() {
        let line = "7 (a) b) S 1 2 3 0 -1 4194304 120 0 0 0 31 11 0 0 20 0 1 0 9 8 7";
        assert_eq!(used(line), Some(42));
        assert_eq!(used("7 (a) S 1 2"), None);
        assert_eq!(used(""), None);
    }

    #[test]
    fn a_process_that_waits_has_no_pulse_and_one_that_works_has() {
        let child = |program: &str, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        };
        let (mut waits, mut works) = (child("cat", &[]), child("yes", &[]));
        let (mut of_one, mut of_other) = (Pulse::of(waits.id()), Pulse::of(works.id()));
        while of_one.still_for() < Duration::from_millis(500) {
            thread::sleep(Duration::from_millis(10));
        }
        let before = of_other.used;
        let until = Instant::now() + Duration::from_secs(60);
        while of_other.used == before && Instant::now() < until {
            of_other.still_for();
            thread::sleep(Duration::from_millis(10));
        }
        assert!(of_other.used > before);
        for child in [&mut waits, &mut works] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
