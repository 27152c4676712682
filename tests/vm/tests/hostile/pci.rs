//! What no good guest does with the PCI bus (PCI Local Bus 3.0, 6.2, 6.8; virtio 1.2 §4.1): each time the
//! device serves a good request after it, and nothing else is harmed.

use super::arch::{CONTROLLERS, ECAM};
use super::driver::register::*;
use super::driver::*;
use super::script::{Bus, Script};
use super::{Guest, accelerator, or_skip};

/// Configuration space of the first device, and of the bus.
const FUNCTION: u64 = ECAM + 0x8000;
pub(super) const COMMAND: u64 = FUNCTION + 4;
const BAR_0: u64 = FUNCTION + 0x10;
/// Memory on, bus master on, pin off.
pub(super) const MEMORY: u64 = 2;
pub(super) const BUS_MASTER: u64 = 4;
const NO_PIN: u64 = 0x400;
/// Its capabilities: MSI-X, common configuration, notifications, ISR, configuration, the way by
/// configuration space; each where the one before ends.
const MSIX: u64 = FUNCTION + 0x40;
pub(super) const MSIX_CONTROL: u64 = MSIX + 2;
const ACCESS: u64 = FUNCTION + 0x40 + MSIX_LEN + 16 + 20 + 16 + 16;
/// There are messages on x86_64 alone.
const MSIX_LEN: u64 = if cfg!(target_arch = "x86_64") { 12 } else { 0 };

/// A request, as the first since a start or behind others.
fn good(script: Script) -> Script {
    script.recovers()
}

/// What a guest does with `steps`, and a good request behind it.
fn survives(steps: impl FnOnce(Script) -> Script) {
    let script = steps(Script::on(Bus::Pci).start(0));
    Guest::new(good(script).end(0)).passes();
}

#[test]
fn p36_a_bar_that_is_moved_over_something_else_answers_nothing_there() {
    or_skip!(accelerator());
    survives(|script| {
        // RAM, the other end of it, interrupt controllers, configuration space, the end, nowhere.
        let mut script = script.store(4, DATA, 0x1234_5678);
        let [first, second] = CONTROLLERS;
        for place in [RAM, DATA & !0x7fff, first, second, ECAM, 0xffff_8000, 0xf000_0000] {
            script = script
                .store(4, BAR_0, place)
                .expect(4, BAR_0, place)
                .expect(4, DATA, 0x1234_5678)
                .expect(2, FUNCTION, 0x1af4)
                // Its home is nobody's meanwhile.
                .expect(4, BAR + 0x14, 0xffff_ffff);
        }
        // Elsewhere in the window it is found, and its doorbells work there.
        script
            .store(4, BAR_0, BAR + 0x10_0000)
            .expect(1, BAR + 0x10_0014, 0xf)
            .expect(1, BAR + 0x14, 0xff)
            .store(4, BAR_0, BAR)
    });
}

#[test]
fn p36_a_bar_on_another_devices_home_answers_nothing_and_the_other_goes_on() {
    or_skip!(accelerator());
    let second = BAR + 0x8000;
    let script = Script::on(Bus::Pci)
        .start(0)
        .expect(1, second + 0x14, 0)
        .store(4, BAR_0, second)
        // The second disk's status is 0, the first one's 15.
        .expect(1, second + 0x14, 0)
        .expect(1, BAR + 0x14, 0xff)
        .store(1, second + 0x14, 1)
        .expect(1, second + 0x14, 1)
        .store(4, FUNCTION + 0x8010, BAR)
        // Each on the other's home: both are silent.
        .expect(1, second + 0x14, 0xff)
        .expect(1, BAR + 0x14, 0xff)
        .store(4, FUNCTION + 0x8010, second)
        .store(4, BAR_0, BAR)
        .expect(1, second + 0x14, 1);
    let guest = Guest::new(good(script).end(0));
    let other = guest.folder.file("other.img", [0x5a; 4096]);
    guest.option(&format!("--disk={}", other.display())).passes();
}

