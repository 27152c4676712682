//! One boot of the lab: the initial root it starts from, QEMU's command line, and its reports.

use crate::architecture::Architecture;
use crate::command::{self, Result};
use crate::cpio::Archive;
use crate::packages;
use crate::processors;
use crate::protocol::{self, Order, Plan, Report};
use crate::pulse::Pulse;
use crate::queue::Place;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The agent gives no sign of life for at most this long beyond a job's own deadline: booting, or
/// the clean-up after a job. On a busy machine a boot takes ten times its usual three seconds.
const SILENCE: Duration = Duration::from_secs(120);

/// For how long QEMU may use no time at all, and how often that is looked at. Whatever hangs in a Linux that lives
/// is ended by its test within 90 seconds, which takes time.
const STILL: Duration = Duration::from_secs(100);
const LOOK: Duration = Duration::from_secs(5);

/// From the last report to the end of QEMU.
const POWER_OFF: Duration = Duration::from_secs(30);

/// Gives a machine, or a namespace, what tests take for the world outside.
pub(crate) const OUTSIDE: &str = include_str!("outside.sh");

/// How the outer machine counts time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// As it comes.
    Host,
    /// One nanosecond per instruction: what a process used is the same each time.
    Instructions {
        /// Whether the outer Linux backs memory with 2 MiB pages where it can, as it does everywhere
        /// else. Whether one is at hand changes a run by half a million instructions.
        huge_pages: bool,
    },
}

/// How nice a machine at the second place is: one that works as well has two thirds of the processor.
const NICE: &str = "3";

/// The processor that counts instructions.
const COUNTED: &str = "-accel tcg,thread=single -smp 1";

/// Why a boot did not come to its end.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: String,
    /// The emulator stood still: nobody's fault who ran in it.
    pub(crate) stood_still: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, stood_still: false }
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        failure.why
    }
}

type Ended = std::result::Result<(), Failure>;

/// A lab that is ready to boot.
#[derive(Debug)]
pub(crate) struct Guest<'a> {
    pub(crate) architecture: &'static Architecture,
    /// Unpacked packages: the kernel, its modules and busybox.
    pub(crate) packages: &'a Path,
    /// This program, linked statically.
    pub(crate) agent: &'a Path,
    /// Where its files go.
    pub(crate) folder: &'a Path,
    pub(crate) clock: Clock,
    /// Which of the machines that run at once, for the names of its files.
    pub(crate) number: usize,
    /// Who it gives way to.
    pub(crate) place: Place,
    /// When it is killed, whatever it does.
    pub(crate) until: Instant,
}

