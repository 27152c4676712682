//! An access that waits for its answer (contract 3). The guest copies one device register
//! to the next, again and again.

use guests::{aarch64::conformance as aarch64, x86_64::conformance as x86_64};

use super::Image;
use super::bench::{Bench, Guest, MMIO, ok, refused};
use crate::arch::State;
use crate::error::Kind;
use crate::exit::{Address, Resume, Width};
use crate::traits::{Hypervisor, Kicker, Vcpu};

const ECHO: Image = Image::both(x86_64::ECHO, aarch64::ECHO);

declare! {
    a_wrong_answer_is_refused_and_leaves_the_access_open(ECHO);
    an_answer_counts_even_when_that_run_is_kicked(ECHO);
    registers_are_out_of_reach_while_an_access_is_pending(ECHO);
    an_access_can_be_settled_without_running_on(ECHO);
    registers_changed_after_settling_are_the_guests(ECHO);
}

const FROM: Address = Address::Mmio(MMIO);
const TO: Address = Address::Mmio(MMIO + 8);

/// The guest's next turn: it reads `value` and writes it.
#[track_caller]
fn turn<H: Hypervisor>(guest: &mut Guest<H>, value: u64) {
    guest.reads(FROM, Width::W8, value);
    guest.writes(TO, Width::W8, value);
}

fn a_wrong_answer_is_refused_and_leaves_the_access_open<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    refused(guest.vcpu.run(Resume::Value(1)), Kind::Order);
    refused(guest.vcpu.settle(Resume::Value(1)), Kind::Order);
    guest.reads(FROM, Width::W8, 2);
    refused(guest.vcpu.run(Resume::Go), Kind::Order);
    refused(guest.vcpu.settle(Resume::Go), Kind::Order);
    guest.writes(TO, Width::W8, 2);
    refused(guest.vcpu.run(Resume::Value(3)), Kind::Order);
    refused(guest.vcpu.settle(Resume::Value(3)), Kind::Order);
    turn(&mut guest, 4);
}

fn an_answer_counts_even_when_that_run_is_kicked<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for value in 1..=100 {
        guest.reads(FROM, Width::W8, value);
        guest.kicker.kick();
        guest.is_kicked();
        guest.writes(TO, Width::W8, value);
        guest.kicker.kick();
        guest.is_kicked();
    }
    turn(&mut guest, 0);
}

fn registers_are_out_of_reach_while_an_access_is_pending<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let state = ok(guest.vcpu.state());
    guest.reads(FROM, Width::W8, 1);
    refused(guest.vcpu.state(), Kind::Order);
    refused(guest.vcpu.set_state(&state), Kind::Order);
    guest.writes(TO, Width::W8, 1);
    refused(guest.vcpu.state(), Kind::Order);
    refused(guest.vcpu.set_state(&state), Kind::Order);
    turn(&mut guest, 2);
}

fn an_access_can_be_settled_without_running_on<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for value in 1..=10 {
        guest.reads(FROM, Width::W8, value);
        guest.settles();
        let between = ok(guest.vcpu.state());
        // Nothing is pending any more, and settling that changes nothing.
        guest.settles();
        assert_eq!(ok(guest.vcpu.state()), between);
        guest.writes(TO, Width::W8, value);
        guest.settles();
    }
    // A kick is none of its business.
    guest.reads(FROM, Width::W8, 11);
    guest.kicker.kick();
    guest.settles();
    guest.is_kicked();
    guest.writes(TO, Width::W8, 11);
}

fn registers_changed_after_settling_are_the_guests<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.reads(FROM, Width::W8, 5);
    guest.settles();
    let mut state = ok(guest.vcpu.state());
    let value = match &mut state {
        State::X86_64(state) => &mut state.regs.rax,
        State::Aarch64(state) => &mut state.x[2],
    };
    assert_eq!(*value, 5, "the answer is in the register");
    *value = 6;
    ok(guest.vcpu.set_state(&state));
    guest.writes(TO, Width::W8, 6);
    turn(&mut guest, 7);
}
