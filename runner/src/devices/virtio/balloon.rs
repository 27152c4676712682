//! The memory balloon (virtio 1.2 §5.5): pages that the guest does not need are the host's again. The
//! guest puts them into the balloon when it is to be larger, and takes them out when it is short of
//! memory; and it reports pages that are free, which it may use again at any time without a word.
//!
//! Nothing is promised of what a page holds that has been given back.

use std::fmt;
use std::time::Duration;

use hv::GuestMemory;
use hv::mem::give_back;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileSlice};

use super::COMMON_FEATURES;
use super::chain::{Broken, Buffers, Chain, MAX_SEGMENTS};
use super::served::Served;
use super::state::Own;
use super::transport::Identity;
use super::virtqueues::{Request, Virtqueues};
use crate::devices::state::Refused;

/// The guest takes pages out of it when it is short of memory (§5.5.3, VIRTIO_BALLOON_F_DEFLATE_ON_OOM).
const DEFLATE_ON_OOM: u64 = 1 << 2;
/// It says which pages are free (VIRTIO_BALLOON_F_REPORTING).
const REPORTING: u64 = 1 << 5;

/// Bytes of a page of the balloon's, whatever the guest's and the host's have.
const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;

/// The queues (§5.5.2).
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
/// The one for reports has number 4 in the standard. Linux's driver leaves out the numbers of queues whose
/// features are not there, and has it at 2. All that are behind the first two are for reports.
const QUEUES: usize = 5;

/// Page numbers in one request. Linux has 256.
const MOST_NUMBERS: usize = 4096;

/// What is given back before others have their turn.
const MOST_BYTES: u64 = 32 << 20;

/// What a call takes at least.
const COST: u64 = 64 << 10;

/// The device.
pub struct Balloon {
    /// How large it is to be, in pages.
    target: u32,
    /// How many bytes of the request of reported pages that is next in turn are done.
    reported: u64,
    /// Bytes that were given back by now.
    inflated: u64,
    free: u64,
}

/// For a person.
impl fmt::Debug for Balloon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inflated, free) = (self.inflated >> 20, self.free >> 20);
        write!(f, "{inflated} MiB were put into it, {free} MiB were reported free")
    }
}

impl Balloon {
    /// One that is to take `size` bytes of the guest's memory, in whole pages.
    pub fn new(size: u64) -> Self {
        let target = u32::try_from(size / PAGE).unwrap_or(u32::MAX);
        Self { target, reported: 0, inflated: 0, free: 0 }
    }

    /// Does at most some `most` bytes of a request's work. Returns what it took, and whether it is done.
    fn carry_out(
        &mut self,
        queue: usize,
        memory: &GuestMemory,
        chain: Chain<'_>,
        most: u64,
    ) -> Result<(u64, bool), Broken> {
        match queue {
            INFLATE => Ok((self.inflate(memory, &page_numbers(memory, &chain.readable)?), true)),
            // They are as good as any other page, from the guest's first touch on.
            DEFLATE => page_numbers(memory, &chain.readable).map(|_| (COST, true)),
            _ => Ok(self.report(memory, chain.writable, most)),
        }
    }

    /// Gives pages back, of which each is in RAM. Returns what it took.
    fn inflate(&mut self, memory: &GuestMemory, numbers: &[u32]) -> u64 {
        let mut took = 0u64;
        for (first, count) in runs(numbers) {
            let len = usize::try_from(count.saturating_mul(PAGE)).unwrap_or_default();
            let start = GuestAddress(first.saturating_mul(PAGE));
            // Two pieces of RAM may meet in the middle.
            for slice in memory.get_slices(start, len).flatten() {
                self.inflated = self.inflated.saturating_add(given_back(memory, &slice));
            }
            took = took.saturating_add(count.saturating_mul(PAGE)).saturating_add(COST);
        }
        took
    }

    /// Gives back what is reported, from where it was left.
    fn report(&mut self, memory: &GuestMemory, mut pages: Buffers<'_>, most: u64) -> (u64, bool) {
        pages.take(self.reported);
        let part = pages.take(most);
        for slice in part.slices() {
            self.free = self.free.saturating_add(given_back(memory, slice));
        }
        let calls = u64::try_from(part.slices().len()).unwrap_or(u64::MAX);
        let took = part.len().saturating_add(calls.saturating_mul(COST)).saturating_add(COST);
        let done = pages.is_empty();
        self.reported = if done { 0 } else { self.reported.saturating_add(part.len()) };
        (took, done)
    }
}

