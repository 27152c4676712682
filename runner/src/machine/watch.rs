//! Finds out that nothing can wake the guest any more: every vCPU has halted with interrupts off, or
//! was never started. Kernels end like that when they give up.
//!
//! With an irqchip in the kernel a halt brings no exit, so a vCPU that has not come out for a while is
//! asked now and then, by a kick. All have to say so in two rounds in a row: one may still wake another
//! behind its answer. What only a non-maskable interrupt of a device could wake is taken for dead.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::stop::Wake;

/// From one round to the next. A kick costs a vCPU some 20 µs.
const PERIOD: Duration = Duration::from_secs(5);

/// A vCPU, as seen from the I/O loop.
pub(super) struct Watched {
    kick: Wake,
    /// It has come out by itself since it was last looked at.
    out: AtomicBool,
}

impl Watched {
    /// It came out by itself, and so is awake. Costs a load: vCPUs share the cache line, and take it
    /// from each other only once a round.
    pub(super) fn came_out(&self) {
        if !self.out.load(Ordering::Relaxed) {
            self.out.store(true, Ordering::Relaxed);
        }
    }
}

/// What the I/O loop and the vCPUs share.
#[derive(Default)]
pub(super) struct Watch {
    vcpus: OnceLock<Vec<Watched>>,
    /// The round that vCPUs are asked in; 0 is none.
    round: AtomicU32,
    /// How many have said in this round that they are asleep.
    asleep: AtomicU32,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("round", &self.round).finish_non_exhaustive()
    }
}

impl Watch {
    /// Names what kicks each vCPU. Called once, before the guest runs.
    pub(super) fn kick_with(&self, kicks: Vec<Wake>) {
        let watched = |kick| Watched { kick, out: AtomicBool::new(false) };
        // Nobody calls it twice.
        let _ = self.vcpus.set(kicks.into_iter().map(watched).collect());
    }

    /// The vCPU with this number.
    pub(super) fn vcpu(&self, id: u32) -> Option<&Watched> {
        self.vcpus.get()?.get(usize::try_from(id).ok()?)
    }

    /// The vCPU behind `answered`, kicked, says once in a round whether it is asleep.
    pub(super) fn answer(&self, answered: &mut u32, asleep: impl FnOnce() -> bool) {
        let round = self.round.load(Ordering::Acquire);
        if round != std::mem::replace(answered, round) && asleep() {
            self.asleep.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Begins a round. Whether all were asleep in the one before.
    fn ask(&self) -> bool {
        let vcpus = self.vcpus.get().map_or(&[][..], Vec::as_slice);
        let asleep = self.asleep.swap(0, Ordering::AcqRel);
        let all = usize::try_from(asleep) == Ok(vcpus.len()) && !vcpus.is_empty();
        self.round.fetch_add(1, Ordering::AcqRel);
        for vcpu in vcpus {
            if !vcpu.out.swap(false, Ordering::Relaxed) {
                (vcpu.kick)();
            }
        }
        all
    }
}

/// The I/O loop's side.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Rounds that have begun.
    begun: u32,
    /// In how many in a row all were asleep.
    asleep: u32,
}

impl Rounds {
    /// Begins a round if it is time, `now` since the guest began. Whether the guest sleeps for good.
    pub(super) fn look(&mut self, watch: &Watch, now: Duration) -> bool {
        if now >= self.next() {
            self.begun = self.begun.saturating_add(1);
            self.asleep = if watch.ask() { self.asleep.saturating_add(1) } else { 0 };
        }
        self.asleep >= 2
    }

    /// When the next round begins, since the guest began.
    pub(super) fn next(&self) -> Duration {
        PERIOD.saturating_mul(self.begun.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    /// A watch over two vCPUs, and how often they were kicked.
    fn watch() -> (Watch, Arc<AtomicUsize>) {
        let (watch, kicks) = (Watch::default(), Arc::new(AtomicUsize::new(0)));
        let kick = || -> Wake {
            let kicks = Arc::clone(&kicks);
            Box::new(move || {
                kicks.fetch_add(1, Ordering::SeqCst);
            })
        };
        watch.kick_with(vec![kick(), kick()]);
        (watch, kicks)
    }

    /// Rounds at their times, with what the two vCPUs answer in each; in which the guest was found
    /// asleep for good.
    fn found(answers: &[[bool; 2]]) -> Option<usize> {
        let (watch, kicks) = watch();
        let (mut rounds, mut answered) = (Rounds::default(), [0; 2]);
        for (index, answer) in answers.iter().enumerate() {
            assert!(!rounds.look(&watch, rounds.next() - Duration::from_millis(1)), "early");
            if rounds.look(&watch, rounds.next()) {
                return Some(index);
            }
            assert_eq!(kicks.load(Ordering::SeqCst), 2 * (index + 1));
            for (answered, asleep) in answered.iter_mut().zip(answer) {
                // A second kick, of whoever, is no second answer.
                watch.answer(answered, || *asleep);
                watch.answer(answered, || *asleep);
            }
        }
        None
    }

    #[test]
    fn a_guest_sleeps_for_good_when_all_say_so_twice_in_a_row() {
        let (both, one, none) = ([true; 2], [true, false], [false; 2]);
        assert_eq!(found(&[both, both, both]), Some(2));
        assert_eq!(found(&[none, both, one, both, both, both]), Some(5));
        assert_eq!(found(&[both, none, both, none, both, one, one]), None);
        assert_eq!(found(&[one; 8]), None);
    }

    #[test]
    fn a_vcpu_that_does_not_answer_is_not_asleep() {
        let (watch, _) = watch();
        let (mut rounds, mut answered) = (Rounds::default(), 0);
        for _ in 0..8 {
            assert!(!rounds.look(&watch, rounds.next()));
            watch.answer(&mut answered, || true);
        }
    }

    #[test]
    fn a_vcpu_that_came_out_by_itself_is_not_disturbed() {
        let (watch, kicks) = watch();
        let mut rounds = Rounds::default();
        for round in 1..=8 {
            watch.vcpu(1).unwrap().came_out();
            assert!(!rounds.look(&watch, rounds.next()));
            assert_eq!(kicks.load(Ordering::SeqCst), round);
            watch.answer(&mut 0, || true);
        }
        assert!(watch.vcpu(2).is_none());
    }

    #[test]
    fn a_machine_without_vcpus_is_not_asleep() {
        let (watch, mut rounds) = (Watch::default(), Rounds::default());
        for _ in 0..4 {
            assert!(!rounds.look(&watch, rounds.next()));
        }
    }
}
