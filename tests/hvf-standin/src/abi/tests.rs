//! A checker has to notice: each rule is broken once here, by calling the symbols as a careless
//! backend would.

// UNSAFETY: the symbols take pointers, as the framework's do.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use super::config::*;
use super::gic::*;
use super::memory::*;
use super::timer::*;
use super::vcpu::*;
use super::vm::*;
use crate::code::*;
use crate::state::ExitPage;
use crate::{Reg, Session, Step, SysReg, Width, esr, fail};

const PAGE: usize = 16 << 10;
const PC: u32 = 31;

/// Memory of the host that is aligned as the framework wants it. Nobody reads it.
fn host() -> *const c_void {
    std::ptr::without_provenance(64 << 20)
}

#[track_caller]
fn good(code: i32) {
    assert_eq!(code.cast_unsigned(), HV_SUCCESS);
}

/// Expects that `code` is an error, and that it broke a rule whose text has `word` in it.
#[track_caller]
fn bad(session: &Session, code: i32, expected: u32, word: &str) {
    assert_eq!(code.cast_unsigned(), expected);
    let broken = session.forgive();
    assert!(broken.len() == 1 && broken[0].contains(word), "{broken:?}");
}

fn create_vcpu() -> (i32, u64, *const ExitPage) {
    let (mut id, mut exit) = (0, std::ptr::null());
    // SAFETY: the pointers are to variables of ours.
    let code = unsafe { hv_vcpu_create(&raw mut id, &raw mut exit, null_mut()) };
    (code, id, exit)
}

fn a_vcpu() -> u64 {
    let (code, id, _) = create_vcpu();
    good(code);
    id
}

/// The same, with the host's clock.
fn a_vcpu_with_a_clock() -> u64 {
    let vcpu = a_vcpu();
    good(hv_vcpu_set_vtimer_offset(vcpu, 0));
    vcpu
}

fn block_signals() {
    mask_signals(libc::SIG_BLOCK);
}

fn mask_signals(how: libc::c_int) {
    let mut all = MaybeUninit::uninit();
    // SAFETY: a set of ours; the mask is that of this test's thread.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(how, all.as_ptr(), null_mut());
    }
}

fn destroy(vcpu: u64) {
    good(hv_vcpu_destroy(vcpu));
    good(hv_vm_destroy());
}

fn get(vcpu: u64, register: u32) -> (i32, u64) {
    let mut value = 0;
    // SAFETY: the pointer is to a variable of ours.
    let code = unsafe { hv_vcpu_get_reg(vcpu, register, &raw mut value) };
    (code, value)
}

fn a_gic() -> *mut c_void {
    let config = hv_gic_config_create();
    good(hv_gic_config_set_distributor_base(config, 0x0800_0000));
    good(hv_gic_config_set_redistributor_base(config, 0x080a_0000));
    config
}

#[test]
fn memory_is_mapped_once_aligned_within_the_vm_and_not_at_zero() {
    let session = Session::begin();
    bad(&session, hv_vm_map(host(), 1 << 30, PAGE, 7), HV_NO_DEVICE, "no VM");
    good(hv_vm_create(null_mut()));
    good(hv_vm_map(host(), 1 << 30, 2 * PAGE, 7));
    let again = hv_vm_map(host(), (1 << 30) + PAGE as u64, PAGE, 7);
    bad(&session, again, HV_ERROR, "mapped already");
    let odd = std::ptr::without_provenance((64 << 20) + 4096);
    bad(&session, hv_vm_map(odd, 2 << 30, PAGE, 7), HV_BAD_ARGUMENT, "aligned");
    bad(&session, hv_vm_map(host(), (2 << 30) + 4096, PAGE, 7), HV_BAD_ARGUMENT, "aligned");
    bad(&session, hv_vm_map(host(), 2 << 30, 4096, 7), HV_BAD_ARGUMENT, "aligned");
    bad(&session, hv_vm_map(host(), 2 << 30, 0, 7), HV_BAD_ARGUMENT, "aligned");
    bad(&session, hv_vm_map(host(), 0, PAGE, 7), HV_BAD_ARGUMENT, "IPA 0");
    bad(&session, hv_vm_map(host(), 1 << 36, PAGE, 7), HV_BAD_ARGUMENT, "36 bits");
    bad(&session, hv_vm_map(host(), 2 << 30, PAGE, 8), HV_BAD_ARGUMENT, "flags");
    bad(&session, hv_vm_unmap(1 << 30, PAGE), HV_BAD_ARGUMENT, "not mapped");
    good(hv_vm_unmap(1 << 30, 2 * PAGE));
    good(hv_vm_destroy());
}