impl Served for Balloon {
    fn identity(&self, name: &str) -> Identity {
        // struct virtio_balloon_config (§5.5.4): what is wanted; what is in it, the driver's to write.
        let config = self.target.to_le_bytes().into_iter().chain([0; 4]).collect();
        Identity {
            name: name.to_owned(),
            device: VIRTIO_ID_BALLOON,
            features: COMMON_FEATURES | DEFLATE_ON_OOM | REPORTING,
            queues: vec![MAX_SEGMENTS; QUEUES],
            config,
            writable: 4..8,
        }
    }

    fn reset(&mut self) {
        self.reported = 0;
    }

    fn describe(&self) -> Own {
        Own::Balloon { reported: self.reported }
    }

    /// Too many of a report are as good as all.
    fn restore(&mut self, own: &Own) -> Result<(), Refused> {
        let Own::Balloon { reported } = *own else { return Err(Own::foreign("`balloon`")) };
        self.reported = reported;
        Ok(())
    }

    fn serve(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, _now: Duration) -> bool {
        let mut left = MOST_BYTES;
        for queue in 0..QUEUES {
            while left > 0 {
                let Some(Request { head, chain }) = queues.take(memory, queue) else { break };
                match self.carry_out(queue, memory, chain, left) {
                    Ok((took, true)) => {
                        queues.give_back(memory, queue, head, 0);
                        left = left.saturating_sub(took);
                    }
                    // The first there is to do in the next turn, too.
                    Ok((_, false)) => {
                        queues.put_back(queue, head);
                        left = 0;
                    }
                    Err(error) => queues.refuse(head, error),
                }
            }
        }
        (0..QUEUES).any(|queue| queues.is_waiting(queue))
    }
}

/// The list of pages in a request (§5.5.6), each of them in RAM, in order.
fn page_numbers(memory: &GuestMemory, list: &Buffers<'_>) -> Result<Vec<u32>, Broken> {
    let len = usize::try_from(list.len()).ok();
    let len = len.filter(|len| len.is_multiple_of(4) && len / 4 <= MOST_NUMBERS);
    let mut bytes = vec![0; len.ok_or(Broken::PageList(list.len()))?];
    list.copy_to(&mut bytes);
    let (words, _) = bytes.as_chunks();
    let mut numbers: Vec<_> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    numbers.sort_unstable();
    let outside = numbers.iter().find(|number| {
        let start = GuestAddress(u64::from(**number).saturating_mul(PAGE));
        !memory.check_range(start, PAGE_LEN)
    });
    match outside {
        Some(number) => Err(Broken::Page(*number)),
        None => Ok(numbers),
    }
}

/// Pages one behind the other: the first of each run, and how many. A host whose pages are larger can take
/// runs back, and no single page.
fn runs(numbers: &[u32]) -> impl Iterator<Item = (u64, u64)> {
    let runs = numbers.chunk_by(|one, next| next.saturating_sub(*one) <= 1);
    runs.filter_map(|run| {
        let (first, last) = (u64::from(*run.first()?), u64::from(*run.last()?));
        Some((first, last.saturating_sub(first).saturating_add(1)))
    })
}

