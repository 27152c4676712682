//! How a run ends, as the process that waits for it sees it.

use rustix::process::Signal;
use serde_json::Value;

use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Runner, Running, runner, says};

#[test]
fn every_status_of_a_guest_is_the_processs() {
    or_skip!(accelerator());
    let start = |status: &i32| {
        runner(["-m", "16", "--append", &format!("exit={status}")]).arg(kernel("exit")).start()
    };
    let statuses: Vec<i32> = (0..=255).collect();
    for some in statuses.chunks(8) {
        let running: Vec<_> = some.iter().map(start).collect();
        for (running, status) in running.into_iter().zip(some) {
            let finished = running.finish();
            assert_eq!(finished.status, Some(*status), "{finished}");
            assert_eq!(finished.quiet_text(), "");
        }
    }
}

#[test]
fn a_wide_exit_value_is_cut_to_a_status_and_kept_in_the_report() {
    or_skip!(accelerator());
    let folder = Folder::new();
    runner(["--append", "exit=263", "--report", "r.json"])
        .arg(kernel("exit"))
        .within(folder.path())
        .ends_with(7);
    let report = report(&folder);
    assert_eq!((&report["raw"], &report["status"]), (&263.into(), &7.into()), "{report}");
}

#[test]
fn a_guest_that_spins_ends_with_124_when_its_time_is_over() {
    or_skip!(accelerator());
    time_is_over("spin");
}

#[test]
fn a_guest_that_halts_ends_with_124_when_its_time_is_over() {
    or_skip!(accelerator());
    time_is_over("halt");
}

fn time_is_over(guest: &str) {
    let folder = Folder::new();
    let finished = runner(["--timeout", "500ms", "--report", "r.json"])
        .arg(kernel(guest))
        .within(folder.path())
        .ends_with(124);
    assert_eq!(finished.text(), "running\n");
    assert!(finished.stderr.contains("--timeout"), "{finished}");
    let report = report(&folder);
    assert_eq!(report["reason"], "timeout", "{report}");
    assert_eq!(report["status_of"], "runner", "{report}");
}

#[test]
fn a_signal_ends_a_guest_that_spins() {
    or_skip!(accelerator());
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        signalled("spin", signal, status);
    }
}

#[test]
fn a_signal_ends_a_guest_that_halts() {
    or_skip!(accelerator());
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        signalled("halt", signal, status);
    }
}

fn signalled(guest: &str, signal: Signal, status: i32) {
    let folder = Folder::new();
    let running = running(runner(["--report", "r.json"]).arg(kernel(guest)).within(folder.path()));
    running.signal(signal);
    let finished = running.finish();
    assert_eq!(finished.status, Some(status), "{finished}");
    assert_eq!(finished.quiet_text(), "running\n");
    let report = report(&folder);
    assert_eq!(report["reason"], "signal", "{report}");
    assert_eq!((&report["status"], &report["status_of"]), (&status.into(), &"runner".into()));
}

/// A run whose guest is at work.
fn running(guest: Runner) -> Running {
    let mut running = guest.start();
    running.wait_for("running\n");
    running
}

#[test]
fn two_signals_that_come_together_end_a_run() {
    or_skip!(accelerator());
    // Stopped, it can act on neither, and both are pending when it goes on.
    let running = running(runner([kernel("spin")]));
    running.signal(Signal::STOP);
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    running.signal(Signal::CONT);
    let finished = running.finish();
    assert!([Some(130), Some(143)].contains(&finished.status), "{finished}");
}

#[test]
fn a_signal_that_whoever_started_us_ignores_ends_nothing() {
    or_skip!(accelerator());
    // As nohup does it.
    let run = runner([kernel("spin")]).by(["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]);
    let running = running(run);
    running.signal(Signal::HUP);
    running.signal(Signal::TERM);
    assert_eq!(running.finish().status, Some(143));
}

#[test]
#[cfg(target_arch = "x86_64")] // where a fault in a fault in a fault is the end
fn a_guest_that_crashes_ends_with_126_and_says_how() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let finished = runner(["--report", "r.json"])
        .arg(kernel("triple_fault"))
        .within(folder.path())
        .ends_with(126);
    assert_eq!(finished.text(), "running\n");
    assert_eq!(finished.stderr, "runner: the guest crashed on vCPU 0: a triple fault\n");
    let report = report(&folder);
    assert_eq!(report["reason"], "crash", "{report}");
    assert_eq!(report["status_of"], "runner", "{report}");
}

#[test]
fn a_guest_that_resets_its_machine_ends_with_0() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let finished =
        runner(["--report", "r.json"]).arg(kernel("reset")).within(folder.path()).ends_with(0);
    assert_eq!(finished.text_of_reset(), "running\n");
    assert_eq!(report(&folder)["reason"], "reset");
}

