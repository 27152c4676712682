//! Requests that no good driver makes of an entropy device (virtio 1.2 §5.4).

use super::driver::register::INTERRUPT_STATUS;
use super::driver::*;
use super::script::{Bus, Script};
use super::{Guest, accelerator, or_skip};

/// The used ring's first element: what was written.
const WRITTEN: u64 = USED + 8;

impl Script {
    /// One buffer as the first since the start.
    fn wants_random(self, address: u64, len: u32) -> Self {
        self.chain(&[(address, len, WRITE, 0)]).offer(&[0]).served(1)
    }

    /// Resets the device and gets a few bytes as if nothing had been.
    fn recovers_randomness(self) -> Self {
        self.reset()
            .get(INTERRUPT_STATUS, 0)
            .store(4, AVAILABLE, 0)
            .store(4, USED, 0)
            .start(0)
            .wants_random(DATA, 16)
            .expect(4, WRITTEN, 16)
    }
}

/// A guest with an entropy device and no other.
fn guest(script: Script) -> Guest {
    Guest::new(script.recovers_randomness().end(0)).without_disk().option("--rng")
}

/// Guests that mean no harm: each asks for random bytes, one has a network besides. They live as long as
/// what is returned first.
#[cfg(target_os = "linux")]
pub(crate) fn with_randomness() -> [(super::Folder, super::Runner); 2] {
    ["--net=none", "--net=user"].map(|network| {
        // The network is the first device, the entropy device the one behind.
        let behind = if network == "--net=user" { 1 } else { 0 };
        let script = Script::default().nth(behind).start(0).wants_random(DATA, 16);
        let guest = guest(script.expect(4, WRITTEN, 16)).option(network);
        let run = guest.runner();
        (guest.folder, run)
    })
}

/// On both buses, nothing that runner speaks of.
fn served(steps: impl Fn(Script) -> Script) {
    for bus in [Bus::Mmio, Bus::Pci] {
        guest(steps(Script::on(bus).start(0))).passes();
    }
}

/// On both buses, with what runner has to say.
fn stops(steps: impl Fn(Script) -> Script, fault: &str) {
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = steps(Script::on(bus).start(0)).broken().expect(2, USED + 2, 0);
        guest(script).stops("rng0", fault);
    }
}

#[test]
fn c58_a_buffer_gets_64_kib_however_long_it_is() {
    or_skip!(accelerator());
    // Odd, so that the last bytes come alone.
    for (len, written) in [(1, 1), (4099, 4099), (0x1_0000, 0x1_0000), (0x80_0001, 0x1_0000)] {
        served(|s| s.wants_random(BIG, len).expect(4, WRITTEN, written));
    }
    // Zero as it was, behind what was written.
    served(|s| s.wants_random(BIG, 0x80_0000).expect(8, BIG + 0x1_0000, 0));
}

#[test]
fn c58_a_buffer_that_cannot_be_written_or_is_not_there_stops_the_device() {
    or_skip!(accelerator());
    let no_room = "the chain at descriptor 0: no room for an answer";
    stops(|s| s.chain(&[(DATA, 4096, 0, 0)]).offer(&[0]), no_room);
    stops(|s| s.chain(&[(DATA, 0, WRITE, 0)]).offer(&[0]), no_room);
    let (address, len) = (1u64 << 32, u32::MAX);
    let outside = format!(
        "the chain at descriptor 0: a buffer of {len} bytes at {address:#x} is not in the guest's RAM"
    );
    stops(|s| s.chain(&[(address, len, WRITE, 0)]).offer(&[0]), &outside);
}

#[test]
fn c58_a_queue_full_of_requests_for_most_of_ram_is_served_in_bounded_time() {
    or_skip!(accelerator());
    served(|s| {
        let chains: Vec<Descriptor> = (0..8).map(|_| (BIG, 0xb0_0000, WRITE, 0)).collect();
        s.chain(&chains).offer(&[0, 1, 2, 3, 4, 5, 6, 7]).served(8)
    });
}

#[test]
fn a_device_that_is_reset_a_hundred_times_under_requests_serves_on() {
    or_skip!(accelerator());
    served(|s| {
        s.times(100, |s| {
            s.chain(&[(BIG, 0x1_0000, WRITE, 0)])
                .offer(&[0])
                .reset()
                .store(4, AVAILABLE, 0)
                .store(4, USED, 0)
                .start(0)
        })
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn in_software_emulation_random_bytes_are_qemus_to_give() {
    or_skip!(super::super::emulation::qemu());
    let script = Script::default().start(0).wants_random(DATA, 16).expect(4, WRITTEN, 16);
    guest(script).option("--accel=off").option("--net=none").runner().ends_with(0);
}
