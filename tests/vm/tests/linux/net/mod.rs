//! A Linux on the network of runner: what it gets, what it reaches, who reaches it, and what is left when
//! connections, guests and drivers come to an end.
//!
//! The world outside is on the loopback of the lab (tests/lab/src/outside.sh): 192.0.2.1 and 2001:db8::1 are
//! a host in it, and 169.254.169.254 has a cloud's secrets. With `RUNNER_NET_ORACLE` set to `tcg` or `kvm` the same tests
//! drive QEMU's user network; where that differs, the tests say how and why ([`Lan::differs`]).

mod addresses;
mod connections;
mod ends;
mod load;
mod pci;
mod six;
mod tap;
mod tools;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use peer::dns;
use peer::guest::Guest;
use peer::monitor::{Link, Machine, Monitor, free_port};
use peer::serve::Server;

use super::super::support::host::accelerator;
use super::super::support::program::path;

/// A host of the world outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Where clouds keep the credentials of their machines.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Where `peer` listens in the guest.
const PEER: u16 = 7;

/// The host's side: a server and a name server, who starts the guest, and with what.
struct Lan {
    monitor: Monitor,
    folder: PathBuf,
    server: Server,
}

impl Lan {
    /// What the lab has prepared.
    fn find() -> Result<Self, String> {
        let folder = env::var_os("RUNNER_LAB_GUESTS");
        let folder =
            folder.ok_or("Debian's kernel is the lab's, which names it in RUNNER_LAB_GUESTS")?;
        let monitor = match env::var("RUNNER_NET_ORACLE").as_deref() {
            Ok("tcg") => Monitor::Qemu { accelerator: "tcg" },
            Ok(_) => Monitor::Qemu { accelerator: "kvm" },
            Err(_) => {
                accelerator()?;
                Monitor::Runner(path())
            }
        };
        // A thousand connections, each with two ends here.
        rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            rustix::process::Rlimit { current: Some(4096), maximum: Some(4096) },
        )
        .map_err(|error| format!("4096 files: {error}"))?;
        let server = Server::start((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        dns::start((Ipv4Addr::LOCALHOST, 53).into()).unwrap();
        Ok(Self { monitor, folder: folder.into(), server })
    }

    fn is_qemu(&self) -> bool {
        matches!(self.monitor, Monitor::Qemu { .. })
    }

    /// A machine of one processor, with the host's loopback open and nothing forwarded.
    fn machine(&self) -> Machine {
        Machine::new(&self.folder)
    }

    fn start(&self, machine: &Machine) -> Guest {
        Guest::start(machine.command(&self.monitor)).unwrap()
    }

    /// The server's address for a guest, by way of `host`.
    fn at(&self, host: Ipv4Addr) -> SocketAddrV4 {
        SocketAddrV4::new(host, self.server.port())
    }

    /// Ends a guest whose monitor has nothing to say.
    fn end(&self, guest: Guest) {
        let said = guest.end().unwrap();
        assert!(self.is_qemu() || said.is_empty(), "{said}");
    }

    /// What holds for runner, and not for QEMU, for this reason.
    fn differs(&self, holds: bool, reason: &str) {
        match self.is_qemu() {
            true => {
                assert!(!holds, "QEMU does not differ any more: {reason}");
                println!("differs: {reason}");
            }
            false => assert!(holds, "{reason}"),
        }
    }
}

/// The machine with ports of the guest forwarded for TCP and UDP, and where they are on the host.
fn forwarded(machine: Machine, ports: &[u16]) -> (Machine, Vec<SocketAddr>) {
    let host: Vec<u16> = ports.iter().map(|_| free_port().unwrap()).collect();
    let list: Vec<_> = host.iter().copied().zip(ports.iter().copied()).collect();
    let link = match machine.link {
        Link::User { host_loopback, .. } => {
            Link::User { tcp: list.clone(), udp: list, host_loopback }
        }
        tap @ Link::Tap(_) => tap,
    };
    let addresses = host.into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
    (Machine { link, ..machine }, addresses)
}

/// What a process has that it might lose track of.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    threads: u64,
    /// Nothing where the process lets nobody look, as runner does in its jail.
    files: Option<usize>,
    /// KiB of memory that there may be: what the guest touches of its own is among it from the start.
    memory: u64,
}

impl Holdings {
    fn of(process: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let fields: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once(':')).collect();
        let number = |name: &str| {
            let value = fields.get(name).unwrap().split_whitespace().next().unwrap();
            value.parse::<u64>().unwrap()
        };
        let files = fs::read_dir(format!("/proc/{process}/fd")).ok().map(Iterator::count);
        Self { threads: number("Threads"), files, memory: number("VmData") }
    }

    /// Whether there is not more of anything than there was; a little memory is the allocator's.
    fn are_no_more_than(&self, before: &Self) -> bool {
        println!("measured: {before:?} before, {self:?} after");
        let more_files = self.files.zip(before.files).is_some_and(|(after, before)| after > before);
        self.threads <= before.threads && !more_files && self.memory <= before.memory + 8192
    }
}
