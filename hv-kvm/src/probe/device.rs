//! `kvm-device`: /dev/kvm, by opening it. What open(2) says is the test; owner, mode and groups
//! only explain a refusal.

use std::path::Path;

use hv::{Check, OsCode};

use super::host::{Group, Host, Identity, Node};
use super::module;
use super::place::{Container, Machine, UNMAPPED, Wsl};
use super::trial::{self, Trial};

const ID: &str = "kvm-device";

/// KVM's device.
pub(super) const PATH: &str = "/dev/kvm";

/// The lasting rule that gives the device to a group, and makes it take effect now.
const RULE: &str = r#"echo 'KERNEL=="kvm", GROUP="kvm", MODE="0660", OPTIONS+="static_node=kvm"' | sudo tee /etc/udev/rules.d/99-kvm.rules && sudo udevadm control --reload-rules && sudo udevadm trigger --name-match=kvm"#;
/// The same for a machine that is thrown away after the job: everybody may.
const RULE_FOR_ALL: &str = r#"echo 'KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"' | sudo tee /etc/udev/rules.d/99-kvm4all.rules && sudo udevadm control --reload-rules && sudo udevadm trigger --name-match=kvm"#;

/// Tries the device, unless what is there is none: opening other things can do harm.
pub(super) fn try_out(host: &Host) -> Trial {
    match host.node {
        Node::Missing(errno) => Trial::Closed(errno),
        Node::Wrong(_) => Trial::Closed(libc::ENODEV),
        Node::Device { .. } => trial::trial(Path::new(PATH)),
    }
}

/// The check, as far as the trial came; nothing when it says nothing about the device.
pub(super) fn check(host: &Host, trial: &Trial) -> Option<Check> {
    let errno = match trial {
        Trial::Closed(errno) => *errno,
        Trial::Silent | Trial::NoThread(_) => return None,
        _ => return Some(Check::ok(ID, format!("{PATH} opens for reading and writing"))),
    };
    Some(match (host.node, errno) {
        (Node::Wrong(kind), _) => wrong(host, kind),
        (_, libc::ENOENT) => missing(host),
        (_, libc::ENODEV | libc::ENXIO) => Check::fail(
            ID,
            format!("{PATH} is there and the kernel has no KVM behind it"),
            no_driver(host),
        ),
        (Node::Device { uid, gid, mode }, libc::EACCES) => refused(host, uid, gid, mode),
        (_, libc::EPERM | libc::EACCES) => forbidden(host, errno),
        (_, libc::EMFILE | libc::ENFILE) => Check::fail(
            ID,
            format!("{PATH} cannot be opened: {}", OsCode::Errno(errno)),
            "raise the limit on open files (`ulimit -n`), then try again",
        ),
        _ => Check::fail(
            ID,
            format!("{PATH} cannot be opened: {}", OsCode::Errno(errno)),
            "the kernel log may say why: `sudo dmesg | grep -i kvm`",
        ),
    })
}

/// Something else lies where the device should.
fn wrong(host: &Host, kind: &str) -> Check {
    let remedy = match Container::around(host) {
        // What `-v /dev/kvm:/dev/kvm` leaves behind where the host has no such device.
        Some(container) => format!(
            "give the container the device and not a volume: {}; its host must have {PATH}, too",
            container.device()
        ),
        None => format!("`sudo rm -r {PATH}`, then reboot so that the kernel makes it again"),
    };
    Check::fail(ID, format!("{PATH} is a {kind} and not KVM's device"), remedy)
}

/// No device.
fn missing(host: &Host) -> Check {
    if let Some(container) = Container::around(host) {
        let finding = format!("there is no {PATH} in {}", container.name());
        return Check::fail(ID, finding, container.device());
    }
    let finding = format!("there is no {PATH}");
    if let Some(wsl) = Wsl::around(host) {
        return Check::fail(ID, format!("{finding} in WSL"), wsl.remedy());
    }
    Check::fail(ID, finding, no_driver(host))
}

