//! The serial line, the console behind it, and the exit ports.

use std::fs::File;

use super::super::support::files::marked;
use super::super::support::program::runner;
use super::script::{OUTPUT, Routine, Script};
use super::{Folder, Guest, accelerator, bounded, or_skip};

/// COM1 (National Semiconductor PC16550D).
const COM1: u16 = 0x3f8;
const IER: u16 = COM1 + 1;
const LCR: u16 = COM1 + 3;
const MCR: u16 = COM1 + 4;
const LSR: u16 = COM1 + 5;
/// What ends a run.
const EXIT: u16 = 0x501;

/// 16 KiB, sent by one instruction. A byte is an exit.
fn flood(script: Script) -> Script {
    script.call(Routine::SendString, COM1.into(), 0x4000)
}

#[test]
fn c59_a_flood_for_a_console_that_takes_nothing_is_lost_and_said_once() {
    or_skip!(accelerator());
    let guest = Guest::new(Script::default().times(2, flood).end(0));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let finished = bounded(super::MEMORY, guest.runner().stdout(full).ends_with(0));
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    assert!(finished.stderr.contains("stdout: No space left"), "{finished}");
}

#[test]
fn c59_a_flood_for_a_console_that_nobody_reads_any_more_is_lost_and_said_once() {
    or_skip!(accelerator());
    let guest = Guest::new(Script::default().times(2, flood).end(0));
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let finished = bounded(super::MEMORY, guest.runner().stdout(writer).ends_with(0));
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    assert!(finished.stderr.contains("stdout: Broken pipe"), "{finished}");
}

#[test]
fn c61_the_serial_line_survives_every_width_and_what_its_registers_can_be_set_to() {
    or_skip!(accelerator());
    let mut script = Script::default();
    for lcr in [0x03, 0x80, 0xff, 0x03] {
        script = script.output(1, LCR, lcr);
        for port in IER..COM1 + 8 {
            for width in [1, 2, 4] {
                // In loopback: nothing of this is for the console.
                script = script.output(1, MCR, 0x10).output(width, port, u64::MAX);
                script = script.input(width, port, 0, 0);
            }
        }
    }
    // Loopback, every interrupt on, and more bytes than the FIFO has.
    let script = script
        .output(1, LCR, 3)
        .output(1, MCR, 0x18)
        .output(1, IER, 0xf)
        .times(1000, |script| script.output(1, COM1, 0x41))
        .input(1, LSR, 1, 1)
        .times(1000, |script| script.input(1, COM1, 0, 0))
        .input(1, LSR, 1, 0)
        .output(1, MCR, 0x08)
        .times(100, |script| script.output(1, COM1, 0x42).wait_input(1, LSR, 0x20, 0x20))
        .end(0);
    let finished = Guest::new(script).ends_with(0);
    assert_eq!(finished.quiet_text(), "B".repeat(100));
}

#[test]
fn c61_input_that_the_guest_never_takes_waits_outside() {
    or_skip!(accelerator());
    let script = Script::default().output(1, IER, 1).wait_input(1, LSR, 1, 1);
    let script = script.times(2000, |script| script.input(1, LSR, 1, 1)).end(0);
    let guest = Guest::new(script);
    let finished = guest.runner().input(vec![b'x'; 4 << 20]).ends_with(0);
    assert_eq!(bounded(super::MEMORY, finished).stderr, "");
}

#[test]
fn c62_what_the_guest_sends_is_for_stdout_alone_byte_for_byte() {
    or_skip!(accelerator());
    let every: Vec<u8> = (0..=255).chain(*b"\x1b[2J\x1b]0;title\x07").collect();
    let script = Script::default().copy(OUTPUT, &every);
    let script = script.call(Routine::SendString, COM1.into(), every.len() as u64).end(0);
    let finished = Guest::new(script).ends_with(0);
    assert_eq!((finished.stdout, finished.stderr), (every, String::new()));
}

#[test]
fn c63_an_exit_value_of_any_width_ends_the_run_and_no_port_beside_it_does() {
    or_skip!(accelerator());
    for (width, value, status) in [(1, 7, 7), (2, 0x1234, 0x34), (4, 0xffff_ff05, 5)] {
        let script = Script::default()
            .output(1, EXIT + 1, 9)
            .output(2, EXIT + 2, 9)
            .output(4, EXIT - 1, 9)
            .output(4, EXIT + 1, 9)
            .input(4, EXIT, 0, 0)
            // Where other systems' kernels switch off, and a hypervisor is told of a panic.
            .output(2, 0x604, 0x2000)
            .output(4, 0x604, 0x3c00)
            .output(1, 0x505, 1)
            .output(1, 0xf4, 1)
            .output(width, EXIT, value)
            .end(99);
        assert_eq!(Guest::new(script).ends_with(status).stderr, "");
    }
    // One instruction, many values: the first wins.
    let script = Script::default().copy(OUTPUT, &[3, 4, 5, 6]);
    let script = script.call(Routine::SendString, EXIT.into(), 4).end(99);
    Guest::new(script).ends_with(3);
}

