//! The one error of the contract: which operation, of what kind, what the host said, where, and
//! what to do about it (contract 9).

use std::borrow::Cow;
use std::fmt;

/// What every fallible operation of this crate and its backends returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The hypervisor, or a device node it needs, is not on this host.
    NotFound,
    /// It is there and this user may not use it.
    Permission,
    /// Somebody else holds it: another hypervisor, or a resource in use.
    Busy,
    /// This host or backend cannot do it. [`Caps`](crate::Caps) says so beforehand.
    Unsupported,
    /// The caller passed something that cannot be: an overlap, a misaligned address, zero vCPUs.
    Invalid,
    /// The call came at the wrong time: see [`Vm::ready`](crate::Vm::ready) and
    /// [`Vcpu::settle`](crate::Vcpu::settle).
    Order,
    /// The host has no memory, file descriptors or vCPUs left to give.
    Exhausted,
    /// Anything else the host refused; the operation and its code say what.
    Host,
}

impl Kind {
    /// What to do when nobody who raised the error knew better.
    const fn remedy(self) -> &'static str {
        match self {
            Kind::NotFound | Kind::Permission => "see `runner doctor`",
            Kind::Busy => "stop the program that holds it, then try again",
            Kind::Unsupported => "this host cannot do it; see `runner doctor`",
            Kind::Invalid => "correct the request",
            Kind::Order => "this is a bug in the caller: see the contract in hv's documentation",
            Kind::Exhausted => "ask for less, or free some and try again",
            Kind::Host => "the host's kernel log may say why; see `runner doctor`",
        }
    }
}

/// A code as the host gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OsCode {
    /// An `errno` value.
    Errno(i32),
    /// An `hv_return_t` of Hypervisor.framework.
    Hv(u32),
}

impl fmt::Display for OsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OsCode::Errno(code) => write!(f, "{}", std::io::Error::from_raw_os_error(*code)),
            OsCode::Hv(code) => write!(f, "hv_return_t {code:#010x}"),
        }
    }
}

/// An operation that failed. `Display` names the operation, the cause and the remedy.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Error {
    /// The call that failed, by the name the host's documentation gives it: `KVM_CREATE_VM`.
    pub op: &'static str,
    /// What sort of failure it is.
    pub kind: Kind,
    /// The code the host gave, when the host was asked.
    pub os_code: Option<OsCode>,
    /// Which thing it concerned and what was wrong with it; may be empty.
    pub context: String,
    remedy: Option<Cow<'static, str>>,
}

impl Error {
    /// A failure of `op` that the host was not asked about.
    pub fn new(op: &'static str, kind: Kind, context: impl Into<String>) -> Self {
        Self { op, kind, os_code: None, context: context.into(), remedy: None }
    }

    /// A failure of `op` that the host answered with `errno`; the kind follows from it.
    pub fn errno(op: &'static str, errno: i32) -> Self {
        let kind = match errno {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => Kind::NotFound,
            libc::EACCES | libc::EPERM => Kind::Permission,
            libc::EBUSY | libc::EEXIST => Kind::Busy,
            libc::ENOSYS | libc::ENOTTY | libc::EOPNOTSUPP => Kind::Unsupported,
            libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EAGAIN => {
                Kind::Exhausted
            }
            _ => Kind::Host,
        };
        let error = Self { os_code: Some(OsCode::Errno(errno)), ..Self::new(op, kind, "") };
        match errno {
            // Of descriptors nobody has too many: it is the limit that is low.
            libc::EMFILE => error.remedy("raise the limit on open files (ulimit -n)"),
            _ => error,
        }
    }

    /// The failure of `op` that the calling thread's last system call left in `errno`.
    pub fn last_errno(op: &'static str) -> Self {
        Self::errno(op, std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// Says which thing it concerned.
    #[must_use]
    pub fn at(mut self, context: impl Into<String>) -> Self {
        self.context = context.into();
        self
    }

    /// Replaces the kind, where the caller knows more than the code tells.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Replaces the advice that [`Kind`] gives.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.op)?;
        if !self.context.is_empty() {
            write!(f, ": {}", self.context)?;
        }
        if let Some(code) = self.os_code {
            write!(f, ": {code}")?;
        }
        let remedy = self.remedy.as_deref().unwrap_or_else(|| self.kind.remedy());
        write!(f, "; {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_call_the_place_the_code_and_ends_with_the_remedy() {
        let error = Error::errno("KVM_CREATE_VCPU", libc::ENOMEM).at("vCPU 3");
        assert_eq!(
            error.to_string(),
            "KVM_CREATE_VCPU: vCPU 3: Cannot allocate memory (os error 12); \
             ask for less, or free some and try again"
        );
    }

    #[test]
    fn a_process_without_descriptors_is_told_of_their_limit() {
        let error = Error::errno("dup", libc::EMFILE);
        assert_eq!(error.kind, Kind::Exhausted);
        assert!(
            error.to_string().ends_with("; raise the limit on open files (ulimit -n)"),
            "{error}"
        );
    }

    #[test]
    fn a_better_remedy_replaces_the_kinds_own() {
        let error = Error::errno("open /dev/kvm", libc::EACCES).remedy("join the group");
        assert_eq!(error.kind, Kind::Permission);
        assert!(error.to_string().ends_with("; join the group"), "{error}");
    }
}
