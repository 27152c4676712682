//! Containers, WSL, CI services, clouds and other hosts' virtual machines.

use super::*;

/// The host of a container has KVM; the container has no device.
fn container() -> Fake {
    let mut fake = Fake::intel();
    fake.host.node = Node::Missing(libc::ENOENT);
    fake
}

#[test]
fn a_docker_container_without_the_device_is_told_the_option() {
    let fake = container();
    fake.file("/.dockerenv", "");
    let (id, finding, remedy) = fake.closed(libc::ENOENT);
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-device", "there is no /dev/kvm in a Docker container")
    );
    assert_eq!(remedy, "start it with `docker run --device /dev/kvm …`");
}

#[test]
fn a_container_is_known_by_its_files_its_environment_or_its_cgroup() {
    type Mark = fn(&mut Fake);
    let marks: [(Mark, &str, &str); 9] = [
        (
            |f| f.file("/run/.containerenv", "engine=\"podman-5.0\"\n"),
            "a Podman container",
            "start it with `podman run --device /dev/kvm --group-add keep-groups …`",
        ),
        (
            |f| f.env("container", "podman"),
            "a Podman container",
            "start it with `podman run --device /dev/kvm --group-add keep-groups …`",
        ),
        (
            |f| f.file("/proc/1/cgroup", "12:devices:/docker/0123456789abcdef\n"),
            "a Docker container",
            "start it with `docker run --device /dev/kvm …`",
        ),
        (
            |f| f.env("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            "a Kubernetes pod",
            "give the pod the device: a device plugin that offers /dev/kvm, or a privileged \
             container with a hostPath volume of it",
        ),
        (
            |f| f.file("/proc/1/cgroup", "0::/kubepods.slice/kubepods-burstable.slice\n"),
            "a Kubernetes pod",
            "give the pod the device: a device plugin that offers /dev/kvm, or a privileged \
             container with a hostPath volume of it",
        ),
        (
            |f| f.file("/run/systemd/container", "lxc\n"),
            "an LXC container",
            "on the host: `lxc config device add NAME kvm unix-char path=/dev/kvm`",
        ),
        (
            |f| f.env("container", "systemd-nspawn"),
            "a systemd-nspawn container",
            "start it with `systemd-nspawn --bind=/dev/kvm --property=DeviceAllow='/dev/kvm rw' …`",
        ),
        (
            |f| {
                f.file("/.dockerenv", "");
                f.env("GITHUB_ACTIONS", "true");
            },
            "a container job of GitHub Actions",
            "in the workflow, below `container:`, set `options: --device /dev/kvm`",
        ),
        (
            |f| f.env("container", "oci"),
            "a container",
            "start it with the device /dev/kvm of its host",
        ),
    ];
    for (mark, name, expected) in marks {
        let mut fake = container();
        mark(&mut fake);
        let (id, finding, remedy) = fake.closed(libc::ENOENT);
        assert_eq!((id, finding), ("kvm-device", format!("there is no /dev/kvm in {name}")));
        assert_eq!(remedy, expected);
    }
}

#[test]
fn a_volume_in_place_of_the_device_is_seen_through() {
    let mut fake = container();
    fake.file("/.dockerenv", "");
    fake.host.node = Node::Wrong("directory");
    let (id, finding, remedy) = fake.closed(libc::ENODEV);
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-device", "/dev/kvm is a directory and not KVM's device")
    );
    assert_eq!(
        remedy,
        "give the container the device and not a volume: start it with `docker run --device \
         /dev/kvm …`; its host must have /dev/kvm, too"
    );
}

#[test]
fn a_container_whose_user_is_not_in_the_group_is_told_the_number() {
    let fake = Fake::intel();
    fake.file("/.dockerenv", "");
    assert_eq!(
        fake.closed(libc::EACCES).2,
        "start it with `docker run --device /dev/kvm --group-add 108 …`"
    );
    let fake = Fake::intel();
    fake.file("/proc/1/cgroup", "0::/kubepods/x\n");
    assert_eq!(
        fake.closed(libc::EACCES).2,
        "in the pod's securityContext, set `supplementalGroups: [108]`"
    );
}

#[test]
fn a_rootless_container_cannot_have_the_group() {
    let mut fake = Fake::intel();
    fake.host.node = Node::Device { uid: 65534, gid: 65534, mode: 0o660 };
    fake.file("/.dockerenv", "");
    assert_eq!(
        fake.closed(libc::EACCES).2,
        "on the host: `sudo chmod 666 /dev/kvm` (a rootless container does not get its user's \
         groups)"
    );
    let mut podman = Fake::intel();
    podman.host.node = fake.host.node;
    podman.file("/run/.containerenv", "");
    assert_eq!(
        podman.closed(libc::EACCES).2,
        "start it with `podman run --device /dev/kvm --group-add keep-groups …`"
    );
}

