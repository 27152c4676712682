//! Commands that a report is made of: each has a deadline, and none ends the report.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// So much of what a command says is kept, from its end: a build's warnings fill no report.
const KEPT: usize = 32 << 10;

/// What to run, and how long it may take.
pub(super) struct Step {
    pub(super) name: String,
    pub(super) command: Command,
    pub(super) deadline: Duration,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    /// With this status.
    Failed(String),
    /// It was killed at its deadline.
    Hung(Duration),
    NotStarted(String),
}

/// A step that is over.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) name: String,
    pub(super) command: String,
    pub(super) end: End,
    pub(super) took: Duration,
    /// Its stdout and stderr, as they came.
    pub(super) said: String,
}

impl Done {
    pub(super) fn passed(&self) -> bool {
        self.end == End::Passed
    }

    /// The reason in a line `skipped: …`, if there is one.
    pub(super) fn skipped(&self) -> Option<&str> {
        self.said.lines().find_map(|line| line.strip_prefix("skipped: "))
    }

    /// In a few words.
    pub(super) fn outcome(&self) -> String {
        match (&self.end, self.skipped()) {
            (End::Passed, None) => "ok".to_owned(),
            (End::Passed, Some(why)) => format!("skipped: {why}"),
            (End::Failed(status), _) => format!("FAILED: {status}"),
            (End::Hung(deadline), _) => format!("FAILED: did not end within {deadline:?}"),
            (End::NotStarted(why), _) => format!("FAILED: cannot be started: {why}"),
        }
    }
}

/// Runs a step to its end or its deadline.
pub(super) fn run(mut step: Step) -> Done {
    let command = line(&step.command);
    let began = Instant::now();
    let (end, said) = match supervise(&mut step.command, step.deadline) {
        Ok((Some(status), said)) if status.success() => (End::Passed, said),
        Ok((Some(status), said)) => (End::Failed(status.to_string()), said),
        Ok((None, said)) => (End::Hung(step.deadline), said),
        Err(error) => (End::NotStarted(error.to_string()), String::new()),
    };
    Done { name: step.name, command, end, took: began.elapsed(), said }
}

/// The status, none if the deadline was over first, and what was said.
fn supervise(
    command: &mut Command,
    deadline: Duration,
) -> io::Result<(Option<ExitStatus>, String)> {
    let (output, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    // A group of its own, so that what it has started ends with it.
    let mut child = command.process_group(0).spawn()?;
    // Our copies of the writing end: the output ends when nobody has one any more.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, said) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more when what was left behind holds the pipe.
        let _ = sender.send(read(output));
    });
    let status = wait(&mut child, deadline)?;
    if let Ok(id) = i32::try_from(child.id()) {
        // Also when it has ended: nothing of it goes on. There may be nobody.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    if status.is_none() {
        child.wait()?;
    }
    Ok((status, said.recv_timeout(Duration::from_secs(5)).unwrap_or_default()))
}

fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() >= deadline {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The last bytes of all there is, as text that no terminal takes for orders.
fn read(mut output: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = output.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..len]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    let from = kept.len().saturating_sub(KEPT);
    let text = String::from_utf8_lossy(&kept[from..]);
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, deadline: Duration) -> Done {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(Step { name: "a step".into(), command, deadline })
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_step_says_is_kept_and_its_end_is_told() {
        let done = sh("echo one; echo two >&2", LONG);
        assert!(done.passed() && done.said == "one\ntwo\n" && done.outcome() == "ok", "{done:?}");
        let done = sh("echo why; exit 3", LONG);
        assert!(!done.passed() && done.outcome().ends_with("status: 3"), "{done:?}");
        let done = sh("echo 'skipped: no VM'", LONG);
        assert_eq!(done.outcome(), "skipped: no VM");
    }

    #[test]
    fn a_step_that_hangs_is_killed_with_what_it_started() {
        let done = sh("echo before; sleep 1000 & sleep 1000", Duration::from_millis(200));
        assert_eq!(done.end, End::Hung(Duration::from_millis(200)));
        assert_eq!(done.said, "before\n");
        assert!(done.took < Duration::from_secs(30), "{done:?}");
    }

    #[test]
    fn a_step_that_cannot_start_is_a_failure_of_its_own() {
        let command = Command::new("/nonexistent/program");
        let done = run(Step { name: "a step".into(), command, deadline: LONG });
        assert!(matches!(done.end, End::NotStarted(_)), "{done:?}");
    }

    #[test]
    fn a_flood_is_cut_and_holds_no_orders_for_a_terminal() {
        let done = sh("printf '\\033[31m'; yes | head -c 500000; echo end", LONG);
        assert!(done.said.len() <= KEPT && done.said.ends_with("end\n"), "{}", done.said.len());
        assert!(!sh("printf '\\033[31mred'", LONG).said.contains('\u{1b}'));
    }
}
