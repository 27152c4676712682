//! Starts `runner` as a user would, with a deadline on everything.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::files::Folder;
use super::usage::{self, Ended};
use rustix::process::{Pid, Signal, kill_process};

/// Nothing here takes a tenth of it, on an idle machine that executes guests. The lab's is 120 s.
const DEADLINE: Duration = Duration::from_secs(90);

/// The program under test.
pub(crate) fn path() -> PathBuf {
    match env::var_os("RUNNER_BIN") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_runner").into(),
    }
}

/// Fails unless `sentence` has all of `wanted` in it.
pub(crate) fn says(sentence: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(sentence.contains(wanted), "{wanted:?} is not in: {sentence}");
    }
}

/// A command line of `runner`, in an environment without images and configs of the user's.
#[derive(Debug)]
pub(crate) struct Runner {
    command: Command,
    input: Option<Vec<u8>>,
    capture: bool,
    capture_stderr: bool,
    user: Option<u32>,
}

/// `runner ARGS…`
pub(crate) fn runner<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Runner {
    Runner::of(Command::new(path()), args)
}

/// A script for sh, with everything that [`Runner`] gives a command line.
pub(crate) fn shell(script: &str) -> Runner {
    Runner::of(Command::new("sh"), ["-c", script])
}

impl Runner {
    fn of<A: AsRef<OsStr>>(mut command: Command, args: impl IntoIterator<Item = A>) -> Self {
        command.args(args).env("HOME", "/nonexistent");
        command.env_remove("OPS_HOME").env_remove("ops_render_config");
        command.stdin(Stdio::null());
        Self { command, input: None, capture: true, capture_stderr: true, user: None }
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// More arguments.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Runs in the folder `folder`.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives it `bytes` on stdin, through a pipe, then the end.
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Gives it another stdin.
    pub(crate) fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.command.stdin(from);
        self
    }