#[test]
fn a_containers_root_can_open_the_node_that_is_its_own() {
    const RULE: &str = r#"`echo 'KERNEL=="kvm", GROUP="kvm", MODE="0660", OPTIONS+="static_node=kvm"' | sudo tee /etc/udev/rules.d/99-kvm.rules && sudo udevadm control --reload-rules && sudo udevadm trigger --name-match=kvm`"#;
    let mut fake = Fake::intel();
    fake.file("/.dockerenv", "");
    fake.host.node = Node::Device { uid: 0, gid: 0, mode: 0o600 };
    assert_eq!(
        fake.closed(libc::EACCES).2,
        format!("as root in this container: `chmod 666 /dev/kvm`; to keep it, on its host: {RULE}")
    );
    fake.host.node = Node::Device { uid: 65534, gid: 65534, mode: 0o600 };
    assert_eq!(fake.closed(libc::EACCES).2, format!("on the host of this container: {RULE}"));
}

#[test]
fn a_container_with_a_node_of_its_own_needs_the_devices_cgroup() {
    let fake = Fake::intel();
    fake.file("/.dockerenv", "");
    let (id, finding, remedy) = fake.closed(libc::EPERM);
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-device", "/dev/kvm may not be opened: Operation not permitted (os error 1)")
    );
    assert_eq!(remedy, "start it with `docker run --device /dev/kvm …`");
}

#[test]
fn a_container_on_a_host_without_kvm_is_sent_to_that_host() {
    let fake = Fake::unloaded();
    fake.file("/.dockerenv", "");
    let (id, _, remedy) = fake.closed(libc::ENOENT);
    assert_eq!(id, "kvm-module");
    assert_eq!(remedy, "on the host of this container: `sudo modprobe kvm_intel`");
}

#[test]
fn wsl2_is_told_the_setting_on_windows() {
    const SETTING: &str = "on Windows 11, put `nestedVirtualization=true` below `[wsl2]` into \
                           %UserProfile%\\.wslconfig, then `wsl --shutdown` and start again; \
                           Windows 10 cannot do it";
    let fake = Fake::unloaded();
    fake.cpu("GenuineIntel", "fpu hypervisor");
    fake.file("/proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@x)\n");
    let (id, finding, remedy) = fake.closed(libc::ENOENT);
    assert_eq!(id, "kvm-cpu");
    assert_eq!(finding, "the CPU of a virtual machine shows neither vmx nor svm");
    assert_eq!(remedy, SETTING);
    let check = fake.check("kvm-device", &Trial::Closed(libc::ENOENT));
    assert_eq!(check.finding, "there is no /dev/kvm in WSL");
    assert_eq!(check.remedy.as_deref(), Some(SETTING));
    assert_eq!(
        fake.check("kvm-module", &Trial::Closed(libc::ENOENT)).remedy.as_deref(),
        Some(SETTING)
    );
}

#[test]
fn wsl1_is_told_that_it_has_no_kernel() {
    let fake = Fake::unloaded();
    fake.cpu("GenuineIntel", "fpu vmx");
    fake.file("/proc/version", "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)\n");
    let (id, _, remedy) = fake.closed(libc::ENOENT);
    assert_eq!(id, "kvm-module");
    assert_eq!(remedy, "WSL 1 has no Linux kernel: in Windows, `wsl --set-version DISTRIBUTION 2`");
}

#[test]
fn wsl2_without_udev_keeps_the_group_in_its_boot_command() {
    let mut fake = Fake::intel();
    fake.file("/proc/version", "Linux version 6.6.87.2-microsoft-standard-WSL2 (root@x)\n");
    fake.host.node = Node::Device { uid: 0, gid: 0, mode: 0o600 };
    assert_eq!(
        fake.closed(libc::EACCES).2,
        "`sudo chown root:kvm /dev/kvm && sudo chmod 660 /dev/kvm && sudo usermod -aG kvm ann`; \
         to keep it, put the first two as `command =` below `[boot]` into /etc/wsl.conf"
    );
}

#[test]
fn github_actions_is_given_the_udev_rule() {
    let mut fake = Fake::intel();
    fake.env("GITHUB_ACTIONS", "true");
    let (id, _, remedy) = fake.closed(libc::EACCES);
    assert_eq!(id, "kvm-device");
    assert_eq!(
        remedy,
        r#"in a step before this one: `echo 'KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"' | sudo tee /etc/udev/rules.d/99-kvm4all.rules && sudo udevadm control --reload-rules && sudo udevadm trigger --name-match=kvm`"#
    );
}

#[test]
fn github_actions_on_arm64_has_no_kvm_to_offer() {
    let mut fake = Fake::arm();
    fake.host.node = Node::Missing(libc::ENOENT);
    fake.env("GITHUB_ACTIONS", "true");
    assert_eq!(
        fake.closed(libc::ENOENT).2,
        "GitHub's arm64 machines do not virtualize: use `runs-on: ubuntu-latest`, or a machine of \
         your own"
    );
}

