//! How a run came out: the process's exit status, the sentence on stderr, the record for
//! `--report`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hv::Crash;
use rustix::fs::fstat;
use serde::Serialize;

use crate::log::printable_path;
use crate::machine::stop::Reason;
use crate::plan::Plan;

/// Statuses of our own, as timeout(1) and shells use them.
pub mod status {
    /// `--timeout` ended the run.
    pub const TIMED_OUT: u8 = 124;
    /// runner could not start the guest, or could not go on with it.
    pub const FAILED: u8 = 125;
    /// The guest crashed.
    pub const CRASHED: u8 = 126;
    /// A signal ended the run: this, plus its number.
    pub const SIGNAL: u8 = 128;
}

/// Whose a status is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The guest gave it.
    Guest,
    /// runner did.
    Runner,
    /// Nobody knows how the guest's program ended: it asked for its end in a way that does not tell.
    Unknown,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The process's exit status.
    pub status: u8,
    /// Whose it is.
    pub origin: Origin,
    /// One word for the record.
    pub reason: &'static str,
    /// The value at the guest's exit port, if that ended it.
    pub raw: Option<u64>,
    /// One sentence for stderr; nothing when all went as it should.
    pub message: Option<String>,
}

impl Outcome {
    /// The outcome of a run that ended for `reason`.
    pub fn of(reason: &Reason) -> Self {
        let ours = |status, reason, message| Self {
            status,
            origin: Origin::Runner,
            reason,
            raw: None,
            message: Some(message),
        };
        match reason {
            Reason::Exit { raw, status } => Self::guest(*status, "exit", Some(*raw)),
            Reason::Reset => Self::guest(0, "reset", None),
            Reason::Restart => Self::unknown("reset", "reset itself"),
            Reason::Shutdown => Self::unknown("shutdown", "switched itself off"),
            Reason::Crash { vcpu, crash } => {
                let what = match crash {
                    Crash::TripleFault => "a triple fault",
                    _ => "it said so",
                };
                let message = format!("the guest crashed on vCPU {vcpu}: {what}");
                ours(status::CRASHED, "crash", message)
            }
            Reason::Unhandled { vcpu, exit } => {
                let message = format!("vCPU {vcpu} stopped: {exit}; see `runner doctor`");
                ours(status::FAILED, "unhandled", message)
            }
            Reason::Halted { vcpu } => {
                let message = format!("vCPU {vcpu} halted, and nothing can wake it");
                ours(status::CRASHED, "halted", message)
            }
            Reason::Asleep => {
                let message =
                    "every vCPU has halted with interrupts off, and nothing can wake the guest";
                ours(status::CRASHED, "halted", message.to_owned())
            }
            Reason::Violation(what) => {
                let message = format!("the guest broke the rules of its interface: {what}");
                ours(status::CRASHED, "violation", message)
            }
            Reason::TimedOut => {
                ours(status::TIMED_OUT, "timeout", "the time given with --timeout is over".into())
            }
            Reason::Signal(number) => {
                let status = u8::try_from(*number).map_or(u8::MAX, |n| status::SIGNAL | n);
                Self { message: None, ..ours(status, "signal", String::new()) }
            }
            Reason::Escape => {
                Self { message: None, ..ours(status::SIGNAL | 2, "escape", String::new()) }
            }
            Reason::Failed(why) => Self::failed(why.clone()),
        }
    }

    fn guest(status: u8, reason: &'static str, raw: Option<u64>) -> Self {
        Self { status, origin: Origin::Guest, reason, raw, message: None }
    }

    /// PSCI's calls carry no status. They are how systems end when all is well, so that whoever has no
    /// other word takes it for success.
    fn unknown(reason: &'static str, how: &str) -> Self {
        let message = format!("the guest {how}, which carries no status: 0 says no more than that");
        Self { status: 0, origin: Origin::Unknown, reason, raw: None, message: Some(message) }
    }

    /// The outcome of a run that could not start or go on.
    pub fn failed(why: String) -> Self {
        Self {
            status: status::FAILED,
            origin: Origin::Runner,
            reason: "failed",
            raw: None,
            message: Some(why),
        }
    }
}

/// What `--report` writes: one JSON object.
#[derive(Debug, Serialize)]
struct Record<'a> {
    status: u8,
    /// Whether `status` is the guest's or runner's, or stands for one that nobody knows.
    status_of: Origin,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accelerator: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    guest: Option<Guest<'a>>,
    duration_ms: u64,
    version: &'a str,
}

#[derive(Debug, Serialize)]
struct Guest<'a> {
    image: &'a str,
    format: &'a str,
    protocol: String,
    command_line: &'a str,
    memory: u64,
    cpus: u32,
}

/// The file for the record, opened before anything starts so that a bad path is known early, and
/// left as it is until the record is written.
#[derive(Debug)]
pub struct Report {
    file: File,
    /// It has a length to take back; a terminal or a pipe has none. Known from the start: the jail
    /// would have to allow the question later.
    is_file: bool,
    name: String,
}

/// Whether two open files are one.
fn same_file(one: impl AsFd, other: impl AsFd) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

