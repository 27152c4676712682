//! Starting a program and measuring it (wait4(2), getrusage(2)).

// UNSAFETY: wait4, which alone tells what one child used, has no safe interface.
#![allow(unsafe_code)]

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program to measure.
#[derive(Debug)]
pub struct Candidate {
    /// What the table calls it.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The text in its output that says that the guest speaks.
    pub marker: &'static str,
}

impl Candidate {
    /// A candidate; `line` is split at spaces.
    pub fn new(name: &str, line: &str, marker: &'static str) -> Self {
        let argv = line.split_whitespace().map(str::to_owned).collect();
        Self { name: name.to_owned(), argv, marker }
    }
}

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From the start of the process to the marker.
    pub marker: Duration,
    /// To the end of the process.
    pub wall: Duration,
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Peak resident set, in KiB.
    pub rss: u64,
}

impl Sample {
    /// Peak resident set, in MiB.
    #[must_use]
    pub fn mebibytes(&self) -> f64 {
        Duration::from_micros(self.rss).as_secs_f64() * 1e6 / 1024.0
    }
}

/// Runs `candidate` once.
///
/// # Errors
/// When it cannot be started or never says its marker; with its output.
pub fn once(candidate: &Candidate) -> Result<Sample, String> {
    let (program, args) = candidate.argv.split_first().ok_or("no program")?;
    let (mut reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    let output = writer.try_clone().map_err(|error| error.to_string())?;
    command.args(args).stdin(Stdio::null()).stdout(output).stderr(writer);
    let started = Instant::now();
    let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    drop(command); // and with it our end of the pipe
    let mut text = Vec::new();
    let mut marker = None;
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = reader.read(&mut chunk) {
        text.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if marker.is_none() && contains(&text, candidate.marker) {
            marker = Some(started.elapsed());
        }
    }
    let usage = wait(&child)?;
    let wall = started.elapsed();
    let Some(marker) = marker else {
        let output = String::from_utf8_lossy(&text);
        return Err(format!(
            "{}: no {:?} in its output: {output}",
            candidate.name, candidate.marker
        ));
    };
    Ok(Sample { marker, wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), rss: rss(&usage) })
}

fn contains(text: &[u8], marker: &str) -> bool {
    text.windows(marker.len()).any(|window| window == marker.as_bytes())
}

fn wait(child: &std::process::Child) -> Result<libc::rusage, String> {
    let pid = libc::pid_t::try_from(child.id()).map_err(|error| error.to_string())?;
    // SAFETY: an rusage of zeros is one, and wait4 fills in what we give it for a child of ours
    // that nobody else waits for.
    let (usage, result) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let mut status = 0;
        let result = libc::wait4(pid, &raw mut status, 0, &raw mut usage);
        (usage, result)
    };
    match result == pid {
        true => Ok(usage),
        false => Err(format!("wait4: {}", std::io::Error::last_os_error())),
    }
}

fn time(value: libc::timeval) -> Duration {
    let seconds = Duration::from_secs(u64::try_from(value.tv_sec).unwrap_or(0));
    seconds + Duration::from_micros(u64::try_from(value.tv_usec).unwrap_or(0))
}

fn rss(usage: &libc::rusage) -> u64 {
    u64::try_from(usage.ru_maxrss).unwrap_or(0)
}
