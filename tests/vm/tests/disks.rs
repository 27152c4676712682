//! Disks, as a guest's driver and the files on the host see them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

#[cfg(target_arch = "x86_64")]
use super::support::files::ops_image;
use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{runner, says};
use super::support::qcow2;

const SECTOR: usize = 512;

/// A disk whose every byte is `0x5a`.
fn disk(folder: &Folder, name: &str) -> PathBuf {
    folder.file(name, [0x5a; 8 * SECTOR])
}

/// A run of `guest` with `disks`, each a path with or without `,ro`.
fn with_disks(guest: &str, disks: &[String]) -> Vec<String> {
    let mut args: Vec<String> = disks.iter().map(|disk| format!("--disk={disk}")).collect();
    args.push(kernel(guest).display().to_string());
    args
}

/// What is on a disk whose sector 1 alone was written, with `word` over and over.
fn written(word: &[u8; 8]) -> Vec<u8> {
    let mut bytes = vec![0x5a; 8 * SECTOR];
    bytes[SECTOR..2 * SECTOR].copy_from_slice(&word.repeat(SECTOR / 8));
    bytes
}

#[test]
fn what_a_guest_writes_and_flushes_is_in_the_file_and_nothing_else_is() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img");
    let finished = runner(with_disks("disk", &[path.display().to_string()])).ends_with(0);
    assert_eq!(finished.quiet_text(), "");
    assert_eq!(fs::read(path).unwrap(), written(b"runner!\n"));
}

#[test]
fn a_read_only_disk_refuses_to_be_written() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img");
    let finished = runner(with_disks("disk", &[format!("{},ro", path.display())])).ends_with(32);
    assert_eq!(finished.quiet_text(), "");
    assert_eq!(fs::read(path).unwrap(), [0x5a; 8 * SECTOR]);
}

#[test]
fn every_disk_stands_where_the_command_line_says() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let disks: Vec<PathBuf> = (0..8).map(|n| disk(&folder, &format!("{n}.img"))).collect();
    let names: Vec<String> = disks.iter().map(|path| path.display().to_string()).collect();
    // The guest drives the first device that is named.
    runner(with_disks("disk", &names)).ends_with(0);
    assert_eq!(fs::read(&disks[0]).unwrap(), written(b"runner!\n"));
    for path in &disks[1..] {
        assert_eq!(fs::read(path).unwrap(), [0x5a; 8 * SECTOR]);
    }
    let mut nine = names.clone();
    nine.push(disk(&folder, "8.img").display().to_string());
    let why = runner(with_disks("disk", &nine)).refused();
    assert!(why.contains("9 disks") && why.contains("room for 8"), "{why}");
}

#[test]
fn a_write_that_the_guest_did_not_wait_for_is_on_the_disk_when_the_run_is_over() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img");
    for _ in 0..10 {
        fs::write(&path, [0x5a; 8 * SECTOR]).unwrap();
        runner(with_disks("disk_last_write", &[path.display().to_string()])).ends_with(0);
        assert_eq!(fs::read(&path).unwrap(), written(b"the last"));
    }
}

#[test]
fn a_chain_without_an_end_stops_the_device_until_it_is_reset_and_not_the_vm() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img");
    let finished = runner(with_disks("disk_loop", &[path.display().to_string()])).ends_with(0);
    let name = path.display();
    assert_eq!(
        finished.stderr,
        format!(
            "runner: disk0 ({name}): stopped until the driver resets it: \
             the chain at descriptor 0: it has no end\n"
        )
    );
}

#[test]
fn a_write_that_the_host_refuses_is_the_guests_io_error_and_the_vm_goes_on() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img");
    // No file may be written at all: EFBIG for whom SIGXFSZ does not kill.
    let limited = ["sh", "-c", "ulimit -f 0; exec \"$0\" \"$@\""];
    let run = runner(with_disks("disk", &[path.display().to_string()])).by(limited);
    // The step of the guest that looks at the status byte of its write.
    let finished = run.ends_with(12);
    let wanted = format!("runner: disk0 ({}): write at byte 512: File too large", path.display());
    assert!(finished.stderr.starts_with(&wanted), "{finished}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    assert_eq!(fs::read(path).unwrap(), [0x5a; 8 * SECTOR]);
}

#[test]
fn a_disk_in_use_is_refused_and_the_message_names_the_process() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img").display().to_string();
    let read_only = format!("{path},ro");
    let mut first = runner(with_disks("spin", std::slice::from_ref(&path))).start();
    first.wait_for("running\n");
    for second in [&path, &read_only] {
        let why = runner(with_disks("disk", std::slice::from_ref(second))).refused();
        let holder = format!("{path}: in use by runner (pid {})", first.id());
        assert!(why.starts_with(&holder), "{why}");
        says(&why, &["with --ephemeral", "run a copy"]);
    }
    drop(first);
    runner(with_disks("disk", &[path])).ends_with(0);
}