#[test]
fn there_is_one_vm_and_it_goes_after_its_vcpus() {
    let session = Session::begin();
    bad(&session, hv_vm_destroy(), HV_NO_DEVICE, "no VM");
    bad(&session, create_vcpu().0, HV_NO_DEVICE, "no VM");
    good(hv_vm_create(null_mut()));
    // A program may try: this is an answer, not a mistake.
    assert_eq!(hv_vm_create(null_mut()).cast_unsigned(), HV_BUSY);
    let vcpu = a_vcpu();
    bad(&session, hv_vm_destroy(), HV_BUSY, "left");
    destroy(vcpu);
}

#[test]
fn what_is_left_behind_is_told_at_the_end() {
    let session = Session::begin();
    good(hv_vm_create(null_mut()));
    a_vcpu();
    hv_vm_config_create();
    session.play(0, [Step::exit(0)]);
    session.fail("hv_vm_map", HV_ERROR);
    let found = session.end();
    assert_eq!(found.len(), 5, "{found:?}");
    // The next session begins anew.
    let session = Session::begin();
    good(hv_vm_create(null_mut()));
    good(hv_vm_destroy());
    assert_eq!(session.end(), [""; 0]);
}

#[test]
fn objects_are_of_their_kind_and_released_once() {
    let session = Session::begin();
    let (vm, gic) = (hv_vm_config_create(), hv_gic_config_create());
    bad(&session, hv_vm_config_set_ipa_size(gic, 40), HV_BAD_ARGUMENT, "not a VM");
    bad(&session, hv_vm_config_set_ipa_size(vm, 41), HV_UNSUPPORTED, "41 bits");
    bad(&session, hv_vm_create(gic), HV_BAD_ARGUMENT, "not a VM");
    bad(&session, hv_gic_config_set_distributor_base(vm, 0), HV_BAD_ARGUMENT, "not a GIC");
    os_release(vm);
    os_release(gic);
    os_release(gic);
    assert_eq!(session.end().len(), 1);
}

#[test]
fn a_vcpu_belongs_to_its_thread_and_a_thread_has_one() {
    let session = Session::begin();
    good(hv_vm_create(null_mut()));
    let vcpu = a_vcpu();
    assert_eq!(create_vcpu().0.cast_unsigned(), HV_BUSY);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_signals();
            let calls: [&dyn Fn() -> i32; 7] = [
                &|| hv_vcpu_run(vcpu),
                &|| get(vcpu, 0).0,
                &|| hv_vcpu_set_reg(vcpu, 0, 1),
                &|| hv_vcpu_set_sys_reg(vcpu, SysReg::SP_EL1, 1),
                &|| hv_vcpu_set_vtimer_mask(vcpu, false),
                &|| hv_vcpu_set_vtimer_offset(vcpu, 0),
                &|| hv_vcpu_destroy(vcpu),
            ];
            for call in calls {
                bad(&session, call(), HV_BAD_ARGUMENT, "another thread");
            }
            // The one call that is for others.
            // SAFETY: the pointer is to one id.
            good(unsafe { hv_vcpus_exit(&raw const vcpu, 1) });
        });
    });
    destroy(vcpu);
}

#[test]
fn an_id_that_is_gone_is_noticed_and_its_exit_structure_poisoned() {
    let session = Session::begin();
    good(hv_vm_create(null_mut()));
    let (code, vcpu, exit) = create_vcpu();
    good(code);
    good(hv_vcpu_destroy(vcpu));
    // SAFETY: the stand-in never frees it, so that this very mistake is harmless here.
    assert_eq!(unsafe { (*exit).reason }, 0xdead_beef);
    bad(&session, hv_vcpu_destroy(vcpu), HV_BAD_ARGUMENT, "no vCPU");
    // SAFETY: the pointer is to one id.
    bad(&session, unsafe { hv_vcpus_exit(&raw const vcpu, 1) }, HV_BAD_ARGUMENT, "no vCPU");
    assert_ne!(a_vcpu(), vcpu);
    assert_eq!(session.end().len(), 2);
}

