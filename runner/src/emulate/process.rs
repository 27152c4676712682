//! QEMU as a child process: it has the descriptors it is given and no other, and does not outlive
//! us.

// UNSAFETY: what has to happen in the child between fork and exec has no safe interface.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{self, Descriptors};
use super::{Error, Guest, qemu, sys};
use crate::plan::Plan;

/// Our ends of what QEMU is connected to.
#[derive(Debug)]
pub(super) struct Ends {
    /// COM1.
    pub(super) console: UnixStream,
    /// The exit port: what the guest writes there.
    pub(super) exit: UnixStream,
    /// QEMU's log.
    pub(super) log: PipeReader,
    /// QEMU's stderr.
    pub(super) words: PipeReader,
}

/// QEMU's ends. Dropped once QEMU has them, so that ours see when it is gone.
struct Theirs {
    console: UnixStream,
    exit: UnixStream,
    log: PipeWriter,
    words: PipeWriter,
}

fn connect() -> io::Result<(Ends, Theirs)> {
    let (console, their_console) = UnixStream::pair()?;
    let (exit, their_exit) = UnixStream::pair()?;
    let (log, their_log) = io::pipe()?;
    let (words, their_words) = io::pipe()?;
    let theirs =
        Theirs { console: their_console, exit: their_exit, log: their_log, words: their_words };
    Ok((Ends { console, exit, log, words }, theirs))
}

/// A running QEMU. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Starts QEMU.
    pub(super) fn start(plan: &Plan, guest: &Guest) -> Result<(Self, Ends), Error> {
        let (ends, theirs) = connect().map_err(Error::system("connect QEMU's devices"))?;
        let disks = plan.disks.iter().filter_map(|disk| disk.source.file());
        let fds = Descriptors {
            firmware: guest.firmware.as_raw_fd(),
            memory: guest.memory.as_raw_fd(),
            console: theirs.console.as_raw_fd(),
            exit: theirs.exit.as_raw_fd(),
            log: theirs.log.as_raw_fd(),
            disks: disks.map(|file| (file.as_raw_fd(), is_block_device(file))).collect(),
        };
        let arguments = command::arguments(plan, &fds);
        crate::info!("qemu: {} {}", qemu::PROGRAM, arguments.join(" "));
        let mut command = Command::new(qemu::PROGRAM);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(theirs.words);
        inherit(&mut command, fds.all());
        let child = command.spawn().map_err(Error::system("start QEMU"))?;
        Ok((Self(child), ends))
    }

    /// Asks QEMU to end, which it does when its disks are flushed.
    pub(super) fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), Signal::TERM)?)
    }

    /// Ends QEMU at once.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.0.kill()
    }

    /// Waits until it has ended.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither does anything to a child that has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_block_device(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Leaves `fds` open in `command`'s child, under the same numbers, and in no other; and has the
/// child end with this process.
fn inherit(command: &mut Command, fds: Vec<RawFd>) {
    let parent = std::process::id();
    let in_the_child = move || {
        for fd in &fds {
            // SAFETY: the caller keeps the descriptors open until the child has been started.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        sys::end_with_parent(parent)
    };
    // SAFETY: the closure makes system calls and nothing else: it neither allocates nor takes a
    // lock that another thread could have held at the fork.
    unsafe { command.pre_exec(in_the_child) };
}
