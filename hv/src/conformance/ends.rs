//! Exits by which a guest stops, or cannot go on.

use guests::x86_64::conformance as x86_64;

use super::Image;
use super::bench::{Bench, MMIO, WINDOW, ok};
use crate::exit::{Address, Crash, Exit, Resume, Width};
use crate::traits::{Hypervisor, Vcpu};

declare! {
    a_halt_without_an_irqchip_comes_out(Image::x86_64(x86_64::HALT));
    a_triple_fault_is_a_crash(Image::x86_64(x86_64::TRIPLE_FAULT));
    a_triple_fault_with_an_irqchip_is_a_crash(Image::x86_64(x86_64::TRIPLE_FAULT)) needs IrqChip;
    a_jump_to_where_no_ram_is_comes_out(Image::x86_64(x86_64::JUMP_INTO_HOLE));
}

fn a_halt_without_an_irqchip_comes_out<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.exits(Exit::Halted);
    // Between two instructions, behind the first.
    guest.settles();
    guest.writes(Address::Mmio(MMIO), Width::W4, 1);
    guest.exits(Exit::Halted);
    guest.ends();
}

fn crashes<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.exits(Exit::Crash(Crash::TripleFault));
    // For the report.
    ok(guest.vcpu.state());
}

fn a_triple_fault_is_a_crash<H: Hypervisor>(bench: &Bench<'_, H>) {
    crashes(bench);
}

fn a_triple_fault_with_an_irqchip_is_a_crash<H: Hypervisor>(bench: &Bench<'_, H>) {
    crashes(bench);
}

fn a_jump_to_where_no_ram_is_comes_out<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    match ok(guest.vcpu.run(Resume::Go)) {
        Exit::Unhandled(unhandled) => {
            let pc = unhandled.instruction.map(|instruction| instruction.pc());
            assert_eq!(pc, Some(WINDOW), "{unhandled}");
        }
        exit => panic!("expected an unhandled exit, and the vCPU came out with {exit:x?}"),
    }
    ok(guest.vcpu.state());
}