#[test]
fn the_interrupt_controller_comes_before_vcpus_once_and_where_it_can_be() {
    let session = Session::begin();
    let config = a_gic();
    bad(&session, hv_gic_create(config), HV_NO_DEVICE, "no VM");
    good(hv_vm_create(null_mut()));
    let vcpu = a_vcpu();
    bad(&session, hv_gic_create(config), HV_BUSY, "vCPUs");
    good(hv_vcpu_destroy(vcpu));
    let odd = hv_gic_config_set_distributor_base(config, 0x0800_1000);
    bad(&session, odd, HV_BAD_ARGUMENT, "multiple");
    bad(&session, hv_gic_set_spi(40, true), HV_NO_DEVICE, "no interrupt controller");
    good(hv_gic_config_set_msi_region_base(config, 0x0802_0000));
    bad(&session, hv_gic_create(config), HV_BAD_ARGUMENT, "range");
    bad(&session, hv_gic_config_set_msi_interrupt_range(config, 0, 9), HV_BAD_ARGUMENT, "SPIs");
    good(hv_gic_config_set_msi_interrupt_range(config, 80, 64));
    good(hv_gic_config_set_redistributor_base(config, 0x0800_0000));
    bad(&session, hv_gic_create(config), HV_BAD_ARGUMENT, "overlap");
    good(hv_gic_config_set_redistributor_base(config, 0x080a_0000));
    good(hv_gic_create(config));
    bad(&session, hv_gic_create(config), HV_BUSY, "already");
    for intid in [31, 80, 143, 1020] {
        bad(&session, hv_gic_set_spi(intid, true), HV_BAD_ARGUMENT, "no line");
    }
    good(hv_gic_set_spi(32, true));
    good(hv_gic_send_msi(0x0802_0040, 80));
    assert_eq!(hv_gic_send_msi(0x0802_0044, 80).cast_unsigned(), HV_BAD_ARGUMENT);
    os_release(config);
    good(hv_vm_destroy());
}

#[test]
fn with_an_interrupt_controller_vcpus_run_only_with_an_affinity_of_their_own() {
    let session = Session::begin();
    good(hv_vm_create(null_mut()));
    let config = a_gic();
    good(hv_gic_create(config));
    os_release(config);
    block_signals();
    session.play(0, [Step::exit(0)]);
    let vcpu = a_vcpu_with_a_clock();
    bad(&session, hv_vcpu_run(vcpu), HV_ERROR, "was not set");
    good(hv_vcpu_set_sys_reg(vcpu, SysReg::MPIDR_EL1, 0));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let other = a_vcpu_with_a_clock();
            good(hv_vcpu_set_sys_reg(other, SysReg::MPIDR_EL1, 0));
            std::thread::park();
            good(hv_vcpu_destroy(other));
        });
        while session.register(1, Reg::Sys(SysReg::MPIDR_EL1)).is_none() {
            std::thread::yield_now();
        }
        bad(&session, hv_vcpu_run(vcpu), HV_ERROR, "2 vCPUs have");
        good(hv_vcpu_set_vtimer_offset(vcpu, 7));
        bad(&session, hv_vcpu_run(vcpu), HV_ERROR, "clocks of the vCPUs differ");
        other.thread().unpark();
    });
    good(hv_vcpu_run(vcpu));
    destroy(vcpu);
}

#[test]
fn a_guest_that_could_read_a_clock_that_nobody_has_set_is_a_mistake() {
    let session = Session::begin();
    block_signals();
    session.play(0, [Step::exit(0)]);
    good(hv_vm_create(null_mut()));
    let vcpu = a_vcpu();
    bad(&session, hv_vcpu_run(vcpu), HV_ERROR, "when the clock began");
    good(hv_vcpu_set_vtimer_offset(vcpu, 0));
    good(hv_vcpu_run(vcpu));
    destroy(vcpu);
}