#[test]
#[cfg(target_arch = "x86_64")] // where a KVM may interpret
fn an_instruction_that_the_host_cannot_execute_is_named_with_its_bytes_and_address() {
    or_skip!(accelerator());
    let finished = runner(["-v"]).arg(kernel("sse")).run();
    assert_eq!(finished.text(), "running\n");
    let accelerator = finished.stderr.lines().next().unwrap_or_default();
    if accelerator.contains("guest code runs on the CPU") {
        assert_eq!(finished.status, Some(42), "{finished}");
        return;
    }
    assert!(accelerator.contains("KVM interprets guest kernel code"), "{finished}");
    assert_eq!(finished.status, Some(125), "{finished}");
    let last = finished.stderr.lines().last().unwrap_or_default();
    let elf = std::fs::read(kernel("sse")).unwrap();
    let pxor = [0x66, 0x0f, 0xef, 0xc0];
    let in_file = elf.windows(4).position(|bytes| bytes == pxor).unwrap();
    // p_offset of the one segment, which begins at 1 MiB.
    let segment = usize::from(u16::from_le_bytes([elf[64 + 8], elf[64 + 9]]));
    let address = 0x10_0000 + in_file - segment;
    for wanted in
        ["`pxor xmm0,xmm0`", &format!("at {address:#x}"), "bytes 66 0f ef c0", "runner doctor"]
    {
        assert!(last.contains(wanted), "{wanted}: {finished}");
    }
}

#[test]
fn a_report_that_would_replace_the_console_is_refused_and_the_file_keeps_what_it_has() {
    let folder = Folder::new();
    let log = folder.file("log", "before\n");
    let stdout = std::fs::File::options().append(true).open(&log).unwrap();
    let run = runner(["--report", "/dev/stdout", "/nonexistent/image"]).stdout(stdout);
    says(&run.refused(), &["--report /dev/stdout", "what goes to stdout", "another file"]);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "before\n");
}

#[test]
fn a_run_that_could_not_start_is_reported_too() {
    let folder = Folder::new();
    runner(["--report", "r.json", "/nonexistent/image"]).within(folder.path()).ends_with(125);
    let report = report(&folder);
    assert_eq!((&report["status"], &report["status_of"]), (&125.into(), &"runner".into()));
    assert!(report["message"].as_str().unwrap().contains("/nonexistent/image"), "{report}");
}

#[test]
fn a_config_that_is_refused_is_reported_too() {
    let folder = Folder::new();
    folder.file("wrong.json", r#"{"RunConfig": {"Memory": 5}}"#);
    folder.file("refused.json", r#"{"Runner": {"Report": "r.json"}, "RunConfig": {"GPUs": 1}}"#);
    for (arguments, named) in [
        (&["-c", "wrong.json", "--report", "r.json", "hello"][..], "wrong.json:1:"),
        (&["-c", "refused.json", "hello"], "RunConfig.GPUs"),
    ] {
        let said = runner(arguments).within(folder.path()).refused();
        let report = report(&folder);
        assert_eq!((&report["status"], &report["status_of"]), (&125.into(), &"runner".into()));
        assert_eq!(report["message"], said, "{report}");
        assert!(said.contains(named), "{said}");
    }
    let wrong = folder.path().join("wrong.json");
    let before = std::fs::read(&wrong).unwrap();
    let both = runner(["-c", "wrong.json", "--report", "wrong.json", "hello"]);
    let said = both.within(folder.path()).ends_with(125).stderr;
    assert!(said.contains("would replace") && said.contains("wrong.json:1:"), "{said}");
    assert_eq!(std::fs::read(wrong).unwrap(), before);
}

fn report(folder: &Folder) -> Value {
    let text = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_run_ends_where_no_signal_can_be_queued() {
    or_skip!(accelerator());
    // Another process of the same user may have filled his queue (RLIMIT_SIGPENDING).
    let full = ["sh", "-c", "ulimit -i 0; exec \"$@\"", "sh"];
    for guest in ["halt", "spin"] {
        let run = runner(["-m", "32", "--cpus=2", "--timeout=500ms"]).arg(kernel(guest));
        run.by(full).ends_with(124);
    }
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one_and_the_run_ends_in_order() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for _ in 0..5 {
        let report = folder.path().join("r.json");
        let mut running = runner(["-m", "32", "--report"]).arg(&report).arg(kernel("spin")).start();
        running.wait_for("running\n");
        running.signal(Signal::TERM);
        running.signal(Signal::TERM);
        assert_eq!(running.finish().status, Some(143));
        let record = std::fs::read_to_string(&report).unwrap();
        assert!(record.contains("143"), "{record}");
    }
}
