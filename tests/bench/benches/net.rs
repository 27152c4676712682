//! `lab bench`: a Linux on runner's user-mode network and on QEMU's, in one run.
//!
//! `cargo bench -p bench --bench net` does the same where KVM runs ordinary kernels, with RUNNER_BIN and
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

    use bench::net::{Host, print, round};
    use peer::monitor::{Machine, Monitor, QEMU};

    const ROUNDS: usize = 3;
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    pub(crate) fn main() -> ExitCode {
        match compare() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        }
    }

    fn compare() -> Result<(), String> {
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
        let host = Host::start(GATEWAY, None)?;
        let own = Monitor::Runner(runner.into());
        let peer = Monitor::Qemu { accelerator: "kvm" };
        let version = Command::new(QEMU).arg("--version").output();
        let version = version.map_err(|error| format!("skipped: {QEMU}: {error}"))?;
        let version = String::from_utf8_lossy(&version.stdout);
        println!("host: {}", class_of_host());
        println!(
            "peer: {}, microvm with its user network",
            version.lines().next().unwrap_or_default()
        );
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in 0..ROUNDS {
            let mut pair = [(&own, &mut ours), (&peer, &mut theirs)];
            if turn % 2 == 1 {
                pair.reverse();
            }
            for (monitor, values) in pair {
                values.push(round(monitor, &machine, &host)?);
            }
        }
        println!("median of {ROUNDS} rounds");
        print("QEMU", &theirs, &ours);
        Ok(())
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