#[test]
fn memory_and_the_interrupt_controller_are_not_in_one_place() {
    // Distributor, MSI frame and redistributors: their first and their last 16 KiB, and what is around them.
    const TAKEN: [u64; 6] =
        [0x0800_0000, 0x0800_c000, 0x0802_0000, 0x0802_c000, 0x080a_0000, 0x0889_c000];
    const FREE: [u64; 5] = [0x07ff_c000, 0x0801_0000, 0x0803_0000, 0x0809_c000, 0x088a_0000];
    let session = Session::begin();
    let config = a_gic();
    good(hv_gic_config_set_msi_region_base(config, 0x0802_0000));
    good(hv_gic_config_set_msi_interrupt_range(config, 80, 64));
    good(hv_vm_create(null_mut()));
    for ipa in TAKEN {
        good(hv_vm_map(host(), ipa, PAGE, 7));
        bad(&session, hv_gic_create(config), HV_BAD_ARGUMENT, &format!("IPA {ipa:#x} is in"));
        good(hv_vm_unmap(ipa, PAGE));
    }
    for ipa in FREE {
        good(hv_vm_map(host(), ipa, PAGE, 7));
    }
    good(hv_gic_create(config));
    for ipa in TAKEN {
        bad(&session, hv_vm_map(host(), ipa, PAGE, 7), HV_BAD_ARGUMENT, "interrupt controller");
    }
    bad(&session, hv_vm_map(host(), 0x0400_0000, 0x1000_0000, 7), HV_ERROR, "mapped already");
    os_release(config);
    good(hv_vm_destroy());
}

#[test]
fn a_run_on_a_thread_that_takes_signals_is_a_mistake() {
    let session = Session::begin();
    // Tests may share a thread.
    mask_signals(libc::SIG_UNBLOCK);
    good(hv_vm_create(null_mut()));
    let vcpu = a_vcpu();
    bad(&session, hv_vcpu_run(vcpu), HV_ERROR, "signals");
    destroy(vcpu);
}

/// A VM whose guest loads to X3 and does one thing more; played up to the load.
fn loading() -> (Session, u64) {
    let session = Session::begin();
    block_signals();
    session.play(0, [Step::load(0x1000, esr::load(Width::W4, 3), 3, 55), Step::exit(0)]);
    good(hv_vm_create(null_mut()));
    let vcpu = a_vcpu_with_a_clock();
    good(hv_vcpu_run(vcpu));
    (session, vcpu)
}

#[test]
fn a_backend_that_does_what_the_exit_wants_goes_on() {
    let (_session, vcpu) = loading();
    good(hv_vcpu_set_reg(vcpu, 3, 55));
    good(hv_vcpu_set_reg(vcpu, PC, 4));
    good(hv_vcpu_run(vcpu));
    destroy(vcpu);
}

#[test]
fn a_backend_that_forgets_the_pc_is_found_out() {
    let (session, vcpu) = loading();
    good(hv_vcpu_set_reg(vcpu, 3, 55));
    bad(&session, hv_vcpu_run(vcpu), HV_ERROR, "vCPU 0: PC is 0x0 where");
    good(hv_vcpu_run(vcpu));
    destroy(vcpu);
}

#[test]
fn a_backend_that_loads_something_else_or_elsewhere_is_found_out() {
    for (register, value, word) in [(3, 56, "X3 is 0x38"), (4, 55, "X3 is 0x0")] {
        let (session, vcpu) = loading();
        good(hv_vcpu_set_reg(vcpu, register, value));
        good(hv_vcpu_set_reg(vcpu, PC, 4));
        bad(&session, hv_vcpu_run(vcpu), HV_ERROR, word);
        assert_eq!(session.end().len(), 3, "the VM, its vCPU, a step");
    }
}

#[test]
fn registers_that_do_not_exist_and_null_pointers_are_noticed() {
    let session = Session::begin();
    good(hv_vm_create(null_mut()));
    let vcpu = a_vcpu();
    bad(&session, get(vcpu, 35).0, HV_BAD_ARGUMENT, "no register");
    // SAFETY: a null pointer is what the call must refuse.
    bad(&session, unsafe { hv_vcpu_get_reg(vcpu, 0, null_mut()) }, HV_BAD_ARGUMENT, "null");
    destroy(vcpu);
}

#[test]
fn an_ordered_failure_happens_once_and_does_nothing() {
    let session = Session::begin();
    fail("hv_vm_create", HV_DENIED);
    assert_eq!(hv_vm_create(null_mut()).cast_unsigned(), HV_DENIED);
    good(hv_vm_create(null_mut()));
    good(hv_vm_destroy());
    assert_eq!(session.order(), ["hv_vm_create", "hv_vm_destroy"]);
}
