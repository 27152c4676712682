//! Calls of the guest (HVC, SMC), and vCPUs that it switches on and off. The state machine itself has
//! its tests in `hv_hvf::psci`.

use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use hv::{Exit, Hypervisor, Kicker, Resume, State, Vcpu, VcpuSeed, Vm, VmConfig};
use hv_hvf::{Hvf, HvfKicker, HvfVcpu};
use hvf_standin::{Reg, Session, Step, SysReg, esr};

use super::{RAM, boot, config, end, ends, play, with_gic};

const NOT_SUPPORTED: u64 = u64::MAX;
const INVALID_PARAMETERS: u64 = u64::MAX - 1;
const INVALID_ADDRESS: u64 = u64::MAX - 8;
const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON: u64 = 0xc400_0003;
const ENTRY: u64 = RAM + 0x8000;
/// Only a test that has failed already waits so long.
const LONG: Duration = Duration::from_secs(10);

/// A call with these X0 and up; what comes of it in X0.
fn call<const N: usize>(syndrome: u64, registers: [u64; N]) -> Step {
    let step = Step::exception(syndrome);
    (0..).zip(registers).fold(step, |step, (x, value)| step.has(Reg::X(x), value))
}

fn hvc<const N: usize>(registers: [u64; N]) -> Step {
    call(esr::hvc(0), registers)
}

fn cpu_on(target: u64, context: u64) -> Step {
    hvc([CPU_ON, target, ENTRY, context]).then(Reg::X(0), 0)
}

/// Another vCPU's part in a test.
type Part<'a> = &'a (dyn Fn(HvfVcpu) + Sync);

/// Kicks everybody when a test fails, lest those who wait for it wait for ever.
struct Alarm<'a>(&'a [HvfKicker]);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.iter().for_each(Kicker::kick);
        }
    }
}

/// Binds a vCPU on this thread and one on a thread of its own for each of `parts`, in order; then all
/// play. The first gets everybody's kickers.
fn together(config: VmConfig, first: impl FnOnce(&mut HvfVcpu, &[HvfKicker]), parts: &[Part<'_>]) {
    let vcpus = u32::try_from(parts.len() + 1).unwrap();
    let (vm, mut seeds) = Hvf::open().unwrap().create(config.vcpus(vcpus)).unwrap();
    let kickers: Vec<HvfKicker> = seeds.iter().map(VcpuSeed::kicker).collect();
    let mut vcpu = seeds.remove(0).bind().unwrap();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (seed, part) in seeds.into_iter().zip(parts) {
            let ((bound, is_bound), (begin, may_begin)) = (mpsc::channel(), mpsc::channel());
            let kickers = &kickers;
            scope.spawn(move || {
                let vcpu = seed.bind().unwrap();
                bound.send(()).unwrap();
                may_begin.recv().unwrap();
                let _alarm = Alarm(kickers);
                part(vcpu);
            });
            // The stand-in numbers vCPUs in the order in which they are made.
            is_bound.recv().unwrap();
            threads.push(begin);
        }
        vm.ready().unwrap();
        threads.iter().for_each(|begin: &mpsc::Sender<()>| begin.send(()).unwrap());
        let _alarm = Alarm(&kickers);
        first(&mut vcpu, &kickers);
    });
}

/// The processor time that this thread has used.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a variable of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Checks that a run that only a kick ends costs no processor time.
fn sleeps_until_kicked(vcpu: &mut HvfVcpu) {
    let (before, began) = (thread_time(), Instant::now());
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
    let (used, elapsed) = (thread_time() - before, began.elapsed());
    // Waiting busily is one half with four threads on two CPUs, and less where other programs want them,
    // too; an emulator takes its time for the kick.
    assert!(used < elapsed / 12, "{used:?} of {elapsed:?}");
}

#[test]
fn calls_come_back_with_their_answer_and_the_pc_behind_them() {
    let steps = [
        hvc([0x8400_0000]).then(Reg::X(0), 0x1_0001),
        call(esr::smc(0), [0x8400_0000]).then(Reg::X(0), 0x1_0001).advances(),
        // What HVC has for an immediate does not matter; with one of SMC's there is no call.
        call(esr::hvc(7), [0x8000_0000]).then(Reg::X(0), 0x1_0001),
        call(esr::smc(7), [0x8000_0000]).then(Reg::X(0), NOT_SUPPORTED).advances(),
        hvc([0x8400_0012]).then(Reg::X(0), NOT_SUPPORTED),
        call(esr::smc(0), [CPU_ON, 1, ENTRY, 0]).then(Reg::X(0), INVALID_PARAMETERS).advances(),
        end(),
    ];
    let (_session, _vm, mut vcpu) = play(steps);
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn a_guest_can_switch_itself_off_and_reset_itself() {
    let (_session, _vm, mut vcpu) = play([hvc([0x8400_0008]), hvc([0x8400_0009])]);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Shutdown);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Reset);
}

