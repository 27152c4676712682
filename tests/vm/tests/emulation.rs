//! Runs without an accelerator, in an installed QEMU: the same guests, the same ends.

use std::fs;
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use super::support::files::{Folder, OPS_IMAGES, kernel, ops_image};
use super::support::or_skip;
use super::support::program::{Finished, Runner, Running, runner, says};
use super::support::qcow2;
use super::support::terminal::Terminal;

const QEMU: &str = "qemu-system-x86_64";

/// What every emulated run says first.
const NOTICE: &str = "running in software emulation (qemu-system-x86_64 ";

pub(super) fn qemu() -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("the guests are for x86_64".to_owned());
    }
    let found = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
    found.map(|_| ()).map_err(|error| format!("{QEMU}: {error}"))
}

fn emulated(guest: &str) -> Runner {
    runner(["--accel=off", "-m", "32"]).arg(kernel(guest))
}

/// What an emulated run said beside the one line that it is one.
fn said(finished: &Finished) -> &str {
    let (first, rest) = finished.stderr.split_once('\n').unwrap();
    assert!(first.starts_with("runner: --accel=off: ") && first.contains(NOTICE), "{finished}");
    assert!(!rest.contains(NOTICE), "{finished}");
    rest
}

/// A folder for `PATH` in which `script` is all the QEMU there is; its version is 1.2.3.
fn path_with_qemu(script: &str) -> Folder {
    let folder = Folder::new();
    let version = "[ \"$1\" = --version ] && { echo QEMU emulator version 1.2.3; exit; }";
    let text = format!("#!/bin/sh\n{version}\n{script}\n");
    // Copied by another process: a program that any process has open to write cannot start.
    let text = folder.file("script", text);
    let copied = Command::new("cp").arg(text).arg(folder.path().join(QEMU)).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy the script");
    folder.mode(QEMU, 0o755);
    folder
}

#[test]
fn hello_greets_and_says_what_runs_it() {
    or_skip!(qemu());
    let greeting = "Hello from a unikernel!\naccelerator: none (QEMU's software emulation)\n\
                    memory: 64 MiB\ncpus: 3\n";
    // The second as the documentation of OPS has it.
    for off in ["--accel=off", "--accel=false"] {
        let finished = runner([off, "-m", "64", "--cpus", "3", "hello"]).ends_with(0);
        assert_eq!((finished.text(), said(&finished)), (greeting, ""));
    }
}

#[test]
fn every_image_of_the_two_real_writers_ends_with_its_programs_status_when_emulated() {
    or_skip!(qemu());
    let folder = Folder::new();
    for name in OPS_IMAGES {
        let image = folder.file(name, ops_image(name));
        let finished = runner(["--accel=off"]).arg(image).ends_with(7);
        assert_eq!(finished.text(), "kernel from the boot file system\n");
        assert_eq!(said(&finished), "");
    }
}

#[test]
fn every_status_of_an_emulated_guest_is_the_processs() {
    or_skip!(qemu());
    let statuses: Vec<i32> = (0..=255).collect();
    for some in statuses.chunks(8) {
        let start = |status: &i32| emulated("exit").arg(format!("--append=exit={status}")).start();
        let running: Vec<_> = some.iter().map(start).collect();
        for (running, status) in running.into_iter().zip(some) {
            let finished = running.finish();
            assert_eq!((finished.status, said(&finished)), (Some(*status), ""), "{finished}");
        }
    }
}

