//! PSCI (Arm DEN 0022): what guests start and stop processors and the machine with.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use guests::aarch64::conformance as aarch64;

use super::super::Image;
use super::super::bench::{Bench, CODE, Guest};
use super::{begins, call, tell};
use crate::arch::aarch64::affinity;
use crate::exit::Exit;
use crate::traits::{Hypervisor, Vcpu};

const CALLS: Image = Image::aarch64(aarch64::CALLS);

declare! {
    psci_says_its_version_and_features(CALLS) needs Processor;
    psci_does_not_support_what_it_does_not_know(CALLS) needs Processor;
    psci_switches_the_machine_off(CALLS) needs Processor;
    psci_resets_the_machine(CALLS) needs Processor;
    psci_starts_stops_and_starts_a_processor(CALLS) needs Processor;
    psci_tells_processors_there_are_not_from_those_that_run(CALLS) needs Processor;
    psci_starts_each_of_four_processors(CALLS) needs Processor;
    a_processor_that_is_off_is_asleep_and_can_be_kicked(CALLS) needs Processor;
}

const VERSION: u64 = 0x8400_0000;
const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON: u64 = 0xc400_0003;
const AFFINITY_INFO: u64 = 0xc400_0004;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;
const FEATURES: u64 = 0x8400_000a;

const SUCCESS: u64 = 0;
const NOT_SUPPORTED: u64 = u64::MAX;
const INVALID_PARAMETERS: u64 = u64::MAX - 1;
const ALREADY_ON: u64 = u64::MAX - 3;

/// The answers of `AFFINITY_INFO`.
const ON: u64 = 0;
const OFF: u64 = 1;

/// A guest on one vCPU that has begun.
fn first<H: Hypervisor>(bench: &Bench<'_, H>) -> Guest<H> {
    let mut guest = bench.boot_with([7, 0], |config| config);
    begins(&mut guest, 7, 0);
    guest
}

/// The first vCPU of several begins.
fn leads<H: Hypervisor>(bench: &Bench<'_, H>, guest: &mut Guest<H>) {
    bench.set_out(guest, 0, [7, 0]);
    begins(guest, 7, 0);
}

/// Starts vCPU `index` at the beginning of the guest.
#[track_caller]
fn start<H: Hypervisor>(bench: &Bench<'_, H>, guest: &mut Guest<H>, index: u32, with: u64) -> u64 {
    call(guest, [CPU_ON, affinity(index), bench.ram_base() + CODE, with])
}

#[track_caller]
fn info<H: Hypervisor>(guest: &mut Guest<H>, target: u64) -> u64 {
    call(guest, [AFFINITY_INFO, target, 0, 0])
}

fn psci_says_its_version_and_features<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = first(bench);
    let version = call(&mut guest, [VERSION, 0, 0, 0]);
    assert!((0x2..0x2_0000).contains(&version), "PSCI 0.2 to 1.x, not {version:#x}");
    // The upper half is no part of the function's number (DEN 0028).
    assert_eq!(call(&mut guest, [0xdead_beef << 32 | VERSION, 0, 0, 0]), version);
    if version >= 0x1_0000 {
        for function in [VERSION, CPU_OFF, CPU_ON, AFFINITY_INFO, SYSTEM_OFF, SYSTEM_RESET] {
            assert_eq!(call(&mut guest, [FEATURES, function, 0, 0]), SUCCESS, "{function:#x}");
        }
        assert_eq!(call(&mut guest, [FEATURES, 0x8400_ff00, 0, 0]), NOT_SUPPORTED);
    }
}

fn psci_does_not_support_what_it_does_not_know<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = first(bench);
    for function in [0, 1, 0x18, 0x7fff_ffff, 0x8200_0000, 0x8400_ff00, 0xc400_ff00, 0xffff_ffff] {
        assert_eq!(call(&mut guest, [function, 1, 2, 3]), NOT_SUPPORTED, "{function:#x}");
    }
}

fn psci_switches_the_machine_off<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = first(bench);
    tell(&mut guest, [SYSTEM_OFF, 0, 0, 0]);
    guest.exits(Exit::Shutdown);
}

fn psci_resets_the_machine<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = first(bench);
    tell(&mut guest, [SYSTEM_RESET, 0, 0, 0]);
    guest.exits(Exit::Reset);
}

fn psci_starts_stops_and_starts_a_processor<H: Hypervisor>(bench: &Bench<'_, H>) {
    let (began, beginning) = mpsc::channel();
    let (began, beginning) = (std::sync::Mutex::new(began), std::sync::Mutex::new(beginning));
    let contexts = [0x1234_5678_9abc_def0, 2];
    bench.on_threads(2, |id, guest| {
        if id == 1 {
            let began = began.lock().expect("nobody panicked with it").clone();
            for context in contexts {
                // It waits for its start in there.
                begins(guest, context, 1);
                began.send(()).expect("the first listens");
                tell(guest, [CPU_OFF, 0, 0, 0]);
            }
            guest.is_kicked_meanwhile();
            return;
        }
        let beginning = beginning.lock().expect("nobody panicked with it");
        leads(bench, guest);
        assert_eq!(info(guest, affinity(1)), OFF);
        for context in contexts {
            assert_eq!(start(bench, guest, 1, context), SUCCESS);
            beginning.recv().expect("the second has begun");
            let deadline = Instant::now() + Duration::from_secs(10);
            while info(guest, affinity(1)) != OFF {
                assert!(Instant::now() < deadline, "it switches itself off");
            }
        }
    });
}

fn psci_tells_processors_there_are_not_from_those_that_run<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = first(bench);
    assert_eq!(info(&mut guest, affinity(0)), ON);
    assert_eq!(start(bench, &mut guest, 0, 1), ALREADY_ON);
    for nobody in [1, 2, 100] {
        assert_eq!(start(bench, &mut guest, nobody, 1), INVALID_PARAMETERS, "vCPU {nobody}");
        assert_eq!(info(&mut guest, affinity(nobody)), INVALID_PARAMETERS, "vCPU {nobody}");
    }
    // And goes on.
    assert_eq!(info(&mut guest, affinity(0)), ON);
}

fn psci_starts_each_of_four_processors<H: Hypervisor>(bench: &Bench<'_, H>) {
    let done = std::sync::Barrier::new(4);
    bench.on_threads(4, |id, guest| {
        if id == 0 {
            leads(bench, guest);
            for index in 1..4 {
                assert_eq!(start(bench, guest, index, index.into()), SUCCESS);
            }
        } else {
            begins(guest, id.into(), id);
        }
        done.wait();
        if id == 0 {
            for index in 0..4 {
                assert_eq!(info(guest, affinity(index)), ON);
                assert_eq!(start(bench, guest, index, 0), ALREADY_ON);
            }
        }
    });
}

fn a_processor_that_is_off_is_asleep_and_can_be_kicked<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = first(bench);
    assert!(!guest.vcpu.is_asleep(), "it runs");
    // The last one, too.
    tell(&mut guest, [CPU_OFF, 0, 0, 0]);
    for _ in 0..3 {
        guest.is_kicked_meanwhile();
        assert!(guest.vcpu.is_asleep(), "nothing but another vCPU could start it");
    }
}
