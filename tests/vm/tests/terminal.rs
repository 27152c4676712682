//! The guest's console on a terminal: `--stdin`, and the terminal as it was on every way out.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::support::files::kernel;
use super::support::host::{accelerator, cpu_time, is_stopped};
use super::support::or_skip;
use super::support::program::{Finished, Runner, Running, runner};
use super::support::terminal::Terminal;

/// The key that ends a run.
const ESCAPE: &[u8] = b"\x1d";

/// What runner says of a keyboard.
const NOTICE: &str = "runner: --stdin: what is typed goes to the guest; Ctrl-] ends the run\n";

fn typed_to(guest: &str) -> Runner {
    runner(["--stdin", "-m", "32"]).arg(kernel(guest))
}

/// A guest at work, whose keyboard is `terminal`.
fn working(terminal: &Terminal, guest: &str) -> Running {
    let mut running = typed_to(guest).stdin(terminal.line()).start();
    running.wait_for("running\n");
    terminal.wait_until_raw();
    running
}

/// A guest that sends back what comes in, up to the byte 4, and whose keyboard is `terminal`.
fn echoing(terminal: &Terminal) -> Running {
    let running = typed_to("echo").stdin(terminal.line()).start();
    terminal.wait_until_raw();
    running
}

/// An ended run, with its terminal as it was found.
fn ended(terminal: &Terminal, running: Running, status: i32) -> Finished {
    let finished = running.finish();
    assert_eq!(finished.status, Some(status), "{finished}");
    terminal.is_as_found();
    finished
}

#[test]
fn every_key_reaches_the_guest_as_it_is_typed_and_without_an_echo() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let mut running = echoing(&terminal);
    // One after the other, without a line's end: what a shell would act upon is among them.
    for key in (0..=0xff).filter(|key| ![4, 0x1d].contains(key)) {
        terminal.types(&[key]);
        running.wait_for_bytes(&[key]);
    }
    assert_eq!(terminal.shown(), 0, "echoed");
    terminal.types(&[4]);
    let finished = ended(&terminal, running, 0);
    assert_eq!(finished.stderr, NOTICE);
}

/// Lines of a paste, of 16 bytes: many times what a terminal holds. A byte is several exits on aarch64, whose
/// lab takes longest for one.
const PASTED: usize = if cfg!(target_arch = "aarch64") { 1024 } else { 4096 };

#[test]
fn a_long_paste_reaches_the_guest_without_loss() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = echoing(&terminal);
    let text: Vec<u8> =
        (0..PASTED).flat_map(|line| format!("{line:014}\r\n").into_bytes()).collect();
    assert_eq!(text.len(), 16 * PASTED);
    let (mut keyboard, paste) = (terminal.keyboard(), [&text[..], &[4]].concat());
    // Ends with the run at the latest, whose terminal closes then.
    thread::spawn(move || keyboard.write_all(&paste));
    let finished = ended(&terminal, running, 0);
    assert!(finished.stdout == text, "{} bytes of {}", finished.stdout.len(), text.len());
}

#[test]
fn a_paste_that_the_guest_does_not_read_is_kept_and_ends_nothing() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = working(&terminal, "spin");
    // More than the C library grows without a call that the jail stops, less than is read ahead.
    terminal.types(&[b'x'; 200 << 10]);
    running.signal(Signal::TERM);
    ended(&terminal, running, 143);
}

#[test]
fn the_escape_ends_a_run_and_leaves_the_terminal_as_it_was() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = working(&terminal, "halt");
    terminal.types(ESCAPE);
    ended(&terminal, running, 130);
}

#[test]
fn the_escape_is_seen_behind_keys_that_the_guest_does_not_read() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = working(&terminal, "spin");
    let mut keyboard = terminal.keyboard();
    let keys = [&[b'x'; 20_000][..], ESCAPE].concat();
    thread::spawn(move || keyboard.write_all(&keys));
    ended(&terminal, running, 130);
}

#[test]
fn a_guest_that_ends_leaves_the_terminal_as_it_was() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = echoing(&terminal);
    terminal.types(&[4]);
    ended(&terminal, running, 0);
}

#[test]
#[cfg(target_arch = "x86_64")] // where there is a triple fault
fn a_guest_that_crashes_leaves_the_terminal_as_it_was() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = typed_to("triple_fault").stdin(terminal.line()).start();
    ended(&terminal, running, 126);
}

#[test]
fn a_time_that_is_over_leaves_the_terminal_as_it_was() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = typed_to("spin").arg("--timeout=1s").stdin(terminal.line()).start();
    terminal.wait_until_raw();
    ended(&terminal, running, 124);
}

#[test]
fn a_signal_that_ends_the_run_leaves_the_terminal_as_it_was() {
    or_skip!(accelerator());
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let terminal = Terminal::new();
        let running = working(&terminal, "spin");
        running.signal(signal);
        ended(&terminal, running, status);
    }
}

#[test]
fn a_second_signal_that_ends_the_process_at_once_leaves_the_terminal_as_it_was() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = working(&terminal, "spin");
    // Stopped, it can act on neither, and both are pending when it goes on.
    running.signal(Signal::STOP);
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    running.signal(Signal::CONT);
    let finished = running.finish();
    assert!([Some(130), Some(143)].contains(&finished.status), "{finished}");
    terminal.is_as_found();
}

#[test]
fn a_signal_that_ends_the_process_where_it_stands_leaves_the_terminal_as_it_was() {
    or_skip!(accelerator());
    for signal in [Signal::USR1, Signal::ALARM, Signal::XCPU] {
        let terminal = Terminal::new();
        let running = working(&terminal, "spin");
        running.signal(signal);
        ended(&terminal, running, 128 + signal.as_raw());
    }
}

