//! Rights of the process: root's, capabilities, the way to more of them, and those of others to it.

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;

use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid, set_thread_uid,
};

/// Who has no rights to anything, on every Linux.
const NOBODY: u32 = 65_534;

/// Who root is to become, and what to call him.
fn other() -> (u32, u32, &'static str) {
    let number = |name| std::env::var(name).ok()?.parse().ok().filter(|id| *id != 0);
    match (number("SUDO_UID"), number("SUDO_GID")) {
        (Some(uid), Some(gid)) => (uid, gid, "the user of sudo"),
        _ => (NOBODY, NOBODY, "nobody"),
    }
}

/// Why root cannot become anybody else: in a user namespace with too few users, such as
/// `unshare --map-root-user` and some containers have (user_namespaces(7)). There root is an ordinary
/// user outside.
///
/// Nobody changes what this process is, or its namespace, while it starts: it is found out once.
pub(super) fn nobody_to_become() -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND.get_or_init(find_nobody_to_become).as_deref()
}

fn find_nobody_to_become() -> Option<String> {
    if !geteuid().is_root() {
        return None;
    }
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if !capabilities(None).is_ok_and(|sets| sets.effective.contains(needed)) {
        return Some("root without the right to become another user stays root".to_owned());
    }
    let (uid, gid, _) = other();
    // Without /proc nothing is known, and the attempt will tell.
    let read = |name: &str| {
        let mut text = [0; 4096]; // a map has no more, and comes whole
        let mut file = File::open(format!("/proc/self/{name}")).ok()?;
        let len = file.read(&mut text).ok()?;
        text.get(..len).map(|text| String::from_utf8_lossy(text).into_owned())
    };
    let lacks = |name, id| read(name).is_some_and(|map| !maps(&map, id));
    let denied = read("setgroups").is_some_and(|word| word.trim() == "deny");
    (denied || lacks("uid_map", uid) || lacks("gid_map", gid)).then(|| {
        format!(
            "root of a user namespace without user {uid} stays root there, without capabilities"
        )
    })
}

/// Whether a line of `uid_map` or `gid_map` has `id`: first inside, first outside, how many.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => {
                u64::from(id).checked_sub(first).is_some_and(|behind| behind < count)
            }
            _ => false,
        }
    })
}

/// Where we were started as root: becomes the user who typed `sudo`, or nobody, and says so. For a
/// process with one thread: others would keep their rights.
pub(super) fn drop_root() -> io::Result<Option<String>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    // Without them no program that this process could start would have rights again. Only root can
    // give them up, and root in a container may not have all.
    for capability in CapabilitySet::all() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    if nobody_to_become().is_some() {
        return Ok(None);
    }
    let (uid, gid, who) = other();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_the_users_of_its_map() {
        assert!(maps("         0          0 4294967295\n", NOBODY));
        assert!(!maps("         0       1000          1\n", NOBODY));
        assert!(maps("0 1000 1\n1 100000 65536\n", NOBODY));
        assert!(!maps("0 1000 1\n1 100000 65533\n", NOBODY));
        assert!(!maps("", 0) && !maps("nonsense", 0));
    }
}
