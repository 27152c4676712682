//! What interrupts a vCPU (contract 4): a sticky bit of ours, beside the framework's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv::Kicker;

use crate::ffi;
use crate::park::Park;

/// The sticky bit, and the vCPU to throw out of the guest or out of its sleep once there is one.
#[derive(Clone, Debug)]
pub struct HvfKicker(Arc<Kick>);

#[derive(Debug)]
struct Kick {
    kicked: AtomicBool,
    /// Absent before `bind()` and after the vCPU is gone. Held while the framework is called, so
    /// that the vCPU is not destroyed at that moment.
    vcpu: Mutex<Option<u64>>,
    park: Arc<Park>,
}

impl HvfKicker {
    /// For the vCPU that waits at `park`.
    pub(crate) fn new(park: Arc<Park>) -> Self {
        Self(Arc::new(Kick { kicked: AtomicBool::new(false), vcpu: Mutex::default(), park }))
    }

    fn vcpu(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.vcpu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on kicks reach the framework's vCPU `id`, or nobody.
    pub(crate) fn aim(&self, id: Option<u64>) {
        *self.vcpu() = id;
    }

    /// Whether there was a kick since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.0.kicked.swap(false, Ordering::AcqRel)
    }
}

impl Kicker for HvfKicker {
    fn kick(&self) {
        self.0.kicked.store(true, Ordering::Release);
        self.0.park.wake();
        if let Some(id) = *self.vcpu() {
            // The id is live, so this cannot fail; the bit is set whatever happens.
            let _ = ffi::request_exit(id);
        }
    }
}
