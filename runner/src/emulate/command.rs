//! QEMU's command line for a plan. Its machine `microvm`, without ACPI, has what ours has, at the
//! same places ([`crate::machine::map`]): `docs/system/i386/microvm.rst`, `hw/i386/microvm.c`.

use std::os::fd::RawFd;

use crate::boot::EXIT_PORT;
use crate::machine::map::MIB;
use crate::plan::Plan;

/// The descriptors that QEMU is given, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// A file: the ROM.
    pub(super) firmware: RawFd,
    /// A file: the guest's loaded memory.
    pub(super) memory: RawFd,
    /// A pipe: what the guest sends on COM1. What it receives there is QEMU's stdin.
    pub(super) console: RawFd,
    /// A pipe: what the guest writes to the exit port.
    pub(super) exit: RawFd,
    /// A pipe: QEMU's log, which tells a triple fault from a reset.
    pub(super) log: RawFd,
    /// The disks' files, in the plan's order, and whether each is a block device.
    pub(super) disks: Vec<(RawFd, bool)>,
}

impl Descriptors {
    /// All of them.
    pub(super) fn all(&self) -> Vec<RawFd> {
        let own = [self.firmware, self.memory, self.console, self.exit, self.log];
        own.into_iter().chain(self.disks.iter().map(|(fd, _)| *fd)).collect()
    }
}

/// All arguments.
pub(super) fn arguments(plan: &Plan, fds: &Descriptors) -> Vec<String> {
    let mut words = Words::default();
    words.add("-nodefaults -no-user-config -no-reboot -display none -monitor none");
    words.add(
        "-machine microvm,acpi=off,ioapic2=off,pic=on,pit=on,rtc=on,isa-serial=on,\
         x-option-roms=off,auto-kernel-cmdline=off",
    );
    let cpus = plan.cpus;
    words.add("-accel tcg -cpu max");
    words.add(&format!("-smp cpus={cpus},sockets=1,cores={cpus},threads=1"));
    words.add(&format!("-m {}M", plan.memory / MIB));
    words.add(&format!("-bios /dev/fd/{}", fds.firmware));
    words.add(&format!("-device loader,file=/dev/fd/{}", fds.memory));
    // A character device drops what its backend does not take at once, if the guest does not wait
    // for the UART as it should; the copy in its log file is written to the end. So the log file is
    // the pipe, and a reader that is slow makes the guest wait.
    words.add(&format!("-chardev stdio,id=console,signal=off,logfile=/dev/fd/{}", fds.console));
    words.add("-serial chardev:console");
    // Not isa-debug-exit, which shifts the value and so loses its top bit; not isa-debugcon, which
    // ignores what is wider than a byte. A UART sends the first byte of any access, as it is.
    words.add(&format!("-chardev null,id=exit,logfile=/dev/fd/{}", fds.exit));
    words.add(&format!("-device isa-serial,chardev=exit,iobase={EXIT_PORT:#x},irq=3"));
    // Command 0xfe to port 0x64: reset.
    words.add("-device i8042");
    words.add(&format!("-d cpu_reset -D /dev/fd/{}", fds.log));
    words.add("-global virtio-mmio.force-legacy=false");
    for (disk, (fd, block_device)) in plan.disks.iter().zip(&fds.disks) {
        let (id, slot) = (&disk.id, disk.slot.index);
        let driver = if *block_device { "host_device" } else { "file" };
        let read_only = if disk.read_only { "on" } else { "off" };
        words.add(&format!("-add-fd fd={fd},set={slot}"));
        words.add(&format!(
            "-blockdev driver=raw,node-name={id},read-only={read_only},file.driver={driver},\
             file.filename=/dev/fdset/{slot},file.locking=off"
        ));
        // An error of the file is the guest's to handle, and never a pause of the machine.
        words.add(&format!(
            "-device virtio-blk-device,drive={id},bus=virtio-mmio-bus.{slot},rerror=report,\
             werror=report"
        ));
    }
    words.0
}

/// Arguments, none of which contains a space.
#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn add(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(str::to_owned));
    }
}