#[test]
fn p36_a_bar_is_sized_in_the_middle_of_a_request() {
    or_skip!(accelerator());
    survives(|script| {
        let chain = [(HEADER, 16, NEXT, 1), (DATA, 512, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
        script
            .header(IN, 1)
            .chain(&chain)
            .offer(&[0])
            .store(4, BAR_0, 0xffff_ffff)
            .expect(4, BAR_0, 0xffff_8000)
            .store(4, BAR_0, BAR)
            .served(1)
            .expect(1, ANSWER, OK)
    });
}

#[test]
fn p37_the_way_by_configuration_space_leads_nowhere_but_into_the_bar() {
    or_skip!(accelerator());
    survives(|script| {
        let to = |script: Script, bar: u64, offset: u64, len: u64| {
            script.store(1, ACCESS + 4, bar).store(4, ACCESS + 8, offset).store(4, ACCESS + 12, len)
        };
        // A good one: the status, then a queue's registers, as wide as they are.
        let mut script = to(script, 0, 0x14, 1).expect(1, ACCESS + 16, 0xf);
        for (bar, offset, len) in [
            (0, 0x14, 0),
            (0, 0x14, 3),
            (0, 0x14, 8),
            (0, 0x14, 0xffff_ffff),
            (0, 0x8000, 1),
            (0, 0xffff_fffc, 4),
            (0, 0x7ffd, 4),
            (0, 2, 4),
            (1, 0x14, 1),
            (5, 0x14, 1),
            (0xff, 0x14, 1),
        ] {
            script = to(script, bar, offset, len)
                .expect(4, ACCESS + 16, 0)
                .store(4, ACCESS + 16, 0)
                .expect(1, BAR + 0x14, 0xf);
        }
        // A good one that writes: it resets the device.
        to(script, 0, 0x14, 1).store(1, ACCESS + 16, 0).wait(1, BAR + 0x14, u64::MAX, 0)
    });
}

#[test]
#[cfg(target_arch = "x86_64")] // which has messages
fn p38_vectors_that_do_not_exist_and_tables_written_in_pieces_are_refused() {
    or_skip!(accelerator());
    survives(|script| {
        let mut script = script;
        // The vectors of the configuration and of the queue; there are two.
        for (register, vector, after) in [
            (0x10, 0, 0),
            (0x10, 1, 1),
            (0x10, 2, 0xffff),
            (0x1a, 0x7fff, 0xffff),
            (0x1a, 0xffff, 0xffff),
            (0x1a, 1, 1),
        ] {
            script = script.store(2, BAR + register, vector).expect(2, BAR + register, after);
        }
        let script = script
            .store(4, MSIX_TABLE, 0xfee0_0003)
            .expect(4, MSIX_TABLE, 0xfee0_0000)
            .store(1, MSIX_TABLE + 8, 0x55)
            .store(2, MSIX_TABLE + 8, 0x5555)
            .expect(4, MSIX_TABLE + 8, 0)
            .store(8, MSIX_TABLE + 8, 1 << 32 | 0x40)
            .expect(8, MSIX_TABLE + 8, 1 << 32 | 0x40)
            // Behind the table and behind the bits.
            .store(4, MSIX_TABLE + 32, u64::MAX)
            .expect(4, MSIX_TABLE + 32, 0)
            .store(8, MSIX_PENDING, u64::MAX)
            .expect(8, MSIX_PENDING, 0);
        // Masked, it is kept; the mask is taken away, and it is sent.
        script
            .store(2, MSIX_CONTROL, 0x8000)
            .store(2, COMMAND, MEMORY | BUS_MASTER)
            .store(4, MSIX_TABLE + 28, 1)
            .request(IN, 1, &[(DATA, 512, WRITE)])
            .wait(8, MSIX_PENDING, u64::MAX, 2)
            .store(4, MSIX_TABLE + 28, 0)
            .expect(8, MSIX_PENDING, 0)
            .store(2, MSIX_CONTROL, 0x4000)
    });
}

#[test]
fn p39_configuration_space_is_read_and_written_in_any_width_and_absent_functions_are_ones() {
    or_skip!(accelerator());
    survives(|script| {
        let mut script = script
            .expect(8, FUNCTION, 0x0010_0002_1042_1af4)
            .expect(2, FUNCTION + 2, 0x1042)
            .expect(1, FUNCTION + 1, 0x1a)
            // What is behind the first 256 bytes, and the last ones.
            .expect(4, FUNCTION + 0x100, 0)
            .expect(4, FUNCTION + 0xffc, 0);
        // Not within four bytes, or not aligned: nobody's.
        if cfg!(target_arch = "x86_64") {
            script = script
                .expect(2, FUNCTION + 3, 0xffff)
                .expect(4, FUNCTION + 2, 0xffff_ffff)
                .expect(8, FUNCTION + 4, u64::MAX)
                .store(4, FUNCTION + 2, 0);
        }
        // Device 1's function 1, device 2, device 31; the host bridge cannot be written.
        for absent in [FUNCTION + 0x1000, FUNCTION + 0x8000, ECAM + 0xf_8000] {
            script = script.store(4, absent, 0).expect(4, absent, 0xffff_ffff);
        }
        script.store(4, ECAM, 0).expect(4, ECAM, 0x0008_1b36)
    });
}

#[test]
#[cfg(target_arch = "x86_64")] // which has ports
fn p39_configuration_space_by_ports_is_the_same() {
    or_skip!(accelerator());
    survives(|script| {
        // By ports: the address takes 32 bits, with the enable bit, bus 0.
        let at = |script: Script, address: u64| script.output(4, 0xcf8, address);
        let script = at(script, 0x8000_0800)
            .input(4, 0xcf8, u64::MAX, 0x8000_0800)
            .input(4, 0xcfc, u64::MAX, 0x1042_1af4)
            .input(2, 0xcfe, u64::MAX, 0x1042)
            .input(1, 0xcfd, u64::MAX, 0x1a)
            .input(2, 0xcfd, u64::MAX, 0x421a)
            .input(2, 0xcff, u64::MAX, 0xffff)
            .input(4, 0xcfa, u64::MAX, 0xffff_ffff)
            .output(1, 0xcfb, 0)
            .output(2, 0xcf8, 0)
            .input(4, 0xcf8, u64::MAX, 0x8000_0800);
        let script = at(script, 0x800).input(4, 0xcfc, u64::MAX, 0xffff_ffff).output(4, 0xcfc, 0);
        let script = at(script, 0x8001_0800).input(4, 0xcfc, u64::MAX, 0xffff_ffff);
        at(script, 0xffff_ffff).input(4, 0xcf8, u64::MAX, 0x80ff_fffc)
    });
}

#[test]
fn p40_memory_and_bus_mastering_are_switched_off_while_requests_are_served() {
    or_skip!(accelerator());
    survives(|script| {
        let chain = [(HEADER, 16, NEXT, 1), (DATA, 512, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
        let script = script
            .store(2, COMMAND, MEMORY | BUS_MASTER)
            .header(IN, 1)
            .chain(&chain)
            .offer(&[0])
            .store(2, COMMAND, NO_PIN)
            // Switched off, it does not answer; what was under way ends.
            .expect(4, BAR + 0x14, 0xffff_ffff)
            .store(1, BAR + 0x14, 0)
            .served(1)
            .store(2, COMMAND, 0xffff)
            .expect(2, COMMAND, MEMORY | BUS_MASTER | NO_PIN)
            .expect(1, BAR + 0x14, 0xf);
        // The interrupt is pending, which the status register says until it is read.
        script
            .expect_bits(2, FUNCTION + 6, 8, 8)
            .expect(1, ISR, 1)
            .expect_bits(2, FUNCTION + 6, 8, 0)
            .expect(1, ISR, 0)
            .expect(2, CONFIGURATION, 8)
    });
}

#[test]
fn two_processors_move_a_bar_and_reset_its_device_at_once() {
    or_skip!(accelerator());
    const RUNS: u64 = RAM + 0x2f_0000;
    let moves = |s: Script| {
        s.store(4, BAR_0, 0)
            .store(2, COMMAND, 0)
            .store(2, MSIX_CONTROL, 0xc000)
            .store(4, BAR_0, BAR)
            .store(2, COMMAND, MEMORY)
            .store(2, MSIX_CONTROL, 0)
    };
    let script = Script::on(Bus::Pci)
        .second(|second| second.store(4, RUNS, 1).times(u64::MAX, moves))
        .wait(4, RUNS, u64::MAX, 1)
        .times(500, |s| s.set(STATUS, 1).set(STATUS, 0).set(QUEUE_NOTIFY, 0).read(4, BAR + 0x14))
        .end(0);
    let finished = Guest::new(script).option("--cpus=2").ends_with(0);
    assert!(finished.stderr.is_empty() || finished.stderr.contains("disk0"), "{finished}");
}
