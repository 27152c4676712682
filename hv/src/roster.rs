//! Who has claimed a vCPU: the bookkeeping behind [`Vm::ready`](crate::Vm::ready), the same for
//! every backend.
//!
//! Nobody runs before all are bound, and one that fails unwinds all (contract 1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::{Error, Kind, Result};

/// Counts the vCPUs of one VM from creation to readiness.
#[derive(Clone, Debug)]
pub struct Roster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: u32,
    bound: AtomicU32,
    lost: AtomicBool,
    ready: AtomicBool,
}

impl Roster {
    /// For a VM of `total` vCPUs, none bound.
    pub fn new(total: u32) -> Self {
        Self(Arc::new(Inner {
            total,
            bound: AtomicU32::new(0),
            lost: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        }))
    }

    /// A place for one vCPU: kept by its seed, [taken](Place::take) when it is bound.
    pub fn place(&self) -> Place {
        Place { roster: self.clone(), taken: false }
    }

    /// Declares the VM ready.
    ///
    /// # Errors
    /// `Order` while vCPUs are unbound or when one was lost.
    pub fn declare_ready(&self) -> Result<()> {
        let Inner { total, bound, lost, ready } = &*self.0;
        if lost.load(Ordering::Acquire) {
            return Err(Error::new("ready", Kind::Order, "a vCPU was dropped or failed to bind"));
        }
        let bound = bound.load(Ordering::Acquire);
        if bound != *total {
            let why = format!("{bound} of {total} vCPUs are bound");
            return Err(Error::new("ready", Kind::Order, why));
        }
        ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Refuses `op` until the VM is ready. One atomic load.
    ///
    /// # Errors
    /// `Order` before readiness.
    pub fn require_ready(&self, op: &'static str) -> Result<()> {
        if self.0.ready.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(Error::new(op, Kind::Order, "the VM is not ready"))
        }
    }
}

/// One vCPU's entry. Dropped without being taken, it tells the roster that the vCPU is lost.
#[derive(Debug)]
pub struct Place {
    roster: Roster,
    taken: bool,
}

impl Place {
    /// The vCPU is bound; gives back the roster to ask for readiness.
    pub fn take(mut self) -> Roster {
        self.taken = true;
        self.roster.0.bound.fetch_add(1, Ordering::AcqRel);
        self.roster.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.taken {
            self.roster.0.lost.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_ready_once_every_vcpu_is_bound() {
        let roster = Roster::new(2);
        let places = [roster.place(), roster.place()];
        assert_eq!(roster.declare_ready().unwrap_err().kind, Kind::Order);
        let bound = places.map(Place::take);
        assert_eq!(bound[0].require_ready("run").unwrap_err().kind, Kind::Order);
        roster.declare_ready().unwrap();
        bound[0].require_ready("run").unwrap();
    }

    #[test]
    fn a_vcpu_that_is_lost_keeps_the_vm_from_ever_being_ready() {
        let roster = Roster::new(2);
        let (kept, lost) = (roster.place(), roster.place());
        kept.take();
        drop(lost);
        let error = roster.declare_ready().unwrap_err();
        assert!(error.to_string().contains("failed to bind"), "{error}");
    }
}
