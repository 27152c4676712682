//! Registers, into the vCPU and back.

use guests::aarch64::conformance as aarch64;

use super::super::Image;
use super::super::bench::{Bench, MMIO, ok, refused};
use crate::arch::aarch64::State;
use crate::error::Kind;
use crate::exit::{Address, Width};
use crate::traits::{Hypervisor, Vcpu};

const REGISTERS: Image = Image::aarch64(aarch64::REGISTERS);

declare! {
    arm_registers_read_back_as_they_were_written(REGISTERS);
    arm_registers_reach_the_guest_and_come_back(REGISTERS) needs Processor;
    arm_registers_are_not_those_of_x86(REGISTERS);
}

/// Every general-purpose register with a value of its own.
fn distinct(state: &State) -> State {
    let mut next = 0x0123_4567_89ab_cdef_u64;
    let x = state.x.map(|_| {
        next = next.rotate_left(5) ^ 0x5a;
        next
    });
    State { x, ..state.clone() }
}

fn arm_registers_read_back_as_they_were_written<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let mut state = distinct(&guest.aarch64());
    // Negative, zero, carry, overflow.
    state.pstate |= 0xf << 28;
    state.sp_el1 = 0xffff_8000_1234_5000;
    for turn in ["the first time", "the second time"] {
        ok(guest.vcpu.set_state(&state.clone().into()));
        assert_eq!(guest.aarch64(), state, "{turn}");
    }
}

fn arm_registers_reach_the_guest_and_come_back<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let state = distinct(&guest.aarch64());
    ok(guest.vcpu.set_state(&state.clone().into()));
    guest.writes(Address::Mmio(MMIO), Width::W4, 0);
    guest.settles();
    let mut expected = state.clone();
    expected.x = state.x.map(|x| !x);
    // The guest's own, which it needs for that write and sets before it begins.
    (expected.x[9], expected.x[10]) = (MMIO, !0x2000_0000);
    // It ends with a jump to itself. Nothing else has changed.
    expected.pc = bench.image_end() - 4;
    assert_eq!(guest.aarch64(), expected);
}

fn arm_registers_are_not_those_of_x86<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let other = crate::arch::x86_64::State::default();
    refused(guest.vcpu.set_state(&other.into()), Kind::Invalid);
    guest.aarch64();
}
