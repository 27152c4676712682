//! Resets while the worker is at work, and generations.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use hv::Width;

use super::super::chain::{Broken, Chain};
use super::super::mmio::Mmio;
use super::super::worker::{Backend, Threads, WorkerThread};
use super::{Rig, SIZE, identity, reg};
use crate::machine::bus::Device;

/// Calls a test back for every request.
struct Calls(Mutex<Box<dyn FnMut() + Send>>);

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Calls")
    }
}

impl Backend for Calls {
    fn activate(&self, _features: u64) {}
    fn serve(&self, _chain: Chain<'_>, _slow: &mut dyn FnMut()) -> Result<u32, Broken> {
        (self.0.lock().unwrap())();
        Ok(0)
    }
    fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

fn rig(call: impl FnMut() + Send + 'static) -> Rig {
    Rig::new(identity(), Box::new(Calls(Mutex::new(Box::new(call)))))
}

/// A place for the registers that a backend wants to write while it serves.
type Later = Arc<Mutex<Option<Arc<Mmio>>>>;

#[test]
fn a_reset_in_the_middle_of_a_request_is_over_when_the_worker_has_let_go() {
    // R29
    let mmio = Later::default();
    let served = Arc::new(AtomicU32::new(0));
    let (late, count) = (Arc::clone(&mmio), Arc::clone(&served));
    let mut rig = rig(move || {
        count.fetch_add(1, Ordering::SeqCst);
        // What a vCPU does meanwhile.
        let mmio = late.lock().unwrap().clone().unwrap();
        mmio.write(reg::STATUS, Width::W4, 0);
        assert_eq!(mmio.read(reg::STATUS, Width::W4), 0xf, "not over");
        mmio.write(reg::STATUS, Width::W4, 1);
        mmio.write(reg::QUEUE_READY, Width::W4, 0);
        assert_eq!(mmio.read(reg::STATUS, Width::W4), 0xf, "nothing else counts meanwhile");
    });
    *mmio.lock().unwrap() = Some(Arc::clone(&rig.mmio));
    rig.start(0);
    for head in 0..3 {
        rig.descriptor(head, (0x10000, 16, 0, 0));
        rig.offer(head);
    }
    rig.kick();
    assert_eq!(served.load(Ordering::SeqCst), 1, "the rest is left alone");
    assert_eq!(rig.interrupts(), 0, "no interrupt of a generation that is gone");
    rig.turn();
    assert_eq!(rig.status(), 0);
    assert_eq!(rig.read(reg::INTERRUPT_STATUS), 0);
    assert_eq!(rig.read(reg::QUEUE_READY), 0);
}

#[test]
fn a_fault_of_a_generation_that_is_gone_is_not_heard() {
    // R29: the chain that breaks the device is behind the one that resets it.
    let mmio = Later::default();
    let late = Arc::clone(&mmio);
    let mut rig = rig(move || {
        late.lock().unwrap().clone().unwrap().write(reg::STATUS, Width::W4, 0);
    });
    *mmio.lock().unwrap() = Some(Arc::clone(&rig.mmio));
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.descriptor(3, (u64::MAX, 16, 0, 0));
    rig.offer(0);
    rig.offer(3);
    rig.kick();
    rig.turn();
    assert_eq!((rig.status(), rig.interrupts()), (0, 0));
}

#[test]
fn a_device_that_was_reset_starts_from_nothing() {
    let mut rig = rig(|| {});
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.kick();
    for round in 0..5 {
        rig.restart(0);
        assert_eq!(rig.used_index(), 0);
        rig.offer(0);
        rig.kick();
        assert_eq!((rig.used_index(), rig.interrupts()), (1, 1), "{round}");
    }
}

#[test]
fn a_device_that_is_to_be_reset_has_no_interrupt_to_tell_of() {
    let mut rig = rig(|| {});
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.kick();
    assert_eq!(rig.read(reg::INTERRUPT_STATUS), 1);
    rig.write(reg::STATUS, 0);
    // The worker has not let go yet.
    assert_eq!((rig.status(), rig.read(reg::INTERRUPT_STATUS)), (0xf, 0));
    rig.turn();
    assert_eq!((rig.status(), rig.read(reg::INTERRUPT_STATUS)), (0, 0));
}

#[test]
fn a_reset_of_a_device_that_never_started_is_over_at_once() {
    let rig = rig(|| {});
    rig.negotiate(1 << 32);
    rig.configure();
    rig.write(reg::STATUS, 0);
    assert_eq!((rig.status(), rig.read(reg::QUEUE_READY)), (0, 0));
    assert_eq!(rig.read(reg::QUEUE_NUM_MAX), 256);
}

#[test]
fn starts_and_resets_from_two_vcpus_at_once_end_in_a_working_device() {
    // R30, R31
    let (rang, ring) = mpsc::channel();
    let mut rig = rig(move || {
        let _ = rang.send(());
    });
    for head in 0..SIZE {
        rig.descriptor(head, (0x10000, 16, 0, 0));
    }
    rig.offer(0);
    let mmio = Arc::clone(&rig.mmio);
    let Rig { memory, worker, .. } = rig;
    let failed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&failed);
    let fail = move |_| flag.store(true, Ordering::SeqCst);
    let threads = Threads { name: "disk", count: 3 };
    let mut thread = WorkerThread::start(worker, threads, || || true, fail).unwrap();
    let start = |mmio: &Mmio| {
        let write = |register, value| mmio.write(register, Width::W4, value);
        for (register, value) in [
            (reg::STATUS, 1),
            (reg::STATUS, 3),
            (reg::DRIVER_FEATURES_SEL, 1),
            (reg::DRIVER_FEATURES, 1),
            (reg::STATUS, 0xb),
            (reg::QUEUE_NUM, u64::from(SIZE)),
            (reg::QUEUE_DESC, super::DESCRIPTORS),
            (reg::QUEUE_DRIVER, super::AVAILABLE),
            (reg::QUEUE_DEVICE, super::USED),
            (reg::QUEUE_READY, 1),
            (reg::STATUS, 0xf),
            (reg::QUEUE_NOTIFY, 0),
        ] {
            write(register, value);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    start(&mmio);
                    mmio.write(reg::STATUS, Width::W4, 0);
                }
            });
        }
    });
    // Whatever they left: one more reset, which ends, and the device serves.
    mmio.write(reg::STATUS, Width::W4, 0);
    while mmio.read(reg::STATUS, Width::W4) != 0 {
        std::thread::yield_now();
    }
    while ring.try_recv().is_ok() {}
    start(&mmio);
    ring.recv().unwrap();
    thread.finish().unwrap();
    assert!(!failed.load(Ordering::SeqCst));
    drop(memory);
}