/// The kernel offers no KVM, with or without a node for it.
fn no_driver(host: &Host) -> String {
    const BARE_ARM: &str = "boot a kernel with CONFIG_KVM, from firmware that starts it at EL2 \
                            (`sudo dmesg | grep -i kvm` says what is missing)";
    if host.is_x86() {
        if module::ready(host) {
            format!(
                "make the device: `sudo udevadm trigger --name-match=kvm`, or without udev \
                 `sudo mknod -m 660 {PATH} c 10 232 && sudo chgrp kvm {PATH}`"
            )
        } else {
            "load KVM's module first (see kvm-module)".into()
        }
    } else if host.variable("GITHUB_ACTIONS").is_some() {
        "GitHub's arm64 machines do not virtualize: use `runs-on: ubuntu-latest`, or a machine of \
         your own"
            .into()
    } else {
        Machine::around(host).nesting().unwrap_or(BARE_ARM).into()
    }
}

/// The device's permissions say no.
fn refused(host: &Host, uid: u32, gid: u32, mode: u32) -> Check {
    let who = host.identity();
    let group = host.group(gid);
    let name = group.as_ref().map_or_else(|| gid.to_string(), |group| group.name.clone());
    let finding = format!(
        "{} may not open {PATH}: it belongs to user {uid} and group {name}, mode {mode:04o}",
        who.uid.map_or_else(|| "this user".to_owned(), |uid| format!("user {uid}"))
    );
    let for_group = mode & 0o060 == 0o060 && gid != 0;
    let container = Container::around(host);
    let remedy = match container {
        _ if for_group && who.groups.contains(&gid) => format!(
            "this session is in group {name}, so something else refuses: a security module \
             (`sudo dmesg | grep -i denied`), a sandbox around this process, or an access list \
             (`getfacl {PATH}`)"
        ),
        Some(container) if for_group => container.group(gid),
        // In a user namespace the node is the host's own; elsewhere it is the container's.
        Some(Container::Podman) => format!("on the host of this container: `{RULE}`"),
        Some(_) if uid == UNMAPPED => format!("on the host of this container: `{RULE}`"),
        Some(_) => format!(
            "as root in this container: `chmod 666 {PATH}`; to keep it, on its host: `{RULE}`"
        ),
        None if host.variable("GITHUB_ACTIONS").is_some() => {
            format!("in a step before this one: `{RULE_FOR_ALL}`")
        }
        None if for_group => join(&who, group.as_ref(), gid),
        None => to_group(host, &who),
    };
    Check::fail(ID, finding, remedy)
}

/// How the device gets a group, and this user into it.
fn to_group(host: &Host, who: &Identity) -> String {
    let name = &who.name;
    let kvm = host.group_named("kvm");
    if Wsl::around(host).is_some() {
        return format!(
            "`sudo chown root:kvm {PATH} && sudo chmod 660 {PATH} && sudo usermod -aG kvm {name}`; \
             to keep it, put the first two as `command =` below `[boot]` into /etc/wsl.conf"
        );
    }
    match kvm {
        Some(kvm) if who.groups.contains(&kvm.gid) => format!("`{RULE}`"),
        Some(kvm) => format!("`{RULE}`, then {}", join(who, Some(&kvm), kvm.gid)),
        None => format!(
            "`sudo groupadd --system kvm && sudo usermod -aG kvm {name}`, then `{RULE}`, then log \
             out and in again"
        ),
    }
}

/// How this user gets into the device's group.
fn join(who: &Identity, group: Option<&Group>, gid: u32) -> String {
    let user = &who.name;
    let Some(Group { name, members, .. }) = group else {
        return format!(
            "`sudo groupadd --gid {gid} kvm && sudo usermod -aG kvm {user}`, then log out and in \
             again"
        );
    };
    if members.contains(user) {
        format!(
            "{user} is in group {name} and this session is not yet: log out and in again, or for \
             now `sg {name} -c 'runner …'`"
        )
    } else {
        format!(
            "`sudo usermod -aG {name} {user}`, then log out and in again (for now: \
             `sg {name} -c 'runner …'`)"
        )
    }
}

/// Something other than the device's permissions says no.
fn forbidden(host: &Host, errno: i32) -> Check {
    let finding = format!("{PATH} may not be opened: {}", OsCode::Errno(errno));
    let remedy = match Container::around(host) {
        Some(container) => container.device().to_owned(),
        None => "a sandbox around this process refuses: for a systemd service, set \
                 `DeviceAllow=/dev/kvm rw` and leave PrivateDevices= off; else a security module \
                 (`sudo dmesg | grep -i denied`)"
            .into(),
    };
    Check::fail(ID, finding, remedy)
}
