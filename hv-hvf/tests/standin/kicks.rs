//! Kicks: sticky, merged, from any thread, and none that nobody gave.

use hv::{Exit, Hypervisor, Kicker, Resume, Vcpu, VcpuSeed, Vm, Width};
use hv_hvf::{Hvf, HvfKicker, HvfVcpu, HvfVm};
use hvf_standin::{Session, Step, Width as W, esr};

use super::{MMIO, config, read, write};

fn boot() -> (HvfVm, HvfKicker, HvfVcpu) {
    let (vm, mut seeds) = Hvf::open().unwrap().create(config()).unwrap();
    let seed = seeds.pop().unwrap();
    let kicker = seed.kicker();
    let vcpu = seed.bind().unwrap();
    vm.ready().unwrap();
    (vm, kicker, vcpu)
}

fn store(value: u64) -> Step {
    Step::store(MMIO, esr::store(W::W8, 1), 1, value)
}

fn stored(value: u64) -> Exit {
    write(MMIO, Width::W8, value)
}

#[test]
fn a_kick_before_a_run_is_not_lost_and_comes_once() {
    let session = Session::begin();
    session.play(0, [store(1)]);
    let (_vm, kicker, mut vcpu) = boot();
    for _ in 0..3 {
        kicker.kick();
    }
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
    // The framework's own sticky bit still makes a run come out: nobody sees it.
    assert_eq!(vcpu.run(Resume::Go).unwrap(), stored(1));
}

#[test]
fn a_kick_before_bind_reaches_the_first_run() {
    let session = Session::begin();
    session.play(0, [store(1)]);
    let (vm, mut seeds) = Hvf::open().unwrap().create(config()).unwrap();
    let seed = seeds.pop().unwrap();
    seed.kicker().kick();
    let mut vcpu = seed.bind().unwrap();
    vm.ready().unwrap();
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), stored(1));
}

#[test]
fn a_kick_during_a_run_ends_it() {
    let session = Session::begin();
    let (_vm, kicker, mut vcpu) = boot();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                session.wait_until_parked(0);
                kicker.kick();
            });
            assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
        });
    }
}

#[test]
fn a_spurious_cancel_never_reaches_the_caller() {
    let session = Session::begin();
    session.play(0, [Step::exit(0), store(1), Step::exit(0), Step::exit(0), store(2)]);
    let (_vm, kicker, mut vcpu) = boot();
    session.disturb(0);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), stored(1));
    assert_eq!(vcpu.run(Resume::Go).unwrap(), stored(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            session.wait_until_parked(0);
            session.disturb(0);
            kicker.kick();
        });
        assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
    });
}

#[test]
fn an_answer_counts_even_when_the_run_is_kicked() {
    let session = Session::begin();
    session.play(0, [Step::load(MMIO, esr::load(W::W4, 7), 7, 42), store(3)]);
    let (_vm, kicker, mut vcpu) = boot();
    assert_eq!(vcpu.run(Resume::Go).unwrap(), read(MMIO, Width::W4));
    kicker.kick();
    assert_eq!(vcpu.run(Resume::Value(42)).unwrap(), Exit::Kicked);
    vcpu.state().unwrap();
    assert_eq!(vcpu.run(Resume::Go).unwrap(), stored(3));
}

#[test]
fn a_guest_that_only_traps_can_be_kicked() {
    let session = Session::begin();
    session.play_forever(0, || Step::exception(esr::wait(1)).advances());
    let (_vm, kicker, mut vcpu) = boot();
    std::thread::scope(|scope| {
        scope.spawn(|| kicker.kick());
        assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
    });
}

#[test]
fn a_thousand_kicks_amid_exits_lose_none() {
    let session = Session::begin();
    session.play_forever(0, || store(1));
    let (_vm, kicker, mut vcpu) = boot();
    let (order, orders) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || orders.iter().for_each(|()| kicker.kick()));
        for _ in 0..1000 {
            order.send(()).unwrap();
            while vcpu.run(Resume::Go).unwrap() != Exit::Kicked {}
        }
        drop(order);
    });
}

#[test]
fn a_kicker_outlives_its_vcpu_and_its_vm() {
    let session = Session::begin();
    let (vm, kicker, vcpu) = boot();
    let other = kicker.clone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                other.kick();
            }
        });
        drop(vcpu);
        drop(vm);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    kicker.kick();
    // A stale id would have been noticed.
    assert_eq!(session.end(), [""; 0]);
}