    /// Sends its stdout elsewhere.
    pub(crate) fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stdout(to);
        self.capture = false;
        self
    }

    /// Sends its stderr elsewhere.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stderr(to);
        self.capture_stderr = false;
        self
    }

    /// Has another program start it, whose last arguments are this command line.
    pub(crate) fn by<A: AsRef<OsStr>>(self, starter: impl IntoIterator<Item = A>) -> Self {
        let mut words = starter.into_iter();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg(self.command.get_program());
        self.replaced(command)
    }

    /// The same arguments, environment and folder with another beginning.
    fn replaced(self, mut command: Command) -> Self {
        command.args(self.command.get_args()).stdin(Stdio::null());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        Self { command, ..self }
    }

    /// Starts it as a user who owns nothing, where these tests run as root; otherwise as they run.
    /// `folder` becomes theirs to read, and is where the program is copied to: the checkout may be
    /// in a place that only root may enter. To be called before [`Runner::by`].
    pub(crate) fn by_ordinary_user(self, folder: &Folder) -> Self {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            return self;
        }
        folder.mode("", 0o755);
        let program = folder.path().join("runner");
        // By another process: a program that any process still has open to write cannot start.
        let copied = Command::new("cp").arg(path()).arg(&program).status();
        assert!(copied.is_ok_and(|status| status.success()), "cannot copy the program");
        folder.mode("runner", 0o755);
        Self { user: Some(NOBODY), ..self.replaced(Command::new(program)) }
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Running {
        let line = command_line(&self.command);
        let until = Instant::now() + DEADLINE;
        let command = &mut self.command;
        if self.input.is_some() {
            command.stdin(Stdio::piped());
        }
        if self.capture {
            command.stdout(Stdio::piped());
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        if self.capture_stderr {
            command.stderr(Stdio::piped());
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {line}: {error}"),
        };
        if let (Some(mut stdin), Some(bytes)) = (child.stdin.take(), self.input.take()) {
            // Ends with the process at the latest, which need not read it all.
            thread::spawn(move || {
                let _ = stdin.write_all(&bytes);
            });
        }
        let stdout = child.stdout.take().map(Stream::of);
        let stderr = child.stderr.take().map(Stream::of);
        // The command holds what was given as stdout, and a pipe ends when nobody does.
        drop(self.command);
        Running { line, child, until, stdout, stderr, ended: None }
    }

    /// Runs it to its end under `watch`, which is called with its process on this thread and waits
    /// for it. What it printed has no status.
    #[cfg(target_os = "linux")]
    pub(crate) fn watched<T>(mut self, watch: impl FnOnce(&Running) -> T) -> (T, Finished) {
        let _cpu = super::trace::OneCpu::keep();
        super::trace::traced(&mut self.command);
        let mut running = self.start();
        let watched = watch(&running);
        let finished = running.read_to_the_end();
        (watched, finished)
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Finished {
        self.start().finish()
    }

    /// Runs it to its end, which has to be `status`.
    pub(crate) fn ends_with(self, status: i32) -> Finished {
        let finished = self.run();
        assert_eq!(finished.status, Some(status), "{finished}");
        finished
    }

    /// Runs it to its end, which has to be a refusal: status 125 and one sentence on stderr, which
    /// is returned.
    pub(crate) fn refused(self) -> String {
        let finished = self.ends_with(125);
        assert!(finished.stdout.is_empty(), "{finished}");
        let sentence = finished.stderr.strip_prefix("runner: ").and_then(|s| s.strip_suffix('\n'));
        match sentence {
            Some(sentence) if !sentence.contains('\n') => sentence.to_owned(),
            _ => panic!("not one sentence: {finished}"),
        }
    }
}

fn command_line(command: &Command) -> String {
    let words: Vec<OsString> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(Into::into).collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

/// Why a run does not say what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    Ended,
    TimeIsUp,
}

/// A started `runner`. It is killed when this value goes.
#[derive(Debug)]
pub(crate) struct Running {
    line: String,
    child: Child,
    until: Instant,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    ended: Option<Ended>,
}

impl Running {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives it more time for all that it does.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))] // whose processors are slow in the lab
    pub(crate) fn may_take(&mut self, more: Duration) {
        self.until += more;
    }

    /// Waits until its stdout ends with `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        self.wait_for_bytes(text.as_bytes());
    }

    /// Waits until its stdout ends with `bytes`.
    pub(crate) fn wait_for_bytes(&mut self, bytes: &[u8]) {
        let stdout = self.stdout.as_mut().unwrap();
        while !stdout.bytes.ends_with(bytes) {
            if !matches!(stdout.more(self.until), Ok(true)) {
                let (wanted, printed) = (bytes.escape_ascii(), stdout.bytes.escape_ascii());
                panic!("{}: {wanted} did not come, only {printed}", self.line);
            }
        }
    }

    /// Waits until `text` is somewhere in its stdout.
    pub(crate) fn wait_until_it_says(&mut self, text: &str) {
        if let Err(silence) = self.says_in_time(text) {
            if silence == Silence::Ended {
                self.drain();
                self.ended = usage::ended(self.child.id()).unwrap();
            }
            panic!("{silence:?} without {text:?}: {}", self.told());
        }
    }

    /// Waits for `text` as [`Running::wait_until_it_says`].
    pub(crate) fn says_in_time(&mut self, text: &str) -> Result<(), Silence> {
        let stdout = self.stdout.as_mut().unwrap();
        while !stdout.bytes.windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            match stdout.more(self.until) {
                Ok(true) => {}
                Ok(false) => return Err(Silence::Ended),
                Err(_) => return Err(Silence::TimeIsUp),
            }
        }
        Ok(())
    }

    /// The next line of its stderr, which is taken off.
    #[cfg(target_arch = "x86_64")] // whose guests have a network
    pub(crate) fn next_line_of_stderr(&mut self) -> String {
        let stderr = self.stderr.as_mut().unwrap();
        loop {
            if let Some(end) = stderr.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = stderr.bytes.drain(..=end).collect();
                return String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            if !matches!(stderr.more(self.until), Ok(true)) {
                panic!("{}: no line on stderr, only {}", self.line, stderr.bytes.escape_ascii());
            }
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(process, signal).unwrap();
    }

    /// What it has printed when it has ended and somebody else has its status.
    #[cfg(target_os = "linux")]
    fn read_to_the_end(&mut self) -> Finished {
        let over = self.drain();
        let finished = self.told();
        assert!(over, "hangs: {finished}");
        finished
    }

    /// Reads what it prints, to the end. Whether that came in time.
    fn drain(&mut self) -> bool {
        let streams = [&mut self.stdout, &mut self.stderr];
        streams.into_iter().flatten().all(|stream| stream.drain(self.until))
    }

    /// What is known about it up to now.
    fn told(&mut self) -> Finished {
        let bytes = |stream: &mut Option<Stream>| {
            stream.as_mut().map(|stream| std::mem::take(&mut stream.bytes)).unwrap_or_default()
        };
        Finished {
            line: self.line.clone(),
            status: self.ended.and_then(|ended| ended.status.code()),
            stdout: bytes(&mut self.stdout),
            stderr: String::from_utf8_lossy(&bytes(&mut self.stderr)).into_owned(),
            peak_memory: self.ended.map_or(0, |ended| ended.peak_memory),
            cpu_time: self.ended.map_or(Duration::ZERO, |ended| ended.cpu_time),
        }
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let mut over = self.drain();
        while over && self.ended.is_none() {
            self.ended = usage::ended(self.child.id()).unwrap();
            over = Instant::now() < self.until;
            thread::sleep(Duration::from_millis(1));
        }
        let finished = self.told();
        assert!(self.ended.is_some(), "hangs: {finished}");
        assert!(!finished.stderr.contains("panicked"), "{finished}");
        finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that was waited for has a number that may be another's by now.
        if self.ended.is_none() {
            // Both fail only for a process that has ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What comes out of a pipe, read by a thread so that waiting for it can end.
#[derive(Debug)]
struct Stream {
    chunks: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { chunks, bytes: Vec::new() }
    }

    /// Takes in what comes next; `false` at the end.
    fn more(&mut self, until: Instant) -> Result<bool, RecvTimeoutError> {
        match self.chunks.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(chunk) => {
                self.bytes.extend(chunk);
                Ok(true)
            }
            Err(RecvTimeoutError::Disconnected) => Ok(false),
            Err(timeout) => Err(timeout),
        }
    }

    /// Whether the end came in time.
    fn drain(&mut self, until: Instant) -> bool {
        loop {
            match self.more(until) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// An ended `runner`. Shown, it is all there is to know.
#[derive(Debug)]
pub(crate) struct Finished {
    line: String,
    /// Nothing when a signal killed it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// The most bytes of memory that it had at a time.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) peak_memory: u64,
    /// Time of the CPU that it used.
    #[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(dead_code))]
    pub(crate) cpu_time: Duration,
}

impl Finished {
    /// Its stdout, which is text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|_| panic!("not text: {self}"))
    }

    /// Its stdout, when its guest has reset itself.
    pub(crate) fn text_of_reset(&self) -> &str {
        assert_eq!((self.status, &*self.stderr), (Some(0), RESET), "{self}");
        self.text()
    }

    /// Its stdout, when it has said nothing on stderr.
    pub(crate) fn quiet_text(&self) -> &str {
        assert_eq!(self.stderr, "", "{self}");
        self.text()
    }
}

/// What runner says of a reset, by what an architecture has for one.
const RESET: &str = match cfg!(target_arch = "aarch64") {
    true => "runner: the guest reset itself, which carries no status: 0 says no more than that\n",
    false => "",
};

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let (line, status, stderr) = (&self.line, self.status, &self.stderr);
        write!(f, "{line}\nstatus: {status:?}\nstdout: {stdout:.4000}\nstderr: {stderr:.4000}")
    }
}
