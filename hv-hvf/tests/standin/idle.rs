//! Waits of the guest, and its timer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hv::arch::aarch64::{State, gic};
use hv::{Cause, EdgeLine, Exit, Hypervisor, Kicker, Resume, Vcpu, VcpuSeed, Vm};
use hv_hvf::Hvf;
use hvf_standin::{Reg, Session, Step, SysReg, Width as W, esr};
use vm_memory::{Bytes, GuestAddress};

use super::{MMIO, RAM, boot, config, end, ends, play, with_gic};

const CTL: Reg = Reg::Sys(SysReg::CNTV_CTL_EL0);
const CVAL: Reg = Reg::Sys(SysReg::CNTV_CVAL_EL0);
const ENABLE: u64 = 1;
const ASSERTED: u64 = 0b101;

/// WFI, with the guest's timer set so.
fn wfi(ctl: u64, cval: u64) -> Step {
    Step::exception(esr::wait(0)).has(CTL, ctl).has(CVAL, cval).advances()
}

#[test]
fn a_loop_that_only_waits_is_a_halt_while_interrupts_are_masked() {
    let session = Session::begin();
    session.play(0, [Step::exception(esr::load(W::W4, 0)).at(MMIO)]);
    let memory = hv::mem::memory([(RAM, super::ram(1 << 20))]).unwrap();
    // WFI, and back to it; RET.
    for (at, word) in [(0x40, 0xd503_207fu32), (0x44, 0x17ff_ffff), (0x48, 0xd65f_03c0)] {
        memory.write_obj(word, GuestAddress(RAM + at)).unwrap();
    }
    let (_vm, mut vcpu) = boot(hv::VmConfig::new().memory(&memory));
    let mut at = |pc: u64, pstate: u64| {
        let state = State { pstate, ..State::el1(RAM + pc, 0) };
        vcpu.set_state(&state.into()).unwrap();
        vcpu.is_asleep()
    };
    assert!(at(0x40, 0x3c5) && at(0x44, 0x3c5));
    assert!(!at(0x48, 0x3c5), "it returns");
    assert!(!at(0x40, 0x305), "interrupts are let in");
    assert!(!at(1 << 20, 0x3c5), "nobody knows what is there");
    assert!(at(0x40, 0x3c5));
    assert!(matches!(vcpu.run(Resume::Go).unwrap(), Exit::Read { .. }));
    assert!(!vcpu.is_asleep(), "it waits for an answer");
}

#[test]
fn a_wait_for_an_interrupt_is_a_halt_without_an_interrupt_controller() {
    let waits = [0, 2].map(|ti| Step::exception(esr::wait(ti)).advances());
    let (_session, _vm, mut vcpu) = play(waits.into_iter().chain([end()]));
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Halted);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Halted);
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn a_wait_for_an_event_is_over_at_once() {
    let waits = [1, 3].map(|ti| Step::exception(esr::wait(ti)).advances());
    let (_session, _vm, mut vcpu) = play(waits.into_iter().chain([end()]));
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn with_an_interrupt_controller_no_wait_comes_out() {
    let session = Session::begin();
    session.play(0, [Step::exception(esr::wait(0)).advances(), end()]);
    let (_vm, mut vcpu) = boot(with_gic());
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn a_suspended_cpu_waits_as_with_wfi() {
    let suspend = || Step::exception(esr::hvc(0)).has(Reg::X(0), 0xc400_0001).then(Reg::X(0), 0);
    let (session, vm, mut vcpu) = play([suspend(), end()]);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Halted);
    ends(&mut vcpu, Resume::Go);
    drop((vcpu, vm));
    session.play(0, [suspend(), end()]);
    let (_vm, mut vcpu) = boot(with_gic());
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn a_wait_that_is_left_to_us_lasts_to_the_timer_by_the_guests_clock() {
    const DEADLINE: Duration = Duration::from_millis(40);
    let session = Session::begin();
    // The host's counter has long passed what will be the guest's deadline.
    drop(boot(with_gic()));
    std::thread::sleep(2 * DEADLINE);
    let cval = u64::try_from(DEADLINE.as_nanos()).unwrap();
    // A nap ends some of them before: nine are enough to come there.
    session.play(0, (0..9).map(|_| wfi(ENABLE, cval)).chain([end()]));
    let before = Instant::now();
    let (_vm, mut vcpu) = boot(with_gic());
    ends(&mut vcpu, Resume::Go);
    assert!(before.elapsed() >= DEADLINE, "{:?}", before.elapsed());
}

#[test]
fn a_wait_for_a_time_in_the_past_is_over_at_once() {
    let session = Session::begin();
    session.play(0, (0..300).map(|_| wfi(ENABLE, 0)).chain([end()]));
    let (_vm, mut vcpu) = boot(with_gic());
    let before = Instant::now();
    ends(&mut vcpu, Resume::Go);
    // 300 naps would take more than 4 s.
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

#[test]
fn a_wait_without_a_timer_is_no_busy_one_and_ends_by_a_kick() {
    let session = Session::begin();
    session.play_forever(0, || wfi(0, 0));
    let (vm, mut seeds) = Hvf::open().unwrap().create(with_gic()).unwrap();
    let kicker = seeds[0].kicker();
    let mut vcpu = seeds.remove(0).bind().unwrap();
    vm.ready().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            kicker.kick();
        });
        assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
    });
    // 8 naps within the first 32 ms, then one every 16 ms.
    let runs = session.calls("hv_vcpu_run").len();
    assert!((2..=40).contains(&runs), "{runs} runs");
}

