//! The stand-in.

use std::path::Path;

use hvf_standin::{Reg, Session, Step};

use super::Played;

/// The stand-in, for one test.
pub(crate) struct Framework {
    session: Session,
}

impl Framework {
    pub(crate) fn take() -> Self {
        let session = Session::begin();
        hvf_standin::run_guests();
        Self { session }
    }

    /// Has the first vCPU's guest cause `exits`, where there is no CPU to run it.
    pub(crate) fn plays(&self, exits: &[Played]) {
        if !self.is_kvm() {
            let step = |exit: &Played| Step::exception(exit.esr).at(exit.ipa).has(Reg::Pc, exit.pc);
            self.session.play(0, exits.iter().map(step));
        }
    }

    /// Whether guests run on a CPU, by KVM.
    pub(crate) fn is_kvm(&self) -> bool {
        cfg!(target_arch = "aarch64") && Path::new("/dev/kvm").exists()
    }
}
