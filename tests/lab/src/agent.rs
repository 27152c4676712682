//! Inside the lab: runs the jobs of a plan that it is told to, one after the other, each with a deadline, and reports.
//!
//! A job that outlives its deadline is killed, and whatever a job leaves running is killed before
//! the next one starts, so no test can disturb another or take the rest along.

use crate::command::Result;
use crate::protocol::{self, End, Job, Order, Outcome, Plan, Report};
use nix::fcntl::OFlag;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Both streams of the running job. /init limits its size.
const OUTPUT: &str = "/lab/output/job";

/// Who the jobs run as: an ordinary user who may open /dev/kvm. On the host CI is root, so between
/// the two a test that needs either runs somewhere.
const USER: u32 = 1000;

/// How much of a job's output is reported, from its end.
const TAIL: usize = 32 * 1024;

/// Runs what it is told to of the plan in the file `plan`. `reports` is the way out for reports, and in for orders.
pub(crate) fn run(plan: &Path, reports: &Path) -> Result<()> {
    // Between jobs every other process is killed: never on a machine that is not the lab.
    if std::process::id() != 1 {
        return Err("`agent` is for the lab's /init; run `lab x86_64` or `lab aarch64`".to_owned());
    }
    let text = fs::read(plan).map_err(|e| format!("cannot read {}: {e}", plan.display()))?;
    let plan: Plan = serde_json::from_slice(&text).map_err(|e| format!("bad plan: {e}"))?;
    let mut host = Host::open(reports)?;
    host.send(&Report::Ready)?;
    while let Order::Run { job } = host.order()? {
        let spec = plan.jobs.get(job).ok_or_else(|| format!("the plan has no job {job}"))?;
        host.send(&Report::Started { job })?;
        let outcome = execute(spec);
        kill_all_others();
        host.send(&Report::Finished { job, outcome })?;
    }
    host.send(&Report::Done)?;
    // Does not come back; if it does, leaving as the first process ends the machine too.
    crate::command::run(Command::new("poweroff").arg("-f"))
}

/// Who gives the orders.
struct Host {
    port: BufReader<File>,
}

impl Host {
    fn open(port: &Path) -> Result<Self> {
        let context = |e| format!("cannot open {}: {e}", port.display());
        // Opened to be read, a serial line would become the controlling terminal of whoever has none.
        let flags = OFlag::O_NOCTTY.bits();
        let mut options = File::options();
        let file =
            options.read(true).write(true).custom_flags(flags).open(port).map_err(context)?;
        if file.is_terminal() {
            // An echo would answer the host with its own orders.
            tcgetattr(&file)
                .and_then(|mut settings| {
                    cfmakeraw(&mut settings);
                    tcsetattr(&file, SetArg::TCSANOW, &settings)
                })
                .map_err(|e| format!("cannot set up {}: {e}", port.display()))?;
        }
        Ok(Self { port: BufReader::new(file) })
    }

    fn send(&mut self, report: &Report) -> Result<()> {
        let line = protocol::line(report)?;
        let written = self.port.get_mut().write_all(line.as_bytes());
        written.map_err(|e| format!("cannot report to the host: {e}"))
    }

    /// Waits for the next order.
    fn order(&mut self) -> Result<Order> {
        loop {
            let mut line = String::new();
            match self.port.read_line(&mut line) {
                Ok(0) => return Err("the host gives no more orders".to_owned()),
                Ok(_) => {}
                Err(e) => return Err(format!("cannot hear the host: {e}")),
            }
            if let Some(order) = protocol::parse(&line) {
                return order;
            }
        }
    }
}

fn execute(job: &Job) -> Outcome {
    let begin = Instant::now();
    let cpu = children_cpu();
    let end = spawn_and_wait(job).unwrap_or_else(End::NotStarted);
    let cpu_microseconds = children_cpu().saturating_sub(cpu);
    let bytes = fs::read(OUTPUT).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Outcome {
        end,
        skips: skips(&text),
        output: tail(&text, TAIL).to_owned(),
        milliseconds: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        cpu_microseconds,
    }
}

fn spawn_and_wait(job: &Job) -> Result<End> {
    // A file, not a pipe: a process that a test leaves behind keeps a pipe open for ever.
    let output = File::create(OUTPUT).map_err(|e| format!("{OUTPUT}: {e}"))?;
    let errors = output.try_clone().map_err(|e| format!("{OUTPUT}: {e}"))?;
    let mut child = Command::new(&job.program)
        .args(&job.arguments)
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&job.directory)
        .uid(USER)
        .gid(USER)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|e| format!("{}: {e}", job.program.display()))?;
    let pid = i32::try_from(child.id()).map_err(|e| e.to_string())?;
    let (sender, ended) = mpsc::channel();
    // A thread that blocks, rather than polling: its wake-ups would count as the job's own time.
    thread::spawn(move || sender.send(child.wait()));
    let status = match ended.recv_timeout(Duration::from_secs(job.deadline)) {
        Ok(status) => status,
        Err(RecvTimeoutError::Timeout) => {
            kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(|e| format!("kill: {e}"))?;
            let _ = ended.recv();
            return Ok(End::TimedOut);
        }
        Err(RecvTimeoutError::Disconnected) => return Err("nothing waits for the job".to_owned()),
    };
    status.map(end).map_err(|e| format!("wait: {e}"))
}

fn end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Killed(signal),
        (None, None) => End::NotStarted(format!("unexpected wait status {status}")),
    }
}

/// Process −1 is everyone but us, the first process.
fn kill_all_others() {
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while waitpid(Pid::from_raw(-1), Some(WaitPidFlag::empty())).is_ok() {}
}

/// User and system time, in microseconds, of all children that ended so far.
fn children_cpu() -> u64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| {
        [usage.user_time(), usage.system_time()]
            .into_iter()
            .map(|time| {
                let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
                let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
                seconds.saturating_mul(1_000_000).saturating_add(micros)
            })
            .sum()
    })
}

/// A test that cannot run here prints a line with `skipped: ` and the reason, and returns; a suite of our
/// own has that in the place of `ok`.
fn skips(output: &str) -> Vec<String> {
    let reason = |line: &str| {
        let verdict = line.strip_prefix("test ").and_then(|test| test.split_once(" ... "));
        let said = verdict.map_or(line, |(_, verdict)| verdict);
        said.strip_prefix("skipped: ").map(str::to_owned)
    };
    output.lines().filter_map(reason).collect()
}

/// The last `limit` bytes of `text`, from a character's beginning.
fn tail(text: &str, limit: usize) -> &str {
    let start = (text.len().saturating_sub(limit)..=text.len())
        .find(|&start| text.is_char_boundary(start))
        .unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_refuses_to_run_on_a_machine_that_is_not_the_lab() {
        let error = run(Path::new("/nowhere"), Path::new("/dev/null")).unwrap_err();
        assert!(error.contains("lab x86_64"), "{error}");
    }

    #[test]
    fn a_skip_is_a_line_that_begins_with_the_word() {
        let output = "\nrunning 1 test\nskipped: no tap\ntest a ... ok\nwas skipped: not this\n";
        assert_eq!(skips(output), ["no tap"]);
        assert_eq!(skips("test b ... skipped: no mulps\ntest c ... ok"), ["no mulps"]);
    }

    #[test]
    fn the_tail_of_an_output_begins_at_a_whole_character() {
        assert_eq!(tail("aé", 1), "");
        assert_eq!(tail("aé", 2), "é");
        assert_eq!(tail("aé", 9), "aé");
    }
}
