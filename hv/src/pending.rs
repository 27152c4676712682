//! The access a vCPU waits on, and whether an answer fits it: the same rule for every backend
//! (contract 3).

use crate::error::{Error, Kind, Result};
use crate::exit::{Exit, Resume, Width};

/// What the last exit left open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pending {
    /// Nothing.
    #[default]
    Nothing,
    /// The guest reads and wants a value.
    Read(Width),
    /// The guest wrote.
    Write,
}

impl Pending {
    /// What `exit` leaves open.
    pub fn after(exit: &Exit) -> Self {
        match exit {
            Exit::Read { width, .. } => Pending::Read(*width),
            Exit::Write { .. } => Pending::Write,
            _ => Pending::Nothing,
        }
    }

    /// Checks `resume` against what is open. For a read it is the value, cut to its width;
    /// otherwise 0.
    ///
    /// # Errors
    /// `Order` when it does not fit. What is open stays open.
    pub fn check(self, resume: Resume) -> Result<u64> {
        match (self, resume) {
            (Pending::Read(width), Resume::Value(value)) => Ok(value & width.mask()),
            (Pending::Nothing | Pending::Write, Resume::Go) => Ok(0),
            (Pending::Read(_), Resume::Go) => {
                Err(Error::new("run", Kind::Order, "a read is pending and wants a value"))
            }
            (Pending::Nothing | Pending::Write, Resume::Value(_)) => {
                Err(Error::new("run", Kind::Order, "a value was given and no read is pending"))
            }
        }
    }

    /// Refuses to touch the registers while an access is open.
    ///
    /// # Errors
    /// `Order` then.
    pub fn require_settled(self, op: &'static str) -> Result<()> {
        match self {
            Pending::Nothing => Ok(()),
            _ => Err(Error::new(op, Kind::Order, "an access is pending: settle() it first")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Address;

    #[test]
    fn only_a_read_takes_a_value_and_it_is_cut_to_its_width() {
        let read = Exit::Read { at: Address::Port(1), width: Width::W2 };
        assert_eq!(Pending::after(&read).check(Resume::Value(0x1_2345)).unwrap(), 0x2345);
        assert!(Pending::after(&read).check(Resume::Go).is_err());
        let write = Exit::Write { at: Address::Mmio(1), width: Width::W1, value: 0 };
        assert!(Pending::after(&write).check(Resume::Value(0)).is_err());
        assert_eq!(Pending::after(&Exit::Kicked), Pending::Nothing);
        assert!(Pending::Nothing.check(Resume::Value(0)).is_err());
    }
}
