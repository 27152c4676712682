//! A Linux that does what it is told on its console: the job `net` of tests/vm/data/linux.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::monitor::OFF;

/// What a boot may take, or a command, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// A line of the console that says how a command ended begins with this.
const END: &str = "=== ";

/// A running guest, killed with this value.
pub struct Guest {
    child: Child,
    console: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// What was printed and not asked for yet.
    text: String,
    errors: Receiver<String>,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("child", &self.child).finish_non_exhaustive()
    }
}

impl Guest {
    /// Starts `command`, and waits until its guest has an address.
    ///
    /// # Errors
    /// When it never has; with what was printed.
    pub fn start(command: Command) -> Result<Self> {
        let mut guest = Self::launch(command)?;
        guest.answer("boot")?;
        Ok(guest)
    }

    /// Starts `command` and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(mut command: Command) -> Result<Self> {
        let program = command.get_program().to_owned();
        let context = |error| format!("{}: {error}", program.display());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(context)?;
        let (Some(console), Some(mut stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("a process without its pipes".to_owned());
        };
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes.get(..length).unwrap_or_default().to_vec()).is_err() {
                    break;
                }
            }
        });
        let (sender, errors) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
        });
        Ok(Self { child, console, output, text: String::new(), errors })
    }

    /// The monitor's process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has the guest do `command`, a line of shell, and gives what it prints and its status.
    ///
    /// # Errors
    /// When the guest does not answer.
    pub fn ask(&mut self, command: &str) -> Result<(String, u8)> {
        self.tell(command)?;
        self.answer(command)
    }

    /// The same, when it has to end with 0.
    ///
    /// # Errors
    /// When it does not.
    pub fn must(&mut self, command: &str) -> Result<String> {
        match self.ask(command)? {
            (text, 0) => Ok(text),
            (text, status) => Err(format!("in the guest: {command}: status {status}: {text}")),
        }
    }

    /// Has the guest do `command` and does not wait; its answer comes before the next one's.
    ///
    /// # Errors
    /// When the monitor has ended.
    pub fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.console, "{command}").map_err(|error| format!("{command}: {error}"))
    }

    /// Waits for the answer to what the guest was told.
    ///
    /// # Errors
    /// When there is none.
    pub fn answer(&mut self, command: &str) -> Result<(String, u8)> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.take_answer() {
                return Ok(answer);
            }
            match self.output.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes).replace('\r', "")),
                Err(why) => {
                    let _ = self.child.kill();
                    let errors =
                        self.errors.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
                    return Err(format!(
                        "{command}: {why}; printed: {}\nerrors: {errors}",
                        self.text
                    ));
                }
            }
        }
    }

    fn take_answer(&mut self) -> Option<(String, u8)> {
        let at = self.text.find(END)?;
        let length = self.text.get(at..)?.find('\n')?;
        let status = self.text.get(at + END.len()..at + length)?.trim().parse().ok()?;
        let rest = self.text.split_off(at + length + 1);
        let mut printed = std::mem::replace(&mut self.text, rest);
        printed.truncate(at);
        Some((printed.trim_end().to_owned(), status))
    }

    /// Ends the guest's machine, and gives what the monitor wrote to stderr, but for the word about an
    /// end that is as it should be.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(mut self) -> Result<String> {
        self.tell("end 0")?;
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().map_err(|error| error.to_string())?.is_none() {
            if Instant::now() > until {
                return Err(format!("does not end; printed: {}", self.text));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let said = self.errors.recv_timeout(PATIENCE).map_err(|error| error.to_string())?;
        Ok(said.strip_suffix(OFF).unwrap_or(&said).to_owned())
    }

    /// Kills the monitor, and gives what it wrote to stderr.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> Result<String> {
        self.child.kill().map_err(|error| error.to_string())?;
        self.child.wait().map_err(|error| error.to_string())?;
        self.errors.recv_timeout(PATIENCE).map_err(|error| error.to_string())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
