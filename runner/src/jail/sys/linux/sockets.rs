//! Sockets in the file system: a process that may connect to some has a root directory in which there
//! are no others (chroot(2)). Neither Landlock nor a list of system calls looks at where one is.
//!
//! Root may have one, and has to take it before giving that up. Anybody else is root of a user namespace
//! of his own for this (user_namespaces(7)), where the system lets him, until he gives up all rights.

// UNSAFETY: unshare(2) is unsafe where it parts threads; here is one thread.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{chdir, chroot};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::landlock;

/// Landlock keeps a process from abstract sockets of others from this version on. Before, only a network
/// of its own does.
const KNOWS_ABSTRACT: i64 = 6;

/// What is still to be done.
#[derive(Debug)]
pub(super) struct Confinement {
    root: bool,
    network: bool,
    /// Abstract sockets stay in reach: the guest's network needs the host's.
    shared: bool,
}

impl Confinement {
    /// Makes the working directory the root, as far as this process has the right to. For one with one
    /// thread. With a `network` it stays in the host's.
    pub(super) fn begin(network: bool) -> Self {
        let unknown = landlock::version().unwrap_or(0) < KNOWS_ABSTRACT;
        let (shared, own) = (unknown && network, unknown && !network);
        let root = enter_root().is_err();
        Self { root, network: own && unshare(UnshareFlags::NEWNET).is_err(), shared }
    }

    /// The rest, by a process that has root's rights no longer: what was `done`, and what cannot be.
    pub(super) fn complete(self, mut done: Vec<String>) -> (Vec<String>, Vec<String>) {
        let mut missing = Vec::new();
        let namespace = match self.root || self.network {
            true => unshare(UnshareFlags::NEWUSER),
            false => Ok(()),
        };
        let root = if self.root { namespace.and_then(|()| enter_root()) } else { Ok(()) };
        match root {
            Ok(()) => done.push("no sockets but those in the folder of --vsock".to_owned()),
            Err(error) => missing.push(format!(
                "no other root directory here ({error}; user namespaces may be off): whoever breaks \
                 out of the guest reaches all unix sockets of this user's, not only those in the \
                 folder of --vsock"
            )),
        }
        if self.shared || self.network && unshare(UnshareFlags::NEWNET).is_err() {
            missing.push(
                "Landlock before version 6 (Linux 6.12) knows no abstract sockets: whoever breaks out \
                 of the guest's --vsock reaches those of others"
                    .to_owned(),
            );
        }
        (done, missing)
    }
}

fn enter_root() -> Result<(), Errno> {
    chroot(".")?;
    chdir("/")
}

/// A new network has nobody else in it. Sockets that are open stay in the old one, and those in the file
/// system are in reach from any.
fn unshare(what: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: this process has one thread, and shares nothing of this with another.
    unsafe { unshare_unsafe(what) }
}