#[test]
#[cfg(target_arch = "x86_64")] // which the image is for
fn an_image_in_use_is_refused_too() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let image = folder.file("web.img", ops_image("tfs-v5-go-bios")).display().to_string();
    let mut first = runner(with_disks("spin", std::slice::from_ref(&image))).start();
    first.wait_for("running\n");
    let why = runner([&image]).refused();
    assert!(why.contains(&format!("runner (pid {})", first.id())), "{why}");
    drop(first);
    runner([&image]).ends_with(7);
}

#[test]
fn guests_share_a_disk_that_none_of_them_writes() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img").display().to_string();
    let read_only = format!("{path},ro");
    let mut first = runner(with_disks("spin", &[read_only.clone(), read_only.clone()])).start();
    first.wait_for("running\n");
    runner(with_disks("disk", &[read_only])).ends_with(32);
    let why = runner(with_disks("disk", &[path])).refused();
    assert!(why.contains(&format!("runner (pid {})", first.id())), "{why}");
}

#[test]
fn what_a_guest_writes_to_an_ephemeral_disk_is_read_back_and_gone_after_the_run() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let finished = runner(with_disks("disk", &[path.display().to_string()])).arg("--ephemeral");
    assert_eq!(finished.ends_with(0).quiet_text(), "");
    assert_eq!(fs::read(&path).unwrap(), [0x5a; 8 * SECTOR]);
    // What is read-only stays so.
    let read_only = with_disks("disk", &[format!("{},ro", path.display())]);
    runner(read_only).arg("--ephemeral").ends_with(32);
}

#[test]
fn ephemeral_runs_share_a_disk_with_each_other_and_with_nobody_who_writes_it() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img").display().to_string();
    let run = |guest, path: &String| runner(with_disks(guest, std::slice::from_ref(path)));
    let mut first = run("spin", &path).arg("--ephemeral").start();
    first.wait_for("running\n");
    for _ in 0..3 {
        run("disk", &path).arg("--ephemeral").ends_with(0);
    }
    run("disk", &format!("{path},ro")).ends_with(32);
    says(&run("disk", &path).refused(), &["run both with --ephemeral"]);
    drop(first);
    let mut writer = run("spin", &path).start();
    writer.wait_for("running\n");
    let why = run("disk", &path).arg("--ephemeral").refused();
    says(&why, &[&format!("runner (pid {})", writer.id()), "start that with --ephemeral, too"]);
}

#[test]
#[cfg(target_arch = "x86_64")] // as above
fn an_ops_image_runs_twice_at_once_when_ephemeral() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let image = folder.file("web.img", ops_image("tfs-v5-go-bios"));
    let name = image.display().to_string();
    let before = fs::read(&image).unwrap();
    let mut first =
        runner(with_disks("spin", std::slice::from_ref(&name))).arg("--ephemeral").start();
    first.wait_for("running\n");
    runner(["--ephemeral", &name]).ends_with(7);
    let config = folder.file("runner.json", r#"{"Runner": {"Ephemeral": true}}"#);
    runner(["-c", &config.display().to_string(), &name]).ends_with(7);
    assert!(fs::read(&image).unwrap() == before);
}

#[test]
fn a_place_for_ephemeral_writes_that_will_not_do_is_named_with_the_remedy() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img").display().to_string();
    let run = || runner(with_disks("disk", std::slice::from_ref(&path))).arg("--ephemeral");
    let why = run().env("TMPDIR", "/nowhere").refused();
    assert!(why.starts_with("/nowhere: --ephemeral needs a file there"), "{why}");
    says(&why, &["TMPDIR"]);
    // Room for the file's length is room for nothing in it.
    let limited = ["sh", "-c", "ulimit -f 0; exec \"$0\" \"$@\""];
    says(&run().by(limited).refused(), &["--ephemeral needs", "File too large", "TMPDIR"]);
}

#[test]
fn eight_ephemeral_disks_keep_their_order() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let disks: Vec<String> =
        (0..8).map(|n| disk(&folder, &format!("{n}.img")).display().to_string()).collect();
    let finished = runner(with_disks("disk", &disks)).arg("--ephemeral").arg("-v").ends_with(0);
    let lines = finished.stderr.lines().filter(|line| line.contains("virtio-mmio"));
    let named: Vec<String> = lines.map(str::to_owned).collect();
    assert_eq!(named.len(), 8, "{finished}");
    for ((index, line), path) in (0..).zip(&named).zip(&disks) {
        says(line, &[&format!("device: disk{index},"), path, "ephemeral, written to /"]);
    }
}

#[test]
fn one_file_as_two_disks_is_refused_when_it_can_be_written() {
    let folder = Folder::new();
    let path = disk(&folder, "d.img").display().to_string();
    or_skip!(accelerator());
    let why = runner(with_disks("disk", &[path.clone(), path])).refused();
    assert!(why.contains("two disks of this guest"), "{why}");
}

