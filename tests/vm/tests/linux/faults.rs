//! Disks that fail under a Linux that uses them: its errors, and not the end of the VM.

use std::fs::{self, File};
use std::path::PathBuf;

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::super::support::program::{Finished, says};
use super::{Debian, Kernel, done, quietly};

/// A disk of 32 MiB without a byte in it.
fn sparse(folder: &Folder) -> PathBuf {
    let path = folder.path().join("d.img");
    File::create(&path).unwrap().set_len(32 << 20).unwrap();
    path
}

/// The guest went on to its end, with I/O errors of its own, and runner has said `why` a few times.
fn lived(finished: &Finished, why: &str) {
    let text = finished.text();
    assert!(text.contains("alive") && text.contains("I/O error"), "{finished}");
    says(&finished.stderr, &["disk0", why]);
    let lines = finished.stderr.lines().count();
    assert!(lines <= 40, "{lines} lines: {finished}");
}

#[test]
fn a_full_file_system_below_a_disk_is_the_guests_io_error() {
    let debian = or_skip!(Debian::find());
    let folder = Folder::new();
    let disk = folder.path().join("small/d.img").display().to_string();
    // Who may mount is root in a namespace that has no other user; runner is not to be root there.
    let script = "mkdir small && mount -t tmpfs -o size=4m none small && \
                  truncate -s 32M small/d.img && exec unshare -U \"$@\"";
    let small = ["unshare", "-rm", "sh", "-c", script, "sh"];
    let run = debian.boot(Kernel::ALL[0], &["-m", "256", "--disk", &disk], "fill");
    let finished = done(run.by(small).within(folder.path()).run());
    lived(&finished, "No space left on device");
}

#[test]
fn a_file_that_shrinks_is_the_guests_io_error() {
    let debian = or_skip!(Debian::find());
    let folder = Folder::new();
    let disk = sparse(&folder);
    let args = ["-m", "256", "--disk", &disk.display().to_string()];
    let mut running = debian.boot(Kernel::ALL[Kernel::ALL.len() - 1], &args, "shrink").start();
    running.wait_until_it_says("ready\r\n");
    File::options().write(true).open(&disk).unwrap().set_len(1 << 20).unwrap();
    lived(&done(running.finish()), "disk0");
}

#[test]
fn a_read_only_disk_is_read_and_not_written() {
    let debian = or_skip!(Debian::find());
    let folder = Folder::new();
    let disk = folder.path().join("d.img");
    debian.make_ext4(&disk);
    let before = fs::read(&disk).unwrap();
    let option = format!("{},ro", disk.display());
    let args = ["-m", "256", "--disk", &option];
    let finished = quietly(debian.does(Kernel::ALL[0], &args, "read_only"));
    assert!(finished.text().contains("alive"), "{finished}");
    assert!(fs::read(&disk).unwrap() == before, "the file was written");
}

#[test]
fn a_driver_may_reset_a_disk_while_it_works_a_hundred_times() {
    let debian = or_skip!(Debian::find());
    let folder = Folder::new();
    let disk = sparse(&folder).display().to_string();
    let args = ["-m", "256", "--disk", &disk];
    let finished = quietly(debian.does(Kernel::ALL[0], &args, "rebind 100"));
    assert!(finished.text().contains("bound 100 times"), "{finished}");
}
