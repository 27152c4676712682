//! A guest that gives runner something to say all the time, with a stderr that nobody reads.

use std::io::{PipeReader, PipeWriter, Write as _};

use rustix::pipe::fcntl_getpipe_size;
use rustix::process::Signal;

use super::arch::says;
use super::driver::register::STATUS;
use super::script::Script;
use super::{Guest, accelerator, or_skip};

/// A pipe with no room left, and the end that would make some.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let room = fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![b'.'; room]).unwrap();
    (reader, writer)
}

/// Writes forbidden statuses without end, and says when it has begun.
fn guest() -> Guest {
    let forbidden = |script: Script| script.set(STATUS, 2);
    let script = says(forbidden(Script::default()), b'!');
    Guest::new(script.times(1 << 40, forbidden).end(0))
}

#[test]
fn a_stderr_that_nobody_reads_does_not_keep_the_time_from_being_over() {
    or_skip!(accelerator());
    let (reader, writer) = full_pipe();
    guest().runner_for("1s").stderr(writer).ends_with(124);
    drop(reader);
}

#[test]
fn a_stderr_that_nobody_reads_does_not_keep_a_signal_from_ending_the_run() {
    or_skip!(accelerator());
    let (reader, writer) = full_pipe();
    let guest = guest();
    let mut running = guest.runner().stderr(writer).start();
    running.wait_for("!");
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert_eq!(finished.status, Some(143), "{finished}");
    drop(reader);
}
