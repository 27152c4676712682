//! What only arm64 has: syndromes, PSCI, hypercalls, its registers, its interrupt controller and timer.
//! Arm ARM DDI 0487, Arm IHI 0069 (GICv3), Arm DEN 0022 (PSCI).

mod accesses;
mod hypercalls;
mod interrupts;
mod monitors;
mod psci;
mod registers;

use super::bench::{Guest, MMIO};
use super::{Case, bench};
use crate::exit::{Address, Exit, Resume, Width};
use crate::traits::Hypervisor;

/// The cases of this folder.
pub(super) fn cases<H: Hypervisor>() -> Vec<Case<H>> {
    let mut cases = accesses::cases();
    cases.extend(registers::cases());
    cases.extend(psci::cases());
    cases.extend(hypercalls::cases());
    cases.extend(interrupts::cases());
    cases.extend(monitors::cases());
    cases
}

/// Where the guest `calls` writes what is in X0 after a call.
const RESULT: Address = Address::Mmio(MMIO + 32);

/// Tells the guest `calls` what to call with: X0 to X3.
#[track_caller]
fn tell<H: Hypervisor>(guest: &mut Guest<H>, call: [u64; 4]) {
    for (index, value) in (0..).zip(call) {
        guest.reads(Address::Mmio(MMIO + 8 * index), Width::W8, value);
    }
}

/// Has the guest `calls` call, and gives what it got.
#[track_caller]
fn call<H: Hypervisor>(guest: &mut Guest<H>, call: [u64; 4]) -> u64 {
    tell(guest, call);
    match guest.run() {
        Exit::Write { at: RESULT, width: Width::W8, value } => value,
        exit => panic!("expected the call {call:x?} to return, and it came out with {exit:x?}"),
    }
}

/// The guest `calls` begins, with `context` in X0, as vCPU `index`.
#[track_caller]
fn begins<H: Hypervisor>(guest: &mut Guest<H>, context: u64, index: u32) {
    guest.reports(context);
    guest.reports(crate::arch::aarch64::mpidr(index));
}

/// What the guest says that it found.
#[track_caller]
fn finds<H: Hypervisor>(guest: &mut Guest<H>) -> u64 {
    match guest.run() {
        Exit::Write { at: bench::REPORT_AT, width: Width::W8, value } => value,
        exit => panic!("expected a report, and the vCPU came out with {exit:x?}"),
    }
}

/// The next exit, whatever it is.
#[track_caller]
fn any<H: Hypervisor>(guest: &mut Guest<H>) -> Exit {
    use crate::traits::Vcpu;
    bench::ok(guest.vcpu.run(std::mem::replace(&mut guest.resume, Resume::Go)))
}