#[test]
fn a_wide_exit_value_is_cut_to_8_bits_when_emulated() {
    or_skip!(qemu());
    let folder = Folder::new();
    let guest = emulated("exit").arg("--append=exit=263").arg("--report=r.json");
    guest.within(folder.path()).ends_with(7);
    let text = fs::read_to_string(folder.path().join("r.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["raw"], &report["status"]), (&7.into(), &7.into()), "{report}");
    assert_eq!((&report["accelerator"], &report["status_of"]), (&"none".into(), &"guest".into()));
}

#[test]
fn a_triple_fault_is_a_crash_and_a_reset_is_none() {
    or_skip!(qemu());
    let crash = emulated("triple_fault").ends_with(126);
    let message = "runner: the guest crashed: a triple fault\n";
    assert_eq!((crash.text(), said(&crash)), ("running\n", message));
    let reset = emulated("reset").ends_with(0);
    assert_eq!((reset.text(), said(&reset)), ("running\n", ""));
}

#[test]
fn the_time_ends_an_emulated_guest_that_spins_or_halts() {
    or_skip!(qemu());
    for guest in ["spin", "halt"] {
        let finished = emulated(guest).arg("--timeout=2s").ends_with(124);
        assert_eq!(finished.text(), "running\n");
        assert!(said(&finished).contains("--timeout"), "{finished}");
    }
}

#[test]
fn a_signal_ends_an_emulated_guest() {
    or_skip!(qemu());
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut running = emulated("spin").start();
        running.wait_for("running\n");
        running.signal(signal);
        let finished = running.finish();
        assert_eq!((finished.status, said(&finished)), (Some(status), ""), "{finished}");
    }
}

/// On Linux: macOS cannot tie a child to its parent.
#[test]
#[cfg(target_os = "linux")]
fn qemu_does_not_outlive_a_runner_that_is_killed() {
    or_skip!(qemu());
    let mut running = emulated("spin").start();
    running.wait_for("running\n");
    let runner = running.id();
    let children = fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).unwrap();
    let child = children.trim();
    let state = || {
        let text = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        text.rsplit_once(") ").map_or('X', |(_, rest)| rest.chars().next().unwrap())
    };
    assert!(!matches!(state(), 'X' | 'Z'), "{children:?}");
    running.signal(Signal::KILL);
    assert_eq!(running.finish().status, None);
    // Dead, and perhaps not yet fetched by whoever fetches orphans here.
    while !matches!(state(), 'X' | 'Z') {
        std::thread::yield_now();
    }
}

#[test]
fn an_emulated_guest_gets_its_input_and_loses_no_output_to_a_slow_reader() {
    or_skip!(qemu());
    let echoed = emulated("echo").input(b"to the guest\x04not this".as_slice()).ends_with(0);
    assert_eq!((echoed.text(), said(&echoed)), ("to the guest", ""));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let lines = 20_000; // more than all pipes on the way hold
    let running = emulated("flood").arg(format!("--append=line={lines}")).stdout(writer).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(running.finish().status, Some(0));
    let expected: String = (0..lines).map(|number| format!("{number:015}\n")).collect();
    assert!(text == expected, "{} bytes of {}", text.len(), expected.len());
}

#[test]
fn an_emulated_guest_has_a_keyboard_that_is_left_as_it_was() {
    or_skip!(qemu());
    let terminal = Terminal::new();
    let mut running = emulated("echo").arg("--stdin").stdin(terminal.line()).start();
    terminal.wait_until_raw();
    let text: Vec<u8> = (0..1024).flat_map(|line| format!("{line:014}\r\n").into_bytes()).collect();
    let (mut keyboard, paste) = (terminal.keyboard(), text.clone());
    thread::spawn(move || keyboard.write_all(&paste));
    running.wait_for("00000000001023\r\n");
    running.signal(Signal::TSTP);
    terminal.wait_until_as_found();
    running.signal(Signal::CONT);
    terminal.wait_until_raw();
    terminal.types(&[3, 4]);
    let finished = running.finish();
    assert_eq!(finished.status, Some(0), "{finished}");
    assert!(finished.stdout == [&text[..], &[3]].concat(), "{finished}");
    terminal.is_as_found();
}