#[test]
fn a_call_that_the_vm_shows_comes_out_with_the_pc_behind_it() {
    let session = Session::begin();
    session.play(
        0,
        [
            hvc([0xdead_beef_0000_0018, 0x2_0026, RAM]),
            // Only HVC is shown, and only the function that was asked for.
            call(esr::smc(0), [0x18]).then(Reg::X(0), NOT_SUPPORTED).advances(),
            hvc([0x19]).then(Reg::X(0), NOT_SUPPORTED),
            hvc([0x8400_0000]).then(Reg::X(0), 0x1_0001),
            hvc([0x18, 0, 0]).then(Reg::X(0), 7),
            end(),
        ],
    );
    let (_vm, mut vcpu) = boot(config().hypercall(7).hypercall(0x18));
    let shown = Exit::Hypercall { function: 0x18, args: [0x2_0026, RAM] };
    assert_eq!(vcpu.run(Resume::Go).unwrap(), shown);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Hypercall { function: 0x18, args: [0, 0] });
    // An answer is given by writing registers.
    let State::Aarch64(mut state) = vcpu.state().unwrap() else { panic!("another architecture") };
    state.x[0] = 7;
    vcpu.set_state(&state.into()).unwrap();
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn a_call_that_nobody_asked_for_does_not_come_out() {
    let (_session, _vm, mut vcpu) = play([hvc([0x18]).then(Reg::X(0), NOT_SUPPORTED), end()]);
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn an_entry_outside_of_ram_is_refused() {
    let refused = |entry| hvc([CPU_ON, 1, entry, 0]).then(Reg::X(0), INVALID_ADDRESS);
    let session = Session::begin();
    session.play(0, [refused(RAM - 4), refused(RAM + (1 << 20)), refused(RAM + 2)]);
    session.play(0, [hvc([CPU_ON, 1, RAM + (1 << 20) - 4, 0]).then(Reg::X(0), 0), end()]);
    together(config(), |vcpu, _| ends(vcpu, Resume::Go), &[&drop]);
}

#[test]
fn a_cpu_begins_where_it_is_told_with_the_registers_of_a_reset() {
    let session = Session::begin();
    session.play(0, [cpu_on(1, 77), end()]);
    session.play(1, [end()]);
    let second = |mut vcpu: HvfVcpu| {
        // What the caller writes before does not matter, and does not start it.
        let mut state = hv::arch::aarch64::State::el1(RAM, 5);
        (state.x[30], state.sp_el1) = (30, 30);
        vcpu.set_state(&state.into()).unwrap();
        ends(&mut vcpu, Resume::Go);
        assert!(!vcpu.is_asleep());
        vcpu.settle(Resume::Go).unwrap();
        let expected = hv::arch::aarch64::State::el1(ENTRY + 4, 77);
        assert_eq!(vcpu.state().unwrap(), State::from(expected));
    };
    together(config(), |vcpu, _| ends(vcpu, Resume::Go), &[&second]);
}

#[test]
fn a_cpu_that_is_off_sleeps_until_it_is_told_to_begin() {
    let session = Session::begin();
    session.play(0, [cpu_on(1, 0), end()]);
    session.play(1, [end()]);
    let (looked, told) = (Barrier::new(2), Barrier::new(2));
    let first = |vcpu: &mut HvfVcpu, _: &[HvfKicker]| {
        looked.wait();
        ends(vcpu, Resume::Go);
        told.wait();
    };
    let other = |mut vcpu: HvfVcpu| {
        let before = vcpu.is_asleep();
        looked.wait();
        told.wait();
        // Nobody has it run yet.
        assert_eq!((before, vcpu.is_asleep()), (true, false));
        ends(&mut vcpu, Resume::Go);
    };
    together(config(), first, &[&other]);
}

#[test]
fn a_cpu_that_comes_back_has_no_mmu_and_no_timer_left_from_before() {
    const SCTLR: Reg = Reg::Sys(SysReg::SCTLR_EL1);
    const CTL: Reg = Reg::Sys(SysReg::CNTV_CTL_EL0);
    let session = Session::begin();
    session.play(1, [end(), hvc([CPU_OFF]).has(SCTLR, 0x30d0_1805).has(CTL, 1).for_good()]);
    // Off: it cannot be anything but in wait for this.
    session.play(0, [cpu_on(1, 1), end(), hvc([0xc400_0004, 1, 0]).then(Reg::X(0), 1)]);
    session.play(0, [cpu_on(1, 2), end()]);
    session.play(1, [end()]);
    let (off, is_off) = mpsc::channel();
    let second = |mut vcpu: HvfVcpu| {
        ends(&mut vcpu, Resume::Go);
        // The next run ends by the kick that comes once it is off.
        off.send(()).unwrap();
        assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
        assert!(vcpu.is_asleep());
        off.send(()).unwrap();
        ends(&mut vcpu, Resume::Go);
        assert_eq!(session.register(1, SCTLR), Some(0));
        assert_eq!(session.register(1, CTL), Some(0));
        assert_eq!(session.register(1, Reg::X(0)), Some(2));
    };
    let first = |vcpu: &mut HvfVcpu, kickers: &[HvfKicker]| {
        ends(vcpu, Resume::Go);
        is_off.recv_timeout(LONG).unwrap();
        let asked = Instant::now();
        while session.register(1, SCTLR) == Some(0) && asked.elapsed() < LONG {
            std::thread::yield_now();
        }
        kickers[1].kick();
        is_off.recv_timeout(LONG).unwrap();
        ends(vcpu, Resume::Go);
    };
    together(config(), first, &[&second]);
}

#[test]
fn four_vcpus_that_have_nothing_to_do_cost_no_processor_time() {
    let session = Session::begin();
    let asleep = |mut vcpu: HvfVcpu| {
        assert!(vcpu.is_asleep());
        sleeps_until_kicked(&mut vcpu);
        assert!(vcpu.is_asleep());
    };
    let first = |vcpu: &mut HvfVcpu, kickers: &[HvfKicker]| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                session.wait_until_parked(0);
                std::thread::sleep(Duration::from_millis(1500));
                kickers.iter().for_each(Kicker::kick);
            });
            sleeps_until_kicked(vcpu);
        });
        assert!(!vcpu.is_asleep());
    };
    together(with_gic(), first, &[&asleep, &asleep, &asleep]);
}

