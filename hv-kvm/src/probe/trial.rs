//! Tries KVM: opens it, makes a VM, runs a few instructions in it. What came of it is plain data,
//! so the judgements in this module's siblings can be tested on hosts of every kind.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use kvm_ioctls::{Kvm, VmFd};

use super::{Execution, Ran};
use crate::arch;

/// The only version of KVM's interface since Linux 2.6.22.
pub(super) const API: i32 = 12;

/// A trial takes milliseconds. After this long nothing will come of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How far a trial came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// The device could not be opened: errno.
    Closed(i32),
    /// It did not answer KVM_GET_API_VERSION: errno.
    Mute(i32),
    /// It speaks another version.
    Version(i32),
    /// It lacks something that every guest needs: what.
    Lacks(String),
    /// No VM could be made: errno.
    NoVm(i32),
    /// A VM could be made, and this is how its first instructions went: what they showed, or why
    /// they did not run.
    Vm(Result<Ran, String>),
    /// It did not end within [`PATIENCE`].
    Silent,
    /// It could not begin, for want of a thread: errno.
    NoThread(i32),
}

impl Trial {
    /// Whether a VM could be made.
    pub(super) fn works(&self) -> bool {
        matches!(self, Trial::Vm(_))
    }

    /// How guest code is executed, where that was seen.
    pub(super) fn execution(&self) -> Option<Execution> {
        match self {
            Trial::Vm(Ok(ran)) => Some(ran.execution),
            _ => None,
        }
    }
}

/// Tries the device at `path`, never longer than [`PATIENCE`].
pub(super) fn trial(path: &Path) -> Trial {
    let path = path.to_owned();
    let (done, result) = mpsc::channel();
    // A KVM that hangs is left behind on its thread; it ends with the process.
    let thread = std::thread::Builder::new().name("probe".into()).spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = done.send(attempt(&path));
    });
    match thread {
        Ok(_) => result.recv_timeout(PATIENCE).unwrap_or(Trial::Silent),
        Err(error) => Trial::NoThread(error.raw_os_error().unwrap_or(libc::EAGAIN)),
    }
}

fn attempt(path: &Path) -> Trial {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return Trial::Closed(libc::ENOENT);
    };
    let kvm = match Kvm::new_with_path(path) {
        Ok(kvm) => kvm,
        Err(error) => return Trial::Closed(error.errno()),
    };
    match kvm.get_api_version() {
        API => {}
        -1 => return Trial::Mute(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        version => return Trial::Version(version),
    }
    if let Err(error) = arch::require(&kvm) {
        return Trial::Lacks(error.context);
    }
    match create(&kvm) {
        Ok(vm) => Trial::Vm(run(&kvm, vm)),
        Err(error) => Trial::NoVm(error.errno()),
    }
}

/// Makes a VM. A signal can interrupt that, and then it is worth another try.
fn create(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    const TRIES: u32 = 5;
    let mut result = kvm.create_vm();
    for _ in 1..TRIES {
        match &result {
            Err(error) if error.errno() == libc::EINTR => result = kvm.create_vm(),
            _ => break,
        }
    }
    result
}

fn run(kvm: &Kvm, vm: VmFd) -> Result<Ran, String> {
    let words = |error: hv::Error| match error.os_code {
        Some(code) => format!("{}: {code}", error.op),
        None => format!("{}: {}", error.op, error.context),
    };
    super::guest::run(kvm, vm).map_err(words)
}
