//! Kernels of Debian's that are not Linux, as they are: what each of them makes of a machine without a
//! BIOS (tests/lab/src/payloads.rs).

use super::super::support::or_skip;
use super::super::support::program::{Running, runner, says};
use super::Debian;
use rustix::process::Signal;

/// Its console, up to `text`, with `words` on its command line.
fn reaches(debian: &Debian, kernel: &str, words: &str, more: &[&str], text: &str) -> Running {
    let run = runner(["-m", "256", "--append", words]).args(more).arg(debian.0.join(kernel));
    let mut running = run.start();
    running.wait_until_it_says(text);
    running
}

#[test]
fn memtest86_plus_shows_what_it_found_by_both_entries() {
    let debian = or_skip!(Debian::find());
    for entry in ["--entry=linux64", "--entry=linux32"] {
        // The processor's clock, which it has measured by the interval timer. Then it would test for hours.
        let words = "console=ttyS0,115200";
        let running = reaches(&debian, "memtest", words, &[entry], "CLK/Temp: ");
        running.signal(Signal::TERM);
        assert_eq!(running.finish().status, Some(143));
    }
}

#[test]
fn xen_comes_as_far_as_it_can_without_a_first_domain_and_resets() {
    let debian = or_skip!(Debian::find());
    let words = "com1=115200,8n1 console=com1";
    let text = "dom0 kernel not specified. Check bootloader configuration";
    let finished = reaches(&debian, "xen", words, &[], text).finish();
    assert_eq!(finished.status, Some(0), "{finished}");
    says(finished.text_of_reset(), &["Bootloader: runner", &format!("Command line: {words}")]);
}

#[test]
fn gnumach_finds_its_memory_and_stops_for_want_of_a_bootstrap_program() {
    let debian = or_skip!(Debian::find());
    let text = "No bootstrap code loaded with the kernel!";
    let running = reaches(&debian, "gnumach", "console=com0", &[], text);
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert_eq!(finished.status, Some(143), "{finished}");
    says(finished.text(), &["000000000000100000:000000000010000000, available"]);
}

#[test]
fn what_begins_in_real_mode_is_refused_with_its_reason() {
    let debian = or_skip!(Debian::find());
    let why = runner(["-m", "256"]).arg(debian.0.join("ipxe")).refused();
    says(&why, &["real mode"]);
}
