//! QEMU as a child process: it has the descriptors it is given and no other, and does not outlive
//! us.

// UNSAFETY: what has to happen in the child between fork and exec has no safe interface.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use hv::Arch;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{self, Descriptors, Disk};
use super::disks::DiskFile;
use super::network::Cable;
use super::target::{RUN, Target};
use super::{Error, Guest, sys};
use crate::plan::Plan;

/// Our ends of the pipes to and from QEMU.
#[derive(Debug)]
pub(super) struct Ends {
    /// What the guest receives on its console.
    pub(super) input: PipeWriter,
    /// What the guest sends there.
    pub(super) console: PipeReader,
    /// What the guest writes to the exit port.
    pub(super) exit: PipeReader,
    /// QEMU's log or control channel.
    pub(super) log: File,
    /// QEMU's stderr.
    pub(super) words: PipeReader,
}

/// QEMU's ends. Dropped once QEMU has them, so that ours see when it is gone.
struct Theirs {
    input: PipeReader,
    console: PipeWriter,
    exit: PipeWriter,
    log: OwnedFd,
    words: PipeWriter,
}

/// QEMU's log, or the control channel on which it has been told to begin; QEMU's end is the second.
fn log(arch: Arch) -> io::Result<(File, OwnedFd)> {
    match arch {
        Arch::X86_64 => {
            let (ours, theirs) = io::pipe()?;
            Ok((OwnedFd::from(ours).into(), theirs.into()))
        }
        Arch::Aarch64 => {
            let (mut ours, theirs) = UnixStream::pair()?;
            ours.write_all(RUN)?;
            Ok((OwnedFd::from(ours).into(), theirs.into()))
        }
    }
}

fn pipes(arch: Arch) -> io::Result<(Ends, Theirs)> {
    let (their_input, input) = io::pipe()?;
    let (console, their_console) = io::pipe()?;
    let (exit, their_exit) = io::pipe()?;
    let (log, their_log) = log(arch)?;
    let (words, their_words) = io::pipe()?;
    let theirs = Theirs {
        input: their_input,
        console: their_console,
        exit: their_exit,
        log: their_log,
        words: their_words,
    };
    Ok((Ends { input, console, exit, log, words }, theirs))
}

/// A running QEMU. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    /// Starts QEMU.
    pub(super) fn start(
        plan: &Plan,
        target: &Target,
        guest: &Guest,
        cable: Option<&Cable>,
        sandbox: bool,
    ) -> Result<(Self, Ends), Error> {
        let (ends, theirs) = pipes(target.arch).map_err(Error::system("make pipes to QEMU"))?;
        let disks = guest.disks.iter().map(|DiskFile { file, snapshot }| Disk {
            fd: file.as_raw_fd(),
            block_device: is_block_device(file),
            snapshot: *snapshot,
        });
        let fds = Descriptors {
            firmware: guest.firmware.as_raw_fd(),
            memory: guest.memory.as_ref().map(AsRawFd::as_raw_fd),
            console: theirs.console.as_raw_fd(),
            exit: theirs.exit.as_raw_fd(),
            log: theirs.log.as_raw_fd(),
            disks: disks.collect(),
            network: cable.map(|cable| (cable.theirs.as_raw_fd(), cable.offer)),
            shares: plan.shares().map(|share| share.folder.as_fd().as_raw_fd()).collect(),
        };
        let arguments = command::arguments(plan, &fds, sandbox);
        crate::info!("qemu: {} {}", target.program, arguments.join(" "));
        let mut command = Command::new(target.program);
        // Where its overlays of ephemeral disks go: to the same place as ours.
        command.env("TMPDIR", std::env::temp_dir());
        command.args(arguments).stdin(theirs.input).stdout(Stdio::null()).stderr(theirs.words);
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

/// Whoever started us may have had signals blocked; the one that ends QEMU has to arrive.
fn unblock_signals() -> io::Result<()> {
    // SAFETY: makes an empty set and blocks exactly what is in it.
    let result = unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
        unblock_signals()?;
        sys::end_with_parent(parent)
    };
    // SAFETY: the closure makes system calls and nothing else: it neither allocates nor takes a
    // lock that another thread could have held at the fork.
    unsafe { command.pre_exec(in_the_child) };
}
