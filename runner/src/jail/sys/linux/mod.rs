//! The jail on Linux.

mod blocked;
mod descriptors;
mod filter;
mod heap;
mod landlock;
mod limits;
mod lists;
mod rights;
mod seccomp;
mod selftest;
mod sockets;

use std::io;

use hv::Check;

pub(super) use descriptors::close_inherited_from;

use crate::jail::{Entered, Error, Missing, Needs, Role};
use crate::p9::Folder;
use sockets::Confinement;

pub(super) fn missing() -> Vec<Missing> {
    let mut missing = Vec::new();
    if !has_lists() {
        missing.push(Missing { what: seccomp::MISSING.to_owned(), is_a_hole: true });
    }
    let root = rights::nobody_to_become().map(str::to_owned);
    missing.extend(root.map(|what| Missing { what, is_a_hole: false }));
    missing.extend(landlock::missing().map(|what| Missing { what, is_a_hole: false }));
    missing
}

/// Whether threads can restrict themselves.
pub(super) fn has_lists() -> bool {
    seccomp::available()
}

/// The part of a process that has not begun yet.
pub(super) fn prepare() {
    heap::share();
}

/// The process's part, in an order that matters: rights first, as Landlock forbids none of the rest;
/// the handler before anything can be blocked.
pub(super) fn enter(needs: Needs<'_>) -> Result<Entered, Error> {
    let Entered { mut done, mut missing } = Entered::default();
    let confinement = needs.vsock.then(|| Confinement::begin(needs.network));
    done.extend(rights::drop_root().map_err(Error::system("give up root's rights"))?);
    if let Some(confinement) = confinement {
        (done, missing) = confinement.complete(done);
    }
    rights::seal().map_err(Error::system("give up rights"))?;
    done.push(landlock::restrict(needs)?);
    blocked::install().map_err(Error::system("handle SIGSYS"))?;
    Ok(Entered { done, missing })
}

pub(super) fn prepare_child() -> Result<(), Error> {
    rights::no_new_privileges().map_err(Error::system("forbid new rights"))
}

/// The thread's part in shared folders: it keeps `folder`, and no other.
pub(super) fn narrow(folder: Option<&Folder>, role: Role) -> Result<(), Error> {
    landlock::narrow(folder, [Role::Vsock, Role::NetworkVsock].contains(&role))
}

/// The thread's part.
pub(super) fn lock(role: Role, descriptors: u64) -> io::Result<()> {
    if role.is_main() {
        limits::no_more_descriptors_than(descriptors)?; // the last one to be locked
    }
    blocked::name_thread(role.name());
    seccomp::install(lists::filter(role))
}

pub(super) fn lists() -> Vec<String> {
    let line = |role: Role| {
        let calls: Vec<String> = lists::list(role).iter().map(ToString::to_string).collect();
        format!("{}: {}", role.name(), calls.join("; "))
    };
    Role::ALL.map(line).into()
}

pub(super) fn checks() -> Vec<Check> {
    selftest::checks()
}
