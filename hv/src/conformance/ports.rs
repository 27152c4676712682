//! x86 I/O ports.

use guests::x86_64::conformance as x86_64;

use super::Image;
use super::bench::Bench;
use crate::exit::{Address, Width};
use crate::traits::Hypervisor;

declare! {
    port_reads_of_every_width(Image::x86_64(x86_64::PORT_READS));
    port_writes_of_every_width(Image::x86_64(x86_64::PORT_WRITES));
}

fn port_reads_of_every_width<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for port in [0x300, 0xe0] {
        // Bits above the width are not the guest's; a 4-byte read clears the register's upper half.
        guest.reads(Address::Port(port), Width::W1, 0x1234_5678_9abc_dea1);
        guest.reports(0xffff_ffff_ffff_ffa1);
        guest.reads(Address::Port(port), Width::W2, 0x1234_5678_9abc_b1b2);
        guest.reports(0xffff_ffff_ffff_b1b2);
        guest.reads(Address::Port(port), Width::W4, 0x1234_5678_c1c2_c3c4);
        guest.reports(0xc1c2_c3c4);
    }
    guest.ends();
}

fn port_writes_of_every_width<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for port in [0x300, 0xe0] {
        guest.writes(Address::Port(port), Width::W1, 0x88);
        guest.writes(Address::Port(port), Width::W2, 0x7788);
        guest.writes(Address::Port(port), Width::W4, 0x5566_7788);
    }
    guest.writes(Address::Port(0xffff), Width::W1, 0x88);
    guest.ends();
}
