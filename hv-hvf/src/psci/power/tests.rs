//! Races. Each operation is atomic (one lock, taken once), so what threads can do to each other is
//! the set of all orders of their operations: small cases are played in every order, larger ones on
//! threads.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// What a thread does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// `CPU_ON` of vCPU 1, with this context.
    On(u64),
    /// vCPU 1's thread looks for an entry if it is off, and calls `CPU_OFF` if it is on.
    Turn,
    /// `AFFINITY_INFO` of vCPU 1.
    Info,
}

/// vCPU 1 as it has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Model {
    pending: Option<u64>,
    on: bool,
}

/// Plays `order` on a new VM and compares each answer with the model's.
fn play(order: &[Step]) {
    let (power, mut model) = (Power::new(2), Model::default());
    for step in order {
        match *step {
            Step::On(context) => {
                let expected = match model {
                    Model { on: true, .. } => Err(Refusal::On),
                    Model { pending: Some(_), .. } => Err(Refusal::Pending),
                    _ => {
                        model.pending = Some(context);
                        Ok(())
                    }
                };
                let found = power.switch_on(1, Entry { pc: 0, context });
                assert_eq!(found, expected, "{order:?}");
            }
            Step::Turn if model.on => {
                power.switch_off(1);
                model.on = false;
            }
            Step::Turn => {
                let found = power.take(1).map(|entry| entry.context);
                assert_eq!(found, model.pending, "{order:?}");
                model = Model { on: found.is_some(), pending: None };
            }
            Step::Info => {
                let expected = match model {
                    Model { on: true, .. } => 0,
                    Model { pending: Some(_), .. } => 2,
                    _ => 1,
                };
                assert_eq!(power.info(1, 0), Some(expected), "{order:?}");
            }
        }
        assert_eq!(power.is_off(1), model == Model::default(), "{order:?}");
    }
}

/// Plays every order of the threads' steps that keeps each thread's own; how many there are.
fn every_order(threads: &mut [Vec<Step>], so_far: &mut Vec<Step>) -> u32 {
    if threads.iter().all(Vec::is_empty) {
        play(so_far);
        return 1;
    }
    let mut orders = 0;
    for index in 0..threads.len() {
        if let Some(step) = threads[index].pop() {
            so_far.push(step);
            orders += every_order(threads, so_far);
            so_far.pop();
            threads[index].push(step);
        }
    }
    orders
}

#[test]
fn in_every_order_of_calls_each_start_is_one_callers_and_the_others_are_told() {
    let callers = vec![Step::On(1), Step::On(2)];
    let others = vec![Step::On(3), Step::Info, Step::On(4)];
    let itself = vec![Step::Turn; 4];
    // 9! / (2! 3! 4!)
    assert_eq!(every_order(&mut [callers, others, itself], &mut Vec::new()), 1260);
}

#[test]
fn of_many_threads_that_switch_a_cpu_on_at_once_one_succeeds() {
    const CALLERS: u64 = 8;
    for _ in 0..200 {
        let (power, barrier, started) = (Power::new(2), Barrier::new(9), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for context in 0..CALLERS {
                let (power, barrier, started) = (&power, &barrier, &started);
                scope.spawn(move || {
                    barrier.wait();
                    if power.switch_on(1, Entry { pc: 4, context }).is_ok() {
                        started.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            barrier.wait();
            let mut taken = None;
            while taken.is_none() {
                taken = power.take(1);
                std::thread::yield_now();
            }
        });
        assert_eq!(started.into_inner(), 1);
        assert_eq!(power.take(1), None);
    }
}

#[test]
fn a_cpu_that_goes_off_and_on_all_the_time_takes_each_entry_once() {
    const ROUNDS: u64 = 2000;
    let power = Power::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for context in 0..ROUNDS {
                while power.switch_on(1, Entry { pc: 0, context }).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < ROUNDS {
            match power.take(1) {
                Some(entry) => {
                    assert_eq!(entry.context, expected);
                    expected += 1;
                    power.switch_off(1);
                }
                None => std::thread::yield_now(),
            }
        }
    });
}

#[test]
fn a_number_that_no_cpu_has_changes_nothing() {
    let power = Power::new(1);
    assert_eq!(power.switch_on(1, Entry { pc: 0, context: 0 }), Err(Refusal::On));
    power.switch_off(7);
    assert_eq!((power.take(7), power.is_off(7), power.is_off(0)), (None, false, false));
}
