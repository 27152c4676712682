//! No files, no TCP, nobody else's sockets and processes (landlock(7)), for this thread and all that
//! it starts: an empty set of exceptions.
//!
//! What is open stays usable. A kernel that knows less than this restricts what it knows.

// UNSAFETY: asking the kernel for its version is a system call that the crate keeps to itself.
#![allow(unsafe_code)]

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};

use crate::jail::Error;

/// All that is asked for.
const WANTED: ABI = ABI::V6;

/// The kernel's version of Landlock; nothing where there is none.
pub(super) fn version() -> Option<i64> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: asks for a number; nothing is read through the pointer.
    let version = unsafe {
        let flags = LANDLOCK_CREATE_RULESET_VERSION;
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, flags)
    };
    (version > 0).then_some(version)
}

/// What this kernel lacks of it.
pub(super) fn missing() -> Option<String> {
    let without = match version() {
        None => {
            return Some(
                "the kernel has no Landlock, or lsm= on its command line leaves it out: lists of \
                 system calls alone keep runner from files"
                    .to_owned(),
            );
        }
        Some(..=3) => "TCP, ioctls of devices and signals to others",
        Some(4) => "ioctls of devices and signals to others",
        Some(5) => "signals to others",
        Some(6..) => return None,
    };
    let version = version().unwrap_or_default();
    Some(format!(
        "Landlock here is version {version}, and version 6 is Linux 6.12's: lists of system calls \
         alone keep runner from {without}"
    ))
}

/// Restricts the process, and says how far. With a `network` it may make connections.
pub(super) fn restrict(network: bool) -> Result<String, Error> {
    let refused = |error: &dyn std::fmt::Display| Error::System {
        what: "restrict files (Landlock)",
        error: std::io::Error::other(error.to_string()),
    };
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))
        .and_then(|set| {
            set.handle_access(match network {
                true => AccessNet::BindTcp.into(),
                false => AccessNet::from_all(WANTED),
            })
        })
        .and_then(|set| set.scope(Scope::from_all(WANTED)))
        .and_then(|set| set.create())
        .and_then(|set| set.restrict_self());
    Ok(match ruleset.map_err(|error| refused(&error))?.ruleset {
        RulesetStatus::FullyEnforced if network => {
            "no files, no TCP ports, no other processes (Landlock)".into()
        }
        RulesetStatus::FullyEnforced => "no files, no TCP, no other processes (Landlock)".into(),
        RulesetStatus::PartiallyEnforced => "no files (Landlock, in part)".into(),
        RulesetStatus::NotEnforced => "no Landlock".into(),
    })
}
