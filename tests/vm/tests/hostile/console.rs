//! What no good driver does with a console (virtio 1.2 §5.3), and readers of stdout that are slow.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::process::Signal;

use super::super::support::files::kernel_for;
use super::super::support::program::runner;
use super::super::support::terminal::Terminal;
use super::driver::register::{CONFIG, INTERRUPT_STATUS};
use super::driver::*;
use super::script::{Bus, Script};
use super::{Folder, Guest, accelerator, bounded, or_skip};

/// It has a size (§5.3.3).
const SIZE: u64 = 1;

const RECEIVE: u64 = 0;
const TRANSMIT: u64 = 1;
const QUEUES: u64 = 2;

impl Script {
    fn start_console(self) -> Self {
        self.start_queues(0, QUEUES)
    }

    /// Writes text as the first since the start, and waits until it is out.
    fn prints(self, text: &str) -> Self {
        let len = u32::try_from(text.len()).unwrap();
        let script = self.copy(DATA, text.as_bytes()).offer_to(TRANSMIT, &[(DATA, len, 0, 0)]);
        script.served_by(TRANSMIT, 1)
    }

    fn restart_console(self) -> Self {
        self.reset().get(INTERRUPT_STATUS, 0).zero_rings(QUEUES).start_console()
    }
}

/// A guest with a virtio console and no other device.
fn guest(script: Script) -> Guest {
    Guest::new(script).without_disk().option("--console=virtio")
}

#[test]
fn text_is_on_stdout_and_input_where_the_guest_has_room() {
    or_skip!(accelerator());
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = Script::on(bus).start_console().prints("first\n");
        let script =
            script.offer_to(RECEIVE, &[(BIG, 3, NEXT | WRITE, 1), (BIG + 0x1000, 1, WRITE, 0)]);
        let script = script.served_by(RECEIVE, 1).expect(1, BIG + 2, b'c'.into());
        let script = script.expect(1, BIG + 0x1000, b'd'.into());
        let script = script.offer_to(RECEIVE, &[(BIG, 64, WRITE, 0)]).served_by(RECEIVE, 2);
        let script = script.expect(1, BIG, b'e'.into());
        let script = script.restart_console().prints("second\n");
        let guest = guest(script.end(0));
        let finished = guest.runner().input("abcde").ends_with(0);
        assert_eq!(finished.quiet_text(), "first\nsecond\n");
        bounded(guest.memory, finished);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn in_software_emulation_text_is_on_stdout_and_input_where_the_guest_has_room() {
    or_skip!(super::super::emulation::qemu());
    let script = Script::default().start_console().prints("first\n");
    let script = script.offer_to(RECEIVE, &[(BIG, 3, WRITE, 0)]).served_by(RECEIVE, 1);
    let script = script.expect(1, BIG, b'a'.into()).restart_console().prints("second\n");
    let guest = guest(script.end(0)).option("--accel=off").option("--net=none");
    assert_eq!(guest.runner().input("abc").ends_with(0).text(), "first\nsecond\n");
}

#[test]
fn buffers_of_the_wrong_direction_stop_the_console_or_say_nothing() {
    or_skip!(accelerator());
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = Script::on(bus).start_console().offer_to(RECEIVE, &[(BIG, 64, 0, 0)]).broken();
        let guest = guest(script.restart_console().prints("on\n").end(0));
        let finished = guest.runner().input("x").ends_with(0);
        assert_eq!(finished.text(), "on\n");
        let fault = "the chain at descriptor 0: no room for an answer";
        let wanted = format!("runner: console0: stopped until the driver resets it: {fault}\n");
        assert_eq!(finished.stderr, wanted, "{finished}");
    }
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = Script::on(bus).start_console();
        let script = script.offer_to(TRANSMIT, &[(BIG, 64, WRITE, 0)]).served_by(TRANSMIT, 1);
        let script = script.offer_to(TRANSMIT, &[(BIG, 0, 0, 0)]).served_by(TRANSMIT, 2);
        let finished = guest(script.end(0)).ends_with(0);
        assert_eq!(finished.quiet_text(), "");
    }
}

#[test]
fn c59_a_stdout_that_nobody_reads_holds_up_the_console_and_neither_the_guest_nor_its_end() {
    or_skip!(accelerator());
    // 1 MiB, and never waited for: the guest goes on.
    let flood = (BIG, 0x10_0000, 0, 0);
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = Script::on(bus).start_console().offer_to(TRANSMIT, &[flood]);
        let (reader, writer) = std::io::pipe().unwrap();
        let script = script.times(1000, |s| s.read(4, DATA)).end(7);
        let finished = guest(script).runner().stdout(writer).ends_with(7);
        assert!(finished.stderr.contains("console last is lost"), "{finished}");
        drop(reader);
        // A reader that is gone is as good as one that reads.
        let script = Script::on(bus).start_console().offer_to(TRANSMIT, &[flood]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let script = script.served_by(TRANSMIT, 1).end(7);
        let finished = guest(script).runner().stdout(writer).ends_with(7);
        assert!(finished.stderr.contains("stdout"), "{finished}");
    }
}

