//! RAM of special kinds, and RAM that comes and goes.

use std::sync::Arc;

use guests::{aarch64::conformance as aarch64, x86_64::conformance as x86_64};
use vm_memory::{Bytes, GuestAddress};

use super::Image;
use super::bench::{Bench, MMIO, WINDOW, ok, refused};
use crate::config::{RamFlags, Slot};
use crate::error::Kind;
use crate::exit::{Address, Width};
use crate::mem::{GuestRam, Region, memory};
use crate::traits::{Hypervisor, Vm};

const READ_ONLY: Image = Image::both(x86_64::READ_ONLY, aarch64::READ_ONLY);
const WINDOW_READS: Image = Image::both(x86_64::WINDOW_READS, aarch64::WINDOW_READS);
const PAGE_WRITES: Image = Image::both(x86_64::PAGE_WRITES, aarch64::PAGE_WRITES);

declare! {
    read_only_ram_can_be_read_and_its_writes_come_out(READ_ONLY) needs ReadOnlyRam;
    ram_can_come_and_go(WINDOW_READS);
    ram_cannot_come_twice_nor_go_where_none_is(WINDOW_READS);
    written_pages_are_recorded_exactly(PAGE_WRITES) needs DirtyLog;
    only_ram_that_was_asked_to_records_writes(PAGE_WRITES) needs DirtyLog;
}

const PLAIN: RamFlags = RamFlags { read_only: false, log_dirty: false };

/// RAM of 1 MiB that begins with `value`.
fn beginning_with(value: u64) -> Arc<GuestRam> {
    let ram = ok(GuestRam::new(1 << 20));
    let alone = ok(memory([(0, Arc::clone(&ram))]));
    alone.write_obj(value, GuestAddress(0)).expect("it is RAM");
    ram
}

fn slot(gpa: u64, ram: Arc<GuestRam>) -> Slot {
    Slot { region: ok(Region::new(gpa, ram)), flags: PLAIN }
}

fn read_only_ram_can_be_read_and_its_writes_come_out<H: Hypervisor>(bench: &Bench<'_, H>) {
    let flags = RamFlags { read_only: true, ..PLAIN };
    let value = 0xd1d2_d3d4_d5d6_d7d8;
    let ram = beginning_with(value);
    let mut guest = bench.boot_with([0, 0], |config| ok(config.ram(WINDOW, ram, flags)));
    guest.reports(value);
    for width in Width::ALL {
        guest.writes(Address::Mmio(WINDOW), width, 0x1122_3344_5566_7788 & width.mask());
    }
    guest.reports(value);
    guest.ends();
}

fn ram_can_come_and_go<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for value in 1..=10 {
        guest.reads(Address::Mmio(WINDOW), Width::W8, 1000 + value);
        guest.reports(1000 + value);
        ok(guest.vm.map(slot(WINDOW, beginning_with(value))));
        guest.reports(value);
        guest.reports(value);
        ok(guest.vm.unmap(WINDOW));
    }
    guest.reads(Address::Mmio(WINDOW), Width::W8, 0);
}

fn ram_cannot_come_twice_nor_go_where_none_is<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    refused(guest.vm.unmap(WINDOW), Kind::Invalid);
    ok(guest.vm.map(slot(WINDOW, beginning_with(1))));
    refused(guest.vm.map(slot(WINDOW, beginning_with(2))), Kind::Busy);
    refused(guest.vm.map(slot(WINDOW + 0xf_0000, beginning_with(2))), Kind::Busy);
    refused(guest.vm.map(slot(WINDOW - 0xf_0000, beginning_with(2))), Kind::Busy);
    refused(guest.vm.unmap(WINDOW + 0x1000), Kind::Invalid);
    guest.reports(1);
    // Right behind it is another matter.
    ok(guest.vm.map(slot(WINDOW + (1 << 20), beginning_with(3))));
    guest.reports(1);
}

fn written_pages_are_recorded_exactly<H: Hypervisor>(bench: &Bench<'_, H>) {
    let flags = RamFlags { log_dirty: true, ..PLAIN };
    let ram = ok(GuestRam::new(1 << 20));
    let mut guest = bench.boot_with([0, 0], |config| ok(config.ram(WINDOW, ram, flags)));
    for pages in [&[0, 3, 64, 255][..], &[], &[7], &[7, 255]] {
        let mut expected = [0u64; 4];
        for page in pages {
            guest.reads(Address::Mmio(MMIO), Width::W8, WINDOW + 0x1000 * page + 8 * page);
            expected[usize::try_from(page / 64).expect("a page number")] |= 1 << (page % 64);
        }
        // The last write happens on the way to the next question.
        guest.reads(Address::Mmio(MMIO), Width::W8, bench.flag());
        assert_eq!(ok(guest.vm.dirty(WINDOW)), expected, "after writing to pages {pages:?}");
    }
    guest.reads(Address::Mmio(MMIO), Width::W8, 0);
    guest.ends();
}

fn only_ram_that_was_asked_to_records_writes<H: Hypervisor>(bench: &Bench<'_, H>) {
    let guest = bench.boot();
    refused(guest.vm.dirty(bench.ram_base()), Kind::Invalid);
    refused(guest.vm.dirty(WINDOW), Kind::Invalid);
}
