//! Accesses to addresses that no RAM backs.

use guests::{aarch64::conformance as aarch64, x86_64::conformance as x86_64};
use vm_memory::{Bytes, GuestAddress};

use super::Image;
use super::bench::{Bench, Guest, MMIO, RAM};
use crate::arch::Arch;
use crate::exit::{Address, Exit, Resume, Width};
use crate::traits::{Hypervisor, Kicker};

const PAGE_CROSSING: Image = Image::x86_64(x86_64::PAGE_CROSSING);

declare! {
    mmio_reads_of_every_width(Image::both(x86_64::MMIO_READS, aarch64::MMIO_READS));
    mmio_writes_of_every_width(Image::both(x86_64::MMIO_WRITES, aarch64::MMIO_WRITES));
    an_access_across_pages_comes_in_pieces_that_add_up(PAGE_CROSSING);
    an_access_across_the_end_of_ram_exits_for_its_mmio_part(PAGE_CROSSING);
    the_rest_of_an_access_across_pages_comes_before_a_kick(PAGE_CROSSING);
}

fn mmio_reads_of_every_width<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let at = |offset| Address::Mmio(MMIO + offset);
    // Bits above the width are not the guest's.
    guest.reads(at(0), Width::W1, 0x1234_5678_9abc_dea1);
    guest.reports(0xa1);
    guest.reads(at(8), Width::W2, 0x1234_5678_9abc_b1b2);
    guest.reports(0xb1b2);
    guest.reads(at(16), Width::W4, 0x1234_5678_c1c2_c3c4);
    guest.reports(0xc1c2_c3c4);
    guest.reads(at(24), Width::W8, 0xd1d2_d3d4_d5d6_d7d8);
    guest.reports(0xd1d2_d3d4_d5d6_d7d8);
    // With their sign; on arm64 that is a case of its own.
    if bench.arch() == Arch::X86_64 {
        guest.reads(at(0), Width::W1, 0xa1);
        guest.reports(0xffff_ffff_ffff_ffa1);
        guest.reads(at(8), Width::W2, 0xb1b2);
        guest.reports(0xffff_ffff_ffff_b1b2);
        guest.reads(at(16), Width::W4, 0xc1c2_c3c4);
        guest.reports(0xffff_ffff_c1c2_c3c4);
    }
    guest.ends();
}

fn mmio_writes_of_every_width<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let at = |offset| Address::Mmio(MMIO + offset);
    guest.writes(at(0), Width::W1, 0x88);
    guest.writes(at(8), Width::W2, 0x7788);
    guest.writes(at(16), Width::W4, 0x5566_7788);
    guest.writes(at(24), Width::W8, 0x1122_3344_5566_7788);
    guest.writes(at(32), Width::W8, 0);
    guest.ends();
}

/// What the crossing guest writes.
const WRITTEN: [u8; 8] = 0x1122_3344_5566_7788u64.to_le_bytes();
/// What it is given to read.
const GIVEN: [u8; 8] = 0xd1d2_d3d4_d5d6_d7d8u64.to_le_bytes();

/// Expects the bytes `from..8` of the access at `at` in pieces, lowest first, and prepares their
/// answers. `kick` comes after the first piece.
#[track_caller]
fn pieces<H: Hypervisor>(guest: &mut Guest<H>, at: u64, from: usize, read: bool, kick: bool) {
    let mut next = from;
    while next < 8 {
        let exit = guest.run();
        let (Exit::Read { at: piece, width } | Exit::Write { at: piece, width, .. }) = exit else {
            panic!("expected the piece from byte {next} on, and the vCPU came out with {exit:x?}");
        };
        assert_eq!(piece, Address::Mmio(at + next as u64), "pieces follow one another: {exit:x?}");
        let end = next + width.bytes();
        assert!(end <= 8, "the pieces are as long as the access: {exit:x?}");
        let bytes = |all: [u8; 8]| {
            let mut value = [0; 8];
            value[..width.bytes()].copy_from_slice(&all[next..end]);
            u64::from_le_bytes(value)
        };
        if read {
            assert_eq!(exit, Exit::Read { at: piece, width });
            guest.resume = Resume::Value(bytes(GIVEN));
        } else {
            assert_eq!(exit, Exit::Write { at: piece, width, value: bytes(WRITTEN) });
        }
        if kick && next == from {
            guest.kicker.kick();
        }
        next = end;
    }
}

fn an_access_across_pages_comes_in_pieces_that_add_up<H: Hypervisor>(bench: &Bench<'_, H>) {
    for before_the_end in 1..8 {
        let at = MMIO + 0x1000 - before_the_end;
        let mut guest = bench.boot_with([at, 0], |config| config);
        pieces(&mut guest, at, 0, false, false);
        pieces(&mut guest, at, 0, true, false);
        guest.reports(u64::from_le_bytes(GIVEN));
        guest.ends();
    }
}

fn an_access_across_the_end_of_ram_exits_for_its_mmio_part<H: Hypervisor>(bench: &Bench<'_, H>) {
    for in_ram in 1..8 {
        let at = bench.ram_base() + RAM - in_ram as u64;
        let mut guest = bench.boot_with([at, 0], |config| config);
        pieces(&mut guest, at, in_ram, false, false);
        let mut kept = vec![0; in_ram];
        // Between its two accesses, or after the first one's RAM part: the guest has written it.
        guest.memory.read_slice(&mut kept, GuestAddress(at)).expect("the end of RAM is RAM");
        assert_eq!(kept, WRITTEN[..in_ram], "the part in RAM is written");
        guest.memory.write_slice(&GIVEN[..in_ram], GuestAddress(at)).expect("as above");
        pieces(&mut guest, at, in_ram, true, false);
        guest.reports(u64::from_le_bytes(GIVEN));
        guest.ends();
    }
}

fn the_rest_of_an_access_across_pages_comes_before_a_kick<H: Hypervisor>(bench: &Bench<'_, H>) {
    for before_the_end in 1..8 {
        let at = MMIO + 0x1000 - before_the_end;
        let mut guest = bench.boot_with([at, 0], |config| config);
        pieces(&mut guest, at, 0, false, true);
        guest.is_kicked();
        pieces(&mut guest, at, 0, true, true);
        guest.is_kicked();
        guest.reports(u64::from_le_bytes(GIVEN));
        guest.ends();
    }
}