/// Where Hermit's loader ends, as QEMU has its port.
const HERMITS_EXIT: u16 = 0xf4;
/// What a PC of old has there: both interrupt controllers and their modes, the interval timer, its speaker, the clock.
const OLD: [u16; 13] =
    [0x20, 0x21, 0xa0, 0xa1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71, 0x4d0, 0x4d1];

#[test]
fn c63_behind_hermits_loader_old_hardware_takes_anything_and_only_its_own_port_ends_the_run() {
    or_skip!(accelerator());
    let sweep = |script, (port, value)| {
        [1, 2, 4].into_iter().fold(script, |script: Script, width| {
            script.output(width, port, value).input(width, port, 0, 0)
        })
    };
    let values = [0, 0x5a5a_5a5a, u64::MAX];
    let all = OLD.into_iter().flat_map(|port| values.map(|value| (port, value)));
    let script = all.fold(Script::default(), sweep);
    let script = script
        .output(1, HERMITS_EXIT - 1, 1)
        .output(1, HERMITS_EXIT + 1, 1)
        .output(2, HERMITS_EXIT + 2, 1)
        .output(4, HERMITS_EXIT - 2, 1)
        .input(4, HERMITS_EXIT, 0, 0)
        // Where other guests of this machine end.
        .output(1, EXIT, 9)
        .output(2, 0x604, 0x2000)
        .output(1, COM1, b'.'.into());
    for (width, value, status) in [(1, 1, 0), (4, 1, 0), (2, 0x101, 1), (4, u64::MAX, 1)] {
        let script = script.clone().output(width, HERMITS_EXIT, value).end(99);
        let finished = Guest::new(script).for_hermits_loader().ends_with(status);
        assert_eq!((finished.text(), &*finished.stderr), (".", ""), "{width} {value}");
    }
    // One instruction, many values: the first wins.
    let script = Script::default().copy(OUTPUT, &[0, 1, 1]);
    let script = script.call(Routine::SendString, HERMITS_EXIT.into(), 3).end(99);
    Guest::new(script).for_hermits_loader().ends_with(1);
}

#[test]
fn c64_a_driver_that_breaks_its_device_over_and_over_fills_no_log() {
    or_skip!(accelerator());
    use super::driver::register::STATUS;
    let script = Script::default().times(2000, |script| {
        script.negotiate(super::driver::VERSION_1).set(STATUS, 0xf).set(STATUS, 1).reset()
    });
    let finished = Guest::new(script.recovers().end(0)).ends_with(0);
    assert!((1..=super::LINES).contains(&finished.stderr.lines().count()), "{finished}");
}

#[test]
fn old_hardware_is_there_for_guests_that_take_it_for_granted_and_for_no_others() {
    or_skip!(accelerator());
    // QEMU's power management, its `isa-debug-exit` elsewhere, pvpanic.
    let (power, debug, panic) = (0x604, 0xf4, 0x505);
    for (section, system, has_timer, has_power) in [
        (".text", None, false, false),
        (".uk_inittab", Some("Unikraft"), true, false),
        (".percpu_workers", Some("OSv"), false, true),
    ] {
        // Counter 0 in mode 2, and its status, by the read-back command (Intel 8254).
        let script = Script::default().output(1, 0x43, 0x34).output(1, 0x40, 0x9c);
        let script = script.output(1, 0x40, 0x2e).output(1, 0x43, 0xe2);
        let script = match has_timer {
            true => script.input(1, 0x40, 0x3f, 0x34),
            false => (0x40..0x44).fold(script, |script, port| script.input(1, port, 0xff, 0xff)),
        };
        let script = script.input(1, power, 0xff, if has_power { 0 } else { 0xff });
        let absent = |script: Script, port| script.input(1, port, 0xff, 0xff);
        let script = [debug, panic, 0xcf8, 0xcfc].into_iter().fold(script, absent);
        // Where nobody is, nothing ends.
        let script = script.output(4, debug, 1).output(1, panic, 1);
        let script = if has_power { script } else { script.output(2, power, 0x2020) };
        let folder = Folder::new();
        let script = folder.file("script", script.end(7).bytes());
        let run = runner(["-v", "-m", "16", "--report", "r.json", "--initrd"]).arg(script);
        let finished =
            run.arg(folder.file("kernel", marked("script", section))).within(folder.path());
        let finished = finished.ends_with(7);
        let known = finished.stderr.lines().find_map(|line| line.strip_prefix("system: "));
        assert_eq!(known, system, "{finished}");
        let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
        assert!(report.contains(r#""raw":7,"#) && report.contains(r#""status_of":"guest""#));
    }
}
