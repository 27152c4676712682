//! QEMU's command line for a plan. Its machine ([`super::target`]) has what ours has, at the same places
//! ([`crate::machine::map`]).

use std::os::fd::RawFd;

use super::target::Target;
use crate::config::DiskFormat;
use crate::family::ends::EXIT_PORT;
use crate::machine::map::MIB;
use crate::machine::slot::{Place, VirtioSlot};
use crate::net::{Offer, mac_text};
use crate::plan::{DeviceKind, Plan, SharePlan};

/// A disk's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) fd: RawFd,
    pub(super) block_device: bool,
    /// What the guest writes is thrown away by QEMU.
    pub(super) snapshot: bool,
}

/// The descriptors that QEMU is given, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// A file: the ROM.
    pub(super) firmware: RawFd,
    /// A file: the guest's loaded memory, as far as the ROM does not write it.
    pub(super) memory: Option<RawFd>,
    /// A pipe: what the guest sends on its console. What it receives there is QEMU's stdin.
    pub(super) console: RawFd,
    /// A pipe: what the guest writes to the exit port, where it has one.
    pub(super) exit: RawFd,
    /// A pipe or a socket: QEMU's log or control channel, which tells one end from another.
    pub(super) log: RawFd,
    /// The disks' files, in the plan's order.
    pub(super) disks: Vec<Disk>,
    /// A stream of frames, and what the network device is to be.
    pub(super) network: Option<(RawFd, Offer)>,
    /// The shared folders, in the plan's order.
    pub(super) shares: Vec<RawFd>,
}

impl Descriptors {
    /// All of them.
    pub(super) fn all(&self) -> Vec<RawFd> {
        let own = [Some(self.firmware), self.memory, Some(self.console), Some(self.exit)];
        let own = own.into_iter().chain([Some(self.log)]).flatten();
        let network = self.network.iter().map(|(fd, _)| *fd);
        let disks = self.disks.iter().map(|disk| disk.fd);
        own.chain(disks).chain(network).chain(self.shares.iter().copied()).collect()
    }
}

/// What the console with the guest's input is connected to.
const TYPED_TO: &str = "stdio,signal=off";

/// QEMU's own jail, all of it (qemu.1, `-sandbox`): no programs, no rights, no old calls.
const SANDBOX: &str =
    "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// All arguments.
pub(super) fn arguments(plan: &Plan, fds: &Descriptors, sandbox: bool) -> Vec<String> {
    let mut words = Words::default();
    words.add("-nodefaults -no-user-config -no-reboot -display none -monitor none");
    let cpus = plan.cpus;
    words.add("-accel tcg");
    words.add(&format!("-smp cpus={cpus},sockets=1,cores={cpus},threads=1"));
    words.add(&format!("-m {}M", plan.memory / MIB));
    words.add(&format!("-bios /dev/fd/{}", fds.firmware));
    if let Some(memory) = fds.memory {
        words.add(&format!("-device loader,file=/dev/fd/{memory}"));
    }
    // A character device drops what its backend does not take at once, if the guest does not wait
    // for the UART as it should; the copy in its log file is written to the end. So the log file is
    // the pipe, and a reader that is slow makes the guest wait.
    let virtio = plan.devices.iter().any(|device| matches!(device.kind, DeviceKind::Console(_)));
    let serial = if virtio { "null" } else { TYPED_TO };
    words.add(&format!("-chardev {serial},id=console,logfile=/dev/fd/{}", fds.console));
    words.add("-serial chardev:console");
    let port = plan.boot.family.ends.port().unwrap_or(EXIT_PORT);
    for line in Target::of(plan.boot.board.arch).arguments(port, fds.exit, fds.log) {
        words.add(&line);
    }
    words.add("-global virtio-mmio.force-legacy=false");
    for (disk, Disk { fd, block_device, snapshot }) in plan.disks.iter().zip(&fds.disks) {
        let (id, slot) = (&disk.id, disk.slot.index);
        let driver = if *block_device { "host_device" } else { "file" };
        let file = format!("file.driver={driver},file.filename=/dev/fdset/{slot},file.locking=off");
        words.add(&format!("-add-fd fd={fd},set={slot}"));
        let format = match disk.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        };
        words.add(&match (snapshot, disk.read_only) {
            // An overlay of QEMU's own, which -blockdev cannot ask for. It is in TMPDIR, too.
            (true, _) => format!("-drive if=none,id={id},format={format},snapshot=on,{file}"),
            (_, true) => format!("-blockdev driver={format},node-name={id},read-only=on,{file}"),
            (_, false) => format!("-blockdev driver={format},node-name={id},read-only=off,{file}"),
        });
        // An error of the file is the guest's to handle, and never a pause of the machine.
        let device = device("blk", disk.slot);
        words.add(&format!("-device {device},drive={id},rerror=report,werror=report"));
    }
    if let (Some(network), Some((fd, offer))) = (&plan.network, fds.network) {
        let (id, Offer { mac, mtu, .. }) = (&network.id, offer);
        words.add(&format!("-netdev socket,id={id},fd={fd}"));
        let (device, mac) = (device("net", network.slot), mac_text(mac));
        words.add(&format!("-device {device},netdev={id},mac={mac},host_mtu={mtu}"));
    }
    words.further_devices(plan, fds);
    if sandbox {
        words.add(SANDBOX);
    }
    words.0
}

