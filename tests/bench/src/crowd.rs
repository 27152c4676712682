//! Many guests at once that stay: what each costs while all of them are there (proc(5), smaps_rollup).

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::Candidate;

/// What a crowd cost.
#[derive(Debug)]
pub struct Cost {
    /// From the start of the first process until every guest had spoken.
    pub all: Duration,
    /// From the start of each process to its guest's first line, in order.
    pub each: Vec<Duration>,
    /// The share of memory of all processes, in KiB: what is mapped by several counts once.
    pub pss: u64,
    /// Their resident sets, in KiB, what they share counted for each.
    pub rss: u64,
    /// CPU time of all processes while nothing happens, over [`REST`].
    pub idle: Duration,
}

/// How long the crowd is left alone.
pub const REST: Duration = Duration::from_secs(5);

/// A guest that stays, killed with this value.
struct Member {
    child: Child,
    started: Instant,
}

impl Drop for Member {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `count` of `candidate`, one after the other without waiting, and measures them.
///
/// # Errors
/// When one cannot be started, or ends before its guest says its marker.
pub fn gather(candidate: &Candidate, count: usize) -> Result<Cost, String> {
    let started = Instant::now();
    let mut members = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..count {
        let (member, stdout) = start(candidate)?;
        let (begin, marker) = (member.started, candidate.marker);
        members.push(member);
        waiting.push(thread::spawn(move || spoken(stdout, marker).then(|| begin.elapsed())));
    }
    let mut each = Vec::new();
    for waiting in waiting {
        match waiting.join() {
            Ok(Some(time)) => each.push(time),
            _ => return Err(format!("{}: a guest of {count} did not speak", candidate.name)),
        }
    }
    let all = started.elapsed();
    each.sort_unstable();
    let (mut pss, mut rss) = (0, 0);
    for member in &members {
        pss += memory(&member.child, "Pss:")?;
        rss += memory(&member.child, "Rss:")?;
    }
    let before = cpu(&members)?;
    thread::sleep(REST);
    let idle = cpu(&members)?.saturating_sub(before);
    Ok(Cost { all, each, pss, rss, idle })
}

fn start(candidate: &Candidate) -> Result<(Member, ChildStdout), String> {
    let (program, args) = candidate.argv.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    Ok((Member { child, started }, stdout))
}

fn spoken(stdout: ChildStdout, marker: &str) -> bool {
    BufReader::new(stdout).lines().map_while(Result::ok).any(|line| line.contains(marker))
}

fn memory(child: &Child, field: &str) -> Result<u64, String> {
    let path = format!("/proc/{}/smaps_rollup", child.id());
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
    value.and_then(|kib| kib.parse().ok()).ok_or_else(|| format!("{path}: no {field}"))
}

/// What the scheduler has accounted to all threads, in nanoseconds (schedstat).
fn cpu(members: &[Member]) -> Result<Duration, String> {
    let mut sum = 0;
    for member in members {
        let folder = format!("/proc/{}/task", member.child.id());
        let context = |error| format!("{folder}: {error}");
        for thread in std::fs::read_dir(&folder).map_err(context)? {
            let path = thread.map_err(context)?.path().join("schedstat");
            let text = std::fs::read_to_string(path).map_err(context)?;
            sum += text.split(' ').next().and_then(|ran| ran.parse().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_measured_while_all_of_it_is_there() {
        let argv = ["sh", "-c", "echo up; sleep 99"].map(str::to_owned).to_vec();
        let cost = gather(&Candidate { name: "sh".to_owned(), argv, marker: "up" }, 3).unwrap();
        assert_eq!(cost.each.len(), 3);
        assert!(cost.pss > 0 && cost.pss <= cost.rss, "{cost:?}");
        assert!(cost.each.iter().all(|each| *each <= cost.all), "{cost:?}");
    }

    #[test]
    fn a_guest_that_ends_without_a_word_is_an_error() {
        let error = gather(&Candidate::new("true", "true", "up"), 2).unwrap_err();
        assert!(error.contains("did not speak"), "{error}");
    }
}