impl Guest<'_> {
    /// Boots, runs all of `plan` in its order with `files` at the paths they have here, and hands on each report.
    pub(crate) fn run(&self, plan: &Plan, files: &[PathBuf], report: impl FnMut(&Report)) -> Ended {
        let mut jobs = 0..plan.jobs.len();
        self.run_each(plan, &self.initrd(plan, files)?, || jobs.next(), report)
    }

    /// What a machine starts from that may be told to run what is in `plan`.
    pub(crate) fn initrd(&self, plan: &Plan, files: &[PathBuf]) -> Result<PathBuf> {
        let initrd = self.file("cpio");
        let archive = self.initial_root(plan, files)?;
        fs::write(&initrd, archive)
            .map_err(|e| format!("cannot write {}: {e}", initrd.display()))?;
        Ok(initrd)
    }

    /// Boots, runs those of `plan` that `next` names, as often as it names one, and hands on each report.
    pub(crate) fn run_each(
        &self,
        plan: &Plan,
        initrd: &Path,
        mut next: impl FnMut() -> Option<usize>,
        mut report: impl FnMut(&Report),
    ) -> Ended {
        let (console, errors) = (self.file("console"), self.file("qemu"));
        let stderr =
            File::create(&errors).map_err(|e| format!("cannot write {}: {e}", errors.display()))?;
        let mut command = self.qemu(initrd, &console)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let child = command.spawn().map_err(|e| command::cannot_start(&command, &e))?;
        let mut machine = Machine { child };
        let result = machine.reports(plan, self.until, &mut next, &mut report);
        result.map_err(|failure| {
            let last = |path: &Path| last_lines(&fs::read(path).unwrap_or_default());
            let why = format!(
                "{}\n--- end of {}\n{}\n--- end of {}\n{}",
                failure.why,
                console.display(),
                last(&console),
                errors.display(),
                last(&errors)
            );
            Failure { why, ..failure }
        })
    }

    /// One of its files.
    fn file(&self, extension: &str) -> PathBuf {
        let clock = match self.clock {
            Clock::Host => "tests",
            Clock::Instructions { .. } => "instructions",
        };
        self.folder.join(format!("{clock}-{}.{extension}", self.number))
    }

    fn qemu(&self, initrd: &Path, console: &Path) -> Result<Command> {
        let kernel = packages::one_file(self.packages, "boot", "vmlinuz-")?;
        let machine = &self.architecture.machine;
        // Whatever ends this program, QEMU ends with it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if self.place == Place::Second {
            command.args(["nice", "-n", NICE]);
        }
        if machine.on_one_processor && self.clock == Clock::Host {
            let ours = processors::ours()?;
            let one = ours[self.number % ours.len()];
            command.args(["taskset", "--cpu-list", &one.to_string()]);
        }
        command.arg(machine.qemu.name);
        command.args(machine.board.split(' ')).args(["-nodefaults", "-no-reboot"]);
        // Half of the memory limits the root.
        command.args(["-display", "none", "-m", &machine.memory.to_string()]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.args(machine.reports_words);
        let mut append = format!("console={} quiet panic=-1 mitigations=off", machine.console);
        let mut processors = machine.processors;
        if self.clock == Clock::Host {
            // Two thirds of a boot's instructions are the kernel's tests of its ciphers.
            append += " cryptomgr.notests";
        }
        if let Clock::Instructions { huge_pages } = self.clock {
            processors = COUNTED;
            command.args(["-icount", "shift=0,sleep=off"]);
            // Addresses change a run by a few thousand.
            append += " norandmaps";
            if !huge_pages {
                append += " transparent_hugepage=never";
            }
        }
        command.args(processors.split(' ')).arg("-append").arg(append);
        Ok(command)
    }

    fn initial_root(&self, plan: &Plan, files: &[PathBuf]) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file(Path::new("init"), true, include_bytes!("init.sh"))?;
        archive.file(Path::new("lab/outside.sh"), false, OUTSIDE.as_bytes())?;
        let mut copy = |from: &Path, to: &Path, executable: bool| {
            let data =
                fs::read(from).map_err(|e| format!("cannot read {}: {e}", from.display()))?;
            archive.file(to, executable, &data)
        };
        let linux = &self.architecture.linux;
        copy(&linux.busybox(self.packages), Path::new("bin/busybox"), true)?;
        copy(self.agent, Path::new("lab/lab"), true)?;
        let mut modules = String::new();
        for module in linux.modules {
            let (from, name) = linux.module(self.packages, module)?;
            copy(&from, &Path::new("lab").join(&name), false)?;
            modules += &format!("{name} ");
        }
        for file in files {
            copy(file, file, is_executable(file))?;
        }
        for job in &plan.jobs {
            archive.directory(&job.directory)?;
        }
        let machine =
            format!("modules='{modules}'\nreports={}\n", self.architecture.machine.reports);
        archive.file(Path::new("lab/machine.sh"), false, machine.as_bytes())?;
        let plan = serde_json::to_vec(plan).map_err(|e| format!("cannot write the plan: {e}"))?;
        archive.file(Path::new("lab/plan.json"), false, &plan)?;
        archive.finish()
    }
}