/// A virtio device of a kind, in its slot: modern, and on the PCI bus with its pin alone.
fn device(kind: &str, slot: VirtioSlot) -> String {
    match slot.place {
        Place::Mmio { .. } => format!("virtio-{kind}-device,bus=virtio-mmio-bus.{}", slot.index),
        Place::Pci { device, .. } => format!(
            "virtio-{kind}-pci,bus=pcie.0,addr={device:#x},disable-legacy=on,vectors=0,romfile="
        ),
    }
}

/// Arguments, none of which contains a space.
#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn add(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(str::to_owned));
    }

    /// The devices behind disks and network.
    fn further_devices(&mut self, plan: &Plan, fds: &Descriptors) {
        let mut shares = fds.shares.iter();
        for further in &plan.devices {
            let (id, slot) = (&further.id, further.slot);
            match &further.kind {
                // Its bytes are QEMU's own of the system's, as ours are.
                DeviceKind::Rng => self.add(&format!("-device {},id={id}", device("rng", slot))),
                DeviceKind::Balloon(_) => self.add(&format!(
                    "-device {},id={id},deflate-on-oom=on,free-page-reporting=on",
                    device("balloon", slot)
                )),
                // Without ports of its own: refused before.
                DeviceKind::Console(_) => {
                    let (to, bus) = (fds.console, device("serial", slot));
                    self.add(&format!("-chardev {TYPED_TO},id={id},logfile=/dev/fd/{to}"));
                    // A guest that ends by semihosting ends QEMU on the spot, and what a device hears of
                    // by an event comes too late then. On mmio there are none.
                    let at_once = match slot.place {
                        Place::Mmio { .. } => "",
                        Place::Pci { .. } => ",ioeventfd=off",
                    };
                    self.add(&format!("-device {bus}{at_once},id={id}-bus"));
                    self.add(&format!("-device virtconsole,bus={id}-bus.0,chardev={id}"));
                }
                // Refused before.
                DeviceKind::Vsock(_) => {}
                DeviceKind::Share(SharePlan { folder, tag, .. }) => {
                    let Some(fd) = shares.next() else { continue };
                    let read_only = if folder.is_read_only() { ",readonly=on" } else { "" };
                    // Other file systems in it are as little part of it as in ours.
                    self.add(&format!(
                        "-fsdev local,id={id},path=/dev/fd/{fd},security_model=none,multidevs=forbid{read_only}"
                    ));
                    let device = device("9p", slot);
                    self.add(&format!("-device {device},fsdev={id},mount_tag={tag}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::testing::{plan, plan_of};
    use crate::machine::slot::VirtioBus;
    use crate::net::testing::Scripted;
    use crate::p9::Folder;
    use crate::plan::{DevicePlan, NetworkPlan};

    fn fds(disks: &[(RawFd, bool, bool)]) -> Descriptors {
        let disks =
            disks.iter().map(|&(fd, block_device, snapshot)| Disk { fd, block_device, snapshot });
        Descriptors {
            firmware: 10,
            memory: Some(11),
            console: 12,
            exit: 13,
            log: 14,
            disks: disks.collect(),
            network: None,
            shares: Vec::new(),
        }
    }

    #[test]
    fn the_machine_is_ours_in_memory_cpus_console_exit_port_and_reset() {
        let plan = plan(&[]);
        let expected = "-nodefaults -no-user-config -no-reboot -display none -monitor none -accel tcg \
             -smp cpus=2,sockets=1,cores=2,threads=1 -m 64M -bios /dev/fd/10 \
             -device loader,file=/dev/fd/11 \
             -chardev stdio,signal=off,id=console,logfile=/dev/fd/12 -serial chardev:console \
             -machine microvm,acpi=off,ioapic2=off,pic=on,pit=on,rtc=on,isa-serial=on,\
             x-option-roms=off,auto-kernel-cmdline=off -cpu max -chardev null,id=exit,logfile=/dev/fd/13 \
             -device isa-serial,chardev=exit,iobase=0x501,irq=3 -device i8042 \
             -d cpu_reset -D /dev/fd/14 -global virtio-mmio.force-legacy=false";
        assert_eq!(arguments(&plan, &fds(&[]), false).join(" "), expected);
        let jailed = arguments(&plan, &fds(&[]), true).join(" ");
        assert_eq!(jailed, format!("{expected} {SANDBOX}"));
    }

    #[test]
    fn an_arm64_guest_has_virt_with_semihosting_and_begins_by_the_control_channel() {
        let plan = plan_of(guests::aarch64::kernels::HELLO, VirtioBus::Pci, &[false]);
        let expected = "-machine virt,gic-version=3,its=off,highmem=off -cpu max,pauth-impdef=on \
             -semihosting-config enable=on,target=gdb -S -chardev socket,id=log,fd=14 \
             -mon chardev=log,mode=control -global virtio-mmio.force-legacy=false \
             -add-fd fd=20,set=0 \
             -blockdev driver=raw,node-name=disk0,read-only=off,file.driver=file,\
             file.filename=/dev/fdset/0,file.locking=off \
             -device virtio-blk-pci,bus=pcie.0,addr=0x1,disable-legacy=on,vectors=0,romfile=,\
             drive=disk0,rerror=report,werror=report";
        let all = arguments(&plan, &fds(&[(20, false, false)]), false);
        let start = all.iter().position(|word| word == "-machine").unwrap();
        assert_eq!(all[start..].join(" "), expected);
    }

    #[test]
    fn the_exit_port_is_where_the_guest_ends() {
        use crate::family::{FAMILIES, Family, ends::HERMIT_LOADER};
        let mut plan = plan(&[]);
        let ends = |family: &&Family| family.ends == &HERMIT_LOADER;
        plan.boot.family = FAMILIES.iter().find(ends).unwrap();
        let all = arguments(&plan, &fds(&[]), false).join(" ");
        assert!(all.contains("isa-serial,chardev=exit,iobase=0xf4,"), "{all}");
    }

    #[test]
    fn disks_are_raw_and_by_descriptor_and_stand_in_the_slots_of_the_plan() {
        let plan = plan(&[false, true, false]);
        let all = arguments(
            &plan,
            &fds(&[(20, false, false), (21, false, false), (22, true, false)]),
            false,
        );
        let start = all.iter().position(|word| word == "-add-fd").unwrap();
        let expected = "-add-fd fd=20,set=0 \
             -blockdev driver=raw,node-name=disk0,read-only=off,file.driver=file,\
             file.filename=/dev/fdset/0,file.locking=off \
             -device virtio-blk-device,bus=virtio-mmio-bus.0,drive=disk0,rerror=report,werror=report \
             -add-fd fd=21,set=1 \
             -blockdev driver=raw,node-name=disk1,read-only=on,file.driver=file,\
             file.filename=/dev/fdset/1,file.locking=off \
             -device virtio-blk-device,bus=virtio-mmio-bus.1,drive=disk1,rerror=report,werror=report \
             -add-fd fd=22,set=2 \
             -blockdev driver=raw,node-name=disk2,read-only=off,file.driver=host_device,\
             file.filename=/dev/fdset/2,file.locking=off \
             -device virtio-blk-device,bus=virtio-mmio-bus.2,drive=disk2,rerror=report,werror=report";
        assert_eq!(all[start..].join(" "), expected);
    }

    #[test]
    fn what_is_written_to_an_ephemeral_disk_is_thrown_away_by_qemu() {
        let plan = plan(&[false]);
        let all = arguments(&plan, &fds(&[(20, false, true)]), false);
        let start = all.iter().position(|word| word == "-drive").unwrap();
        let expected = "-drive if=none,id=disk0,format=raw,snapshot=on,file.driver=file,\
             file.filename=/dev/fdset/0,file.locking=off \
             -device virtio-blk-device,bus=virtio-mmio-bus.0,drive=disk0,rerror=report,werror=report";
        assert_eq!(all[start..].join(" "), expected);
    }

    #[test]
    fn the_network_device_is_the_plans_and_behind_it_is_our_socket() {
        let mut plan = plan(&[false]);
        let slot = plan.boot.board.virtio.on(VirtioBus::Mmio).nth(1).unwrap();
        let offer = Offer { features: 0xff, mac: [0x52, 0x54, 0, 0xab, 0, 1], mtu: 1400 };
        plan.network = Some(NetworkPlan::new(slot, "a network", Box::new(Scripted::default())));
        let mut fds = fds(&[(20, false, false)]);
        fds.network = Some((21, offer));
        let all = arguments(&plan, &fds, false);
        let start = all.iter().position(|word| word == "-netdev").unwrap();
        let expected = "-netdev socket,id=net0,fd=21 -device virtio-net-device,bus=virtio-mmio-bus.1,\
             netdev=net0,mac=52:54:00:ab:00:01,host_mtu=1400";
        assert_eq!(all[start..].join(" "), expected);
        assert_eq!(fds.all().last(), Some(&21));
    }

    #[test]
    fn a_shared_folder_is_a_descriptor_with_the_tag_of_the_plan() {
        let mut plan = plan(&[]);
        let slots = plan.boot.board.virtio.on(VirtioBus::Mmio);
        for (slot, read_only) in slots.zip([false, true]) {
            let folder = Folder::open("/".as_ref(), read_only).unwrap();
            let share = SharePlan { folder, path: "/".into(), tag: format!("t{}", slot.index) };
            let (id, kind) = (format!("share{}", slot.index), DeviceKind::Share(share));
            plan.devices.push(DevicePlan { id, slot, kind });
        }
        let mut fds = fds(&[]);
        fds.shares = vec![20, 21];
        let all = arguments(&plan, &fds, false);
        let start = all.iter().position(|word| word == "-fsdev").unwrap();
        let expected = "-fsdev local,id=share0,path=/dev/fd/20,security_model=none,multidevs=forbid \
             -device virtio-9p-device,bus=virtio-mmio-bus.0,fsdev=share0,mount_tag=t0 \
             -fsdev local,id=share1,path=/dev/fd/21,security_model=none,multidevs=forbid,readonly=on \
             -device virtio-9p-device,bus=virtio-mmio-bus.1,fsdev=share1,mount_tag=t1";
        assert_eq!(all[start..].join(" "), expected);
        assert_eq!(fds.all()[5..], [20, 21]);
    }

    #[test]
    fn further_devices_stand_in_their_slots() {
        let mut plan = plan(&[]);
        let slots = plan.boot.board.virtio.on(VirtioBus::Mmio).skip(3);
        let kinds = [("rng0", DeviceKind::Rng), ("balloon0", DeviceKind::Balloon(0))];
        for ((id, kind), slot) in kinds.into_iter().zip(slots) {
            plan.devices.push(DevicePlan { id: id.into(), slot, kind });
        }
        let all = arguments(&plan, &fds(&[]), false).join(" ");
        let expected = "-device virtio-rng-device,bus=virtio-mmio-bus.3,id=rng0 \
             -device virtio-balloon-device,bus=virtio-mmio-bus.4,id=balloon0,deflate-on-oom=on,\
             free-page-reporting=on";
        assert!(all.ends_with(expected), "{all}");
    }

    #[test]
    fn the_child_inherits_all_that_its_arguments_name() {
        let all = fds(&[(20, false, false), (21, true, false)]).all();
        assert_eq!(all, [10, 11, 12, 13, 14, 20, 21]);
    }
}