#[test]
fn the_last_words_are_read_to_their_end_by_a_slow_reader() {
    or_skip!(accelerator());
    let script = Script::default().start_console();
    let script = script.store(1, BIG + 0x3_ffff, b'!'.into());
    let script = script.offer_to(TRANSMIT, &[(BIG, 0x4_0000, 0, 0)]).end(7);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let guest = guest(script);
    let running = guest.runner().stdout(writer).start();
    std::thread::sleep(Duration::from_millis(300));
    let mut text = Vec::new();
    let mut piece = vec![0; 0x4000];
    while let Ok(read @ 1..) = reader.read(&mut piece) {
        text.extend(&piece[..read]);
        std::thread::sleep(Duration::from_millis(5));
    }
    let finished = running.finish();
    assert_eq!((finished.status, text.len()), (Some(7), 0x4_0000), "{finished}");
    assert_eq!(text.last(), Some(&b'!'));
}

#[test]
fn a_console_on_a_terminal_knows_its_windows_size_and_hears_of_changes() {
    or_skip!(accelerator());
    // Columns, then rows, in two bytes each; the interrupt of a change of configuration.
    let size = |columns: u64, rows: u64| rows << 16 | columns;
    for (bus, config) in [(Bus::Mmio, DEVICE + CONFIG), (Bus::Pci, CONFIGURATION)] {
        let terminal = Terminal::new();
        terminal.resize(80, 24);
        let script = Script::on(bus).expect(4, config, size(80, 24)).start_queues(SIZE, QUEUES);
        let script = script.prints("small\n").wait(4, config, u64::MAX, size(132, 50));
        let (width, interrupt) = script.location(INTERRUPT_STATUS);
        let script = script.wait(width, interrupt, 2, 2).end(7);
        let guest = guest(script);
        let mut running = guest.runner().stdin(terminal.line()).start();
        running.wait_for("small\n");
        terminal.resize(132, 50);
        // The kernel tells the terminal's own job, which runner is not here.
        running.signal(Signal::WINCH);
        let finished = running.finish();
        assert_eq!((finished.status, &*finished.stderr), (Some(7), ""), "{finished}");
    }
}

/// Registers of a device on QEMU's virt, with their widths (virtio 1.2 §4.2.2, §4.1.4.3).
struct Registers {
    base: u64,
    status: (u8, u64),
    features_half: u64,
    features: u64,
    queue: (u8, u64),
    size: (u8, u64),
    parts: [u64; 3],
    ready: (u8, u64),
    notify: (u8, u64),
}

const ON_MMIO: Registers = Registers {
    base: 0x0a00_0000,
    status: (4, 0x70),
    features_half: 0x24,
    features: 0x20,
    queue: (4, 0x30),
    size: (4, 0x38),
    parts: [0x80, 0x90, 0xa0],
    ready: (4, 0x44),
    notify: (4, 0x50),
};

const ON_PCI: Registers = Registers {
    base: 0x1000_0000,
    status: (1, 0x14),
    features_half: 0x08,
    features: 0x0c,
    queue: (2, 0x16),
    size: (2, 0x18),
    parts: [0x20, 0x28, 0x30],
    ready: (2, 0x1c),
    notify: (2, 0x3004),
};

/// A guest for arm64 that hands its console a text, does not wait for it, and ends with 7.
fn last_words_on_virt(registers: &Registers, text: &str) -> Script {
    const RAM: u64 = 0x4000_0000;
    let (table, text_at) = (RAM + 0x26_8000, RAM + 0x22_0000);
    let set = |script: Script, (width, at): (u8, u64), value| {
        script.store(width, registers.base + at, value)
    };
    let descriptor = descriptor((text_at, u32::try_from(text.len()).unwrap(), 0, 0));
    let script = Script::default().copy(text_at, text.as_bytes()).copy(table, &descriptor);
    let script = set(set(script, registers.status, 1), registers.status, 3);
    let script = set(script, (4, registers.features_half), 1);
    let script = set(set(script, (4, registers.features), 1), registers.status, 0xb);
    let script = set(set(script, registers.queue, TRANSMIT), registers.size, 8);
    let places = registers.parts.into_iter().zip([table, table + 0x2000, table + 0x4000]);
    let script = places.fold(script, |script, (at, place)| {
        set(set(script, (4, at), place & 0xffff_ffff), (4, at + 4), place >> 32)
    });
    let script = set(set(script, registers.ready, 1), registers.status, 0xf);
    set(script.add(table + 0x2002, 1), registers.notify, TRANSMIT).end(7)
}

