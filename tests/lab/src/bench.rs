//! `lab bench`: what compares networks and disks, in the lab, with the QEMU that is installed here as the peer.

use crate::architecture::X86_64;
use crate::command::{self, Result};
use crate::guest::{Clock, Guest};
use crate::lab::Lab;
use crate::protocol::{End, Job, Plan, Report};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Four boots of Linux for each of two monitors, three times.
const TIME: Duration = Duration::from_secs(40 * 60);

/// The machine's number.
const NUMBER: usize = 9;

/// What QEMU reads at its start.
const FIRMWARE: [&str; 2] = ["/usr/share/qemu", "/usr/share/seabios"];

/// Runs it, as far as names have `filter` in them, and prints what it prints.
pub(crate) fn run(filter: &str) -> Result<()> {
    let mut lab = Lab::prepare(&X86_64)?;
    lab.add_fio()?;
    let program = lab.builder().bench("linux")?;
    let mut files = lab.runner_and_guests();
    files.extend(qemu()?);
    files.push(program.clone());
    let job = Job { arguments: vec![filter.to_owned()], ..lab.program("linux", program, TIME) };
    measure(&lab.guest(Clock::Host, TIME), job, &files)
}

/// Runs a comparison in `guest`, and prints what it prints.
pub(crate) fn measure(guest: &Guest<'_>, job: Job, files: &[PathBuf]) -> Result<()> {
    let plan = Plan { jobs: vec![job] };
    let mut ended = None;
    // Not one of those that tests use: both may run at once.
    let guest = Guest { number: NUMBER, ..*guest };
    let result = guest.run(&plan, files, |report| {
        if let Report::Finished { outcome, .. } = report {
            println!("{}", outcome.output);
            ended = Some(outcome.end.clone());
        }
    });
    result?;
    match ended {
        Some(End::Exited(0)) => Ok(()),
        other => Err(format!("the comparison ended with {other:?}")),
    }
}

/// QEMU as it is installed, with its libraries and its firmware.
fn qemu() -> Result<BTreeSet<PathBuf>> {
    let program = PathBuf::from("/usr/bin").join(X86_64.machine.qemu.name);
    let mut files = with_libraries(&program)?;
    for folder in FIRMWARE {
        let context = |e| format!("cannot read {folder}: {e}");
        let entries = fs::read_dir(folder).map_err(context)?.flatten();
        // Some are links to packages that are not there.
        files.extend(entries.map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    Ok(files)
}

/// A program of this machine's with its libraries.
pub(crate) fn with_libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = command::output(Command::new("ldd").arg(program).env("LC_ALL", "C"))?;
    let mut files = BTreeSet::from([program.to_owned()]);
    files.extend(libraries(&text));
    Ok(files)
}

/// The paths in what ldd(1) prints.
fn libraries(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let words = line.split_whitespace();
        words.map(Path::new).find(|word| word.is_absolute()).map(Path::to_owned)
    };
    text.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_named_by_their_paths() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)
\tlibpixman-1.so.0 => /lib/x86_64-linux-gnu/libpixman-1.so.0 (0x00007f)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f)
";
        let expected = ["/lib/x86_64-linux-gnu/libpixman-1.so.0", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(text), expected.map(PathBuf::from));
    }
}
