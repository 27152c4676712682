//! The interrupt controller where guests look for it, and the timer that every vCPU has.

use std::time::{Duration, Instant};

use guests::aarch64::conformance as aarch64;

use super::super::Image;
use super::super::bench::{Bench, MMIO};
use super::finds;
use crate::arch::aarch64::{affinity, id};
use crate::exit::{Address, Width};
use crate::traits::Hypervisor;

declare! {
    the_interrupt_controller_is_where_guests_look(Image::aarch64(aarch64::CONTROLLER))
        needs IrqChip, Processor;
    the_timer_wakes_a_processor_that_waits(Image::aarch64(aarch64::TIMER))
        needs IrqChip, Processor;
}

fn the_interrupt_controller_is_where_guests_look<H: Hypervisor>(bench: &Bench<'_, H>) {
    for vcpus in [1, 4] {
        bench.on_threads(vcpus, |index, guest| {
            if index > 0 {
                return;
            }
            bench.set_out(guest, 0, [0, 0]);
            assert_eq!(finds(guest), 3, "the version by GICD_PIDR2");
            let highest = finds(guest);
            assert!((95..1020).contains(&highest), "the highest INTID is {highest}");
            let pfr0 = finds(guest);
            assert!(id::has_gic(pfr0), "ID_AA64PFR0_EL1 is {pfr0:#x}");
            for index in 0..vcpus {
                let typer = finds(guest);
                let packed = affinity(index) & 0xff_ffff;
                assert_eq!(typer >> 32, packed, "the affinity of redistributor {index}");
                assert_eq!(typer >> 4 & 1 == 1, index + 1 == vcpus, "the last one says so");
            }
            guest.ends();
        });
    }
}

fn the_timer_wakes_a_processor_that_waits<H: Hypervisor>(bench: &Bench<'_, H>) {
    /// The virtual timer's PPI.
    const INTID: u64 = 27;
    let mut guest = bench.boot();
    for part in [1000, 50, 20] {
        let began = Instant::now();
        guest.reads(Address::Mmio(MMIO), Width::W8, part);
        guest.reports(INTID);
        let least = Duration::from_secs(1) / u32::try_from(part).unwrap_or(1);
        let took = began.elapsed();
        assert!(took >= least, "it came after {took:?}, and {least:?} were asked for");
        assert!(took < least + Duration::from_secs(5), "it came after {took:?}");
    }
}
