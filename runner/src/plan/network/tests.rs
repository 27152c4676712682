use super::super::Plan;
use super::super::tests::plan;
use super::notice;
use crate::config::network::Asked;
use crate::image::Arch;
use crate::image::testing::{ElfFile, boot_disk, boot_filesystem};
use crate::machine::slot::Place;
use crate::net::{Forward, Transport};

/// A disk image as OPS makes them, and a kernel alone.
struct Images {
    folder: tempfile::TempDir,
}

impl Images {
    fn new() -> Option<Self> {
        if Arch::HOST != Some(Arch::X86_64) {
            println!("skipped: the kernels are for x86_64");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let kernel = ElfFile::kernel().build();
        std::fs::write(folder.path().join("kernel"), &kernel).unwrap();
        let disk = boot_disk(&boot_filesystem(5, &kernel));
        std::fs::write(folder.path().join("ops"), disk).unwrap();
        Some(Self { folder })
    }

    /// The plan for `line`, in which OPS and KERNEL are the images.
    fn plan(&self, line: &str) -> Result<Plan, String> {
        let path = |name| self.folder.path().join(name).to_str().unwrap().to_owned();
        let line = line.replace("OPS", &path("ops")).replace("KERNEL", &path("kernel"));
        plan(&line.split(' ').collect::<Vec<_>>())
    }

    fn error(&self, line: &str) -> String {
        self.plan(line).map(|plan| plan.describe()).expect_err(line)
    }

    fn has_network(&self, line: &str) -> bool {
        self.plan(line).unwrap_or_else(|why| panic!("{line}: {why}")).network.is_some()
    }
}

#[test]
fn an_ops_image_has_the_user_mode_network_and_another_kernel_only_what_is_asked_for() {
    let Some(images) = Images::new() else { return };
    for (line, wanted) in [
        ("OPS", true),
        ("OPS --net=none", false),
        ("OPS --net=user", true),
        ("KERNEL", false),
        ("KERNEL --net=user", true),
        ("KERNEL -p 0:80", true),
        ("KERNEL --udp 0:53", true),
    ] {
        assert_eq!(images.has_network(line), wanted, "{line}");
    }
}

#[test]
fn the_network_takes_the_slot_behind_the_disks_and_is_announced_with_them() {
    let Some(images) = Images::new() else { return };
    let plan = images.plan("OPS --virtio=mmio").unwrap();
    let slot = plan.network.as_ref().unwrap().slot;
    assert_eq!((plan.disks.len(), slot.index), (1, 1));
    let Place::Mmio { base, line } = slot.place else { panic!("{slot:?}") };
    let word = format!("virtio_mmio.device=512@{base:#x}:{line}");
    let words: Vec<_> = plan.boot.command_line.as_str().split(' ').collect();
    assert_eq!(words.len(), 2);
    assert_eq!(words.last(), Some(&word.as_str()));
    let lines = plan.describe();
    let wanted = format!(
        "device: net0, virtio-mmio {base:#x}, line {line}: the user-mode network, guest 52:54:00:12:34:56"
    );
    assert_eq!(lines.last(), Some(&wanted), "{lines:?}");
    assert_eq!(images.plan("KERNEL").unwrap().describe().last().unwrap(), "network: none");
}

#[test]
fn what_ops_builds_is_on_the_pci_bus_and_leaves_it_for_emulation_unless_it_was_asked_for() {
    let Some(images) = Images::new() else { return };
    let mut plan = images.plan("OPS --append last").unwrap();
    assert!(plan.is_on_pci() && plan.boot.acpi.is_none());
    assert_eq!(plan.boot.command_line.as_str(), "last");
    plan.leave_pci().unwrap();
    assert!(!plan.is_on_pci());
    let line = plan.boot.command_line.as_str().to_owned();
    let (words, behind) = line.rsplit_once(' ').unwrap();
    assert_eq!((words.matches("virtio_mmio.device=").count(), behind), (3, "last"), "{line}");
    let slots: Vec<_> = plan.slots().map(|slot| slot.index).collect();
    assert_eq!(slots, [0, 1, 2], "disk, network, random bytes");
    plan.leave_pci().unwrap();
    assert_eq!(plan.boot.command_line.as_str(), line);
    drop(plan);
    let mut asked = images.plan("OPS --virtio=pci").unwrap();
    asked.leave_pci().unwrap();
    assert!(asked.is_on_pci());
    assert!(!images.plan("KERNEL --net=user").unwrap().is_on_pci());
}

#[test]
fn a_forward_is_open_and_named_before_the_guest_runs() {
    let Some(images) = Images::new() else { return };
    let plan = images.plan("OPS --udp 0:53 --ephemeral").unwrap();
    let about = plan.network.as_ref().unwrap().describe();
    let (_, real) = about.split_once(", UDP 127.0.0.1:").unwrap();
    let (port, _) = real.split_once(" to its port 53").unwrap();
    let port: u16 = port.parse().unwrap();
    assert_ne!(port, 0);
    let error = images.error(&format!("OPS --udp {port}:53 --ephemeral"));
    assert!(error.contains(&format!("127.0.0.1:{port}: the port is taken by")), "{error}");
    drop(plan);
    images.plan(&format!("OPS --udp {port}:53 --ephemeral")).unwrap();
}

#[test]
fn the_link_is_there_once() {
    let Some(images) = Images::new() else { return };
    let plan = images.plan("OPS --mac 52:54:00:00:00:09").unwrap();
    let network = plan.network.unwrap();
    assert_eq!(network.take_link().unwrap().offer().mac, [0x52, 0x54, 0, 0, 0, 9]);
    assert!(network.take_link().is_none());
}

#[test]
fn disks_leave_a_slot_for_the_network() {
    let Some(images) = Images::new() else { return };
    let disk = images.folder.path().join("disk");
    std::fs::write(&disk, [0; 512]).unwrap();
    let disks = |count| format!(" --disk {},ro", disk.display()).repeat(count);
    assert!(!images.has_network(&format!("KERNEL{}", disks(8))));
    assert!(images.has_network(&format!("KERNEL --net=user{}", disks(7))));
    let error = images.error(&format!("KERNEL{}", disks(9)));
    assert_eq!(error, "9 disks, where the machine has room for 8: leave some out");
    for line in [format!("KERNEL --net=user{}", disks(8)), format!("OPS{}", disks(7))] {
        let error = images.error(&line);
        let wanted = "8 disks, where the machine has room for 7 beside the network: \
                      leave some out, or the network (--net=none)";
        assert_eq!(error, wanted);
    }
    // What nobody has asked for makes room.
    for (count, devices) in [(5, 1), (6, 0)] {
        assert_eq!(images.plan(&format!("OPS{}", disks(count))).unwrap().devices.len(), devices);
    }
}

#[test]
fn static_addresses_reach_nanos_by_its_command_line() {
    let Some(images) = Images::new() else { return };
    let line = "OPS --ephemeral --ip-address 10.0.2.20 --ipv6-address fec0::20";
    let plan = images.plan(line).unwrap();
    let words = "en1.ipaddr=10.0.2.20 en1.netmask=255.255.255.0 en1.gateway=10.0.2.2 \
                 en1.ip6addr=fec0::20";
    assert!(plan.boot.command_line.as_str().ends_with(words), "{:?}", plan.boot.command_line);
    let none = images.plan("OPS --ephemeral --net=none --ip-address 10.0.2.20").unwrap();
    assert!(!none.boot.command_line.as_str().contains("en1"));
}

#[test]
fn static_addresses_that_are_not_of_the_user_mode_network_are_refused_with_the_remedy() {
    let Some(images) = Images::new() else { return };
    for (line, wanted) in [
        ("--ip-address 192.168.1.20", "address 192.168.1.20: the user-mode network is 10.0.2.0/24"),
        ("--ip-address 10.0.2.2", "address 10.0.2.2: the user-mode network"),
        ("--ip-address 10.0.2.20 --gateway 10.0.2.1", "gateway 10.0.2.1: the user-mode network"),
        ("--ip-address 10.0.2.20 --netmask 255.0.0.0", "netmask 255.0.0.0: the user-mode network"),
        ("--ipv6-address fd00::1", "address fd00::1: the user-mode network is fec0::/64"),
    ] {
        let error = images.error(&format!("OPS {line}"));
        assert!(error.starts_with(wanted) && error.contains("tap device"), "{error}");
    }
}

#[test]
fn addresses_of_another_kernel_are_refused_with_what_to_append() {
    let Some(images) = Images::new() else { return };
    let error = images.error("KERNEL --net=user --ip-address 10.0.2.20");
    assert!(error.contains("--append ip=10.0.2.15::10.0.2.2"), "{error}");
}

#[test]
fn a_guest_on_a_network_with_others_has_an_address_of_its_own() {
    let Some(images) = Images::new() else { return };
    let path = images.folder.path().join("peer");
    let _peer = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let line = format!("KERNEL --net=unix:{}", path.display());
    let mac = |line: &str| {
        let network = images.plan(line).unwrap().network.unwrap();
        assert!(network.cable.about.starts_with(&format!("stream socket {}", path.display())));
        network.take_link().unwrap().offer().mac
    };
    let (first, second) = (mac(&line), mac(&line));
    assert_ne!(first, second);
    assert_eq!(first[..3], [0x52, 0x54, 0]);
    assert_eq!(mac(&format!("{line} --mac 52:54:00:00:00:07")), [0x52, 0x54, 0, 0, 0, 7]);
}

#[test]
fn a_network_that_cannot_be_reached_is_named_with_what_asked_for_it() {
    let Some(images) = Images::new() else { return };
    let path = images.folder.path().join("nobody");
    for kind in ["unix", "unixgram"] {
        let error = images.error(&format!("KERNEL --net={kind}:{}", path.display()));
        assert!(error.contains("nobody: there is no such socket"), "{error}");
    }
    // There is none, here or anywhere.
    let error = images.error("KERNEL --net=bridge:nobridge9");
    assert!(error.starts_with("--net=bridge:nobridge9: "), "{error}");
}

#[test]
fn a_capture_is_among_the_files_of_the_run_and_may_grow() {
    let Some(images) = Images::new() else { return };
    let path = images.folder.path().join("c.pcap");
    let plan = images.plan(&format!("OPS --pcap {}", path.display())).unwrap();
    assert!(plan.files().any(|(_, name)| name == path.to_str().unwrap()));
    assert_eq!(plan.largest_file(), u64::MAX);
    let written = format!(", written to {}", path.display());
    assert!(plan.network.as_ref().unwrap().describe().ends_with(&written));
    drop(plan);
    let error = images.error("OPS --pcap OPS");
    assert!(error.contains("no capture, and it would be lost"), "{error}");
    assert!(images.plan("OPS").unwrap().largest_file() < u64::MAX);
}

#[test]
fn what_goes_with_a_network_is_refused_without_one() {
    let Some(images) = Images::new() else { return };
    for (line, option) in [
        ("KERNEL --pcap f", "--pcap"),
        ("OPS --net=none --pcap f", "--pcap"),
        ("KERNEL --mac 52:54:00:00:00:01", "--mac"),
        ("KERNEL --host-loopback", "--host-loopback"),
        ("KERNEL --link-local", "--link-local"),
        ("KERNEL --ip-address 10.0.2.20", "an address for the guest"),
    ] {
        let error = images.error(line);
        assert!(error.starts_with(&format!("{option}, and this guest has no network")), "{error}");
    }
    images.plan("OPS --net=none --host-loopback --link-local --ip-address 10.0.2.20").unwrap();
}

#[test]
fn a_port_that_is_open_to_others_is_said_in_one_line() {
    let notice = |asked: &[(&str, Transport, &str, u16)]| {
        let one = |(by, transport, host, guest): &(&str, Transport, &str, u16)| Asked {
            value: Forward { transport: *transport, host: host.parse().unwrap(), guest: *guest },
            by: (*by).to_owned(),
        };
        notice(&asked.iter().map(one).collect::<Vec<_>>())
    };
    let (tcp, udp) = (Transport::Tcp, Transport::Udp);
    let all = ("-p 0.0.0.0:8080:80", tcp, "0.0.0.0:8080", 80);
    assert_eq!(
        notice(&[all]).unwrap(),
        "-p 0.0.0.0:8080:80: whoever reaches this machine's TCP port 8080 reaches the guest's port 80"
    );
    let six = ("--udp [::]:53", udp, "[::]:53", 53);
    let own = ("-p 80", tcp, "127.0.0.1:80", 80);
    assert_eq!(
        notice(&[own, six, all]).unwrap(),
        "--udp [::]:53 (and 1 more): whoever reaches this machine's UDP port 53 reaches the guest's port 53"
    );
    let named = ("-p 192.168.1.1:90", tcp, "192.168.1.1:90", 90);
    assert_eq!(notice(&[own, named]), None);
}