/// A QEMU that ends with this value.
#[derive(Debug)]
struct Machine {
    child: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only for a process that ended and was waited for, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Machine {
    /// Gives orders and hands on reports until the last one, or until time is up.
    fn reports(
        &mut self,
        plan: &Plan,
        until: Instant,
        order: &mut impl FnMut() -> Option<usize>,
        report: &mut impl FnMut(&Report),
    ) -> Ended {
        let mut stdin = self.child.stdin.take().ok_or_else(|| "QEMU has no stdin".to_owned())?;
        let stdout = self.child.stdout.take().ok_or_else(|| "QEMU has no stdout".to_owned())?;
        let lines = lines_of(stdout);
        let mut pulse = Pulse::of(self.child.id());
        let mut running: Option<usize> = None;
        loop {
            let job = running.and_then(|job| plan.jobs.get(job));
            let silence = SILENCE + Duration::from_secs(job.map_or(0, |job| job.deadline));
            let patience = silence.min(until.saturating_duration_since(Instant::now()));
            let during = job.map_or("between tests".to_owned(), |job| format!("in {}", job.name));
            let line = next(&lines, patience, &mut pulse).map_err(|end| {
                let why = match end {
                    Silence::Hangs => {
                        format!("hangs {during}; killed after {patience:.0?} without a report")
                    }
                    Silence::StandsStill => format!("stands still {during}: its emulator's fault"),
                    Silence::Over => format!("went down {during}"),
                };
                Failure { why: format!("the lab {why}"), stood_still: end == Silence::StandsStill }
            })?;
            let Some(message) = protocol::parse(&line) else {
                continue;
            };
            let message = message?;
            report(&message);
            match message {
                Report::Broken { why } => return Err(format!("the lab is of no use: {why}").into()),
                Report::Started { job } => running = Some(job),
                Report::Ready | Report::Finished { .. } => {
                    running = None;
                    give(&mut stdin, order())?;
                }
                Report::Done => return Ok(self.power_off()?),
            }
        }
    }

    fn power_off(&mut self) -> Result<()> {
        let end = Instant::now() + POWER_OFF;
        loop {
            match self.child.try_wait().map_err(|e| format!("cannot wait for QEMU: {e}"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("QEMU ended with {status}")),
                None if Instant::now() >= end => {
                    return Err(format!("the lab did not power off within {POWER_OFF:?}"));
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// Tells the agent what to do next.
fn give(stdin: &mut ChildStdin, job: Option<usize>) -> Result<()> {
    let order = job.map_or(Order::PowerOff, |job| Order::Run { job });
    let line = protocol::line(&order)?;
    // A machine that went down says so by the end of its reports.
    match stdin.write_all(line.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot give QEMU an order: {e}"))
        }
        _ => Ok(()),
    }
}

/// Why there is no line.
#[derive(Debug, PartialEq, Eq)]
enum Silence {
    /// For longer than it is waited for.
    Hangs,
    /// Nothing happens any more.
    StandsStill,
    /// There will be none.
    Over,
}

/// The next line, if there is one within `patience` or as long as QEMU has a pulse.
fn next(
    lines: &Receiver<String>,
    patience: Duration,
    pulse: &mut Pulse,
) -> std::result::Result<String, Silence> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left.min(LOOK)) {
            Ok(line) => return Ok(line),
            Err(RecvTimeoutError::Disconnected) => return Err(Silence::Over),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Silence::Hangs),
            Err(RecvTimeoutError::Timeout) if pulse.still_for() >= STILL => {
                return Err(Silence::StandsStill);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The lines of a stream, read by a thread so that waiting for one can end.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
    lines
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

/// The end of a log, without what TCG always says about EPYC's features.
fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let expected = "warning: TCG doesn't support requested feature";
    let lines: Vec<_> = text.lines().filter(|line| !line.contains(expected)).collect();
    let start = lines.len().saturating_sub(15);
    lines.get(start..).unwrap_or_default().join(
        "
",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_quoted_without_what_tcg_always_says() {
        let log: String = (0..20)
            .map(|line| {
                format!("{line}\nqemu: warning: TCG doesn't support requested feature: x\n")
            })
            .collect();
        let quoted = last_lines(log.as_bytes());
        assert!(quoted.starts_with("5\n") && quoted.ends_with("\n19"), "{quoted}");
        assert_eq!(last_lines(b""), "");
    }
}
