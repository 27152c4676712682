//! Requests in flight: several threads at one device, whose requests wait until a test lets them go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::super::chain::{Broken, Chain};
use super::super::worker::{Backend, WorkerThread};
use super::{Rig, SIZE, WRITE, identity, reg};

/// The threads there are (`threads.rs`).
const THREADS: usize = 3;

/// A device whose requests are numbers: one descriptor of that many bytes. Those from [`SLOW`] on
/// wait for a word, and those from [`STEALTHY`] on say nothing of it; the others do not wait.
struct Gate {
    begun: Sender<u64>,
    go: Mutex<Receiver<()>>,
    now: AtomicUsize,
    most: Arc<AtomicUsize>,
}

const SLOW: u64 = 100;
const STEALTHY: u64 = 1000;

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Backend for Gate {
    fn activate(&self, _features: u64) {}
    fn serve(&self, chain: Chain<'_>, slow: &mut dyn FnMut()) -> Result<u32, Broken> {
        let number = chain.len();
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        if number >= SLOW {
            if number < STEALTHY {
                slow();
            }
            self.begun.send(number).unwrap();
            self.go.lock().unwrap().recv().unwrap();
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(u32::try_from(number).unwrap())
    }
    fn finish(&self) -> Result<(), String> {
        assert_eq!(self.now.load(Ordering::SeqCst), 0);
        Ok(())
    }
}

/// A started device on its threads.
struct Pool {
    rig: Rig,
    threads: WorkerThread,
    begun: Receiver<u64>,
    go: Sender<()>,
    most: Arc<AtomicUsize>,
}

impl Pool {
    fn new() -> Self {
        let (begun, has_begun) = channel();
        let (go, may_go) = channel();
        let most = Arc::new(AtomicUsize::new(0));
        let (now, go_on) = (AtomicUsize::new(0), Mutex::new(may_go));
        let gate = Gate { begun, go: go_on, now, most: Arc::clone(&most) };
        let mut rig = Rig::new(identity(), Box::new(gate));
        let threads = rig.threads();
        rig.start(0);
        Self { rig, threads, begun: has_begun, go, most }
    }

    /// Offers request `number` as chain `head`.
    fn offer(&mut self, head: u16, number: u64) {
        let len = u32::try_from(number).unwrap();
        self.rig.descriptor(head, (0x10000, len, WRITE, 0));
        self.rig.offer(head);
        self.rig.kick();
    }

    /// Waits for `count` requests to be used.
    fn await_used(&self, count: u16) {
        while self.rig.used_index() != count {
            std::thread::yield_now();
        }
    }

    /// Waits for the guest's interrupt.
    fn await_interrupt(&self) {
        while self.rig.interrupts() == 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_slow_request_holds_up_no_other_and_they_end_out_of_order() {
    let mut pool = Pool::new();
    pool.offer(0, SLOW);
    assert_eq!(pool.begun.recv(), Ok(SLOW));
    for (count, head) in (1..).zip(1..SIZE) {
        pool.offer(head, 10 + u64::from(head));
        pool.await_used(count);
        pool.await_interrupt();
        assert_eq!(pool.rig.used(count - 1), (head.into(), 10 + u32::from(head)));
    }
    pool.go.send(()).unwrap();
    pool.await_used(SIZE);
    assert_eq!(pool.rig.used(SIZE - 1), (0, 100));
    pool.threads.finish().unwrap();
}

#[test]
fn the_guest_hears_of_what_is_done_before_what_is_slow() {
    let mut pool = Pool::new();
    for (head, number) in [(0, 1), (1, 2), (2, SLOW)] {
        pool.rig.descriptor(head, (0x10000, u32::try_from(number).unwrap(), WRITE, 0));
        pool.rig.offer(head);
    }
    pool.rig.kick();
    assert_eq!(pool.begun.recv(), Ok(SLOW));
    assert_eq!(pool.rig.used_index(), 2);
    assert!(pool.rig.interrupts() > 0);
    pool.go.send(()).unwrap();
    pool.await_interrupt();
    pool.threads.finish().unwrap();
}

#[test]
fn a_request_that_is_slow_by_surprise_holds_up_the_others_for_a_moment_only() {
    let mut pool = Pool::new();
    // The first is stuck, then the one that another thread comes to.
    for (head, number) in [(0, STEALTHY), (1, 1), (2, STEALTHY + 1), (3, 2), (4, 3)] {
        pool.rig.descriptor(head, (0x10000, u32::try_from(number).unwrap(), WRITE, 0));
        pool.rig.offer(head);
    }
    pool.rig.kick();
    assert_eq!(pool.begun.recv(), Ok(STEALTHY));
    assert_eq!(pool.begun.recv(), Ok(STEALTHY + 1));
    pool.await_used(3);
    pool.await_interrupt();
    (0..2).for_each(|_| pool.go.send(()).unwrap());
    pool.await_used(5);
    pool.threads.finish().unwrap();
}

#[test]
fn no_more_requests_are_begun_than_there_are_threads_and_all_are_served() {
    let mut pool = Pool::new();
    for head in 0..SIZE {
        pool.rig.descriptor(head, (0x10000, 100 + u32::from(head), WRITE, 0));
        pool.rig.offer(head);
    }
    pool.rig.kick();
    let mut begun: Vec<u64> = (0..THREADS).map(|_| pool.begun.recv().unwrap()).collect();
    for _ in THREADS..SIZE.into() {
        pool.go.send(()).unwrap();
        begun.push(pool.begun.recv().unwrap());
    }
    (0..THREADS).for_each(|_| pool.go.send(()).unwrap());
    pool.await_used(SIZE);
    assert_eq!(pool.most.load(Ordering::SeqCst), THREADS);
    begun.sort_unstable();
    assert_eq!(begun, (100..100 + u64::from(SIZE)).collect::<Vec<_>>());
    pool.threads.finish().unwrap();
}

#[test]
fn a_chain_that_is_offered_again_while_it_is_served_breaks_the_device() {
    // R8, CVE-2026-45782
    let mut pool = Pool::new();
    pool.offer(0, SLOW);
    pool.begun.recv().unwrap();
    pool.offer(0, SLOW);
    while pool.rig.status() != 0x4f {
        std::thread::yield_now();
    }
    pool.go.send(()).unwrap();
    // The reset is over when the request is, of which the driver hears nothing.
    pool.rig.write(reg::STATUS, 0);
    while pool.rig.status() != 0 {
        std::thread::yield_now();
    }
    assert_eq!(pool.rig.used_index(), 0);
    pool.threads.finish().unwrap();
}

#[test]
fn a_reset_is_not_over_before_the_requests_that_were_begun() {
    // R29
    let mut pool = Pool::new();
    pool.offer(0, SLOW);
    pool.offer(1, SLOW + 1);
    pool.begun.recv().unwrap();
    pool.begun.recv().unwrap();
    pool.offer(2, 1);
    pool.await_used(1);
    pool.rig.write(reg::STATUS, 0);
    pool.go.send(()).unwrap();
    for _ in 0..1000 {
        assert_ne!(pool.rig.status(), 0, "one of them is still there");
        std::thread::yield_now();
    }
    pool.go.send(()).unwrap();
    while pool.rig.status() != 0 {
        std::thread::yield_now();
    }
    let used = pool.rig.used_index();
    assert!(used <= 2, "{used}: what ended behind the reset is not in the ring");
    pool.threads.finish().unwrap();
}

#[test]
fn the_end_of_a_run_waits_for_what_was_begun_and_serves_the_rest() {
    let mut pool = Pool::new();
    for head in 0..SIZE {
        pool.rig.descriptor(head, (0x10000, 100, WRITE, 0));
        pool.rig.offer(head);
    }
    pool.rig.kick();
    for _ in 0..THREADS {
        pool.begun.recv().unwrap();
    }
    (0..SIZE).for_each(|_| pool.go.send(()).unwrap());
    pool.threads.finish().unwrap();
    assert_eq!(pool.rig.used_index(), SIZE);
}

#[test]
fn threads_that_nobody_needs_end_too() {
    let mut pool = Pool::new();
    pool.threads.finish().unwrap();
    pool.threads.finish().unwrap();
}
