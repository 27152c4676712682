//! The lab: real KVM on a machine whose own KVM cannot be trusted or is missing, and a Mac's
//! compiler on a machine that is not a Mac.
//!
//! `lab x86_64` boots Debian's kernel in QEMU, which emulates an AMD CPU with SVM, and runs the
//! workspace's tests on the `kvm-amd` inside. `lab darwin` and `lab aarch64-linux` lint every
//! crate for those targets with Debian's Rust. `lab fuzz` and `lab coverage` attack and measure on this
//! machine itself. The same program, started by the lab's `/init`, runs
//! the tests inside (`agent`).

mod agent;
mod bench;
mod binaries;
mod boots;
mod bzimage;
mod cache;
mod command;
mod coverage;
mod cpio;
mod darwin;
mod foreign;
mod fuzz;
mod gates;
mod guest;
mod linux;
mod mac;
mod oracle;
mod packages;
mod protocol;
mod results;
mod skips;
mod soak;
mod tally;
mod tools;
mod x86_64;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the tests on real KVM inside QEMU, and lints for platforms this machine is not.
#[derive(Debug, Parser)]
#[command(
    after_help = "Downloads are kept in $RUNNER_LAB_CACHE, or ${XDG_CACHE_HOME:-$HOME/.cache}/runner-lab."
)]
struct Cli {
    #[command(subcommand)]
    lab: Lab,
}

#[derive(Debug, Subcommand)]
enum Lab {
    /// Boot Linux with KVM in QEMU and run the tests of hv, hv-kvm, runner and tests/vm there
    #[command(name = "x86_64")]
    X86_64 {
        /// Run only what has this text in its name, as printed (`hv-kvm`, `kick`, `gate`)
        filter: Option<String>,
    },
    /// Do one thing many times over, in the same machine
    Soak {
        /// disk: kill runner while Linux writes, and look for what it had synced; net: thousands of
        /// connections, and look for what is left of them
        what: soak::What,
        /// How often
        rounds: u32,
    },
    /// Compare the user-mode network with that of the QEMU that is installed, in the same machine
    Bench,
    /// Run the tests of the network with QEMU's user network in the place of runner's, here, emulated
    Oracle {
        /// Run only what has this text in its name
        filter: Option<String>,
    },
    /// Lint every crate for aarch64-apple-darwin, link runner for it, and count what only a Mac compiles
    Darwin,
    /// On a Mac: build, sign, run all there is over Hypervisor.framework, and write a report
    Mac {
        /// On any machine: what can be tried out without one
        #[arg(long)]
        stand_in: bool,
        /// Where to write the report [target/mac-report.md]
        report: Option<PathBuf>,
    },
    /// Lint every crate for aarch64-unknown-linux-gnu
    Aarch64Linux,
    /// Run every fuzz target for some time
    Fuzz {
        /// Seconds for each
        #[arg(default_value_t = fuzz::DEFAULT_SECONDS)]
        seconds: u32,
        /// Run only targets that have this text in their names
        filter: Option<String>,
    },
    /// Print which lines of parsers and devices the tests reach, and fail below the limits
    Coverage,
    /// Run a plan; only the lab's /init calls this
    #[command(hide = true)]
    Agent {
        /// The plan, written by the host
        plan: PathBuf,
        /// Where reports go, the second serial line
        reports: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().lab {
        Lab::X86_64 { filter } => x86_64::run(filter.as_deref().unwrap_or_default()),
        Lab::Soak { what, rounds } => soak::run(what, rounds),
        Lab::Bench => bench::run(),
        Lab::Oracle { filter } => oracle::run(filter.as_deref().unwrap_or_default()),
        Lab::Darwin => darwin::run(),
        Lab::Mac { stand_in, report } => mac::run(stand_in, report),
        Lab::Aarch64Linux => foreign::lint("aarch64-unknown-linux-gnu"),
        Lab::Fuzz { seconds, filter } => fuzz::run(seconds, filter.as_deref().unwrap_or_default()),
        Lab::Coverage => coverage::run(),
        Lab::Agent { plan, reports } => agent::run(&plan, &reports),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("lab: {sentence}");
            ExitCode::FAILURE
        }
    }
}
