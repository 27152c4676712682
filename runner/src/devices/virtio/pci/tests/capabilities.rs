//! What configuration space says of the function, and the window through which it leads into the BAR.

use super::*;

#[test]
fn the_function_is_a_modern_device_of_its_type() {
    for (kind, id, class) in [(2, 0x1042, 0x0180), (1, 0x1041, 0x0200), (42, 0x106a, 0xff00)] {
        let pci = Pci::of(device(kind), true);
        assert_eq!(pci.config(0x00), id << 16 | 0x1af4);
        assert_eq!(pci.config(0x08), class << 16 | 1, "revision 1");
        assert_eq!(pci.config(0x2c), (0x40 + kind) << 16 | 0x1af4);
        assert_eq!((pci.config(0x10), pci.config(0x3c)), (BASE, 0x0121));
        assert_eq!(pci.function.bar(), Some((BASE.into(), 0x8000)));
    }
}

#[test]
fn the_capabilities_say_where_everything_is() {
    let pci = Pci::new();
    let list: Vec<_> = pci.capabilities().into_iter().map(|(_, id, kind)| (id, kind)).collect();
    // Behind MSI-X's ID there are no types: that byte is its control register's.
    assert_eq!(list, [(0x11, 0), (9, 1), (9, 2), (9, 3), (9, 4), (9, 5)]);
    let (msix, ..) = pci.capabilities()[0];
    let words = [msix, msix + 4, msix + 8].map(|at| pci.config(at));
    let [control, table, pending] = words.map(u64::from);
    assert_eq!((control >> 16, table, pending), (2, TABLE, PENDING), "3 vectors, BAR 0");
    for (kind, len, offset, bytes) in
        [(1, 16, 0, 0x40), (2, 20, NOTIFY, 8), (3, 16, ISR, 1), (4, 16, OWN, 0x1000), (5, 20, 0, 0)]
    {
        let at = pci.virtio_capability(kind);
        assert_eq!(pci.config(at) >> 16, u32::from(kind) << 8 | len, "{kind}");
        assert_eq!(pci.config(at + 4), 0, "BAR 0, no ID: {kind}");
        assert_eq!((u64::from(pci.config(at + 8)), pci.config(at + 12)), (offset, bytes), "{kind}");
    }
    let notify = pci.virtio_capability(2);
    assert_eq!(pci.config(notify + 16), 4, "the step from one queue to the next");
    let plain = Pci::of(Identity { config: vec![], ..device(42) }, false);
    let list: Vec<_> = plain.capabilities().into_iter().map(|(_, id, kind)| (id, kind)).collect();
    assert_eq!(list, [(9, 1), (9, 2), (9, 3), (9, 5)], "no MSI-X, nothing of its own");
}

/// Aims the window of §4.1.4.9, and returns its register.
fn aim(pci: &Pci, bar: u32, offset: u32, len: u32) -> u16 {
    let at = pci.virtio_capability(5);
    pci.function.write_config(at + 4, W1, bar);
    pci.function.write_config(at + 8, W4, offset);
    pci.function.write_config(at + 12, W4, len);
    at + 16
}

#[test]
fn configuration_space_leads_into_the_bar_by_a_window_of_one_two_or_four_bytes() {
    let mut pci = Pci::new();
    let window = aim(&pci, 0, 0x12, 2);
    assert_eq!(pci.config(window), 2, "the number of queues");
    let window = aim(&pci, 0, 0x2001, 1);
    assert_eq!(pci.config(window), 2);
    let window = aim(&pci, 0, 0x2004, 4);
    assert_eq!(pci.config(window), 0x0807_0605);
    for (lane, width, value) in [(0, W2, 0x0605), (2, W2, 0x0807), (3, W1, 8)] {
        assert_eq!(pci.function.read_config(window + lane, width), value, "{lane}");
    }
    // A driver without a BAR can do everything by it: it starts the device and notifies it.
    pci.function.write_config(COMMAND, W2, 0);
    let window = aim(&pci, 0, 0x14, 1);
    pci.function.write_config(window, W4, 0xffff_ff01);
    assert_eq!(pci.config(window), 1, "as wide as its length says");
    pci.write(DEVICE_STATUS, W1, 0);
    pci.start(0xffff);
    pci.rig.chain(&[(0x1_0000, 16, 0)]);
    pci.rig.offer(0);
    let window = aim(&pci, 0, 0x3000, 2);
    pci.function.write_config(window, W2, 0);
    pci.rig.turn();
    assert_eq!(pci.rig.used_index(), 1);
    let window = aim(&pci, 0, 0x1000, 1);
    assert_eq!(
        (pci.config(window), pci.config(window)),
        (1, 0),
        "reading the ISR status clears it"
    );
}

#[test]
fn a_window_that_leads_elsewhere_reads_as_0_and_takes_nothing() {
    // P37
    let pci = Pci::new();
    pci.write(DEVICE_FEATURE_SELECT, W4, 7);
    for (bar, offset, len) in [
        (1, 0, 4),
        (0xff, 0, 4),
        (0, 0, 0),
        (0, 0, 3),
        (0, 0, 8),
        (0, 0, u32::MAX),
        (0, 2, 4),
        (0, 1, 2),
        (0, 0x8000, 1),
        (0, u32::MAX, 1),
        (0, u32::MAX - 3, 4),
    ] {
        let window = aim(&pci, bar, offset, len);
        assert_eq!(pci.config(window), 0, "{bar} {offset:#x} {len}");
        pci.function.write_config(window, W4, 1);
        assert_eq!(pci.read(DEVICE_FEATURE_SELECT, W4), 7, "{bar} {offset:#x} {len}");
    }
    let at = pci.virtio_capability(5);
    assert_eq!(pci.config(at) >> 16, 0x0514, "its type and length are not the driver's to write");
    pci.function.write_config(at, W4, u32::MAX);
    assert_eq!(pci.config(at) >> 16, 0x0514);
    pci.function.write_config(at + 4, W4, u32::MAX);
    assert_eq!(pci.config(at + 4), 0xff);
}
