//! The guest's console: COM1 on stdin and stdout.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use super::support::files::{Folder, kernel};
use super::support::host::{accelerator, cpu_time};
use super::support::or_skip;
use super::support::program::{Runner, Running, runner};

/// Lines of the flood, of 16 bytes each: twice what the pipes of these tests hold. A byte is
/// an exit, and takes a fifth of a millisecond in the lab.
const LINES: usize = 2048;

fn flood() -> Runner {
    runner(["-m", "32", "--append", &format!("line={LINES}")]).arg(kernel("flood"))
}

fn is_the_whole_flood(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (number, line) in text.lines().enumerate() {
        assert_eq!(line, format!("{number:015}"));
    }
    assert_eq!(text.lines().count(), LINES);
}

/// A pipe that holds four pages, where the system lets one choose.
fn small_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    #[cfg(target_os = "linux")]
    rustix::pipe::fcntl_setpipe_size(&writer, 4 * 4096).unwrap();
    (reader, writer)
}

/// A run that has filled a pipe that nobody empties, and waits for somebody who does.
fn stuck(run: Runner) -> (Running, PipeReader) {
    let (reader, writer) = small_pipe();
    let running = run.stdout(writer).start();
    let mut before = 0;
    loop {
        thread::sleep(Duration::from_millis(100));
        let waiting = rustix::io::ioctl_fionread(&reader).unwrap();
        if waiting > 0 && waiting == before {
            return (running, reader);
        }
        before = waiting;
    }
}

/// Sends back what comes in, up to the byte 4.
fn echo() -> Runner {
    runner(["-m", "32"]).arg(kernel("echo"))
}

#[test]
fn what_comes_in_through_a_pipe_reaches_the_guest_without_loss() {
    or_skip!(accelerator());
    let input = noise(20_000);
    let (reader, mut writer) = small_pipe();
    let running = echo().stdin(reader).start();
    // Ends with the run at the latest, whose reader closes then.
    let bytes = [&input[..], &[4]].concat();
    thread::spawn(move || writer.write_all(&bytes));
    let finished = running.finish();
    assert_eq!(finished.status, Some(0), "{finished}");
    assert!(finished.stdout == input, "{} bytes of {}", finished.stdout.len(), input.len());
}

#[test]
fn what_comes_in_from_a_file_reaches_the_guest_without_loss() {
    or_skip!(accelerator());
    let input = noise(5000);
    let folder = Folder::new();
    let file = folder.file("input", [&input[..], &[4]].concat());
    let finished = echo().stdin(File::open(file).unwrap()).ends_with(0);
    assert!(finished.stdout == input, "{} bytes of {}", finished.stdout.len(), input.len());
}

/// Bytes of all values but 4, without a period that a buffer could hide.
fn noise(length: u32) -> Vec<u8> {
    let bytes = (0..length).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]);
    bytes.filter(|byte| *byte != 4).collect()
}

#[test]
fn the_end_of_input_is_not_the_end_of_the_guest() {
    or_skip!(accelerator());
    let mut running = echo().input("to the end").start();
    running.wait_for("to the end");
    running.signal(Signal::TERM);
    assert_eq!(running.finish().status, Some(143));
}

#[test]
fn a_guest_that_waits_costs_no_time_of_the_cpu_at_the_end_of_input() {
    or_skip!(accelerator());
    for input in ["", "never read"] {
        let mut running = runner([kernel("halt")]).input(input).start();
        running.wait_for("running\n");
        let before = or_skip!(cpu_time(running.id()));
        thread::sleep(Duration::from_millis(500));
        let used = or_skip!(cpu_time(running.id())) - before;
        assert!(used < Duration::from_millis(100), "{used:?} in half a second");
    }
}

#[test]
fn stdin_and_stdout_may_be_closed() {
    or_skip!(accelerator());
    for closed in ["<&-", ">&-", "<&- >&-"] {
        let finished = runner(["hello"]).by(["sh", "-c", &format!("exec \"$@\" {closed}"), "sh"]);
        assert_eq!(finished.ends_with(0).stderr, "", "{closed}");
    }
}

#[test]
fn a_reader_that_is_gone_loses_the_output_and_not_the_run() {
    or_skip!(accelerator());
    let (mut reader, writer) = small_pipe();
    let running = flood().stdout(writer).start();
    let mut first = [0; 32];
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    let finished = running.finish();
    assert_eq!(finished.status, Some(0), "{finished}");
    let said = finished.stderr.matches("the console's output is lost from here on").count();
    assert_eq!((said, finished.stderr.lines().count()), (1, 1), "{finished}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_behind_stdout_loses_the_output_and_not_the_run() {
    or_skip!(accelerator());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let finished = runner(["hello"]).stdout(full).ends_with(0);
    assert_eq!(finished.stderr.matches("No space left on device").count(), 1, "{finished}");
}

#[test]
fn a_slow_reader_gets_all_of_the_output() {
    or_skip!(accelerator());
    let (reader, writer) = small_pipe();
    let running = flood().stdout(writer).start();
    is_the_whole_flood(&read_slowly(reader));
    assert_eq!(running.finish().status, Some(0));
}

#[test]
fn a_pipe_that_does_not_block_gets_all_of_the_output() {
    or_skip!(accelerator());
    let (reader, writer) = small_pipe();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let running = flood().stdout(writer).start();
    is_the_whole_flood(&read_slowly(reader));
    assert_eq!(running.finish().status, Some(0));
}

fn read_slowly(mut reader: PipeReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let length @ 1.. = reader.read(&mut buffer).unwrap() {
        bytes.extend(&buffer[..length]);
        thread::sleep(Duration::from_millis(2));
    }
    bytes
}

#[test]
fn a_signal_ends_a_run_whose_output_nobody_reads() {
    or_skip!(accelerator());
    for _ in 0..5 {
        // Input comes, too: it must not wait for the output.
        let (running, _reader) = stuck(flood().input("for the guest"));
        running.signal(Signal::TERM);
        assert_eq!(running.finish().status, Some(143));
    }
}

#[test]
fn the_time_ends_a_run_whose_output_nobody_reads() {
    or_skip!(accelerator());
    let (reader, writer) = small_pipe();
    let run = flood().arg("--timeout=2s").input("for the guest").stdout(writer);
    let finished = run.ends_with(124);
    assert!(finished.stderr.contains("--timeout"), "{finished}");
    drop(reader);
}

#[test]
fn verbose_lines_never_stand_in_the_guests_output() {
    or_skip!(accelerator());
    let finished = runner(["-v", "-m", "32", "--append", "line=2"]).arg(kernel("flood"));
    assert_eq!(finished.ends_with(0).text(), "000000000000000\n000000000000001\n");
}