#[test]
fn a_run_that_cannot_start_leaves_the_terminal_as_it_was() {
    let terminal = Terminal::new();
    let run = runner(["--stdin", "/nonexistent/image"]).stdin(terminal.line());
    run.refused();
    terminal.is_as_found();
}

#[test]
fn a_stop_gives_the_terminal_back_until_the_run_goes_on() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let mut running = echoing(&terminal);
    for key in *b"12" {
        running.signal(Signal::TSTP);
        terminal.wait_until_as_found();
        or_skip!(is_stopped(running.id()));
        running.signal(Signal::CONT);
        terminal.wait_until_raw();
        terminal.types(&[key]);
        running.wait_for_bytes(&[key]);
    }
    terminal.types(&[4]);
    ended(&terminal, running, 0);
}

#[test]
fn a_run_that_goes_on_takes_a_terminal_again_that_a_shell_set_up_for_itself() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let mut running = echoing(&terminal);
    running.signal(Signal::STOP);
    or_skip!(is_stopped(running.id()));
    terminal.set_as_found();
    running.signal(Signal::CONT);
    terminal.wait_until_raw();
    terminal.types(b"x");
    running.wait_for("x");
    // And when nobody touched it.
    running.signal(Signal::STOP);
    or_skip!(is_stopped(running.id()));
    running.signal(Signal::CONT);
    terminal.types(b"y");
    running.wait_for("xy");
    terminal.stays_raw();
    terminal.types(&[4]);
    ended(&terminal, running, 0);
}

#[test]
fn without_stdin_a_terminal_is_neither_read_nor_changed() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let run = runner(["-m", "32"]).arg(kernel("echo")).stdin(terminal.line());
    let running = run.arg("--timeout=1s").start();
    terminal.types(b"for the shell\n\x04");
    let finished = ended(&terminal, running, 124);
    assert_eq!(finished.text(), "");
}

#[test]
fn with_a_pipe_stdin_changes_nothing() {
    or_skip!(accelerator());
    let finished = typed_to("echo").input("a\x1db\x04").ends_with(0);
    assert_eq!(finished.quiet_text(), "a\x1db");
}

#[test]
fn a_config_can_ask_for_the_keyboard() {
    or_skip!(accelerator());
    let folder = super::support::files::Folder::new();
    let config = folder.file("c.json", r#"{"Runner": {"Stdin": true}}"#);
    let terminal = Terminal::new();
    let run = runner(["-m", "32", "-c"]).arg(config).arg(kernel("echo"));
    let running = run.stdin(terminal.line()).start();
    terminal.wait_until_raw();
    terminal.types(&[4]);
    ended(&terminal, running, 0);
}

#[test]
fn a_terminal_that_is_gone_is_the_end_of_input_and_costs_no_time() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let running = working(&terminal, "halt");
    drop(terminal);
    thread::sleep(Duration::from_millis(100));
    let before = or_skip!(cpu_time(running.id()));
    thread::sleep(Duration::from_millis(500));
    let used = or_skip!(cpu_time(running.id())) - before;
    assert!(used < Duration::from_millis(100), "{used:?} in half a second");
    running.signal(Signal::TERM);
    assert_eq!(running.finish().status, Some(143));
}

/// `run` as the jobs of a shell whose terminal is `terminal`: `script` has its command line as
/// `"$@"`.
fn in_a_shell(terminal: &Terminal, run: Runner, script: &str) -> Running {
    let script = format!("set -m\n{script}");
    run.by(["setsid", "-c", "sh", "-c", &script, "sh"]).stdin(terminal.line()).start()
}

#[test]
fn a_run_in_the_background_leaves_the_terminal_alone_and_is_not_stopped() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let run = typed_to("spin").arg("--timeout=2s");
    let mut running = in_a_shell(&terminal, run, "\"$@\" & wait $!; echo status $?");
    running.wait_for("running\n");
    terminal.types(b"for the shell\n");
    // Longer than it takes to look whether the terminal is ours.
    thread::sleep(Duration::from_secs(1));
    terminal.is_as_found();
    let finished = ended(&terminal, running, 0);
    assert!(finished.text().ends_with("status 124\n"), "{finished}");
}

#[test]
fn a_run_from_the_background_takes_the_terminal_when_it_comes_to_the_foreground() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let script = "\"$@\" & read line; fg >/dev/null; echo status $?";
    let mut running = in_a_shell(&terminal, typed_to("echo"), script);
    terminal.types(b"go\n");
    terminal.wait_until_raw();
    terminal.types(b"abc");
    running.wait_for("abc");
    terminal.types(&[4]);
    let finished = ended(&terminal, running, 0);
    assert_eq!(finished.text(), "abcstatus 0\n", "{finished}");
}

#[test]
fn a_shell_can_stop_a_run_put_it_into_the_background_and_fetch_it_again() {
    or_skip!(accelerator());
    let terminal = Terminal::new();
    let script = "\"$@\"; echo stopped; read line; bg >/dev/null; echo behind; read line
        fg >/dev/null; echo status $?";
    let mut running = in_a_shell(&terminal, typed_to("echo"), script);
    terminal.wait_until_raw();
    terminal.signal_foreground(Signal::TSTP);
    running.wait_for("stopped\n");
    terminal.is_as_found();
    terminal.types(b"to the background\n");
    running.wait_for("behind\n");
    // Longer than it takes to look whether the terminal is ours.
    thread::sleep(Duration::from_secs(1));
    terminal.is_as_found();
    terminal.types(b"to the foreground\n");
    terminal.wait_until_raw();
    terminal.types(b"x");
    running.wait_for("x");
    terminal.types(&[4]);
    let finished = ended(&terminal, running, 0);
    assert_eq!(finished.text(), "stopped\nbehind\nxstatus 0\n", "{finished}");
}