#[test]
fn every_end_of_an_emulated_guest_leaves_the_terminal_as_it_was() {
    or_skip!(qemu());
    type End = fn(&Running, &Terminal);
    let ends: [(_, _, End, _); 4] = [
        ("spin", "1h", |_, terminal| terminal.types(b"not read\x1d"), 130),
        ("halt", "1h", |running, _| running.signal(Signal::TERM), 143),
        ("halt", "2s", |_, _| {}, 124),
        ("triple_fault", "1h", |_, _| {}, 126),
    ];
    for (guest, timeout, end, status) in ends {
        let terminal = Terminal::new();
        let run = emulated(guest).arg("--stdin").arg(format!("--timeout={timeout}"));
        let mut running = run.stdin(terminal.line()).start();
        running.wait_for("running\n");
        if guest != "triple_fault" {
            terminal.wait_until_raw();
        }
        end(&running, &terminal);
        let finished = running.finish();
        assert_eq!(finished.status, Some(status), "{finished}");
        terminal.is_as_found();
    }
}

#[test]
fn a_qemu_that_fails_leaves_the_terminal_as_it_was() {
    let folder = path_with_qemu("read key; exit 3");
    let terminal = Terminal::new();
    let run = emulated("hello").arg("--stdin").stdin(terminal.line()).env("PATH", folder.path());
    let running = run.start();
    terminal.wait_until_raw();
    terminal.types(b"\n");
    let finished = running.finish();
    assert_eq!(finished.status, Some(125), "{finished}");
    terminal.is_as_found();
}

#[test]
fn a_signal_ends_an_emulated_guest_whose_output_nobody_reads() {
    or_skip!(qemu());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let running = emulated("flood").arg("--append=line=100000").stdout(writer).start();
    reader.read_exact(&mut [0; 16]).unwrap();
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert_eq!((finished.status, said(&finished)), (Some(143), ""), "{finished}");
}

#[test]
fn an_emulated_guest_is_told_the_same_by_both_protocols() {
    or_skip!(qemu());
    let folder = Folder::new();
    let disk = folder.file("disk", "a ram disk");
    for guest in ["linux_info", "pvh_info"] {
        let run = emulated(guest).arg("--append=a line").arg("--initrd").arg(&disk).ends_with(0);
        let told = "command line: a line\nmemory: 32 MiB\nram disk: a ram disk\n";
        assert_eq!((run.text(), said(&run)), (told, ""));
    }
}

/// A disk whose every byte is `0x5a`, of eight sectors.
fn disk(folder: &Folder, name: &str) -> PathBuf {
    folder.file(name, [0x5a; 4096])
}

#[test]
fn an_emulated_guest_writes_its_disk_unless_it_is_read_only() {
    or_skip!(qemu());
    let folder = Folder::new();
    let path = disk(&folder, "d,file.locking=on.img");
    let with = |mode: &str| emulated("disk").arg(format!("--disk={}{mode}", path.display()));
    assert_eq!(said(&with(",ro").ends_with(32)), "");
    assert_eq!(fs::read(&path).unwrap(), [0x5a; 4096]);
    assert_eq!(said(&with("").ends_with(0)), "");
    let mut written = [0x5a; 4096];
    written[512..1024].copy_from_slice(&b"runner!\n".repeat(64));
    assert_eq!(fs::read(&path).unwrap(), written);
}

#[test]
fn an_emulated_disk_is_raw_unless_it_is_named_as_qcow2() {
    or_skip!(qemu());
    let folder = Folder::new();
    let image = qcow2::image(&[0x5a; 4096]);
    let path = folder.file("d", &image);
    let with = |mode: &str| emulated("disk").arg(format!("--disk={}{mode}", path.display()));
    assert_eq!(said(&with(",ro,format=qcow2").ends_with(32)), "");
    assert_eq!(said(&with(",format=qcow2").arg("--ephemeral").ends_with(0)), "");
    assert!(fs::read(&path).unwrap() == image);
    assert_eq!(said(&with("").ends_with(0)), "");
    let mut written = image;
    written[512..1024].copy_from_slice(&b"runner!\n".repeat(64));
    assert!(fs::read(&path).unwrap() == written);
}

