//! VMs, vCPUs and kicks.

// UNSAFETY: the framework is a C library.
#![allow(unsafe_code)]

use std::time::Instant;

use applevisor_sys as hvf;

use crate::machine::{BUSY, CANCELED, DENIED, Machine, SOON, SUCCESS, code, create, exit};
use crate::sys::Framework;

/// `b .`
const LOOP: [u32; 1] = [0x1400_0000];

#[test]
fn assumption_1_an_exit_asked_for_before_the_run_ends_it() {
    let Some(machine) = Machine::new(&LOOP) else { return };
    let vcpu = machine.vcpu();
    for _ in 0..100 {
        exit(vcpu.id);
        let began = Instant::now();
        assert_eq!(vcpu.run(SOON).reason, CANCELED);
        assert!(began.elapsed() < SOON / 2, "it was lost: {:?}", began.elapsed());
    }
    // Two before a run are not two runs.
    exit(vcpu.id);
    exit(vcpu.id);
    assert_eq!(vcpu.run(SOON).reason, CANCELED);
}

#[test]
fn assumption_8_a_thread_has_one_vcpu() {
    let Some(machine) = Machine::new(&LOOP) else { return };
    let _vcpu = machine.vcpu();
    let (mut id, mut exit) = (0, std::ptr::null());
    // SAFETY: both variables outlive the call.
    let second =
        code(unsafe { hvf::hv_vcpu_create(&raw mut id, &raw mut exit, std::ptr::null_mut()) });
    println!("a second vCPU of this thread: {second:#x}");
    assert_eq!(second, BUSY);
}

#[test]
fn assumption_14_a_missing_entitlement_shows_when_the_vm_is_made() {
    let _framework = Framework::take();
    let mut bits = 0;
    // SAFETY: the variable outlives the call.
    let before = code(unsafe { hvf::hv_vm_config_get_max_ipa_size(&raw mut bits) });
    assert_eq!(before, SUCCESS, "asked for its limits the framework refuses already");
    println!("guest physical addresses have {bits} bits");
    match create() {
        DENIED => println!("HV_DENIED, as it should be"),
        SUCCESS => {
            // SAFETY: the VM is this process's, and has no vCPUs.
            assert_eq!(code(unsafe { hvf::hv_vm_destroy() }), SUCCESS);
            println!("skipped: this program is signed for virtual machines");
        }
        other => println!("skipped: hv_vm_create gives {other:#x}"),
    }
}

#[test]
fn assumption_15_a_process_has_one_vm_and_can_have_another_after_it() {
    let Some(machine) = Machine::new(&LOOP) else { return };
    let second = create();
    println!("a second VM: {second:#x}");
    assert_eq!(second, BUSY);
    drop(machine);
    for _ in 0..10 {
        let Some(machine) = Machine::new(&LOOP) else { panic!("no VM after one was destroyed") };
        drop(machine.vcpu());
    }
}
