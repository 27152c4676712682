//! The interrupt controller, and what only the whole backend asks for: these go through `hv_hvf`.

use hv::arch::aarch64::gic;
use hv::{EdgeLine, GuestRam, Hypervisor, IrqChip, LevelLine, RamFlags, VcpuSeed, Vm, VmConfig};
use hv_hvf::{Hvf, HvfSeed, HvfVm};

use crate::machine::{Machine, RAM, RAM_SIZE};
use crate::sys::Framework;

/// A VM of the backend's with an interrupt controller.
fn boot() -> Option<(Framework, HvfVm, Vec<HvfSeed>)> {
    // Says why, where there is none.
    drop(Machine::new(&[])?);
    let framework = Framework::take();
    let ram = GuestRam::new(RAM_SIZE).unwrap();
    let config = VmConfig::new().ram(RAM, ram, RamFlags::default()).unwrap();
    let made = Hvf::open().unwrap().create(config.irqchip(IrqChip::InKernel).vcpus(1));
    let (vm, seeds) = made.unwrap_or_else(|error| panic!("{error}"));
    Some((framework, vm, seeds))
}

#[test]
fn assumption_10_the_interrupt_controller_fits_where_guests_expect_it() {
    // The backend compares what hv_gic_get_* say with its addresses before it asks for it.
    let Some((_framework, _vm, _seeds)) = boot() else { return };
}

#[test]
fn assumption_11_messages_and_lines_are_where_they_were_asked_for() {
    let Some((_framework, vm, seeds)) = boot() else { return };
    let vcpu = seeds.into_iter().next().unwrap().bind().unwrap();
    vm.ready().unwrap();
    let line = vm.level(32 + 1).unwrap();
    line.set(true).unwrap();
    line.set(false).unwrap();
    vm.edge(32 + 2).unwrap().pulse().unwrap();
    for intid in [gic::FIRST_MSI, gic::FIRST_MSI + gic::MSIS - 1] {
        vm.signal_msi(gic::MSI_FRAME + 0x40, intid).unwrap_or_else(|error| panic!("{error}"));
    }
    drop(vcpu);
}

#[test]
fn assumption_12_and_13_registers_that_identify_the_cpu_keep_what_is_written() {
    let Some((_framework, vm, seeds)) = boot() else { return };
    // `bind` reads back what it must have, and notes what it would like to have.
    let vcpu = seeds.into_iter().next().unwrap().bind().unwrap_or_else(|error| panic!("{error}"));
    println!("notes: {:?}", vm.notes());
    assert_eq!(vm.notes(), [] as [String; 0]);
    drop(vcpu);
}
