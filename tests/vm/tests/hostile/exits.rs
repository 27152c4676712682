//! What a request costs a guest that means no harm, on each bus: how often its vCPU comes back to runner.

use super::super::support::trace::watch;
use super::driver::register::{INTERRUPT_ACK, INTERRUPT_STATUS};
use super::driver::*;
#[cfg(target_arch = "x86_64")]
use super::pci::{BUS_MASTER, COMMAND, MEMORY, MSIX_CONTROL};
use super::script::{Bus, Script};
use super::{Guest, accelerator, or_skip};

/// How a driver hears of its requests.
#[derive(Clone, Copy, Debug)]
enum Way {
    Mmio,
    Pin,
    #[cfg(target_arch = "x86_64")] // which has messages
    Message,
}

impl Way {
    fn begin(self) -> Script {
        match self {
            Self::Mmio => Script::on(Bus::Mmio).start(0),
            Self::Pin => Script::on(Bus::Pci).start(0),
            #[cfg(target_arch = "x86_64")]
            Self::Message => Script::on(Bus::Pci)
                .start(0)
                .store(2, COMMAND, MEMORY | BUS_MASTER)
                .store(2, MSIX_CONTROL, 0x8000)
                .store(8, MSIX_TABLE + 16, 0xfee0_0000)
                .store(8, MSIX_TABLE + 24, 0x40)
                .store(2, BAR + 0x1a, 1)
                .expect(2, BAR + 0x1a, 1),
        }
    }

    /// What a driver does in its handler (virtio 1.2 §4.1.5.3, §4.2.3.4).
    fn handle(self, script: Script) -> Script {
        match self {
            Self::Mmio => {
                let (width, address) = script.location(INTERRUPT_STATUS);
                script.read(width, address).set(INTERRUPT_ACK, 1)
            }
            Self::Pin => script.read(1, ISR),
            #[cfg(target_arch = "x86_64")]
            Self::Message => script,
        }
    }
}

/// How often the vCPU of a guest with so many requests is run.
fn runs(way: Way, requests: u16) -> u64 {
    let chain = [(HEADER, 16, NEXT, 1), (DATA, 512, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
    let script = way.begin().header(IN, 1).chain(&chain).place(&[0; 8]);
    let script = (1..=requests)
        .fold(script, |script, nth| way.handle(script.add(AVAILABLE + 2, 1).notify().served(nth)));
    let guest = Guest::new(script.expect(1, ANSWER, OK).end(0));
    let (trace, finished) = guest.runner().watched(|run| watch(run.id(), None));
    assert_eq!(trace.status, Some(0), "{way:?}: {finished}");
    trace.runs
}

#[test]
fn a_disks_request_comes_back_twice_over_mmio_once_by_a_pin_and_never_by_messages() {
    or_skip!(accelerator());
    // Notifications are doorbells, which the kernel hears: what is left is what the handler does.
    for (way, wanted) in [
        (Way::Mmio, 2),
        (Way::Pin, 1),
        #[cfg(target_arch = "x86_64")]
        (Way::Message, 0),
    ] {
        let (few, many) = (runs(way, 4), runs(way, 24));
        // A signal now and then is another matter.
        assert_eq!(
            (many - few + 10) / 20,
            wanted,
            "{way:?}: {few} with 4 requests, {many} with 24"
        );
    }
}