#[test]
fn the_last_cpu_that_goes_off_sleeps_until_it_is_kicked() {
    let session = Session::begin();
    session.play(0, [hvc([CPU_OFF])]);
    let (vm, mut seeds) = Hvf::open().unwrap().create(with_gic()).unwrap();
    let kicker = seeds[0].kicker();
    let mut vcpu = seeds.remove(0).bind().unwrap();
    vm.ready().unwrap();
    for _ in 0..2 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_secs(1));
                kicker.kick();
            });
            sleeps_until_kicked(&mut vcpu);
        });
        assert!(vcpu.is_asleep());
    }
}

#[test]
fn a_thousand_kicks_of_a_cpu_that_is_off_lose_none() {
    let _session = Session::begin();
    let (order, orders) = mpsc::channel();
    let off = |mut vcpu: HvfVcpu| {
        for turn in 0..1000 {
            order.send(turn).unwrap();
            assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
        }
    };
    let first = |_: &mut HvfVcpu, kickers: &[HvfKicker]| {
        for _ in 0..1000 {
            let pause = orders.recv_timeout(LONG).unwrap() * 37 % 2000;
            (0..pause).for_each(|_: u32| std::hint::spin_loop());
            kickers[1].kick();
        }
    };
    together(config(), first, &[&off]);
}

#[test]
fn a_guest_that_switches_off_while_it_switches_on_ends_and_everybody_can_be_stopped() {
    for _ in 0..50 {
        let session = Session::begin();
        session.play(0, [cpu_on(1, 0), cpu_on(2, 0), hvc([0x8400_0008])]);
        let stopped = |mut vcpu: HvfVcpu| {
            assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
        };
        let first = |vcpu: &mut HvfVcpu, kickers: &[HvfKicker]| {
            assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Shutdown);
            kickers.iter().for_each(Kicker::kick);
        };
        together(config(), first, &[&stopped, &stopped]);
    }
}

#[test]
fn a_call_whose_registers_cannot_be_read_is_an_error() {
    let session = Session::begin();
    session.play(0, [hvc([0x8400_0000])]);
    let (_vm, mut vcpu) = boot(config());
    session.fail("hv_vcpu_get_reg", hvf_standin::code::HV_ERROR);
    assert_eq!(vcpu.run(Resume::Go).unwrap_err().op, "hv_vcpu_get_reg");
}
