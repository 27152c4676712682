//! The lab: real KVM on a machine whose own KVM cannot be trusted or is missing, and a Mac's
//! compiler on a machine that is not a Mac.
//!
//! `lab x86_64` and `lab aarch64` boot Debian's kernel in QEMU, which emulates a processor with SVM or
//! with EL2, and run the workspace's tests on the KVM inside. `lab lints` lints every crate for other targets with
//! Debian's Rust, and `lab darwin` links for one. `lab fuzz` and `lab coverage` attack and measure on this
//! machine itself. The same program, started by the lab's `/init`, runs
//! the tests inside (`agent`).

mod agent;
mod applevisor;
mod architecture;
mod bench;
mod binaries;
mod boots;
mod builder;
mod bzimage;
mod cache;
mod command;
mod coverage;
mod cpio;
mod darwin;
mod evidence;
mod foreign;
mod fuzz;
mod gates;
mod guest;
mod lab;
mod linux;
mod mac;
mod oracle;
mod packages;
mod payloads;
mod processors;
mod protocol;
mod pulse;
mod queue;
mod results;
mod skips;
mod soak;
mod tally;
mod toolchain;
mod tools;
mod uhyve;
mod workspace;

use architecture::{AARCH64, X86_64};
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
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot Linux with KVM in QEMU and run the tests of hv-kvm and tests/vm there
    #[command(name = "x86_64")]
    X86_64 {
        /// Run only what has this text in its name, as printed (`hv-kvm`, `kick`, `gate`)
        filter: Option<String>,
    },
    /// The same on arm64
    Aarch64 {
        /// Run only what has this text in its name, as printed
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
    /// Compare the user-mode network and tap devices with those of the QEMU that is installed, in the same
    /// machine
    Bench {
        /// Measure only what has this text in its name, as printed (`tap: `, `8 connections`)
        filter: Option<String>,
    },
    /// Compare runner with crates.io's uhyve, in the same machine: output, status, first byte, memory
    Uhyve {
        /// A Hermit unikernel [one of our own]
        kernel: Option<PathBuf>,
    },
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
    /// Run the tests of crates.io's applevisor over our stand-in for Apple's framework, on arm64
    Applevisor {
        /// Run only what has this text in its name
        filter: Option<String>,
    },
    /// Lint every crate for aarch64-apple-darwin and aarch64-unknown-linux-gnu
    Lints,
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
    let result = match Cli::parse().command {
        Command::X86_64 { filter } => lab::run(&X86_64, filter.as_deref().unwrap_or_default()),
        Command::Aarch64 { filter } => lab::run(&AARCH64, filter.as_deref().unwrap_or_default()),
        Command::Soak { what, rounds } => soak::run(what, rounds),
        Command::Bench { filter } => bench::run(filter.as_deref().unwrap_or_default()),
        Command::Uhyve { kernel } => uhyve::run(kernel.as_deref()),
        Command::Oracle { filter } => oracle::run(filter.as_deref().unwrap_or_default()),
        Command::Darwin => darwin::run(),
        Command::Mac { stand_in, report } => mac::run(stand_in, report),
        Command::Applevisor { filter } => applevisor::run(filter.as_deref().unwrap_or_default()),
        Command::Lints => foreign::lint(&foreign::TARGETS),
        Command::Fuzz { seconds, filter } => {
            fuzz::run(seconds, filter.as_deref().unwrap_or_default())
        }
        Command::Coverage => coverage::run(),
        Command::Agent { plan, reports } => agent::run(&plan, &reports),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("lab: {sentence}");
            ExitCode::FAILURE
        }
    }
}
