//! The performance monitors (DDI 0487, chapter D13): there for guests that were given some, and
//! `ID_AA64DFR0_EL1` is right about them.

use std::panic::resume_unwind;

use guests::aarch64::conformance as aarch64;

use super::super::Image;
use super::super::bench::{Bench, MMIO, REPORT_AT, Skip};
use super::{any, finds};
use crate::arch::aarch64::{gic, id};
use crate::caps::Monitors;
use crate::exit::{Address, Exit, Width};
use crate::traits::Hypervisor;

const MONITORS: Image = Image::aarch64(aarch64::MONITORS);

declare! {
    performance_monitors_can_be_set_up_and_count_and_interrupt_if_they_say_so(MONITORS)
        needs IrqChip, Monitors, Processor;
    a_vm_that_does_not_ask_for_performance_monitors_is_told_of_none(MONITORS) needs Processor;
}

/// What the guest does beyond reading `ID_AA64DFR0_EL1`.
const NOTHING: u64 = 0;
const COUNT: u64 = 1;
const OVERFLOW: u64 = 2;

/// What the guest writes after an exception of an unknown reason (`ESR_EL1.EC`).
const UNDEFINED: Exit = Exit::Write { at: Address::Mmio(MMIO + 8), width: Width::W8, value: 0 };

/// The stand-in's, whose traps are KVM's.
const NO_TRAPS: &str = "these registers are nobody's here, and an access to them does not come out";

fn performance_monitors_can_be_set_up_and_count_and_interrupt_if_they_say_so<H: Hypervisor>(
    bench: &Bench<'_, H>,
) {
    let counting = bench.hypervisor.caps().monitors == Monitors::Counting;
    let what = if counting { OVERFLOW } else { COUNT };
    let mut guest = bench.boot_with([what, 0], |config| config);
    let dfr0 = finds(&mut guest);
    assert_eq!(id::has_monitors(dfr0), counting, "ID_AA64DFR0_EL1 is {dfr0:#x}");
    let cycles = match any(&mut guest) {
        Exit::Write { at: REPORT_AT, width: Width::W8, value } => value,
        UNDEFINED if !counting => resume_unwind(Box::new(Skip(NO_TRAPS.into()))),
        exit => panic!("expected a number of cycles, and the vCPU came out with {exit:x?}"),
    };
    assert_eq!(cycles > 0, counting, "{cycles} cycles in a thousand rounds of a loop");
    if counting {
        guest.reports(gic::MONITORS.into());
    }
    guest.ends();
}

fn a_vm_that_does_not_ask_for_performance_monitors_is_told_of_none<H: Hypervisor>(
    bench: &Bench<'_, H>,
) {
    let mut guest = bench.boot_with([NOTHING, 0], |config| config);
    let dfr0 = finds(&mut guest);
    assert!(!id::has_monitors(dfr0), "ID_AA64DFR0_EL1 is {dfr0:#x}");
    guest.ends();
}
