//! The entropy device (virtio 1.2 §5.4): one queue of buffers, which it fills with random bytes of the
//! operating system's.

use std::time::Duration;

use hv::GuestMemory;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use vm_memory::VolatileSlice;

use super::COMMON_FEATURES;
use super::chain::{Broken, MAX_SEGMENTS};
use super::served::Served;
use super::transport::Identity;
use super::virtqueues::Virtqueues;
use crate::io::random;

/// The most bytes that one request gets, however long its buffers are, and that are made before others
/// have their turn.
const MOST: usize = 64 << 10;

/// What a request counts at least.
const LEAST: usize = 256;

/// The queue, `requestq` (§5.4.2).
const REQUESTS: usize = 0;

/// Where random bytes come from.
type Source = fn(&mut [u8]) -> std::io::Result<()>;

/// The device.
#[derive(Debug)]
pub struct Rng {
    /// Fills so many bytes at once; see [`random::fill`].
    source: Source,
}

impl Default for Rng {
    fn default() -> Self {
        Self { source: random::fill }
    }
}

impl Served for Rng {
    fn identity(&self, name: &str) -> Identity {
        Identity {
            name: name.to_owned(),
            device: VIRTIO_ID_RNG,
            features: COMMON_FEATURES,
            queues: vec![MAX_SEGMENTS],
            config: Vec::new(),
        }
    }

    fn serve(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, _now: Duration) -> bool {
        let mut left = MOST;
        while left > 0 {
            let Some(request) = queues.take(memory, REQUESTS) else { break };
            if request.chain.writable.is_empty() {
                queues.refuse(request.head, Broken::NoAnswer);
                break;
            }
            let filled = fill(request.chain.writable.slices(), self.source);
            let written = u32::try_from(filled).unwrap_or_default();
            queues.give_back(memory, REQUESTS, request.head, written);
            left = left.saturating_sub(filled.max(LEAST));
        }
        queues.is_waiting(REQUESTS)
    }
}

/// Fills the first bytes of `slices`, at most [`MOST`]. Returns how many.
fn fill(slices: &[VolatileSlice<'_>], source: Source) -> usize {
    let mut bytes = [0; random::MOST];
    let mut done = 0usize;
    for slice in slices {
        let mut offset = 0usize;
        while offset < slice.len() && done < MOST {
            let rest = slice.len().saturating_sub(offset).min(MOST.saturating_sub(done));
            let bytes = bytes.get_mut(..rest.min(random::MOST)).unwrap_or_default();
            if let Err(error) = source(bytes) {
                crate::warning!("the guest gets fewer random bytes than it asked for: {error}");
                return done;
            }
            // It lies within the slice, so this cannot fail.
            if let Ok(place) = slice.offset(offset) {
                place.copy_from(bytes);
            }
            offset = offset.saturating_add(bytes.len());
            done = done.saturating_add(bytes.len());
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::virtio::tests::{RAM, Rig, SEAM, WRITE};

    /// Half of a page before the seam.
    const BUFFER: u64 = SEAM - 0x800;

    fn rig() -> Rig {
        let mut rig = Rig::served(Box::new(Rng::default()));
        rig.start(0);
        rig
    }

    #[test]
    fn a_buffer_is_filled_with_bytes_that_differ_each_time_across_a_seam_of_ram() {
        let mut rig = rig();
        assert_eq!((rig.identity().device, rig.identity().queues.len()), (4, 1));
        let mut before = vec![0; 0x1000];
        for round in 1..=2 {
            rig.chain(&[(BUFFER, 0x1000, WRITE)]);
            rig.offer(0);
            rig.kick();
            assert_eq!((rig.used_index(), rig.used(round - 1)), (round, (0, 0x1000)));
            assert_eq!(rig.interrupts(), 1);
            let bytes = rig.bytes(BUFFER, 0x1000);
            // Of so many random bytes none of 256 values is missing, and none is there often.
            let counts = (0..=255).map(|value| bytes.iter().filter(|b| **b == value).count());
            let counts: Vec<_> = counts.collect();
            assert!(counts.iter().all(|count| (1..60).contains(count)), "{counts:?}");
            assert_ne!(bytes, before);
            before = bytes;
        }
    }

    #[test]
    fn c58_a_request_for_very_much_gets_64_kib_and_no_more() {
        let mut rig = rig();
        let len = u32::try_from(RAM - SEAM).unwrap();
        rig.chain(&[(SEAM, len, WRITE)]);
        rig.offer(0);
        rig.kick();
        assert_eq!(rig.used(0), (0, 64 << 10));
        let bytes = rig.bytes(SEAM, 0x2_0000);
        assert!(bytes[0xfff0..0x1_0000].iter().any(|byte| *byte != 0));
        assert!(bytes[0x1_0000..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn requests_of_one_turn_have_a_bound_and_none_is_lost() {
        let mut rig = rig();
        for index in 0..4 {
            rig.descriptor(index, (SEAM, 0x9000, WRITE, 0));
            rig.offer(index);
        }
        rig.kick();
        assert_eq!(rig.used_index(), 2, "0x9000 and 0x9000 bytes are 64 KiB and more");
        assert!(rig.more(), "the loop comes back without a doorbell");
        rig.turn();
        assert_eq!(rig.used_index(), 4);
        rig.turn();
        assert!(!rig.more());
    }

    #[test]
    fn c58_a_buffer_that_cannot_be_written_stops_the_device_until_it_is_reset() {
        for chain in [(SEAM, 0x1000, 0), (SEAM, 0, WRITE)] {
            let mut rig = rig();
            rig.chain(&[chain]);
            rig.offer(0);
            rig.kick();
            rig.expect_broken();
            rig.restart(0);
            rig.chain(&[(SEAM, 16, WRITE)]);
            rig.offer(0);
            rig.kick();
            assert_eq!(rig.used(0), (0, 16));
        }
    }

    #[test]
    fn a_system_that_has_no_random_bytes_gives_the_guest_none_and_the_device_lives() {
        fn none(_: &mut [u8]) -> std::io::Result<()> {
            Err(std::io::ErrorKind::Other.into())
        }
        let mut rig = Rig::served(Box::new(Rng { source: none }));
        rig.start(0);
        rig.chain(&[(SEAM, 64, WRITE)]);
        rig.offer(0);
        rig.kick();
        assert_eq!((rig.used(0), rig.status()), ((0, 0), 0xf));
        assert_eq!(rig.bytes(SEAM, 64), [0; 64]);
    }
}
