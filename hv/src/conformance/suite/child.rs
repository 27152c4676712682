//! A case's own process, from both sides.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::FAILED;
use crate::conformance::{Case, Outcome};
use crate::traits::Hypervisor;

/// The exit status of a case that was skipped, as in the GNU test protocol.
const SKIPPED: u8 = 77;

/// How the reason for that begins, on a line of its own.
const REASON: &str = "skipped: ";

/// Plays the one case that was chosen, inside its process, which ends with whoever has started it.
pub(super) fn play<H: Hypervisor>(chosen: &[Case<H>], hypervisor: &H) -> ExitCode {
    thread::spawn(|| end_with(io::stdin()));
    let [case] = chosen else {
        eprintln!("{} cases were chosen, where a process plays one", chosen.len());
        return ExitCode::from(FAILED);
    };
    match case.play(hypervisor) {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::Skipped(why) => {
            println!("{REASON}{why}");
            ExitCode::from(SKIPPED)
        }
        // The panic has said why, and where.
        Outcome::Failed(_) => ExitCode::from(FAILED),
    }
}

/// Ends this process when `held` comes to its end: a pipe to nowhere that [`supervise`] holds, and nobody any
/// more once its process is gone, however it went. Signals and `PR_SET_PDEATHSIG` are not the same everywhere.
fn end_with(mut held: impl Read) {
    let _ = io::copy(&mut held, &mut io::sink());
    std::process::exit(FAILED.into());
}

/// Starts a case's process, waits until it ends or `deadline` is over, and says how it came out.
pub(super) fn supervise(command: &mut Command, deadline: Duration) -> io::Result<Outcome> {
    let (mut output, writer) = io::pipe()?;
    command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // Waiting for the child would close it before.
    let _held = child.stdin.take();
    // Our copies of the writing end: the output ends when the child does.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        // Nobody listens any more when the deadline was over twice.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    let in_time = receiver.recv_timeout(deadline);
    let text = match &in_time {
        Ok(text) => text.clone(),
        Err(_) => {
            child.kill()?;
            // What it said before; a process of its own that it left behind may hold the pipe.
            receiver.recv_timeout(deadline).unwrap_or_default()
        }
    };
    let status = child.wait()?;
    if in_time.is_err() {
        return Ok(Outcome::Failed(format!("{text}hangs: killed after {deadline:?}")));
    }
    Ok(match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Passed,
        (Some(code), _) if code == i32::from(SKIPPED) => match reason(&text) {
            Some(why) => Outcome::Skipped(why.to_owned()),
            None => Outcome::Failed(format!("{text}skipped without a reason")),
        },
        (Some(code), _) if code == i32::from(FAILED) => Outcome::Failed(text),
        (Some(code), _) => Outcome::Failed(format!("{text}ended with status {code}")),
        (None, signal) => {
            Outcome::Failed(format!("{text}ended by signal {}", signal.unwrap_or_default()))
        }
    })
}

fn reason(output: &str) -> Option<&str> {
    output.lines().find_map(|line| line.strip_prefix(REASON))
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;

    use super::*;

    /// How a process that runs `script` comes out.
    fn outcome(script: &str, deadline: Duration) -> Outcome {
        supervise(Command::new("sh").args(["-c", script]), deadline).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    fn failure(script: &str, deadline: Duration) -> String {
        match outcome(script, deadline) {
            Outcome::Failed(why) => why,
            other => panic!("expected a failure: {other:?}"),
        }
    }

    #[test]
    fn a_process_that_succeeds_passed() {
        assert_eq!(outcome("echo skipped: not really", LONG), Outcome::Passed);
    }

    #[test]
    fn a_hang_is_killed_at_the_deadline_and_keeps_what_it_said() {
        let why = failure("echo before; exec sleep 1000", Duration::from_millis(200));
        assert!(why.starts_with("before\n") && why.contains("hangs"), "{why}");
    }

    #[test]
    fn a_panic_fails_with_its_message() {
        assert_eq!(failure("echo expected 1, got 2 >&2; exit 101", LONG), "expected 1, got 2\n");
    }

    #[test]
    fn a_death_by_signal_and_an_odd_status_are_failures() {
        assert!(failure("kill -SEGV $$", LONG).contains("signal 11"));
        assert!(failure("exit 3", LONG).contains("status 3"));
    }

    #[test]
    fn a_skip_needs_its_reason() {
        let skipped = Outcome::Skipped("no mulps".into());
        assert_eq!(outcome("echo skipped: no mulps; exit 77", LONG), skipped);
        assert!(failure("exit 77", LONG).contains("without a reason"));
    }

    #[test]
    fn a_process_has_its_stdin_as_long_as_it_is_waited_for() {
        assert!(failure("cat", Duration::from_millis(200)).contains("hangs"));
    }

    #[test]
    #[ignore = "the next test starts it"]
    fn hangs_until_its_parent_is_gone() {
        thread::spawn(|| end_with(io::stdin()));
        println!("it hangs");
        loop {
            thread::park();
        }
    }

    #[test]
    fn a_case_that_hangs_ends_with_the_process_that_waits_for_it() {
        let name = "conformance::suite::child::tests::hangs_until_its_parent_is_gone";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--ignored", "--nocapture"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("it hangs")));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(child.try_wait().unwrap(), None, "it has ended by itself");
        // What a kernel does with the descriptors of a process that is killed.
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(FAILED.into()));
    }

    #[test]
    fn a_process_that_cannot_start_is_an_error() {
        assert!(supervise(&mut Command::new("/nowhere/at/all"), LONG).is_err());
    }
}
