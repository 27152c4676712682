//! Tests that wait for a machine, and which machine takes which.
//!
//! For a third of the time that it takes, a test waits: for a timeout, or for nothing to happen. So there are more
//! machines than the host has processors. Those that come second are nicer than the others, take short tests, and
//! have what the others leave; a test that takes long runs nearly as fast as it does alone.

use crate::protocol::Job;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is in the names of tests that take five seconds and more. Nothing but the order depends on this list.
const LONG: &[&str] = &[
    "runner/vm::console::a_signal_ends_a_run_whose_output_nobody_reads",
    "runner/vm::console::what_comes_in_",
    "runner/vm::hermit::v77_pointers_",
    "runner/vm::hostile::net::n54_",
    "runner/vm::hostile::processors::v69_",
    "runner/vm::hostile::processors::v73_",
    "runner/vm::hostile::two::v69_",
    "runner/vm::hostile::vsock::what_makes_no_sense_",
    "runner/vm::hosts::a_limit_on_descriptors_",
    "runner/vm::hvt::data_is_not_executed_",
    "runner/vm::jail::a_call_that_no_thread_",
    "runner/vm::jail::every_call_on_a_list_",
    "runner/vm::linux::",
    "runner/vm::parked::four_processors_",
    "runner/vm::protocols::a_multiboot_kernel_",
    "runner/vm::statuses::every_status_",
    "runner/vm::terminal::a_long_paste_",
    "runner/vm::virt::a_guest_that_halts_for_good_",
    "runner/vm::wrong_images::no_single_broken_byte_",
];

/// A machine's place among those that run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It begins with the long tests.
    First,
    /// It takes short ones alone.
    Second,
}

/// By their places in the plan.
#[derive(Debug)]
pub(crate) struct Queue {
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    long: VecDeque<usize>,
    short: VecDeque<usize>,
}

impl Queue {
    pub(crate) fn of(jobs: &[Job]) -> Self {
        let is_long = |job: usize| LONG.iter().any(|text| jobs[job].name.contains(text));
        let (long, short) = (0..jobs.len()).partition(|job| is_long(*job));
        Self { lines: Mutex::new(Lines { long, short }) }
    }

    /// What a machine at that place does next.
    pub(crate) fn take(&self, place: Place) -> Option<usize> {
        let mut lines = self.lines();
        match place {
            Place::First => lines.long.pop_front().or_else(|| lines.short.pop_front()),
            Place::Second => lines.short.pop_back(),
        }
    }

    /// For who comes next, if somebody at that place had taken it and came to nothing.
    pub(crate) fn put_back(&self, job: usize, place: Place) {
        let mut lines = self.lines();
        match place {
            Place::First => lines.long.push_front(job),
            Place::Second => lines.short.push_back(job),
        }
    }

    /// How many wait for a machine at that place.
    pub(crate) fn len(&self, place: Place) -> usize {
        let lines = self.lines();
        match place {
            Place::First => lines.long.len() + lines.short.len(),
            Place::Second => lines.short.len(),
        }
    }

    /// What nobody has taken.
    pub(crate) fn rest(self) -> impl Iterator<Item = usize> {
        let lines = self.lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        lines.long.into_iter().chain(lines.short)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(names: &[&str]) -> Queue {
        let job = |name: &&str| Job {
            name: (*name).to_owned(),
            program: "/t".into(),
            arguments: Vec::new(),
            directory: "/".into(),
            environment: Vec::new(),
            deadline: 1,
        };
        Queue::of(&names.iter().map(job).collect::<Vec<_>>())
    }

    const NAMES: [&str; 4] = ["a", "hvf: runner/vm::linux::b", "c", "runner/vm::linux::d"];

    #[test]
    fn first_machines_begin_with_the_long_tests_and_second_ones_leave_them() {
        let queue = queue(&NAMES);
        assert_eq!((queue.len(Place::First), queue.len(Place::Second)), (4, 2));
        assert_eq!(queue.take(Place::Second), Some(2));
        let first: Vec<_> = (0..3).map(|_| queue.take(Place::First)).collect();
        assert_eq!(first, [Some(1), Some(3), Some(0)]);
        assert_eq!((queue.take(Place::First), queue.take(Place::Second)), (None, None));
        assert_eq!(queue.rest().count(), 0);
    }

    #[test]
    fn a_test_that_came_to_nothing_is_the_next_again_and_none_is_lost() {
        let queue = queue(&NAMES);
        let (long, short) = (queue.take(Place::First), queue.take(Place::Second));
        queue.put_back(long.unwrap(), Place::First);
        queue.put_back(short.unwrap(), Place::Second);
        assert_eq!((queue.take(Place::First), queue.take(Place::Second)), (long, short));
        assert_eq!(queue.rest().collect::<Vec<_>>(), [3, 0]);
    }
}