/// How long ten waits, grown to their full length of 16 ms, go on after `interrupt`.
fn late(session: &Session, interrupt: &(dyn Fn() + Sync)) -> Duration {
    let runs = || session.calls("hv_vcpu_run").len();
    let once = |_| {
        std::thread::sleep(Duration::from_millis(45));
        let (before, asked) = (runs(), Instant::now());
        interrupt();
        while runs() == before && asked.elapsed() < Duration::from_millis(200) {
            std::thread::yield_now();
        }
        asked.elapsed()
    };
    (0..10).map(once).sum()
}

#[test]
fn an_interrupt_ends_a_wait_that_is_left_to_us() {
    let session = Session::begin();
    session.play_forever(0, || wfi(0, 0));
    let (vm, mut seeds) = Hvf::open().unwrap().create(with_gic()).unwrap();
    let kicker = seeds[0].kicker();
    let mut vcpu = seeds.remove(0).bind().unwrap();
    vm.ready().unwrap();
    let edge = vm.edge(40).unwrap();
    let message = || vm.signal_msi(gic::MSI_FRAME + 0x40, gic::FIRST_MSI).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // What a wake takes depends on the machine; by themselves waits end 8 ms late on average.
            let by_themselves = late(&session, &|| {});
            let prompt = |interrupt: &(dyn Fn() + Sync)| {
                (0..4).any(|_| late(&session, interrupt) < by_themselves / 2)
            };
            let prompt = [prompt(&|| edge.pulse().unwrap()), prompt(&message)];
            stop.store(true, Ordering::SeqCst);
            kicker.kick();
            assert_eq!(prompt, [true; 2]);
        });
        while !stop.load(Ordering::SeqCst) {
            assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
        }
    });
}

#[test]
fn a_timer_without_an_interrupt_controller_stays_masked_until_the_guest_has_set_it_anew() {
    let fired = Step::exit(2).has(CTL, ASSERTED);
    let steps = [fired, end().has(CTL, ASSERTED), end().has(CTL, ENABLE), end()];
    let (session, _vm, mut vcpu) = play(steps);
    ends(&mut vcpu, Resume::Go);
    ends(&mut vcpu, Resume::Go);
    assert!(session.calls("hv_vcpu_set_vtimer_mask").is_empty());
    ends(&mut vcpu, Resume::Go);
    assert_eq!(session.calls("hv_vcpu_set_vtimer_mask"), [[0]]);
}

#[test]
fn a_timer_that_the_framework_leaves_to_us_is_unmasked_but_not_for_ever() {
    let session = Session::begin();
    session.play(0, [Step::exit(2), end()]);
    session.play(0, (0..1001).map(|_| Step::exit(2)));
    let (_vm, mut vcpu) = boot(with_gic());
    ends(&mut vcpu, Resume::Go);
    assert_eq!(session.calls("hv_vcpu_set_vtimer_mask"), [[0]]);
    match vcpu.run(Resume::Go).unwrap() {
        Exit::Unhandled(found) => assert_eq!((found.cause, found.code), (Cause::UnknownExit, 2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_that_sets_its_timer_anew_each_time_can_do_so_for_ever() {
    let session = Session::begin();
    session.play(0, (0..3000).map(|cval| Step::exit(2).has(CVAL, cval)).chain([end()]));
    let (_vm, mut vcpu) = boot(with_gic());
    ends(&mut vcpu, Resume::Go);
    assert_eq!(session.calls("hv_vcpu_set_vtimer_mask").len(), 3000);
}

#[test]
fn all_vcpus_have_one_clock() {
    let session = Session::begin();
    let (vm, seeds) = Hvf::open().unwrap().create(config().vcpus(3)).unwrap();
    for seed in seeds {
        std::thread::spawn(move || drop(seed.bind().unwrap())).join().unwrap();
    }
    vm.ready().unwrap();
    let offsets = session.calls("hv_vcpu_set_vtimer_offset");
    assert_eq!(offsets.len(), 3);
    assert!(offsets.iter().all(|offset| *offset == offsets[0]), "{offsets:?}");
}

#[test]
fn the_physical_counter_is_read_from_where_the_virtual_one_began() {
    const CNTPCT_EL0: [u8; 5] = [3, 3, 14, 0, 1];
    let session = Session::begin();
    // The host's counter has long begun.
    drop(boot(with_gic()));
    std::thread::sleep(Duration::from_millis(50));
    let mrs = || Step::exception(esr::mrs(4, CNTPCT_EL0)).advances().for_good();
    let store = || Step::exception(esr::store(W::W8, 4)).at(MMIO).advances();
    session.play(0, [mrs(), store(), mrs(), store()]);
    let before = Instant::now();
    let (_vm, mut vcpu) = boot(with_gic());
    let mut count = || match vcpu.run(Resume::Go).unwrap() {
        Exit::Write { value, .. } => u128::from(value),
        other => panic!("{other:?}"),
    };
    let (first, second) = (count(), count());
    // No counter here is faster than nanoseconds.
    let elapsed = before.elapsed().as_nanos();
    assert!(first <= second && second <= elapsed, "{first}, {second} of {elapsed}");
}

#[test]
fn waits_that_found_something_begin_short_again() {
    let session = Session::begin();
    session.play(0, (0..9).map(|_| wfi(0, 0)));
    // A time that has come, and then a wait for who knows what.
    session.play(0, (0..300).flat_map(|_| [wfi(ENABLE, 0), wfi(0, 0)]).chain([end()]));
    let (_vm, mut vcpu) = boot(with_gic());
    let before = Instant::now();
    ends(&mut vcpu, Resume::Go);
    // 300 long ones would take 4.8 s.
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
}
