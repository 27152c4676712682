//! The jail: what the process gives up before the guest runs, so that a guest that breaks into runner
//! finds nothing to use.
//!
//! Two steps. [`Jail::enter`] is for the whole process, once the VM exists and before there are
//! threads: no files, no sockets, no more rights, small limits. [`Jail::lock`] is for each thread,
//! once it has all it needs: from then on it makes the system calls of its list and no others. A call
//! that is not on it ends the process with a line that names it, and status 125.
//!
//! Linux has both (landlock(7), seccomp(2), prctl(2), setrlimit(2)); macOS has the first (Seatbelt). What a
//! system lacks is said, or refuses the run, as [`JailChoice`] wants it.

mod descriptors;
pub mod fatal;
mod limits;
#[path = "sys/seatbelt.rs"]
mod seatbelt;

#[cfg_attr(target_os = "linux", path = "sys/linux/mod.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;

use std::io;

use hv::Check;

use crate::config::JailChoice;
use crate::p9::Folder;
use crate::{info, warning};

/// Why there is no jail, and so no run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--jail=strict` on a system that does not have all of it.
    #[error("--jail=strict: {0}; see `runner doctor`, or run a guest you trust with --jail=on")]
    Missing(String),
    /// The system has it and refuses it.
    #[error("the jail: {what}: {error}; --jail=off runs a guest you trust without")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
    /// The system has something of the kind, which does not work here.
    #[error("the jail is not complete: {0}")]
    Absent(String),
}

impl Error {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Error::System { what, error }
    }
}

/// What a thread is there for, which decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The main thread: the first vCPU, then the end of the run.
    Main,
    /// The main thread of a guest whose vCPU does its block I/O itself (Solo5's hvt).
    MainDisk,
    /// The same of a guest that leaves a core dump if it aborts.
    MainDump,
    /// Any other vCPU.
    Vcpu,
    /// The I/O loop.
    Io,
    /// The I/O loop of a guest with a network.
    Network,
    /// The I/O loop of a guest with a socket device.
    Vsock,
    /// The I/O loop of a guest with both.
    NetworkVsock,
    /// Serves disks.
    Disk,
    /// Serves a shared folder.
    Share,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Main,
        Self::MainDisk,
        Self::MainDump,
        Self::Vcpu,
        Self::Io,
        Self::Network,
        Self::Vsock,
        Self::NetworkVsock,
        Self::Disk,
        Self::Share,
    ];

    /// Whether it is the main thread's.
    pub fn is_main(self) -> bool {
        matches!(self, Role::Main | Role::MainDisk | Role::MainDump)
    }

    /// The I/O loop's, of a guest with a network or a socket device.
    pub fn of_loop(network: bool, vsock: bool) -> Self {
        match (network, vsock) {
            (false, false) => Role::Io,
            (true, false) => Role::Network,
            (false, true) => Role::Vsock,
            (true, true) => Role::NetworkVsock,
        }
    }

    /// Its name, as messages and `doctor` have it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Main => "main (vcpu0)",
            Role::MainDisk => "main (disks)",
            Role::MainDump => "main (dump)",
            Role::Vcpu => "vcpu",
            Role::Io => "io",
            Role::Network => "network",
            Role::Vsock => "vsock",
            Role::NetworkVsock => "network+vsock",
            Role::Disk => "disk",
            Role::Share => "share",
        }
    }
}

/// What the run still needs of the system once it is in the jail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs<'f> {
    /// Bytes of the largest file that the guest writes.
    pub largest_file: u64,
    /// There is a network, which makes connections.
    pub network: bool,
    /// There is a socket device, which reaches sockets in the working directory, and removes its own.
    pub vsock: bool,
    /// How many descriptors may be opened.
    pub descriptors: u64,
    /// The shared folders, each of which has a thread of its own.
    pub shares: &'f [&'f Folder],
    /// A folder out of which a file may be taken that was made for nothing.
    pub emptied: Option<&'f Folder>,
}

