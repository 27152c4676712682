//! `lab bench`: a Linux on runner's devices and on QEMU's, in one run: the user-mode network, a tap device,
//! and a disk.
//!
//! `cargo bench -p bench --bench linux` does the same where KVM runs ordinary kernels, with RUNNER_BIN and
//! RUNNER_LAB_GUESTS set as the lab sets them.

fn main() -> std::process::ExitCode {
    imp::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))] // Debian's kernel is for KVM on x86_64
mod imp {
    pub(crate) fn main() -> std::process::ExitCode {
        println!("skipped: the guest is for KVM on x86_64");
        std::process::ExitCode::SUCCESS
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))] // see above
mod imp {
    use std::env;
    use std::net::Ipv4Addr;
    use std::path::PathBuf;
    use std::process::{Command, ExitCode};

    use bench::linux::rows::{Part, Row, chosen};
    use bench::linux::{Host, Values, disk, round, table};
    use peer::monitor::{HOST_ON_TAP, Link, Machine, Monitor, ON_TAP, QEMU};

    const ROUNDS: usize = 3;
    /// How often a round may fail.
    const HANGS: u32 = 2;
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    /// What this program is told when it has a network namespace to itself, before the filter.
    const IN_NAMESPACE: &str = "--in-namespace";

    /// The tap device of both monitors, one after the other.
    const TAP: &str = "tap7";

    /// Makes it, and becomes this program. `$1` is the device, `$2` the host's address on it.
    const TAP_SCRIPT: &str = "ip link set lo up && \
        { tunctl -t $1 >/dev/null 2>&1 || ip tuntap add $1 mode tap; } && \
        ip address add $2 dev $1 && ip link set $1 up && shift 2 && exec \"$@\"";

    pub(crate) fn main() -> ExitCode {
        bench::status(compare())
    }

    fn compare() -> Result<(), String> {
        let mut words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
        let inside = words.first().is_some_and(|word| word == IN_NAMESPACE);
        if inside {
            words.remove(0);
        }
        let filter = words.join(" ");
        let rows = [Part::User, Part::Tap, Part::Disk].map(|part| chosen(part, &filter));
        let [user, tap, disk] = &rows;
        if rows.iter().all(Vec::is_empty) {
            return Err(format!("no row of the table has `{filter}` in its name"));
        }
        let (Some(runner), Some(guests)) =
            (env::var_os("RUNNER_BIN"), env::var_os("RUNNER_LAB_GUESTS"))
        else {
            println!("skipped: Debian's kernel is the lab's; run `cargo run -p lab -- bench`");
            return Ok(());
        };
        rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            rustix::process::Rlimit { current: Some(4096), maximum: Some(4096) },
        )
        .map_err(|error| format!("4096 files: {error}"))?;
        let machine = Machine { memory: 512, ..Machine::new(&PathBuf::from(guests)) };
        let runner = Monitor::Runner(runner.into());
        if inside {
            let machine = Machine { link: Link::Tap(TAP.to_owned()), ..machine };
            return table(tap, round, &runner, &machine, HOST_ON_TAP);
        }
        introduce()?;
        if !user.is_empty() {
            table(user, round, &runner, &machine, GATEWAY)?;
        }
        if !disk.is_empty() {
            on_disk(disk, &runner, &machine)?;
        }
        if tap.is_empty() { Ok(()) } else { in_namespace(&filter) }
    }

    fn introduce() -> Result<(), String> {
        let version = Command::new(QEMU).arg("--version").output();
        let version = version.map_err(|error| format!("skipped: {QEMU}: {error}"))?;
        let version = String::from_utf8_lossy(&version.stdout);
        let version = version.lines().next().unwrap_or_default();
        println!("host: {}", class_of_host());
        println!(
            "peer: {version}, microvm with its user network, or virtio-net without vhost on tap; \
             virtio-blk, cache=writeback"
        );
        println!("median of {ROUNDS} rounds");
        Ok(())
    }

    /// With a disk in a folder that is gone afterwards.
    fn on_disk(rows: &[Row], runner: &Monitor, machine: &Machine) -> Result<(), String> {
        let folder = tempfile::tempdir().map_err(|error| format!("a folder: {error}"))?;
        let path = folder.path().join("disk.raw");
        disk::make(&path)?;
        let machine = Machine { disk: Some(path), initrd: disk::INITRD, ..machine.clone() };
        table(rows, disk::round, runner, &machine, GATEWAY)
    }

    /// One boot, or more, of one monitor.
    type Round = fn(&[Row], &Monitor, &Machine, &Host) -> Result<Values, String>;

    fn table(
        rows: &[Row],
        round: Round,
        runner: &Monitor,
        machine: &Machine,
        address: Ipv4Addr,
    ) -> Result<(), String> {
        let host = Host::start(address)?;
        let peer = Monitor::Qemu { accelerator: "kvm" };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in 0..ROUNDS {
            let mut pair = [(runner, &mut ours), (&peer, &mut theirs)];
            if turn % 2 == 1 {
                pair.reverse();
            }
            for (monitor, values) in pair {
                values.push(one_round(rows, round, monitor, machine, &host)?);
            }
        }
        table::print(rows, "QEMU", &theirs, &ours);
        Ok(())
    }

    /// One that succeeds. In the lab a guest hangs now and then, of either monitor (tests/lab/src/guest.rs).
    fn one_round(
        rows: &[Row],
        round: Round,
        monitor: &Monitor,
        machine: &Machine,
        host: &Host,
    ) -> Result<Values, String> {
        let mut left = HANGS;
        loop {
            match round(rows, monitor, machine, host) {
                Err(why) if left > 0 => println!("once more: {monitor:?}: {why}"),
                result => return result.map_err(|why| format!("{monitor:?}: {why}")),
            }
            left -= 1;
        }
    }

    /// Goes on in a namespace where a tap device may be made.
    fn in_namespace(filter: &str) -> Result<(), String> {
        let program = env::current_exe().map_err(|error| format!("this program: {error}"))?;
        let network = ON_TAP.split('/').nth(1).unwrap_or_default();
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", TAP_SCRIPT, "sh", TAP]);
        command.arg(format!("{HOST_ON_TAP}/{network}"));
        command.arg(program).args([IN_NAMESPACE, filter]);
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("over tap, in a namespace: {status}")),
            Err(error) => Err(format!("unshare: {error}")),
        }
    }

    fn class_of_host() -> &'static str {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        match env::var_os("RUNNER_LAB") {
            Some(_) => "emulated, one CPU for host and guest: only ratios count",
            None if processor.contains("hypervisor") => "a virtual machine",
            None => "hardware",
        }
    }
}