#[test]
fn an_image_that_is_named_as_qcow2_is_read_by_many_guests_and_written_by_none() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for image in [qcow2::image(&[0x5a; 8 * SECTOR]), qcow2::compressed(&[0x5a; 8 * SECTOR])] {
        let path = folder.file("d.qcow2", &image).display().to_string();
        let as_qcow2 = |more: &str| format!("{path}{more},format=qcow2");
        let mut first = runner(with_disks("spin", &[as_qcow2(",ro")])).start();
        first.wait_for("running\n");
        runner(with_disks("disk", &[as_qcow2(",ro")])).ends_with(32);
        let finished = runner(with_disks("disk", &[as_qcow2("")])).arg("--ephemeral").ends_with(0);
        assert_eq!(finished.quiet_text(), "");
        let why = runner(with_disks("disk", &[as_qcow2("")])).refused();
        says(&why, &[&path, "read here, and not written", ",ro", "--ephemeral", "-O raw"]);
        assert!(fs::read(&path).unwrap() == image);
    }
    let odd = folder.file("odd.qcow2", qcow2::image(&[0x5a; 1000])).display().to_string();
    let why = runner(with_disks("disk", &[format!("{odd},ro,format=qcow2")])).refused();
    says(&why, &[&odd, "1000 bytes", "-O raw"]);
}

#[test]
fn a_raw_disk_stays_raw_whatever_it_begins_with() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let image = qcow2::image(&[0x33; 8 * SECTOR]);
    let path = folder.file("d.qcow2", &image);
    for option in ["", ",format=raw"] {
        fs::write(&path, &image).unwrap();
        let disk = format!("{}{option}", path.display());
        runner(with_disks("disk", std::slice::from_ref(&disk))).ends_with(0);
        let mut wanted = image.clone();
        wanted[SECTOR..2 * SECTOR].copy_from_slice(&b"runner!\n".repeat(SECTOR / 8));
        assert!(fs::read(&path).unwrap() == wanted);
    }
}

/// A QEMU with a disk and a guest that never runs. It is killed when this value goes.
struct Qemu(Child);

impl Qemu {
    /// Starts it. `options` go behind the disk's.
    fn start(disk: &str, options: &str) -> Result<Self, String> {
        const PROGRAM: &str = "qemu-system-x86_64";
        let mut command = Command::new(PROGRAM);
        command.args("-M microvm -accel tcg -m 16 -nodefaults -display none -S".split(' '));
        command.args(["-monitor", "stdio", "-device", "virtio-blk-device,drive=d", "-drive"]);
        command.arg(format!("file={disk},format=raw,if=none,id=d{options}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map(Self).map_err(|error| format!("{PROGRAM}: {error}"))
    }

    /// Waits until it has its devices and answers on its monitor; or for its end, whose reason is
    /// the error.
    fn wait(&mut self) -> Result<(), String> {
        // Fails for a QEMU that has ended, as does the rest then.
        let _ = self.0.stdin.as_mut().unwrap().write_all(b"info status\n");
        let stdout = BufReader::new(self.0.stdout.as_mut().unwrap());
        if stdout.lines().any(|line| line.unwrap().starts_with("VM status:")) {
            return Ok(());
        }
        let mut why = String::new();
        self.0.stderr.as_mut().unwrap().read_to_string(&mut why).unwrap();
        Err(why)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn runner_and_qemu_keep_each_other_from_a_disk_that_one_of_them_writes() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = disk(&folder, "d.img").display().to_string();
    let read_only = format!("{path},ro");
    {
        let mut writer = or_skip!(Qemu::start(&path, ""));
        writer.wait().unwrap();
        for ours in [&path, &read_only] {
            let why = runner(with_disks("disk", std::slice::from_ref(ours))).refused();
            says(&why, &["in use by qemu-system-x86 (pid ", &writer.0.id().to_string()]);
        }
    }
    {
        let mut reader = Qemu::start(&path, ",readonly=on").unwrap();
        reader.wait().unwrap();
        runner(with_disks("disk", std::slice::from_ref(&path))).refused();
        runner(with_disks("disk", std::slice::from_ref(&read_only))).ends_with(32);
    }
    let mut ours = runner(with_disks("spin", &[read_only])).start();
    ours.wait_for("running\n");
    Qemu::start(&path, ",readonly=on").unwrap().wait().unwrap();
    let why = Qemu::start(&path, "").unwrap().wait().unwrap_err();
    says(&why, &["lock"]);
    drop(ours);
    let mut ours = runner(with_disks("spin", std::slice::from_ref(&path))).start();
    ours.wait_for("running\n");
    for options in ["", ",readonly=on"] {
        says(&Qemu::start(&path, options).unwrap().wait().unwrap_err(), &["lock"]);
    }
}
