//! Several vCPUs.

use guests::{aarch64::conformance as aarch64, x86_64::conformance as x86_64};

use super::Image;
use super::bench::{Bench, ok};
use crate::exit::{Address, Width};
use crate::traits::{Hypervisor, Vcpu};

const MEET: Image = Image::both(x86_64::MEET, aarch64::MEET);

declare! {
    two_vcpus_run_at_the_same_time(MEET) needs Processor;
    four_vcpus_run_at_the_same_time(MEET) needs Processor;
    a_second_processor_waits_for_init_and_sipi(Image::x86_64(x86_64::SIPI)) needs IrqChip;
    a_second_processor_can_begin_by_itself(Image::x86_64(x86_64::MEET)) needs IrqChip;
}

/// Each waits for all the others, and says its own number.
fn meet<H: Hypervisor>(bench: &Bench<'_, H>, vcpus: u32) {
    bench.on_threads(vcpus, |id, guest| {
        bench.set_out(guest, id, [id.into(), vcpus.into()]);
        guest.reports(id.into());
        guest.ends();
    });
}

fn two_vcpus_run_at_the_same_time<H: Hypervisor>(bench: &Bench<'_, H>) {
    meet(bench, 2);
}

fn four_vcpus_run_at_the_same_time<H: Hypervisor>(bench: &Bench<'_, H>) {
    meet(bench, 4);
}

fn a_second_processor_waits_for_init_and_sipi<H: Hypervisor>(bench: &Bench<'_, H>) {
    bench.on_threads(2, |id, guest| {
        if id == 0 {
            bench.set_out(guest, id, [0, 0]);
            guest.ends();
        } else {
            guest.writes(Address::Port(0xe0), Width::W1, 0x55);
        }
    });
}

fn a_second_processor_can_begin_by_itself<H: Hypervisor>(bench: &Bench<'_, H>) {
    bench.on_threads(2, |id, guest| {
        bench.set_out(guest, id, [id.into(), 2]);
        if id > 0 {
            let state = ok(guest.vcpu.state());
            ok(guest.vcpu.begin_at(&state));
        }
        guest.reports(id.into());
        guest.ends();
    });
}