impl Report {
    /// Opens or creates the file at `path`; a FIFO that nobody reads is an error, not a wait.
    /// `read` are files that the run reads, and that a record must not replace.
    ///
    /// # Errors
    /// One sentence.
    pub fn create(path: &Path, read: &[PathBuf]) -> Result<Self, String> {
        let name = printable_path(path);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).custom_flags(libc::O_NONBLOCK);
        let file = options.open(path).map_err(|error| {
            format!("--report {name}: {error}; name a file that can be written")
        })?;
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let report = Self { file, is_file, name };
        report.spare_stream(io::stdout(), "what goes to stdout")?;
        report.spare_stream(io::stderr(), "what goes to stderr")?;
        for path in read {
            if let Ok(file) = File::open(path) {
                report.refuse(&file, &printable_path(path))?;
            }
        }
        Ok(report)
    }

    /// Refuses a record that would replace a file of the guest's.
    ///
    /// # Errors
    /// One sentence.
    pub fn spare(&self, plan: &Plan) -> Result<(), String> {
        plan.files().try_for_each(|(file, name)| self.refuse(file, name))
    }

    /// Refuses a record that would cut off what was written to `stream`. Behind the words of a
    /// terminal or a pipe there is room for one more.
    fn spare_stream(&self, stream: impl AsFd, name: &str) -> Result<(), String> {
        if self.is_file { self.refuse(stream, name) } else { Ok(()) }
    }

    fn refuse(&self, file: impl AsFd, name: &str) -> Result<(), String> {
        match same_file(&self.file, file) {
            false => Ok(()),
            true => Err(format!(
                "--report {}: the record would replace {name}; name another file",
                self.name
            )),
        }
    }

    /// Writes the record.
    ///
    /// # Errors
    /// One sentence.
    pub fn write(
        mut self,
        outcome: &Outcome,
        accelerator: Option<&str>,
        plan: Option<&Plan>,
        duration: Duration,
    ) -> Result<(), String> {
        let record = Record {
            status: outcome.status,
            status_of: outcome.origin,
            reason: outcome.reason,
            raw: outcome.raw,
            message: outcome.message.as_deref(),
            accelerator,
            guest: plan.map(|plan| Guest {
                image: &plan.image,
                format: &plan.format,
                protocol: plan.boot.protocol.to_string(),
                command_line: plan.boot.command_line.as_str(),
                memory: plan.memory,
                cpus: plan.cpus,
            }),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            version: env!("CARGO_PKG_VERSION"),
        };
        let is_file = self.is_file;
        let write = |file: &mut File| -> io::Result<()> {
            if is_file {
                file.set_len(0)?;
            }
            serde_json::to_writer(&mut *file, &record)?;
            file.write_all(b"\n")
        };
        write(&mut self.file).map_err(|error| format!("--report {}: {error}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_status_is_the_processs_and_its_raw_value_is_kept() {
        let outcome = Outcome::of(&Reason::Exit { raw: 0x107, status: 7 });
        assert_eq!((outcome.status, outcome.origin, outcome.raw), (7, Origin::Guest, Some(0x107)));
        assert_eq!(outcome.message, None);
    }

    #[test]
    fn our_own_statuses_are_told_apart_from_the_guests() {
        for (reason, status) in [
            (Reason::TimedOut, 124),
            (Reason::Failed("x".into()), 125),
            (Reason::Crash { vcpu: 0, crash: Crash::TripleFault }, 126),
            (Reason::Signal(2), 130),
            (Reason::Signal(15), 143),
        ] {
            let outcome = Outcome::of(&reason);
            assert_eq!((outcome.status, outcome.origin), (status, Origin::Runner), "{reason:?}");
        }
        assert_eq!(Outcome::of(&Reason::Reset).origin, Origin::Guest);
    }

    #[test]
    fn an_end_without_a_status_is_called_unknown_and_never_the_guests_success() {
        for (reason, word) in [(Reason::Shutdown, "shutdown"), (Reason::Restart, "reset")] {
            let outcome = Outcome::of(&reason);
            assert_eq!((outcome.status, outcome.origin), (0, Origin::Unknown));
            assert_eq!((outcome.reason, outcome.raw), (word, None));
            assert!(outcome.message.unwrap().contains("carries no status"));
            assert_eq!(serde_json::to_value(outcome.origin).unwrap(), "unknown");
        }
    }

    #[test]
    fn the_record_is_one_json_object() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        let outcome = Outcome::of(&Reason::Exit { raw: 7, status: 7 });
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        let report = Report::create(&path, &[]).unwrap();
        report.write(&outcome, Some("kvm"), None, Duration::from_millis(12)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["status"], 7);
        assert_eq!(value["status_of"], "guest");
        assert_eq!(value["accelerator"], "kvm");
        assert_eq!(value["duration_ms"], 12);
    }

    #[test]
    fn a_report_that_cannot_be_written_is_known_before_anything_starts() {
        let error = Report::create(Path::new("/no/such/folder/r.json"), &[]).unwrap_err();
        assert!(error.contains("/no/such/folder/r.json"), "{error}");
    }

    #[test]
    fn a_record_replaces_no_file_that_the_run_reads() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("c.json");
        std::fs::write(&config, "{}").unwrap();
        let link = folder.path().join("link.json");
        std::fs::hard_link(&config, &link).unwrap();
        let error = Report::create(&link, std::slice::from_ref(&config)).unwrap_err();
        assert!(error.contains("would replace"), "{error}");
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "{}");
    }

    #[test]
    fn a_record_replaces_no_stream_that_is_a_file_and_follows_one_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let stream = File::create(&path).unwrap();
        let report = Report::create(&path, &[]).unwrap();
        let error = report.spare_stream(&stream, "what goes to stdout").unwrap_err();
        assert!(error.contains("would replace what goes to stdout"), "{error}");
        let null = Report::create(Path::new("/dev/null"), &[]).unwrap();
        let stream = File::options().write(true).open("/dev/null").unwrap();
        null.spare_stream(stream, "what goes to stdout").unwrap();
    }
}
