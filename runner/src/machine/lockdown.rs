//! The step from threads that wait to a guest that runs: every thread is in the jail, and this is
//! known, before the guest's first instruction.

use std::sync::mpsc;

use super::Error;
use crate::jail::{self, Jail, Role, fatal};
use crate::p9::Folder;

/// What became of a place.
type Taken = Result<(), jail::Error>;

/// A thread's place in the jail. It is taken on that thread, once it has all it needs.
#[derive(Debug)]
pub(crate) struct Place {
    jail: Jail,
    role: Role,
    /// What it serves, if that is a shared folder.
    folder: Option<Folder>,
    taken: mpsc::Sender<Taken>,
}

impl Place {
    /// Whose it is.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Restricts the calling thread, which then has a stack for faults, and says so; whether it may go on.
    pub(crate) fn take(self) -> bool {
        let result = fatal::use_other_stack()
            .map_err(jail::Error::system("have another stack"))
            .and_then(|()| self.jail.lock(self.role, self.folder.as_ref()));
        let locked = result.is_ok();
        // Nobody listens any more when another thread could not be restricted.
        self.taken.send(result).is_ok() && locked
    }
}

/// Who has a place, and whether all have taken theirs.
#[derive(Debug)]
pub(super) struct Lockdown {
    jail: Jail,
    /// The main thread's.
    main: Role,
    places: usize,
    taken: (mpsc::Sender<Taken>, mpsc::Receiver<Taken>),
}

impl Lockdown {
    pub(super) fn new(jail: Jail, main: Role) -> Self {
        Self { jail, main, places: 0, taken: mpsc::channel() }
    }

    /// A place for a thread that is about to be started.
    pub(super) fn place(&mut self, role: Role) -> Place {
        self.places += 1;
        Place { jail: self.jail, role, folder: None, taken: self.taken.0.clone() }
    }

    /// The same for one that serves `folder`.
    pub(super) fn place_in(&mut self, folder: Folder) -> Place {
        Place { folder: Some(folder), ..self.place(Role::Share) }
    }

    /// Waits until all others are in the jail, and follows: the main thread.
    pub(super) fn complete(self) -> Result<(), Error> {
        let (sender, taken) = self.taken;
        drop(sender);
        let mut missing = self.places;
        for place in taken {
            place?;
            missing -= 1;
        }
        match missing {
            0 => Ok(self.jail.lock(self.main, None)?),
            _ => Err(Error::Thread),
        }
    }
}
