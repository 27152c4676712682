//! Apple's framework, one VM at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Played;

static TURN: Mutex<()> = Mutex::new(());

/// Holds off the other tests of this process.
pub(crate) struct Framework {
    _turn: MutexGuard<'static, ()>,
}

impl Framework {
    pub(crate) fn take() -> Self {
        Self { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Apple's runs the guest: what is expected is for the report.
    pub(crate) fn plays(&self, exits: &[Played]) {
        for Played { esr, ipa, pc } in exits {
            println!("expected: esr {esr:x}, ipa {ipa:x}, pc {pc:x}");
        }
    }

    pub(crate) fn is_kvm(&self) -> bool {
        false
    }
}