#[test]
fn clouds_and_other_hosts_machines_are_told_their_own_switch() {
    for (vendor, product, name, words) in [
        (
            "Google",
            "Google Compute Engine",
            "Google Compute Engine",
            "create the instance with `gcloud compute instances create … \
             --enable-nested-virtualization` (an Intel machine type other than E2), or set \
             advancedMachineFeatures.enableNestedVirtualization of a stopped one",
        ),
        (
            "Amazon EC2",
            "m5.large",
            "Amazon EC2",
            "use a *.metal instance type, or one that nests (C8i, M8i, R8i) launched with \
             `--cpu-options NestedVirtualization=enabled`",
        ),
        (
            "Microsoft Corporation",
            "Virtual Machine",
            "Hyper-V",
            "switch the VM off, then on the Windows host, as administrator: \
             `Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true`",
        ),
        (
            "VMware, Inc.",
            "VMware Virtual Platform",
            "VMware",
            "switch the VM off, then check \"Virtualize Intel VT-x/EPT or AMD-V/RVI\" in its \
             processor settings (`vhv.enable = \"TRUE\"` in its .vmx file)",
        ),
        (
            "innotek GmbH",
            "VirtualBox",
            "VirtualBox",
            "switch the VM off, then on the host: `VBoxManage modifyvm NAME --nested-hw-virt on`",
        ),
        (
            "Parallels International GmbH.",
            "Parallels Virtual Platform",
            "Parallels",
            "switch the VM off, then on the Mac: `prlctl set NAME --nested-virt on` (Intel Macs, \
             and Apple silicon from M3 on)",
        ),
        (
            "QEMU",
            "Standard PC (Q35 + ICH9, 2009)",
            "KVM or QEMU",
            "on the host, give the VM the host's CPU (`-cpu host`, in libvirt \
             `<cpu mode='host-passthrough'/>`) and load KVM with `nested=1`",
        ),
        (
            "Xen",
            "HVM domU",
            "Xen",
            "use a host that nests, or boot this one without Xen if it is the host (dom0)",
        ),
    ] {
        let fake = Fake::virtual_machine(vendor, product);
        let (id, finding, remedy) = fake.closed(libc::ENOENT);
        assert_eq!(id, "kvm-cpu");
        assert_eq!(
            finding,
            format!("the CPU of a virtual machine ({name}) shows neither vmx nor svm")
        );
        assert_eq!(remedy, words);
    }
}

#[test]
fn azure_is_told_apart_from_hyper_v_by_its_chassis() {
    let fake = Fake::virtual_machine("Microsoft Corporation", "Virtual Machine");
    fake.file("/sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    let (_, finding, remedy) = fake.closed(libc::ENOENT);
    assert_eq!(finding, "the CPU of a virtual machine (Microsoft Azure) shows neither vmx nor svm");
    assert_eq!(
        remedy,
        "use a size with nested virtualization (Dv5 and Ev5 with Intel CPUs are), with the \
         security type Standard"
    );
}

#[test]
fn a_metal_instance_of_ec2_is_a_physical_machine() {
    let fake = Fake::virtual_machine("Amazon EC2", "m5.metal");
    fake.cpu("GenuineIntel", "fpu");
    let finding = fake.closed(libc::ENOENT).1;
    assert_eq!(finding, "the CPU of a physical machine shows neither vmx nor svm");
}

#[test]
fn a_provider_nobody_knows_is_named_by_its_firmware() {
    let fake = Fake::virtual_machine("Hetzner", "vServer");
    let (_, finding, remedy) = fake.closed(libc::ENOENT);
    assert_eq!(finding, "the CPU of a virtual machine (Hetzner) shows neither vmx nor svm");
    assert_eq!(
        remedy,
        "switch on nested virtualization where this machine is configured; if its provider has no \
         such setting, use another machine"
    );
}

#[test]
fn a_hosts_own_xen_shows_in_sysfs() {
    let fake = Fake::unloaded();
    fake.cpu("GenuineIntel", "fpu hypervisor");
    fake.dmi("Dell Inc.", "PowerEdge R650");
    fake.file("/sys/hypervisor/type", "xen\n");
    let finding = fake.closed(libc::ENOENT).1;
    assert_eq!(finding, "the CPU of a virtual machine (Xen) shows neither vmx nor svm");
}

#[test]
fn an_arm64_instance_without_the_device_is_told_its_clouds_switch() {
    let mut fake = Fake::arm();
    fake.host.node = Node::Missing(libc::ENOENT);
    fake.dmi("Amazon EC2", "c7g.large");
    let (id, _, remedy) = fake.closed(libc::ENOENT);
    assert_eq!(id, "kvm-device");
    assert!(remedy.starts_with("use a *.metal instance type"), "{remedy}");
}