#[test]
fn what_is_left_when_the_run_is_over_is_served_up_to_a_limit() {
    let served = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&served);
    let mut rig = rig(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    rig.start(0);
    // Each 65 MiB: three are within 256 MiB.
    let len = u32::try_from(super::RAM).unwrap();
    for head in 0..SIZE {
        rig.descriptor(head, (0, len, 0, 0));
        rig.offer(head);
    }
    rig.worker.finish().unwrap();
    assert_eq!(served.load(Ordering::SeqCst), 3);
}

#[test]
fn a_device_that_was_started_when_the_run_was_over_is_served_too() {
    let served = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&served);
    let mut rig = rig(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    rig.negotiate(1 << 32);
    rig.configure();
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.write(reg::STATUS, 0xf);
    rig.worker.finish().unwrap();
    assert_eq!((served.load(Ordering::SeqCst), rig.used_index()), (1, 1));
}

#[test]
fn a_driver_that_does_not_wait_for_its_reset_finds_it_done() {
    let (rang, ring) = mpsc::channel();
    let slow = move || {
        let _ = rang.send(());
        std::thread::sleep(Duration::from_millis(50));
    };
    let backend = Box::new(Calls(Mutex::new(Box::new(slow))));
    let mut rig = Rig::patient(identity(), backend, Duration::from_secs(60));
    let threads = rig.threads();
    rig.start(0);
    rig.descriptor(0, (0x10000, 16, 0, 0));
    rig.offer(0);
    rig.kick();
    ring.recv().unwrap();
    // A request is under way.
    rig.write(reg::STATUS, 0);
    assert_eq!(rig.status(), 0);
    rig.write(reg::STATUS, 1);
    rig.write(reg::STATUS, 3);
    assert_eq!(rig.status(), 3);
    drop(threads);
}
