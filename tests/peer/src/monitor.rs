//! What starts a Linux with a network: runner, or QEMU with its user network, which runner's is made
//! after and compared with.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The guest's address and network on a tap device.
pub const ON_TAP: &str = "10.0.9.2/24";

/// And the host's there.
pub const HOST_ON_TAP: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 1);

/// The kernel in the folder of guests, by which runner starts it, and what it calls its console.
const KERNEL: (&str, &str) = match cfg!(target_arch = "aarch64") {
    true => ("Image", "ttyAMA0"),
    false => ("vmlinux", "ttyS0"),
};

/// What each Linux is told. Mitigations, and the kernel's tests of its own ciphers, two thirds of a boot's instructions,
/// cost much where the processor is emulated, and are not what is tested.
pub const WORDS: &str = "quiet panic=-1 mitigations=off cryptomgr.notests";

/// What runner says of a guest that ends by PSCI, as Linux does on aarch64.
pub const OFF: &str =
    "runner: the guest switched itself off, which carries no status: 0 says no more than that\n";

/// QEMU's program.
pub const QEMU: &str = "qemu-system-x86_64";

/// Who runs the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// This program.
    Runner(PathBuf),
    /// QEMU, on KVM or without.
    Qemu {
        /// `kvm` or `tcg`.
        accelerator: &'static str,
    },
}

/// What the guest's network card is connected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The user-mode network.
    User {
        /// Ports of the host's 127.0.0.1 and of the guest, that are forwarded for TCP.
        tcp: Vec<(u16, u16)>,
        /// And for UDP.
        udp: Vec<(u16, u16)>,
        /// Whether 10.0.2.2 is the host's loopback. With QEMU it always is.
        host_loopback: bool,
    },
    /// A tap device that is there, on which the guest has the address that is called [`ON_TAP`].
    Tap(String),
}

/// A Linux to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Kernel and initrd.
    pub folder: PathBuf,
    /// The initrd's name there.
    pub initrd: &'static str,
    /// Its network.
    pub link: Link,
    /// Processors.
    pub cpus: u32,
    /// MiB of memory.
    pub memory: u32,
    /// Parameters of the guest's network driver.
    pub driver: String,
    /// A disk that the guest can write, a raw file, by way of the host's page cache.
    pub disk: Option<PathBuf>,
    /// Options for runner alone.
    pub options: Vec<String>,
}

impl Machine {
    /// One processor and no forwards; the host's loopback is open.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            initrd: "initrd-net",
            link: Link::User { tcp: Vec::new(), udp: Vec::new(), host_loopback: true },
            cpus: 1,
            memory: 256,
            driver: String::new(),
            disk: None,
            options: Vec::new(),
        }
    }

    /// The command line.
    #[must_use]
    pub fn command(&self, monitor: &Monitor) -> Command {
        match monitor {
            Monitor::Runner(program) => self.runner(program),
            Monitor::Qemu { accelerator } => self.qemu(accelerator),
        }
    }

    /// What the kernel is told, and the job of its init.
    fn words(&self) -> String {
        let address = match self.link {
            Link::Tap(_) => format!("ADDRESS={ON_TAP}"),
            Link::User { .. } => String::new(),
        };
        let Self { driver, .. } = self;
        let console = KERNEL.1;
        format!("console={console} {WORDS} {address} -- net {driver}")
    }

    fn runner(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        match &self.link {
            Link::User { tcp, udp, host_loopback } => {
                command.arg("--net=user");
                for (host, guest) in tcp {
                    command.arg("-p").arg(format!("{host}:{guest}"));
                }
                for (host, guest) in udp {
                    command.arg("--udp").arg(format!("{host}:{guest}"));
                }
                if *host_loopback {
                    command.arg("--host-loopback");
                }
            }
            Link::Tap(name) => {
                command.arg(format!("--net=tap:{name}"));
            }
        }
        if let Some(disk) = &self.disk {
            command.arg("--disk").arg(disk);
        }
        command.args(&self.options);
        command.args(["--cpus", &self.cpus.to_string(), "-m", &self.memory.to_string()]);
        command.arg("--initrd").arg(self.folder.join(self.initrd));
        command.arg("--append").arg(self.words()).arg(self.folder.join(KERNEL.0));
        command.env("HOME", "/nonexistent").env_remove("OPS_HOME").env_remove("ops_render_config");
        command
    }

    fn qemu(&self, accelerator: &str) -> Command {
        let netdev = match &self.link {
            Link::User { tcp, udp, .. } => {
                let forwards = |kind: &str, list: &[(u16, u16)]| -> String {
                    let one = |(host, guest): &(u16, u16)| {
                        format!(",hostfwd={kind}:127.0.0.1:{host}-:{guest}")
                    };
                    list.iter().map(one).collect()
                };
                format!("user,id=n{}{}", forwards("tcp", tcp), forwards("udp", udp))
            }
            Link::Tap(name) => format!("tap,id=n,ifname={name},script=no,downscript=no,vhost=off"),
        };
        // Linux finds no clock in a microvm that is emulated.
        let machine = match accelerator {
            "kvm" => {
                "-M microvm,rtc=on -cpu host -device virtio-net-device,netdev=n \
                 -global virtio-mmio.force-legacy=false"
            }
            _ => "-M q35 -cpu max -device virtio-net-pci,netdev=n,romfile=",
        };
        let common = "-nodefaults -no-user-config -display none -no-reboot -serial stdio \
                      -device isa-debug-exit,iobase=0x501,iosize=1";
        let mut command = Command::new(QEMU);
        command.args(["-accel", accelerator]).args(common.split_whitespace());
        command.args(["-smp", &self.cpus.to_string(), "-m", &self.memory.to_string()]);
        command.args(machine.split_whitespace()).arg("-netdev").arg(netdev);
        if let Some(disk) = &self.disk {
            let file = disk.display();
            command.arg("-drive").arg(format!("file={file},format=raw,if=none,id=d,discard=unmap"));
            command.args(["-device", "virtio-blk-device,drive=d"]);
        }
        command.arg("-kernel").arg(self.folder.join("vmlinuz"));
        command.arg("-initrd").arg(self.folder.join(self.initrd));
        command.arg("-append").arg(self.words());
        command
    }
}

/// A port of the host's loopback that nobody has now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
