//! /dev/kvm refuses: owners, groups, sandboxes.

use super::*;

const RULE: &str = r#"`echo 'KERNEL=="kvm", GROUP="kvm", MODE="0660", OPTIONS+="static_node=kvm"' | sudo tee /etc/udev/rules.d/99-kvm.rules && sudo udevadm control --reload-rules && sudo udevadm trigger --name-match=kvm`"#;

const REFUSED: &str =
    "user 1000 may not open /dev/kvm: it belongs to user 0 and group kvm, mode 0660";

#[test]
fn a_user_outside_the_group_is_told_the_command_that_joins_it() {
    let (id, finding, remedy) = Fake::intel().closed(libc::EACCES);
    assert_eq!((id, finding.as_str()), ("kvm-device", REFUSED));
    assert_eq!(
        remedy,
        "`sudo usermod -aG kvm ann`, then log out and in again (for now: `sg kvm -c 'runner …'`)"
    );
}

#[test]
fn a_member_whose_session_is_older_is_told_to_log_in_again() {
    let fake = Fake::intel();
    fake.groups("bob,ann", "1000 27");
    let (_, finding, remedy) = fake.closed(libc::EACCES);
    assert_eq!(finding, REFUSED);
    assert_eq!(
        remedy,
        "ann is in group kvm and this session is not yet: log out and in again, or for now \
         `sg kvm -c 'runner …'`"
    );
}

#[test]
fn a_session_in_the_group_that_is_refused_is_told_what_else_may_refuse() {
    let fake = Fake::intel();
    fake.groups("ann", "1000 108");
    let (_, _, remedy) = fake.closed(libc::EACCES);
    assert_eq!(
        remedy,
        "this session is in group kvm, so something else refuses: a security module \
         (`sudo dmesg | grep -i denied`), a sandbox around this process, or an access list \
         (`getfacl /dev/kvm`)"
    );
}

#[test]
fn the_group_is_the_devices_own_and_not_always_kvm() {
    let fake = Fake::intel();
    fake.file("/etc/group", "root:x:0:\nvirt:x:108:\n");
    let (_, finding, remedy) = fake.closed(libc::EACCES);
    assert!(finding.ends_with("it belongs to user 0 and group virt, mode 0660"), "{finding}");
    assert!(remedy.starts_with("`sudo usermod -aG virt ann`"), "{remedy}");
    fake.file("/etc/group", "root:x:0:\n");
    assert_eq!(
        fake.closed(libc::EACCES).2,
        "`sudo groupadd --gid 108 kvm && sudo usermod -aG kvm ann`, then log out and in again"
    );
}

#[test]
fn a_device_of_root_alone_gets_a_udev_rule_and_the_user_the_group() {
    let mut fake = Fake::intel();
    fake.host.node = Node::Device { uid: 0, gid: 0, mode: 0o600 };
    let (_, finding, remedy) = fake.closed(libc::EACCES);
    assert_eq!(
        finding,
        "user 1000 may not open /dev/kvm: it belongs to user 0 and group root, mode 0600"
    );
    assert_eq!(
        remedy,
        format!(
            "{RULE}, then `sudo usermod -aG kvm ann`, then log out and in again (for now: \
             `sg kvm -c 'runner …'`)"
        )
    );
    fake.groups("ann", "108");
    assert_eq!(fake.closed(libc::EACCES).2, RULE);
    fake.file("/etc/group", "root:x:0:\n");
    assert_eq!(
        fake.closed(libc::EACCES).2,
        format!(
            "`sudo groupadd --system kvm && sudo usermod -aG kvm ann`, then {RULE}, then log out \
             and in again"
        )
    );
}

#[test]
fn a_group_that_may_only_read_counts_as_no_group() {
    let mut fake = Fake::intel();
    fake.host.node = Node::Device { uid: 0, gid: 108, mode: 0o640 };
    fake.groups("ann", "108");
    assert_eq!(fake.closed(libc::EACCES).2, RULE);
}

#[test]
fn a_name_that_a_shell_would_mistake_is_asked_of_the_shell() {
    let fake = Fake::intel();
    for name in ["ann; rm", "-ann", "$(x)", ""] {
        fake.file("/etc/passwd", &format!("{name}:x:1000:1000::/:/bin/sh\n"));
        let remedy = fake.closed(libc::EACCES).2;
        assert!(remedy.starts_with("`sudo usermod -aG kvm \"$(id -un)\"`"), "{remedy}");
    }
}

#[test]
fn a_user_whom_no_file_lists_is_named_by_the_environment() {
    let mut fake = Fake::intel();
    fake.file("/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    fake.env("USER", "carl");
    assert!(fake.closed(libc::EACCES).2.starts_with("`sudo usermod -aG kvm carl`"));
}

#[test]
fn a_device_cgroup_that_refuses_is_named() {
    let (id, finding, remedy) = Fake::intel().closed(libc::EPERM);
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-device", "/dev/kvm may not be opened: Operation not permitted (os error 1)")
    );
    assert_eq!(
        remedy,
        "a sandbox around this process refuses: for a systemd service, set \
         `DeviceAllow=/dev/kvm rw` and leave PrivateDevices= off; else a security module \
         (`sudo dmesg | grep -i denied`)"
    );
}

#[test]
fn something_else_at_the_devices_path_is_never_opened() {
    let mut fake = Fake::intel();
    fake.host.node = Node::Wrong("regular file");
    let trial = super::super::device::try_out(&fake.host);
    assert_eq!(trial, Trial::Closed(libc::ENODEV));
    let (id, finding, remedy) = fake.failure(&trial);
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-device", "/dev/kvm is a regular file and not KVM's device")
    );
    assert_eq!(remedy, "`sudo rm -r /dev/kvm`, then reboot so that the kernel makes it again");
}

#[test]
fn a_limit_on_open_files_is_named() {
    for errno in [libc::EMFILE, libc::ENFILE] {
        let (_, _, remedy) = Fake::intel().closed(errno);
        assert_eq!(remedy, "raise the limit on open files (`ulimit -n`), then try again");
    }
}

#[test]
fn an_errno_nobody_expects_is_shown() {
    let (id, finding, remedy) = Fake::intel().closed(libc::EIO);
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-device", "/dev/kvm cannot be opened: Input/output error (os error 5)")
    );
    assert_eq!(remedy, "the kernel log may say why: `sudo dmesg | grep -i kvm`");
}

#[test]
fn a_limit_on_open_files_is_named_with_the_way_to_raise_it() {
    for errno in [libc::EMFILE, libc::ENFILE] {
        let (id, _, remedy) = Fake::intel().closed(errno);
        assert_eq!(id, "kvm-device");
        assert_eq!(remedy, "raise the limit on open files (`ulimit -n`), then try again");
    }
}

#[test]
fn what_is_at_a_path_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Node::at(&directory.path().join("none")), Node::Missing(libc::ENOENT));
    assert_eq!(Node::at(directory.path()), Node::Wrong("directory"));
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(Node::at(&file), Node::Wrong("regular file"));
    assert_eq!(Node::at(&file.join("below")), Node::Missing(libc::ENOTDIR));
    assert!(matches!(Node::at(Path::new("/dev/null")), Node::Device { .. }));
}
