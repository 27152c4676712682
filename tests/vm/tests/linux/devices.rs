//! Linux and its small devices, all in one boot: an entropy device, a balloon, a virtio console on a
//! terminal; drivers that come and go.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::support::or_skip;
use super::super::support::program::{Finished, Runner, Running};
use super::super::support::terminal::Terminal;
use super::{Debian, Kernel, arch, values};

/// Nothing here takes a tenth of it, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

const MIB: u64 = 1 << 20;

/// Memory that a process has now.
fn resident(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Waits until it has at most that much.
fn falls_to(running: &Running, most: u64) {
    let until = Instant::now() + PATIENCE;
    while resident(running) > most {
        let now = resident(running) / MIB;
        assert!(Instant::now() < until, "{now} MiB, and at most {} were wanted", most / MIB);
        thread::sleep(Duration::from_millis(50));
    }
}

/// A person's side of it, and what runner is told for it.
pub(super) struct Person(Terminal);

impl Person {
    pub(super) const OPTIONS: [&str; 5] =
        ["-v", "--stdin", "--rng", "--balloon=8M", "--console=virtio"];

    pub(super) fn new() -> Self {
        let terminal = Terminal::new();
        terminal.resize(80, 24);
        Self(terminal)
    }

    /// Starts `run` before it.
    pub(super) fn start(&self, run: Runner) -> Running {
        run.stdin(self.0.line()).start()
    }

    fn resizes(&self, running: &mut Running, columns: u16, rows: u16) {
        self.0.resize(columns, rows);
        // The kernel tells the terminal's own job, which runner is not here.
        running.signal(Signal::WINCH);
        running.wait_until_it_says(&format!("size: {rows} {columns}"));
    }

    /// What the guest's job has to do with it, to its end.
    pub(super) fn drive(&self, running: &mut Running) {
        running.wait_until_it_says("open");
        self.resizes(running, 132, 50);
        self.0.types(b"large\r");
        running.wait_until_it_says("filled");
        let filled = resident(running);
        assert!(filled > 96 * MIB, "{} MiB", filled / MIB);
        self.0.types(b"remove\r");
        // 96 MiB are free. The guest says so of pieces of 2 MiB and more.
        falls_to(running, filled - 48 * MIB);
        running.wait_until_it_says("free");
        self.0.types(b"rebind\r");
        running.wait_until_it_says("open again");
        self.resizes(running, 100, 40);
        self.0.types(b"end\r");
    }
}

/// What the job has said, and the balloon.
pub(super) fn check(finished: &Finished, rebinds: u32) {
    assert_eq!(arch::end(finished).0, Some(0), "{finished}");
    let text = finished.text();
    assert!(values(text, "rng")[0].starts_with("virtio_rng"), "{finished}");
    assert_eq!(values(text, "heard"), ["large", "remove", "rebind", "end"], "{finished}");
    for driver in ["virtio_rng", "virtio_console", "virtio_balloon"] {
        let bound = format!("{driver}: bound {rebinds} times");
        assert!(text.contains(&bound), "{bound}: {finished}");
    }
    assert!(text.contains("on the virtio console"), "{finished}");
    // What it put into the balloon before the drivers came and went, at least.
    let put_into = |line: &&str| line.contains("MiB were put into it");
    let balloon = finished.stderr.lines().find(put_into).unwrap();
    let put: u64 = balloon.split("; ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(put >= 8, "{balloon}");
}

/// A guest with `options`, through all its job, which takes each device from its driver `rebinds` times.
fn through(debian: &Debian, options: &[&str], rebinds: u32) {
    let person = Person::new();
    let args = [&Person::OPTIONS[..], &["-m", "256"], options].concat();
    let job = format!("devices {rebinds}");
    let mut running = person.start(debian.boot_with("initrd", Kernel::ALL[0], &args, &job));
    person.drive(&mut running);
    check(&running.finish(), rebinds);
}

#[test]
fn small_devices_work_before_and_after_drivers_that_come_and_go_a_hundred_times() {
    let debian = or_skip!(Debian::find());
    through(&debian, &["--cpus=1", "--virtio=mmio"], 100);
    through(&debian, &["--cpus=1", "--virtio=pci"], 100);
}

/// Over mmio nobody takes a device away that is at work: Linux's interrupt handler for that transport goes
/// through the device's queues while another processor frees them (virtio_mmio.c, `vm_interrupt` and
/// `vm_del_vqs`, which frees the interrupt last), and with four of them it now and then meets one that is
/// gone.
#[test]
fn with_four_processors_they_do_so_too() {
    let debian = or_skip!(Debian::find());
    through(&debian, &["--cpus=4", "--virtio=mmio"], 0);
    through(&debian, &["--cpus=4", "--virtio=pci"], 100);
}