#[test]
fn a_write_that_an_emulated_guest_did_not_wait_for_is_on_the_disk() {
    or_skip!(qemu());
    let folder = Folder::new();
    for round in 0..10 {
        let path = disk(&folder, &round.to_string());
        emulated("disk_last_write").arg(format!("--disk={}", path.display())).ends_with(0);
        assert_eq!(fs::read(&path).unwrap()[512..1024], b"the last".repeat(64));
    }
}

#[test]
fn what_an_emulated_guest_writes_to_an_ephemeral_disk_is_gone_after_the_run() {
    or_skip!(qemu());
    let folder = Folder::new();
    let path = disk(&folder, "d.img");
    let option = format!("--disk={}", path.display());
    let with = |guest| emulated(guest).arg(&option).arg("--ephemeral");
    let mut running = with("spin").start();
    running.wait_for("running\n");
    assert_eq!(said(&with("disk").ends_with(0)), "");
    assert_eq!(fs::read(&path).unwrap(), [0x5a; 4096]);
}

#[test]
fn a_disk_that_is_emulated_is_locked_as_any() {
    or_skip!(qemu());
    let folder = Folder::new();
    let path = disk(&folder, "d.img");
    let with = || emulated("spin").arg(format!("--disk={}", path.display()));
    let mut running = with().start();
    running.wait_for("running\n");
    let why = with().refused();
    assert!(why.contains(&running.id().to_string()), "{why}");
}

#[test]
fn verbose_begins_with_the_accelerator_and_has_qemus_command_line() {
    or_skip!(qemu());
    let finished = runner(["--accel=off", "-v", "hello"]).ends_with(0);
    let lines: Vec<&str> = said(&finished).lines().collect();
    assert!(lines[0].starts_with("accelerator: none (software emulation, qemu-"), "{finished}");
    let command = format!("qemu: {QEMU} -");
    assert_eq!(lines.iter().filter(|line| line.starts_with(&command)).count(), 1, "{finished}");
    // How we end QEMU is nobody's affair.
    assert!(!finished.stderr.contains("terminating on signal"), "{finished}");
}

#[test]
fn a_socket_device_is_refused_when_emulated_and_leaves_no_socket() {
    or_skip!(qemu());
    let folder = Folder::new();
    let path = folder.path().join("v.sock");
    let option = format!("--vsock={}", path.display());
    let finished = runner(["--accel=off", &option, "hello"]).run();
    assert_eq!((finished.status, &*finished.stdout), (Some(125), &b""[..]), "{finished}");
    says(&finished.stderr, &["software emulation has no socket device", "leave out --vsock"]);
    assert!(!path.exists());
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let option = format!("--channel=agent={}", path.display());
    let finished = runner(["--accel=off", &option, "hello"]).ends_with(125);
    says(&finished.stderr, &["software emulation has no channels", "leave out --channel"]);
}

#[test]
fn a_config_that_wants_no_accelerator_is_named() {
    or_skip!(qemu());
    let folder = Folder::new();
    folder.file("config.json", r#"{"RunConfig": {"Accel": false}}"#);
    let finished = runner(["-c", "config.json", "hello"]).within(folder.path()).ends_with(0);
    let expected = format!("runner: config.json:1:16: RunConfig.Accel: {NOTICE}");
    assert!(finished.stderr.starts_with(&expected), "{finished}");
}

#[test]
fn without_qemu_the_package_is_named() {
    let folder = Folder::new();
    let refusal = runner(["--accel=off", "hello"]).env("PATH", folder.path()).refused();
    let start = format!("--accel=off: there is no {QEMU} in PATH for software emulation; install");
    assert!(refusal.starts_with(&start), "{refusal}");
}

#[test]
fn a_qemu_that_fails_ends_with_125_and_its_own_words() {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: the guests are for x86_64");
        return;
    }
    let folder = path_with_qemu("echo 'the machine is' >&2; echo on fire >&2; exit 3");
    let finished = runner(["--accel=off", "hello"]).env("PATH", folder.path()).ends_with(125);
    assert!(said(&finished).contains("exit status: 3"), "{finished}");
    assert!(said(&finished).ends_with("the machine is; on fire\n"), "{finished}");
    assert!(finished.stdout.is_empty(), "{finished}");
}

