//! Debian's kernel as a guest: what it finds, how it ends, and what its file systems go through.
//!
//! The lab names a folder with the kernel in RUNNER_LAB_GUESTS (tests/lab/src/linux.rs); what
//! happens inside is said by the scripts in tests/vm/data/linux.

#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64.rs")]
mod arch;
mod devices;
mod disk;
mod ends;
#[cfg(target_arch = "aarch64")]
mod every;
mod faults;
mod idle;
mod machine;
mod net;
#[cfg(target_arch = "x86_64")]
mod payloads;
#[cfg(target_arch = "x86_64")]
mod pci;
mod shares;
mod vsock;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::host::accelerator;
use super::support::program::{Finished, Runner, runner};
use arch::{CONSOLE, Kernel};
use peer::monitor::WORDS;

/// Debian's kernel, initrd and tools.
#[derive(Debug)]
struct Debian(PathBuf);

impl Debian {
    /// What the lab has prepared.
    fn find() -> Result<Self, String> {
        accelerator()?;
        match env::var_os("RUNNER_LAB_GUESTS") {
            Some(folder) => Ok(Self(folder.into())),
            None => Err("Debian's kernel is the lab's, which names it in RUNNER_LAB_GUESTS".into()),
        }
    }

    /// `runner` with the kernel and a job of its init.
    fn boot(&self, kernel: Kernel, args: &[&str], job: &str) -> Runner {
        self.boot_with("initrd", kernel, args, job)
    }

    /// The same with another of the ram disks.
    fn boot_with(&self, initrd: &str, kernel: Kernel, args: &[&str], job: &str) -> Runner {
        let (file, entry) = kernel.file();
        runner(args.iter().copied().chain(entry))
            .arg("--initrd")
            .arg(self.0.join(initrd))
            .arg("--append")
            .arg(format!("console={CONSOLE} {WORDS} -- {job}"))
            .arg(self.0.join(file))
    }

    /// `runner` with Debian's kernel for any machine and a job of its init.
    fn boot_general(&self, args: &[&str], job: &str) -> Runner {
        runner(args)
            .arg("--initrd")
            .arg(self.0.join("general/initrd"))
            .arg("--append")
            .arg(format!("console={CONSOLE} {WORDS} -- {job}"))
            .arg(self.0.join("general/vmlinuz"))
    }

    /// [`Self::boot`] to its end, which has to be the job's own.
    fn does(&self, kernel: Kernel, args: &[&str], job: &str) -> Finished {
        done(self.boot(kernel, args, job).run())
    }

    /// One of the tools for disks, as a program of the host.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join("ld.so"));
        command.arg("--library-path").arg(&self.0).arg(self.0.join(name));
        command
    }

    /// Makes an ext4 with a journal, of 16 MiB.
    fn make_ext4(&self, disk: &Path) {
        let mut command = self.tool("mke2fs");
        command.args(["-q", "-F", "-t", "ext4", "-J", "size=4"]).arg(disk).arg("16M");
        let made = command.output().unwrap();
        assert!(made.status.success(), "mke2fs: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// What is wrong with an ext4 once its journal has been replayed: nothing, or what e2fsck says.
    /// On a copy: the journal is the guest's to replay.
    fn check_ext4(&self, disk: &Path) -> Result<(), String> {
        let copy = disk.with_extension("copy");
        std::fs::copy(disk, &copy).unwrap();
        for how in [&["-E", "journal_only", "-y"][..], &["-f", "-n"]] {
            let output = self.tool("e2fsck").args(how).arg(&copy).output().unwrap();
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stdout);
                return Err(format!("e2fsck {}: {}\n{said}", how.join(" "), output.status));
            }
        }
        Ok(())
    }
}

/// A run that has ended as its job ends when all is well.
fn done(finished: Finished) -> Finished {
    assert_eq!(arch::end(&finished).0, Some(0), "{finished}");
    finished
}

/// The same, of which runner had nothing to say.
fn quietly(finished: Finished) -> Finished {
    assert_eq!(arch::end(&finished), (Some(0), ""), "{finished}");
    finished
}

/// The values of the lines of a job that begin with `name: `.
fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.trim_end().strip_prefix(name)?.strip_prefix(": ");
    text.lines().filter_map(value).collect()
}

/// The one value that is a number.
fn number(text: &str, name: &str) -> u64 {
    match values(text, name).as_slice() {
        [value] => value.split(' ').next().unwrap().parse().unwrap(),
        other => panic!("{name}: {other:?} in {text}"),
    }
}
