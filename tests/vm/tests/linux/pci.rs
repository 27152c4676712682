//! Linux and its virtio devices on the PCI bus: what it finds, and how it is interrupted. On x86_64: on
//! aarch64 there are no messages, and `machine` looks for disks on both buses.

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::super::support::program::Finished;
use super::{Debian, Kernel, number, quietly, values};

/// Boots with two disks, in which Linux looks for partitions, and looks around.
fn looks_around(debian: &Debian, more: &[&str]) -> Finished {
    let folder = Folder::new();
    let disk = |name: &str| format!("--disk={}", folder.file(name, vec![7; 1 << 20]).display());
    let (first, second) = (disk("a.img"), disk("b.img"));
    let args = [&["-m", "256", "--cpus=2", "--virtio=pci", &first, &second], more].concat();
    quietly(debian.does(Kernel::BzImage, &args, "facts"))
}

#[test]
fn devices_on_pci_are_found_there_and_interrupt_by_messages() {
    let debian = or_skip!(Debian::find());
    let finished = looks_around(&debian, &[]);
    let text = finished.text();
    let expected =
        ["0000:00:00.0 0x1b36 0x0008", "0000:00:01.0 0x1af4 0x1042", "0000:00:02.0 0x1af4 0x1042"];
    assert_eq!(values(text, "pci"), expected, "{finished}");
    assert_eq!(values(text, "virtio"), ["0x0002"; 2], "{finished}");
    // A vector for the configuration and one for the queue, of each.
    assert_eq!((number(text, "messages"), number(text, "pins")), (4, 0), "{finished}");
    assert_eq!(number(text, "problems"), 0, "{finished}");
}

#[test]
fn without_messages_they_interrupt_by_their_pins() {
    let debian = or_skip!(Debian::find());
    let finished = looks_around(&debian, &["--append=pci=nomsi"]);
    let text = finished.text();
    assert_eq!(values(text, "disk").len(), 2, "{finished}");
    assert_eq!((number(text, "messages"), number(text, "pins")), (0, 2), "{finished}");
    assert_eq!(number(text, "problems"), 0, "{finished}");
}
