//! Requests that no good driver makes of a balloon (virtio 1.2 §5.5).

use super::driver::register::{CONFIG, INTERRUPT_STATUS, STATUS};
use super::driver::*;
use super::script::{Bus, Script};
use super::{END, Guest, accelerator, or_skip};

/// Features (§5.5.3).
const DEFLATE_ON_OOM: u64 = 1 << 2;
const REPORTING: u64 = 1 << 5;

const INFLATE: u64 = 0;
const DEFLATE: u64 = 1;
const REPORTS: u64 = 2;
const QUEUES: u64 = 3;

/// The first page of what is given back: that of `BIG`.
const PAGE: u64 = page(BIG);

/// The number of the page at an address.
const fn page(address: u64) -> u64 {
    address >> 12
}

impl Script {
    fn start_balloon(self) -> Self {
        self.start_queues(DEFLATE_ON_OOM | REPORTING, QUEUES)
    }

    /// A list of pages for a queue.
    fn pages(self, queue: u64, pages: &[u64]) -> Self {
        let number = |page: &u64| u32::try_from(*page).unwrap().to_le_bytes();
        let bytes: Vec<u8> = pages.iter().flat_map(number).collect();
        let len = u32::try_from(bytes.len()).unwrap();
        self.copy(DATA, &bytes).offer_to(queue, &[(DATA, len, 0, 0)])
    }

    /// Resets the device, and puts a page into it as if nothing had been.
    fn balloon_recovers(self) -> Self {
        self.reset()
            .get(INTERRUPT_STATUS, 0)
            .zero_rings(QUEUES)
            .start_balloon()
            .store(8, BIG, 0x5a5a)
            .pages(INFLATE, &[PAGE])
            .served_by(INFLATE, 1)
            .expect(8, BIG, 0)
            .store(8, BIG, 7)
            .pages(DEFLATE, &[PAGE])
            .served_by(DEFLATE, 1)
            .expect(8, BIG, 7)
    }
}

/// A guest with a balloon and no other device.
fn guest(script: Script) -> Guest {
    Guest::new(script.balloon_recovers().end(0)).without_disk().option("--balloon=4M")
}

fn served(steps: impl Fn(Script) -> Script) {
    for bus in [Bus::Mmio, Bus::Pci] {
        guest(steps(Script::on(bus).start_balloon())).passes();
    }
}

fn stops(steps: impl Fn(Script) -> Script, fault: &str) {
    for bus in [Bus::Mmio, Bus::Pci] {
        guest(steps(Script::on(bus).start_balloon()).broken()).stops("balloon0", fault);
    }
}

#[test]
fn r34_of_the_configuration_a_driver_writes_the_balloons_size_and_no_more() {
    or_skip!(accelerator());
    let config = DEVICE + CONFIG;
    let script = Script::default().expect(4, config, 1024);
    let script = script.store(8, config, u64::MAX).expect(8, config, 0xffff_ffff_0000_0400);
    let script = script.store(4, config + 4, 3).store(8, config + 8, 0).expect(4, config + 4, 3);
    guest(script.expect(4, config + 8, 0)).passes();
}

#[test]
fn pages_that_are_not_there_or_no_list_of_pages_stop_the_balloon_and_keep_their_contents() {
    or_skip!(accelerator());
    let chain = "the chain at descriptor 0:";
    for queue in [INFLATE, DEFLATE] {
        for page in [page(END), page(DEVICE), u32::MAX.into()] {
            let fault = format!("{chain} page {page:#x} is not in the guest's RAM");
            stops(
                |s| {
                    let s = s.store(8, BIG, 7).pages(queue, &[PAGE, page]);
                    s.wait_for(STATUS, NEEDS_RESET, NEEDS_RESET).expect(8, BIG, 7)
                },
                &fault,
            );
        }
        for len in [1, 5, 16388, 0x10_0000] {
            let fault = format!("{chain} {len} bytes are no list of page numbers");
            stops(|s| s.offer_to(queue, &[(DATA, len, 0, 0)]), &fault);
        }
    }
}

#[test]
fn a_balloon_of_every_page_of_the_guests_data_and_its_own_rings_goes_on() {
    or_skip!(accelerator());
    // Its program, the script and its stack are below.
    let all: Vec<u64> = (PAGE..page(END)).rev().collect();
    served(|s| {
        s.store(8, BIG + 0x80_0000, 7).pages(INFLATE, &all).served_by(INFLATE, 1).expect(
            8,
            BIG + 0x80_0000,
            0,
        )
    });
    // Without its rings the device may find that it has come too far in them, or not before the reset.
    let rings: Vec<u64> = (page(RAM + 0x26_0000)..page(RAM + 0x27_8000)).collect();
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = Script::on(bus).start_balloon().pages(INFLATE, &rings);
        guest(script.served_by(INFLATE, 1)).ends_with(0);
    }
}

#[test]
fn reports_of_all_of_ram_over_and_over_cost_bounded_time() {
    or_skip!(accelerator());
    let (address, len) = (BIG, 0xb0_0000);
    served(|s| {
        let report =
            |s: Script, n| s.offer_to(REPORTS, &[(address, len, WRITE, 0)]).served_by(REPORTS, n);
        (1..=50).fold(s.store(8, BIG, 7), report).expect(8, BIG, 0)
    });
    // What it may not write is no page to give back, and none is no report.
    served(|s| {
        let s = s.store(8, BIG, 7).offer_to(REPORTS, &[(BIG, 0x1000, 0, 0)]).served_by(REPORTS, 1);
        let s = s.offer_to(REPORTS, &[(BIG + 8, 0x1000, WRITE, 0)]).served_by(REPORTS, 2);
        s.offer_to(REPORTS, &[(BIG, 0, WRITE, 0)]).served_by(REPORTS, 3).expect(8, BIG, 7)
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn in_software_emulation_a_balloon_takes_what_is_reported_free() {
    or_skip!(super::super::emulation::qemu());
    // QEMU has the queue for statistics before this one, whether the driver wants that or not.
    let reports = REPORTS + 1;
    let script = Script::default().start_queues(DEFLATE_ON_OOM | REPORTING, reports + 1);
    let script = script.store(8, BIG, 7).offer_to(reports, &[(BIG, 0xb0_0000, WRITE, 0)]);
    let script = script.served_by(reports, 1);
    let guest = Guest::new(script.expect(8, BIG, 0).end(0)).without_disk().option("--balloon");
    guest.option("--accel=off").option("--net=none").runner().ends_with(0);
    // It has no size there.
    let guest = Guest::new(Script::default().end(0)).without_disk().option("--balloon=4M");
    let why = guest.option("--accel=off").runner().ends_with(125).stderr;
    assert!(why.contains("no size for a balloon: --balloon alone"), "{why}");
}