/// Starts `run` where /dev/kvm is a file that is no device of KVM's, whatever it is here.
#[cfg(target_os = "linux")]
fn without_kvm(run: Runner) -> Result<Runner, String> {
    let root = rustix::process::geteuid().is_root();
    let unshare = ["unshare", if root { "-m" } else { "-rm" }];
    let hide = "[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm";
    let tried = Command::new("unshare").args(&unshare[1..]).args(["sh", "-c", hide]).output();
    match tried {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(format!("unshare: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => return Err(format!("unshare: {error}")),
    }
    let script = format!("{hide} && exec \"$@\"");
    Ok(run.by(unshare.into_iter().chain(["sh", "-c", &script, "sh"])))
}

#[test]
#[cfg(target_os = "linux")]
fn where_there_is_no_kvm_the_same_command_still_runs_and_says_so() {
    or_skip!(qemu());
    let finished = or_skip!(without_kvm(runner(["hello"]))).ends_with(0);
    assert!(finished.text().contains("QEMU's software emulation"), "{finished}");
    assert!(finished.stderr.starts_with("runner: no KVM here ("), "{finished}");
    assert!(finished.stderr.contains(NOTICE), "{finished}");
    assert!(finished.stderr.ends_with("see `runner doctor`\n"), "{finished}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
}

#[test]
#[cfg(target_os = "linux")]
fn kvm_that_is_asked_for_is_not_replaced() {
    for asked in ["--accel=kvm", "-x=kvm"] {
        let refusal = or_skip!(without_kvm(runner([asked, "hello"]))).refused();
        assert!(refusal.starts_with("--accel=kvm: ") && !refusal.contains(NOTICE), "{refusal}");
        assert!(refusal.ends_with("see `runner doctor`"), "{refusal}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn without_kvm_and_without_qemu_the_check_and_the_package_are_named() {
    let folder = Folder::new();
    let script = format!("PATH={} exec \"$@\"", folder.path().display());
    let refusal =
        or_skip!(without_kvm(runner(["hello"]).by(["sh", "-c", &script, "sh"]))).refused();
    assert!(refusal.starts_with("no KVM here (") && refusal.contains("/dev/kvm"), "{refusal}");
    assert!(refusal.contains(&format!("there is no {QEMU} in PATH")), "{refusal}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_qemu_that_emulates_is_in_its_own_jail_unless_none_is_wanted() {
    or_skip!(qemu());
    for (jail, wanted) in [("--jail=on", "2"), ("--jail=off", "0")] {
        let mut running = emulated("spin").arg(jail).start();
        running.wait_for("running\n");
        let process = running.id();
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        let child = or_skip!(children.map_err(|error| format!("/proc/*/children: {error}")));
        let status = fs::read_to_string(format!("/proc/{}/status", child.trim())).unwrap();
        assert!(status.contains(&format!("Seccomp:\t{wanted}\n")), "{jail}: {status}");
        running.signal(Signal::TERM);
        assert_eq!(running.finish().status, Some(143));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_qemu_without_a_jail_is_an_error_with_what_to_do() {
    let without = path_with_qemu("echo \"There is no option group 'sandbox'\" >&2; exit 1");
    let finished = emulated("spin").env("PATH", without.path()).ends_with(125);
    assert!(said(&finished).contains("--jail=off"), "{finished}");
}