/// How many bytes went back to the host.
fn given_back(memory: &GuestMemory, pages: &VolatileSlice<'_>) -> u64 {
    give_back(memory, pages).unwrap_or_else(|error| {
        crate::warning!("{error}");
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::virtio::tests::{RAM, Rig, SEAM, WRITE, reg};

    const LIST: u64 = 0x9000;
    const DATA: u64 = 0x2_0000;

    fn rig(size: u64) -> Rig {
        let mut rig = Rig::served(Box::new(Balloon::new(size)));
        rig.set_up_queues(3);
        rig.start(DEFLATE_ON_OOM | REPORTING);
        rig
    }

    fn list(rig: &Rig, numbers: &[u32]) -> u32 {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        rig.write_bytes(LIST, &bytes);
        u32::try_from(bytes.len()).unwrap()
    }

    #[test]
    fn a_driver_finds_how_large_it_is_to_be_and_writes_how_large_it_is() {
        let rig = Rig::served(Box::new(Balloon::new(8 << 20)));
        assert_eq!((rig.read(reg::DEVICE_ID), rig.read(reg::CONFIG)), (5, 2048));
        rig.write(reg::CONFIG + 4, 7);
        rig.write(reg::CONFIG, 7);
        assert_eq!((rig.read(reg::CONFIG), rig.read(reg::CONFIG + 4)), (2048, 7));
        assert_eq!(Rig::served(Box::new(Balloon::new(0))).read(reg::CONFIG), 0);
    }

    #[test]
    fn pages_that_are_put_in_are_the_hosts_and_may_be_used_again_once_taken_out() {
        let mut rig = rig(1 << 20);
        rig.fill(DATA, 7, 0x4_0000);
        // 64 KiB in any order, twice over: whole pages on every host.
        let numbers: Vec<u32> = (0x20..0x30).rev().chain(0x20..0x30).collect();
        for queue in [INFLATE, DEFLATE] {
            let len = list(&rig, &numbers);
            rig.chain_of(queue, &[(LIST, len, 0)]);
            rig.offer_to(queue, 0);
            rig.kick_queue(queue);
            assert_eq!((rig.used_index_of(queue), rig.interrupts()), (1, 1));
        }
        assert!(rig.is_gone(DATA, 0x1_0000));
        assert!(rig.bytes(DATA + 0x1_0000, 0x3_0000).iter().all(|byte| *byte == 7));
        rig.fill(DATA, 9, 0x1_0000);
        assert_eq!(rig.bytes(DATA, 0x1_0000), vec![9; 0x1_0000]);
    }

    #[test]
    fn a_page_outside_of_ram_or_no_list_of_pages_stops_the_device_before_any_page_goes() {
        let last = u32::try_from(RAM / PAGE).unwrap();
        for queue in [INFLATE, DEFLATE] {
            for (numbers, cut) in [
                (vec![0x20, last], 0),
                (vec![0x20, u32::MAX], 0),
                (vec![0x20, 0x21], 1),
                (vec![0x20; MOST_NUMBERS + 1], 0),
            ] {
                let mut rig = rig(0);
                rig.fill(DATA, 7, 0x1000);
                let len = list(&rig, &numbers) - cut;
                rig.chain_of(queue, &[(LIST, len, 0)]);
                rig.offer_to(queue, 0);
                rig.kick_queue(queue);
                rig.expect_broken();
                assert_eq!(rig.bytes(DATA, 0x1000), vec![7; 0x1000]);
            }
        }
    }

    #[test]
    fn a_request_may_take_the_queues_own_memory_away_and_hurts_its_own_driver_alone() {
        let mut rig = rig(0);
        let len = list(&rig, &(0..0x40).collect::<Vec<u32>>());
        rig.chain_of(INFLATE, &[(LIST, len, 0)]);
        rig.offer_to(INFLATE, 0);
        rig.kick_queue(INFLATE);
        assert_eq!(rig.status() & 0xf, 0xf, "whatever became of its rings");
        rig.restart(0);
    }

    #[test]
    fn free_pages_are_the_hosts_across_a_seam_of_ram_and_in_turns_of_bounded_length() {
        let mut rig = rig(0);
        let len = u32::try_from(RAM - SEAM).unwrap() - 0x10_0000;
        assert!(u64::from(len) > MOST_BYTES);
        let start = SEAM - 0x1_0000;
        for at in [start, SEAM, start + MOST_BYTES, start + u64::from(len) - 0x1_0000] {
            rig.fill(at, 7, 0x1_0000);
        }
        rig.fill(start + u64::from(len), 7, 0x1000);
        rig.chain_of(2, &[(start, len, WRITE)]);
        rig.offer_to(2, 0);
        rig.kick_queue(2);
        assert_eq!((rig.used_index_of(2), rig.more()), (0, true));
        for _ in 0..u64::from(len) / MOST_BYTES {
            assert!(rig.more());
            rig.turn();
        }
        assert_eq!((rig.used_index_of(2), rig.more(), rig.interrupts()), (1, false, 1));
        for at in [start, SEAM, start + MOST_BYTES, start + u64::from(len) - 0x1_0000] {
            assert!(rig.is_gone(at, 0x1_0000), "{at:#x}");
        }
        assert_eq!(rig.bytes(start + u64::from(len), 0x1000), vec![7; 0x1000]);
    }

    #[test]
    fn a_reset_in_the_middle_of_a_report_begins_anew() {
        let mut rig = rig(0);
        let len = u32::try_from(RAM - SEAM).unwrap();
        rig.chain_of(2, &[(SEAM, len, WRITE)]);
        rig.offer_to(2, 0);
        rig.kick_queue(2);
        assert!(rig.more());
        rig.restart(DEFLATE_ON_OOM | REPORTING);
        rig.fill(SEAM, 7, 0x1_0000);
        rig.chain_of(2, &[(SEAM, 0x1_0000, WRITE)]);
        rig.offer_to(2, 0);
        rig.kick_queue(2);
        assert_eq!(rig.used_index_of(2), 1);
        assert!(rig.is_gone(SEAM, 0x1_0000));
    }

    #[test]
    fn pages_one_behind_the_other_are_one_run() {
        let all = |numbers: &[u32]| runs(numbers).collect::<Vec<_>>();
        assert_eq!(all(&[]), []);
        assert_eq!(all(&[3]), [(3, 1)]);
        assert_eq!(all(&[1, 2, 2, 3, 5, 7, 8]), [(1, 3), (5, 1), (7, 2)]);
        assert_eq!(all(&[u32::MAX - 1, u32::MAX]), [(u64::from(u32::MAX) - 1, 2)]);
    }
}
