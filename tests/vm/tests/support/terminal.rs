//! A pseudoterminal, with a test where a person would sit.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    LocalModes, OptionalActions, Termios, Winsize, tcgetattr, tcgetpgrp, tcsetattr, tcsetwinsize,
};

/// Nothing here takes a tenth of it, on an idle machine that executes guests. The lab's is longer.
const DEADLINE: Duration = Duration::from_secs(90);

/// A terminal as a shell leaves it for its job: cooked, with an echo.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Its keyboard and screen.
    person: File,
    /// What a program has as stdin.
    line: OwnedFd,
    found: Termios,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap();
        let line = open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let line = line.unwrap();
        rustix::io::fcntl_setfd(&person, rustix::io::FdFlags::CLOEXEC).unwrap();
        let found = tcgetattr(&line).unwrap();
        assert!(found.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        Self { person: person.into(), line, found }
    }

    /// For a program's stdin.
    pub(crate) fn line(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    /// Types `keys`; waits while the terminal takes no more.
    pub(crate) fn types(&self, keys: &[u8]) {
        (&self.person).write_all(keys).unwrap();
    }

    /// Gives its window another size.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // for a guest that is x86_64's
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.person, size).unwrap();
    }

    /// A second pair of hands.
    pub(crate) fn keyboard(&self) -> File {
        self.person.try_clone().unwrap()
    }

    /// Bytes on the screen, which nobody has read: an echo, where the program writes elsewhere.
    pub(crate) fn shown(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.person).unwrap()
    }

    /// Sends `signal` to the job in the foreground.
    pub(crate) fn signal_foreground(&self, signal: Signal) {
        let group: Pid = tcgetpgrp(&self.person).unwrap();
        kill_process_group(group, signal).unwrap();
    }

    /// Everything but the window's size.
    fn modes(&self) -> Termios {
        tcgetattr(&self.line).unwrap()
    }

    fn is_raw(&self) -> bool {
        !self.modes().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits until a program has made it raw.
    pub(crate) fn wait_until_raw(&self) {
        self.wait(|| self.is_raw(), "it is not raw");
    }

    /// Waits until it is as it was found.
    pub(crate) fn wait_until_as_found(&self) {
        self.wait(|| !self.is_raw(), "it is still raw");
        self.is_as_found();
    }

    fn wait(&self, over: impl Fn() -> bool, otherwise: &str) {
        let until = Instant::now() + DEADLINE;
        while !over() {
            assert!(Instant::now() < until, "{otherwise}: {:?}", self.modes());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Fails unless it is as it was found.
    pub(crate) fn is_as_found(&self) {
        assert_eq!(format!("{:?}", self.modes()), format!("{:?}", self.found));
    }

    /// Fails unless it is raw.
    pub(crate) fn stays_raw(&self) {
        assert!(self.is_raw(), "{:?}", self.modes());
    }

    /// Sets it up as it was found, as a shell does for itself.
    pub(crate) fn set_as_found(&self) {
        tcsetattr(&self.line, OptionalActions::Now, &self.found).unwrap();
    }
}