#[test]
fn in_software_emulation_a_guest_for_arm64_need_not_wait_for_its_last_words() {
    let qemu = std::process::Command::new("qemu-system-aarch64").arg("--version").output();
    or_skip!(qemu.map(drop).map_err(|error| format!("qemu-system-aarch64: {error}")));
    let folder = Folder::new();
    for (registers, option) in [(&ON_MMIO, "--virtio=mmio"), (&ON_PCI, "--virtio=pci")] {
        let script = folder.file("script", last_words_on_virt(registers, "the end\n").bytes());
        // Where the device hears of it too late, half of the runs lose it.
        for _ in 0..8 {
            let run = runner(["--accel=off", "-m", "32", "--console=virtio", option])
                .arg(format!("--initrd={}", script.display()))
                .arg(kernel_for("aarch64", "script"));
            assert_eq!(run.ends_with(7).text(), "the end\n", "{option}");
        }
    }
}

/// It has ports (§5.3.3), and those of the second one.
const MULTIPORT: u64 = 2;
const SAID: u64 = 2;
const HEARD: u64 = 3;
const IN: u64 = 4;
const OUT: u64 = 5;
const ALL: u64 = 6;

/// Messages (§5.3.6.2).
const DEVICE_READY: u16 = 0;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;

impl Script {
    /// Says something of a port, as the nth since the start, and waits until it is heard.
    fn says(self, nth: u16, id: u32, event: u16, value: u16) -> Self {
        let bytes = [&id.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat();
        self.copy(DATA + 0x800, &bytes)
            .offer_to(HEARD, &[(DATA + 0x800, 8, 0, 0)])
            .served_by(HEARD, nth)
    }
}

/// A program that listens, and the option that has the guest's port lead to it.
fn listener(folder: &Folder) -> (UnixListener, String) {
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (listener, format!("--channel=agent={}", path.display()))
}

#[test]
fn bytes_go_both_ways_between_a_port_and_a_program_of_the_hosts() {
    or_skip!(accelerator());
    for (bus, more) in [(Bus::Mmio, Some("--console=virtio")), (Bus::Pci, None)] {
        let folder = Folder::new();
        let (listener, option) = listener(&folder);
        let script = Script::on(bus).start_queues(MULTIPORT, ALL);
        let script = script.offer_to(SAID, &[(BIG, 64, WRITE, 0)]).says(1, 1, PORT_READY, 1);
        // The name comes first.
        let script =
            script.served_by(SAID, 1).expect(2, BIG + 4, 7).expect(4, BIG + 8, 0x6e65_6761);
        let script = script.says(2, 1, PORT_OPEN, 1).offer_to(IN, &[(BIG + 0x1000, 64, WRITE, 0)]);
        let script = script.served_by(IN, 1).expect(4, BIG + 0x1000, 0x676e_6970);
        let script = script.copy(DATA, b"pong").offer_to(OUT, &[(DATA, 4, 0, 0)]);
        let guest = Guest::new(script.served_by(OUT, 1).end(7)).without_disk().option(&option);
        let guest = match more {
            Some(more) => guest.option(more),
            None => guest,
        };
        let running = guest.runner().start();
        let (mut program, _) = listener.accept().unwrap();
        program.write_all(b"ping").unwrap();
        let mut answer = Vec::new();
        program.read_to_end(&mut answer).unwrap();
        let finished = running.finish();
        assert_eq!((finished.status, &*finished.stderr, &*answer), (Some(7), "", &b"pong"[..]));
    }
}

#[test]
fn c60_messages_that_make_no_sense_are_nobodys_and_those_that_are_none_stop_the_device() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let (_listener, option) = listener(&folder);
    let guest = |script: Script| Guest::new(script.end(0)).without_disk().option(&option);
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = Script::on(bus).start_queues(MULTIPORT, ALL);
        let script = script.says(1, u32::MAX, PORT_READY, 1).says(2, 2, PORT_OPEN, 1);
        let script = script.says(3, 1, u16::MAX, u16::MAX).says(4, 0, DEVICE_READY, u16::MAX);
        guest(script.says(5, 0x8000_0001, PORT_OPEN, 1)).ends_with(0).quiet_text();
        let script = Script::on(bus).start_queues(MULTIPORT, ALL);
        let script = script.offer_to(HEARD, &[(DATA, 7, 0, 0)]).broken();
        let finished = guest(script).ends_with(0);
        let wanted = "runner: console0: stopped until the driver resets it: the chain at descriptor 0: \
                      no whole header\n";
        assert_eq!(finished.stderr, wanted, "{finished}");
    }
}