/// A process that is in the jail, as far as its system has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jail {
    /// Threads restrict themselves.
    lists: bool,
    /// How many descriptors may still be opened.
    descriptors: u64,
    /// There are shared folders, which a thread gives up unless it serves one.
    shares: bool,
}

impl Jail {
    /// Gives up, for the whole process and for good, what a run does not need. For a process that has
    /// opened everything and has one thread.
    ///
    /// # Errors
    /// What the system lacks, if `choice` does not go without; what it has and refuses.
    pub fn enter(choice: JailChoice, needs: Needs<'_>) -> Result<Self, Error> {
        if choice == JailChoice::Off {
            info!("jail: off");
            return Ok(Self { lists: false, descriptors: 0, shares: false });
        }
        let missing = sys::missing();
        if choice == JailChoice::Strict && !missing.is_empty() {
            let all: Vec<&str> = missing.iter().map(|missing| missing.what.as_str()).collect();
            return Err(Error::Missing(all.join("; ")));
        }
        for missing in &missing {
            match missing.is_a_hole {
                true => warning!("the jail is not complete: {}", missing.what),
                false => info!("jail: {}", missing.what),
            }
        }
        let lists = sys::has_lists();
        descriptors::close_inherited().map_err(Error::system("close inherited descriptors"))?;
        limits::lower(needs).map_err(Error::system("lower the limits"))?;
        match sys::enter(needs) {
            Ok(Entered { missing, .. }) if choice == JailChoice::Strict && !missing.is_empty() => {
                return Err(Error::Missing(missing.join("; ")));
            }
            Ok(Entered { done, missing }) => {
                missing.iter().for_each(|what| warning!("the jail is not complete: {what}"));
                done.iter().for_each(|done| info!("jail: {done}"));
            }
            Err(Error::Absent(what)) if choice == JailChoice::Strict => {
                return Err(Error::Missing(what));
            }
            Err(absent @ Error::Absent(_)) => warning!("{absent}"),
            Err(error) => return Err(error),
        }
        Ok(Self { lists, descriptors: needs.descriptors, shares: !needs.shares.is_empty() })
    }

    /// Restricts the calling thread, for good, to what `role` does, and of all shared folders to
    /// `folder`.
    ///
    /// # Errors
    /// When the system refuses what it said it has.
    pub fn lock(self, role: Role, folder: Option<&Folder>) -> Result<(), Error> {
        if self.shares {
            sys::narrow(folder, role)?;
        }
        match self.lists {
            true => sys::lock(role, self.descriptors)
                .map_err(Error::system("restrict a thread's system calls")),
            false => Ok(()),
        }
    }
}

/// What the lists of threads count on. For a process that has one thread and has not begun yet.
pub fn prepare() {
    sys::prepare();
}

/// Gives up what the child that emulates the guest must not inherit: descriptors that were left open
/// by whoever started us, core dumps, and the way to more rights.
///
/// # Errors
/// When the system refuses.
pub fn prepare_child(choice: JailChoice) -> Result<(), Error> {
    match choice {
        JailChoice::Off => Ok(()),
        JailChoice::On | JailChoice::Strict => {
            descriptors::close_inherited().map_err(Error::system("close inherited descriptors"))?;
            limits::no_core().map_err(Error::system("forbid core dumps"))?;
            sys::prepare_child()
        }
    }
}

/// What came of entering.
#[derive(Debug, Default)]
struct Entered {
    /// What was done, for `-v`.
    done: Vec<String>,
    /// What could not be, and leaves a hole.
    missing: Vec<String>,
}

/// What this system lacks of a jail.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing {
    /// A sentence without its end.
    what: String,
    /// Nothing else closes what this leaves open.
    is_a_hole: bool,
}

/// What each kind of thread may call, a line for each.
pub fn lists() -> Vec<String> {
    sys::lists()
}

/// What `doctor` says about the jail: what this system has of it, and whether it holds, tried out in
/// processes of their own.
pub fn checks() -> Vec<Check> {
    sys::checks()
}
