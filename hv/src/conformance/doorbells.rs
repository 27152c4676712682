//! Doorbells: guest writes that signal a file descriptor and do not come out. The guest writes 1, 2
//! and 3 to a register and a port (on arm64 another register), in 4 bytes and then in 2, again for as
//! long as it is told to.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use guests::{aarch64::conformance as aarch64, x86_64::conformance as x86_64};
use rustix::event::{EventfdFlags, eventfd};

use super::Image;
use super::bench::{Bench, Guest, MMIO, ok};
use crate::arch::Arch;
use crate::exit::{Address, Width};
use crate::traits::{Doorbell, Hypervisor, Vm};

const DOORBELL: Image = Image::both(x86_64::DOORBELL, aarch64::DOORBELL);

declare! {
    a_doorbell_takes_every_write_to_its_address(DOORBELL) needs Doorbell;
    a_doorbell_for_one_value_takes_no_other(DOORBELL) needs Doorbell;
    doorbells_for_several_values_share_an_address(DOORBELL) needs Doorbell;
    a_doorbell_can_be_a_port(Image::x86_64(x86_64::DOORBELL)) needs Doorbell;
    a_dropped_doorbell_lets_writes_come_out_again(DOORBELL) needs Doorbell;
}

const COMMAND: Address = Address::Mmio(MMIO);
const REGISTER: Address = Address::Mmio(MMIO + 8);
const PORT: Address = Address::Port(0x300);
/// What the guest writes beside [`REGISTER`] where there are no ports.
const OTHER: Address = Address::Mmio(MMIO + 16);

/// How often the eventfd `bell` rang since the last call.
#[track_caller]
fn rings(mut bell: &File) -> u64 {
    let mut count = [0; 8];
    match bell.read(&mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("an eventfd can be read: {error}"),
    }
}

/// One round of the guest: every write comes out, in order, but those that `taken` names.
#[track_caller]
fn round<H: Hypervisor>(guest: &mut Guest<H>, taken: impl Fn(Address, Width, u64) -> bool) {
    // Who has doorbells runs guests of its host's architecture.
    let other = if Arch::HOST == Some(Arch::X86_64) { PORT } else { OTHER };
    for value in 1..=3 {
        for width in [Width::W4, Width::W2] {
            for at in [REGISTER, other] {
                if !taken(at, width, value) {
                    guest.writes(at, width, value);
                }
            }
        }
    }
    guest.reads(COMMAND, Width::W4, 1);
}

#[track_caller]
fn register<H: Hypervisor>(
    guest: &Guest<H>,
    at: Address,
    value: Option<(Width, u64)>,
) -> (File, <H::Vm as Vm>::Registration) {
    let bell = File::from(eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd can be had"));
    // The caller's descriptor may be closed afterwards.
    let passed = bell.try_clone().expect("a descriptor can be duplicated");
    let registration = ok(guest.vm.doorbell(Doorbell { at, value }, passed.as_fd()));
    (bell, registration)
}

fn a_doorbell_takes_every_write_to_its_address<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let (bell, _registration) = register(&guest, REGISTER, None);
    for _ in 0..10 {
        round(&mut guest, |at, _, _| at == REGISTER);
        assert_eq!(rings(&bell), 6);
    }
}

fn a_doorbell_for_one_value_takes_no_other<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let wanted = (Width::W4, 2);
    let (bell, _registration) = register(&guest, REGISTER, Some(wanted));
    round(&mut guest, |at, width, value| at == REGISTER && (width, value) == wanted);
    assert_eq!(rings(&bell), 1);
}

fn doorbells_for_several_values_share_an_address<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let (first, _one) = register(&guest, REGISTER, Some((Width::W2, 1)));
    let (second, _three) = register(&guest, REGISTER, Some((Width::W2, 3)));
    for _ in 0..2 {
        round(&mut guest, |at, width, value| at == REGISTER && width == Width::W2 && value != 2);
    }
    assert_eq!((rings(&first), rings(&second)), (2, 2));
}

fn a_doorbell_can_be_a_port<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let (any, registration) = register(&guest, PORT, None);
    round(&mut guest, |at, _, _| at == PORT);
    assert_eq!(rings(&any), 6);
    drop(registration);
    let wanted = (Width::W2, 3);
    let (one, _registration) = register(&guest, PORT, Some(wanted));
    round(&mut guest, |at, width, value| at == PORT && (width, value) == wanted);
    assert_eq!((rings(&any), rings(&one)), (0, 1));
}

fn a_dropped_doorbell_lets_writes_come_out_again<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for _ in 0..3 {
        let (bell, registration) = register(&guest, REGISTER, None);
        round(&mut guest, |at, _, _| at == REGISTER);
        drop(registration);
        round(&mut guest, |_, _, _| false);
        assert_eq!(rings(&bell), 6);
    }
}
