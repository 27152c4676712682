//! `lab oracle`: the tests of the network, whose guests QEMU runs with its user network. What runner's is
//! made after passes the same tests, but for what a test names as a difference.
//!
//! On this machine and emulated, in namespaces that have no other network than the tests'.

use crate::architecture::X86_64;
use crate::command::{self, Result};
use crate::guest::OUTSIDE;
use crate::lab::Lab;
use crate::protocol::Job;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// How the names of these tests begin.
const TESTS: &str = "linux::net::";

/// Runs those that have `filter` in their names.
pub(crate) fn run(filter: &str) -> Result<()> {
    let lab = Lab::prepare(&X86_64)?;
    let (mut passed, mut failed) = (0, 0);
    let wanted = [TESTS, filter];
    for job in lab.jobs_with(&wanted) {
        let begin = Instant::now();
        let mut command = in_namespaces(job, &lab.busybox());
        let output = command.output().map_err(|e| command::cannot_start(&command, &e))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let milliseconds = begin.elapsed().as_millis();
        match output.status.success() {
            true => {
                passed += 1;
                println!("test {} ... ok ({milliseconds} ms)", job.name);
                let worth = |line: &&str| {
                    ["differs: ", "measured: ", "skipped: "]
                        .iter()
                        .any(|word| line.starts_with(word))
                };
                text.lines().filter(worth).for_each(|line| println!("    | {line}"));
            }
            false => {
                failed += 1;
                println!("test {} ... FAILED ({milliseconds} ms)", job.name);
                let errors = String::from_utf8_lossy(&output.stderr);
                text.lines().chain(errors.lines()).for_each(|line| println!("    | {line}"));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        Ok(())
    } else {
        Err("the oracle does not pass its tests".to_owned())
    }
}

/// With the guests' `ping`, which this machine need not have.
fn in_namespaces(job: &Job, busybox: &Path) -> Command {
    let script = format!(
        "resolver=$(mktemp) && echo nameserver 127.0.0.1 >$resolver && \
         mount --bind $resolver /etc/resolv.conf && rm $resolver || exit\n\
         mount -t tmpfs none /mnt && ln -s $BUSYBOX /mnt/ping && PATH=$PATH:/mnt || exit\n\
         {OUTSIDE}\nexec \"$@\""
    );
    let mut command = Command::new("timeout");
    command
        .args(["240", "unshare", "-rmn", "sh", "-c", &script, "sh"])
        .arg(&job.program)
        .args(&job.arguments);
    command.envs(job.environment.iter().map(|(name, value)| (name, value)));
    command.env("BUSYBOX", busybox);
    command.env("RUNNER_NET_ORACLE", "tcg").current_dir(&job.directory);
    command
}
