//! Kicks (contract 4): sticky, merged, from anywhere, at any time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use guests::{aarch64::conformance as aarch64, x86_64::conformance as x86_64};

use super::Image;
use super::bench::{Bench, Guest, MMIO, ok};
use crate::exit::{Address, Exit, Resume, Width};
use crate::traits::{Hypervisor, Kicker, Vcpu, VcpuSeed, Vm};

const WRITES: Image = Image::both(x86_64::MMIO_WRITES, aarch64::MMIO_WRITES);
const ECHO: Image = Image::both(x86_64::ECHO, aarch64::ECHO);
const SPIN: Image = Image::both(x86_64::SPIN, aarch64::SPIN);
const WAIT: Image = Image::both(x86_64::HALT, aarch64::WAIT);

declare! {
    kick_before_a_run(WRITES);
    kick_before_bind(WRITES);
    kick_during_a_run(SPIN) needs Processor;
    kick_after_a_run(WRITES);
    several_kicks_before_a_run_are_one(WRITES);
    a_thousand_kicks_from_other_threads(SPIN) needs Processor;
    a_thousand_kicks_amid_accesses_lose_none(ECHO);
    a_kick_reaches_the_vcpu_it_was_meant_for(SPIN) needs Processor;
    a_kicker_outlives_its_vcpu(SPIN) needs Processor;
    a_kick_wakes_a_halted_vcpu(WAIT) needs IrqChip, Processor;
    a_kick_wakes_a_vcpu_that_was_never_started(WAIT) needs IrqChip, Processor;
}

/// The first exit of the guest that writes every width.
#[track_caller]
fn first_write<H: Hypervisor>(guest: &mut Guest<H>) {
    guest.writes(Address::Mmio(MMIO), Width::W1, 0x88);
}

/// The guest that runs without exits, started; the word that ends it is at [`Bench::flag`].
fn spinning<H: Hypervisor>(bench: &Bench<'_, H>) -> Guest<H> {
    let mut guest = bench.boot_with([bench.flag(), 0], |config| config);
    guest.writes(Address::Mmio(MMIO), Width::W4, 1);
    guest
}

fn kick_before_a_run<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.kicker.kick();
    guest.is_kicked();
    first_write(&mut guest);
}

fn kick_before_bind<H: Hypervisor>(bench: &Bench<'_, H>) {
    let memory = bench.memory();
    let (vm, mut seeds) = ok(bench.hypervisor.create(bench.config(&memory)));
    let seed = seeds.pop().expect("one vCPU was asked for");
    let early = seed.kicker();
    early.kick();
    let mut guest = bench.bind(&vm, &memory, seed);
    bench.set_out(&mut guest, 0, [0, 0]);
    ok(vm.ready());
    guest.is_kicked();
    first_write(&mut guest);
    // It goes on working.
    early.kick();
    guest.is_kicked();
}

fn kick_during_a_run<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = spinning(bench);
    for _ in 0..5 {
        guest.is_kicked_meanwhile();
    }
    guest.poke(bench.flag(), 1);
    guest.ends();
}

fn kick_after_a_run<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    first_write(&mut guest);
    guest.kicker.kick();
    guest.is_kicked();
    guest.writes(Address::Mmio(MMIO + 8), Width::W2, 0x7788);
}

fn several_kicks_before_a_run_are_one<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for _ in 0..5 {
        guest.kicker.clone().kick();
    }
    guest.is_kicked();
    first_write(&mut guest);
}

/// A thread that kicks once for every number it is sent, sooner or later.
fn on_demand<H: Hypervisor>(guest: &Guest<H>) -> mpsc::Sender<u32> {
    let (order, orders) = mpsc::channel();
    let kicker = guest.kicker.clone();
    thread::spawn(move || {
        for pause in orders {
            (0..pause).for_each(|_| std::hint::spin_loop());
            kicker.kick();
        }
    });
    order
}

fn a_thousand_kicks_from_other_threads<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = spinning(bench);
    let threads = [on_demand(&guest), on_demand(&guest), on_demand(&guest), on_demand(&guest)];
    for (turn, order) in (0..1000).zip(threads.iter().cycle()) {
        // Before, at and after the entry into the guest.
        order.send(turn * 37 % 2000).expect("the thread waits for orders");
        guest.is_kicked();
    }
    guest.poke(bench.flag(), 1);
    guest.ends();
}

fn a_thousand_kicks_amid_accesses_lose_none<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let order = on_demand(&guest);
    let mut kicks = 0;
    let mut waited = false;
    let (mut value, mut reading) = (0, true);
    while kicks < 1000 {
        if !waited {
            order.send(kicks * 37 % 2000).expect("the thread waits for orders");
            waited = true;
        }
        match guest.run() {
            Exit::Kicked => {
                assert!(waited, "one kick came out twice");
                (kicks, waited) = (kicks + 1, false);
            }
            Exit::Read { at: Address::Mmio(MMIO), width: Width::W8 } if reading => {
                (value, reading) = (value + 1, false);
                guest.resume = Resume::Value(value);
            }
            exit => {
                let at = Address::Mmio(MMIO + 8);
                assert!(!reading, "expected a read, and the vCPU came out with {exit:x?}");
                assert_eq!(exit, Exit::Write { at, width: Width::W8, value });
                reading = true;
            }
        }
    }
}

fn a_kick_reaches_the_vcpu_it_was_meant_for<H: Hypervisor>(bench: &Bench<'_, H>) {
    let kicked = AtomicBool::new(false);
    bench.on_threads(2, |id, guest| {
        // On arm64 the first starts the second.
        bench.set_out(guest, id, [bench.flag(), 2]);
        guest.writes(Address::Mmio(MMIO), Width::W4, 1);
        if id == 1 {
            guest.kicker.kick();
            guest.is_kicked();
            kicked.store(true, Ordering::Release);
            guest.poke(bench.flag(), 1);
        }
        guest.ends();
        assert!(kicked.load(Ordering::Acquire), "the guests end after the kick");
    });
}

fn a_kicker_outlives_its_vcpu<H: Hypervisor>(bench: &Bench<'_, H>) {
    for _ in 0..5 {
        let guest = spinning(bench);
        let kicker = guest.kicker.clone();
        let (stop, stopped) = mpsc::channel::<()>();
        let (started, start) = mpsc::channel();
        let other = thread::spawn(move || {
            started.send(()).expect("the case waits for this");
            while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                kicker.kick();
            }
            kicker.kick();
        });
        start.recv().expect("the thread begins");
        drop(guest);
        drop(stop);
        other.join().expect("a kick does not panic");
    }
}

fn a_kick_wakes_a_halted_vcpu<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for _ in 0..3 {
        guest.is_kicked_meanwhile();
    }
    // It comes to its halt in time.
    let asleep = (0..100).any(|_| {
        guest.is_kicked_meanwhile();
        guest.vcpu.is_asleep()
    });
    assert!(asleep, "interrupts are off");
}

fn a_kick_wakes_a_vcpu_that_was_never_started<H: Hypervisor>(bench: &Bench<'_, H>) {
    bench.on_threads(2, |id, guest| {
        for _ in 0..3 * id {
            guest.is_kicked_meanwhile();
        }
    });
}
