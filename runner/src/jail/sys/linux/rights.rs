//! Rights of the process: root's, capabilities, the way to more of them, and those of others to it.

use std::io;

use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid, set_thread_uid,
};

/// Who has no rights to anything, on every Linux.
const NOBODY: u32 = 65_534;

/// Where we were started as root: becomes the user who typed `sudo`, or nobody, and says so. For a
/// process with one thread: others would keep their rights.
pub(super) fn drop_root() -> io::Result<Option<String>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let number = |name| std::env::var(name).ok()?.parse().ok().filter(|id| *id != 0);
    let (uid, gid, who) = match (number("SUDO_UID"), number("SUDO_GID")) {
        (Some(uid), Some(gid)) => (uid, gid, "the user of sudo"),
        _ => (NOBODY, NOBODY, "nobody"),
    };
    // Without them no program that this process could start would have rights again. Only root can
    // give them up, and root in a container may not have all.
    for capability in CapabilitySet::all() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    if set_thread_uid(Uid::ROOT).is_ok() {
        return Err(io::Error::other("the kernel lets this process become root again"));
    }
    Ok(Some(format!("root's rights given up: user {uid}, group {gid} ({who})")))
}

/// Gives up every capability, the way to new rights, and what others of the same user may do to this
/// process: debug it and read its memory.
pub(super) fn seal() -> io::Result<()> {
    // An old kernel may have no ambient set.
    let _ = clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    no_new_privileges()?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// No program that this process starts has more rights than it.
pub(super) fn no_new_privileges() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}
