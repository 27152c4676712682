//! The order of construction (contract 1), and descriptions that cannot be.

use std::os::fd::AsFd;

use guests::{aarch64::conformance as aarch64, x86_64::conformance as x86_64};

use super::Image;
use super::bench::{Bench, MMIO, ok, refused};
use crate::config::{RamFlags, VmConfig};
use crate::error::Kind;
use crate::exit::{Address, Resume, Width};
use crate::mem::GuestRam;
use crate::traits::{Doorbell, Hypervisor, Vcpu, Vm};

const WRITES: Image = Image::both(x86_64::MMIO_WRITES, aarch64::MMIO_WRITES);

declare! {
    nobody_runs_before_the_vm_is_ready(WRITES);
    a_vm_with_an_unbound_vcpu_is_not_ready(WRITES);
    a_vm_that_lost_a_vcpu_is_never_ready(WRITES);
    lines_and_messages_wait_for_readiness(WRITES) needs IrqChip;
    doorbells_wait_for_readiness(WRITES) needs Doorbell;
    impossible_vms_are_refused(WRITES);
}

fn nobody_runs_before_the_vm_is_ready<H: Hypervisor>(bench: &Bench<'_, H>) {
    let memory = bench.memory();
    let (vm, mut seeds) = ok(bench.hypervisor.create(bench.config(&memory)));
    let mut guest = bench.bind(&vm, &memory, seeds.pop().expect("one vCPU was asked for"));
    bench.set_out(&mut guest, 0, [0, 0]);
    refused(guest.vcpu.run(Resume::Go), Kind::Order);
    ok(vm.ready());
    guest.writes(Address::Mmio(MMIO), Width::W1, 0x88);
}

fn a_vm_with_an_unbound_vcpu_is_not_ready<H: Hypervisor>(bench: &Bench<'_, H>) {
    let memory = bench.memory();
    let (vm, mut seeds) = ok(bench.hypervisor.create(bench.config(&memory)));
    refused(vm.ready(), Kind::Order);
    let _guest = bench.bind(&vm, &memory, seeds.pop().expect("one vCPU was asked for"));
    ok(vm.ready());
}

fn a_vm_that_lost_a_vcpu_is_never_ready<H: Hypervisor>(bench: &Bench<'_, H>) {
    let memory = bench.memory();
    let (vm, mut seeds) = ok(bench.hypervisor.create(bench.config(&memory).vcpus(2)));
    drop(seeds.pop().expect("two vCPUs were asked for"));
    let mut guest = bench.bind(&vm, &memory, seeds.pop().expect("two vCPUs were asked for"));
    refused(vm.ready(), Kind::Order);
    refused(guest.vcpu.run(Resume::Go), Kind::Order);
}

fn lines_and_messages_wait_for_readiness<H: Hypervisor>(bench: &Bench<'_, H>) {
    let memory = bench.memory();
    let (vm, mut seeds) = ok(bench.hypervisor.create(bench.config(&memory)));
    let guest = bench.bind(&vm, &memory, seeds.pop().expect("one vCPU was asked for"));
    refused(guest.vm.edge(5), Kind::Order);
    refused(guest.vm.level(5), Kind::Order);
    if bench.hypervisor.caps().msi {
        refused(guest.vm.signal_msi(0xfee0_0000, 0x40), Kind::Order);
    }
}

fn doorbells_wait_for_readiness<H: Hypervisor>(bench: &Bench<'_, H>) {
    let memory = bench.memory();
    let (vm, mut seeds) = ok(bench.hypervisor.create(bench.config(&memory)));
    let _guest = bench.bind(&vm, &memory, seeds.pop().expect("one vCPU was asked for"));
    let bell = Doorbell { at: Address::Mmio(MMIO), value: None };
    refused(vm.doorbell(bell, std::io::stderr().as_fd()), Kind::Order);
}

fn impossible_vms_are_refused<H: Hypervisor>(bench: &Bench<'_, H>) {
    let caps = bench.hypervisor.caps();
    let create = |config| bench.hypervisor.create(config);
    let ram = || ok(GuestRam::new(1 << 20));
    let flags = RamFlags::default();
    let base = bench.ram_base();
    refused(create(VmConfig::new()), Kind::Invalid);
    let good = ok(VmConfig::new().ram(base, ram(), flags));
    refused(create(good.clone().vcpus(0)), Kind::Invalid);
    refused(create(good.clone().vcpus(caps.max_vcpus + 1)), Kind::Exhausted);
    refused(create(ok(good.clone().ram(base + 0x8_0000, ram(), flags))), Kind::Invalid);
    refused(create(ok(good.clone().ram(base + (2 << 20) + 0x800, ram(), flags))), Kind::Invalid);
    refused(create(ok(good.clone().ram(caps.address_space(), ram(), flags))), Kind::Unsupported);
    drop(ok(create(good)));
}
