//! KVM's errno values as errors that say what to do.

use hv::{Error, Kind, Result};

use crate::arch;

/// Turns what kvm-ioctls returns into the error of the operation `op`.
pub(crate) fn call<T>(op: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T> {
    result.map_err(|error| from_errno(op, error.errno()))
}

/// As [`call`], saying which thing it concerned.
pub(crate) fn call_at<T>(
    op: &'static str,
    result: Result<T, kvm_ioctls::Error>,
    place: impl FnOnce() -> String,
) -> Result<T> {
    call(op, result).map_err(|error| error.at(place()))
}

fn from_errno(op: &'static str, errno: i32) -> Error {
    let error = Error::errno(op, errno);
    match (op, errno) {
        ("open /dev/kvm", libc::ENOENT) => error.remedy(arch::NO_DEVICE),
        ("open /dev/kvm", libc::EACCES) => error.remedy(
            "this user may not open it: sudo usermod -aG kvm $USER, then log in again; \
             see `runner doctor`",
        ),
        ("KVM_CREATE_VM", libc::EBUSY) => error.remedy(
            "another hypervisor (VirtualBox, VMware) holds the CPU's virtualization: stop it",
        ),
        // The registers came from the caller; nothing is wrong with the host.
        ("KVM_SET_REGS" | "KVM_SET_SREGS" | "KVM_SET_ONE_REG", libc::EINVAL) => {
            error.kind(Kind::Invalid)
        }
        (_, libc::EMFILE) => error.remedy("raise the limit on open files: ulimit -n"),
        (_, libc::ENOMEM) => error.remedy("free some memory, or give the guest less"),
        (_, libc::EEXIST) => error.kind(Kind::Busy),
        _ => error,
    }
}
