//! The parts of the BAR that a driver reads and writes: common configuration, notifications, the device's own.

use super::*;

#[test]
fn every_field_of_the_common_configuration_has_its_width_and_no_other() {
    let pci = Pci::new();
    pci.negotiate();
    let fields: [(u64, Width, u64); 16] = [
        (DEVICE_FEATURE_SELECT, W4, 1),
        (DEVICE_FEATURE, W4, 1),
        (DRIVER_FEATURE_SELECT, W4, 1),
        (DRIVER_FEATURE, W4, 1),
        (CONFIG_MSIX_VECTOR, W2, 2),
        (NUM_QUEUES, W2, 2),
        (DEVICE_STATUS, W1, 0xb),
        (QUEUE_SELECT, W2, 1),
        (QUEUE_SIZE, W2, 8),
        (QUEUE_MSIX_VECTOR, W2, 1),
        (QUEUE_ENABLE, W2, 1),
        (QUEUE_NOTIFY_OFF, W2, 1),
        (QUEUE_DESC, W8, 0x1111_2222_3333_4440),
        (QUEUE_DRIVER, W8, 0x5555_6666_7777_8880),
        (QUEUE_DEVICE, W8, 0x9999_aaaa_bbbb_ccc0),
        (END, W8, 0),
    ];
    // The selectors come first in the list, before what they select.
    for (at, width, value) in fields {
        pci.write(at, width, value);
    }
    let half = |at: u64| {
        let field = fields.iter().find(|(start, width, _)| match width {
            W8 => at & !7 == *start,
            width => at == *start && *width == W4,
        });
        field.map_or(0, |(start, _, value)| value >> (8 * (at - start)) & 0xffff_ffff)
    };
    for at in 0..0x48u64 {
        for width in Width::ALL {
            let expected = match width {
                W8 if at.is_multiple_of(4) => half(at + 4) << 32 | half(at),
                W4 if at.is_multiple_of(4) => half(at),
                W1 | W2 => {
                    let field = fields.iter().find(|field| (field.0, field.1) == (at, width));
                    field.map_or(0, |(.., value)| *value)
                }
                _ => 0,
            };
            assert_eq!(pci.read(at, width), expected, "{at:#x} {width:?}");
        }
    }
}

#[test]
fn a_write_of_another_width_or_between_fields_changes_nothing() {
    let pci = Pci::new();
    pci.negotiate();
    let all = || -> Vec<u64> {
        let whole = (0..0x40).step_by(4).map(|at| pci.read(at, W4));
        let short = [CONFIG_MSIX_VECTOR, NUM_QUEUES, QUEUE_SELECT, QUEUE_SIZE, QUEUE_MSIX_VECTOR];
        let more = [QUEUE_ENABLE, QUEUE_NOTIFY_OFF].into_iter().chain(short);
        let status = [DEVICE_STATUS, CONFIG_GENERATION].map(|at| pci.read(at, W1));
        whole.chain(more.map(|at| pci.read(at, W2))).chain(status).collect()
    };
    let before = all();
    let right = |at: u64, width: Width| match width {
        W1 => at == DEVICE_STATUS,
        W2 => [CONFIG_MSIX_VECTOR, QUEUE_SELECT, QUEUE_SIZE, QUEUE_MSIX_VECTOR, QUEUE_ENABLE]
            .contains(&at),
        W4 => at.is_multiple_of(4) && (at < 0x10 || (0x20..END).contains(&at)),
        W8 => at.is_multiple_of(4) && (at < 0x10 || (0x1c..END).contains(&at)),
    };
    for at in 0..0x100 {
        for width in Width::ALL.into_iter().filter(|width| !right(at, *width)) {
            pci.write(at, width, 0x0001_0001_0001_0001 & width.mask());
            assert_eq!(all(), before, "{at:#x} {width:?}");
        }
    }
    // What can be read only, at its own width.
    for (at, width) in [(DEVICE_FEATURE, W4), (NUM_QUEUES, W2), (QUEUE_NOTIFY_OFF, W2)] {
        pci.write(at, width, 0x55);
        assert_eq!(all(), before, "{at:#x}");
    }
}

#[test]
fn features_are_read_and_accepted_by_halves() {
    let pci = Pci::new();
    for (select, half) in [(0, COMMON_FEATURES & 0xffff_ffff | 1 << 5), (1, 1), (2, 0), (3, 0)] {
        pci.write(DEVICE_FEATURE_SELECT, W4, select);
        assert_eq!(
            (pci.read(DEVICE_FEATURE_SELECT, W4), pci.read(DEVICE_FEATURE, W4)),
            (select, half)
        );
    }
    pci.write(DEVICE_STATUS, W1, 1);
    pci.write(DEVICE_STATUS, W1, 3);
    pci.write(DRIVER_FEATURE, W4, 0x20);
    for (select, half) in [(0, 0x20), (1, 0), (2, 0)] {
        pci.write(DRIVER_FEATURE_SELECT, W4, select);
        assert_eq!(pci.read(DRIVER_FEATURE, W4), half);
    }
    // What the device has not is not accepted.
    pci.write(DRIVER_FEATURE_SELECT, W4, 1);
    pci.write(DRIVER_FEATURE, W4, 0x8000_0001);
    pci.write(DEVICE_STATUS, W1, 0xb);
    assert_eq!(pci.read(DEVICE_STATUS, W1), 3);
    pci.write(DRIVER_FEATURE_SELECT, W4, 1);
    pci.write(DRIVER_FEATURE, W4, 1);
    pci.write(DEVICE_STATUS, W1, 0xb);
    assert_eq!(pci.read(DEVICE_STATUS, W1), 0xb);
    pci.write(DRIVER_FEATURE, W4, 0);
    assert_eq!(pci.read(DRIVER_FEATURE, W4), 1, "accepted features stay");
}

#[test]
fn queue_registers_are_the_selected_queues_and_closed_once_the_device_runs() {
    // R26, R32
    let pci = Pci::new();
    for (select, size) in [(0, 256), (1, 16), (2, 0), (0xffff, 0)] {
        pci.write(QUEUE_SELECT, W2, select);
        assert_eq!(pci.read(QUEUE_SIZE, W2), size, "the most it can have");
        assert_eq!(pci.read(QUEUE_NOTIFY_OFF, W2), if size == 0 { 0 } else { select });
        pci.write(QUEUE_SIZE, W2, 4);
        assert_eq!(pci.read(QUEUE_SIZE, W2), size, "before FEATURES_OK");
    }
    pci.negotiate();
    pci.write(QUEUE_SELECT, W2, 1);
    for (at, value) in [(QUEUE_ENABLE, 0), (QUEUE_ENABLE, 2), (QUEUE_ENABLE, 0xffff)] {
        pci.write(at, W2, value);
        assert_eq!(pci.read(QUEUE_ENABLE, W2), 0, "{value:#x}");
    }
    pci.write(QUEUE_DESC + 4, W4, 0x1234);
    pci.write(QUEUE_DESC, W4, 0x5678);
    assert_eq!(pci.read(QUEUE_DESC, W8), 0x1234_0000_5678);
    let mut pci = Pci::new();
    pci.start(0xffff);
    pci.write(QUEUE_ENABLE, W2, 0);
    for (at, width) in [(QUEUE_SIZE, W2), (QUEUE_DESC, W8), (QUEUE_DRIVER, W4), (QUEUE_DEVICE, W4)]
    {
        let before = pci.read(at, width);
        pci.write(at, width, 3);
        assert_eq!(pci.read(at, width), before, "{at:#x}");
    }
    assert_eq!(pci.read(QUEUE_ENABLE, W2), 1, "a driver cannot take a queue back");
}

#[test]
fn a_reset_is_over_when_the_worker_has_let_go_and_takes_the_vectors_along() {
    let mut pci = Pci::new();
    pci.with_messages();
    pci.start(1);
    pci.write(CONFIG_MSIX_VECTOR, W2, 2);
    pci.write(DEVICE_STATUS, W1, 0);
    assert_eq!(pci.read(DEVICE_STATUS, W1), 0xf);
    pci.rig.turn();
    assert_eq!(pci.read(DEVICE_STATUS, W1), 0);
    let vectors = [CONFIG_MSIX_VECTOR, QUEUE_MSIX_VECTOR].map(|at| pci.read(at, W2));
    assert_eq!(vectors, [0xffff, 0xffff]);
    assert_eq!((pci.read(QUEUE_SIZE, W2), pci.read(QUEUE_ENABLE, W2)), (256, 0));
}

#[test]
fn a_queue_is_notified_by_its_address_at_any_width_and_with_any_value() {
    let mut pci = Pci::new();
    pci.start(0xffff);
    let served = |pci: &mut Pci, at: u64, width: Width, value: u64| {
        let before = pci.rig.used_index();
        pci.rig.chain(&[(0x1_0000, 16, 0)]);
        pci.rig.offer(0);
        pci.write(at, width, value);
        pci.rig.turn();
        let served = pci.rig.used_index() != before;
        if !served {
            pci.write(NOTIFY, W2, 0);
            pci.rig.turn();
        }
        served
    };
    for width in Width::ALL {
        assert!(served(&mut pci, NOTIFY, width, 0xdead & width.mask()), "{width:?}");
    }
    // Between the queues' addresses, behind them, and of no queue.
    for at in [NOTIFY + 1, NOTIFY + 2, NOTIFY + 3, NOTIFY + 8, NOTIFY + 0xffc, NOTIFY + 0x1000] {
        assert!(!served(&mut pci, at, W2, 0), "{at:#x}");
    }
    assert_eq!((notify_offset(0), notify_offset(1)), (NOTIFY, NOTIFY + 4));
    assert_eq!(pci.read(NOTIFY, W4), 0);
}

#[test]
fn the_devices_own_configuration_is_read_at_any_width_and_cannot_be_written() {
    // R34
    let pci = Pci::new();
    for (at, width, value) in [
        (0, W1, 1),
        (1, W2, 0x0302),
        (4, W4, 0x0807_0605),
        (1, W8, 0x0908_0706_0504_0302),
        (7, W8, 0x000a_0908),
        (9, W2, 0x0a),
        (10, W4, 0),
        (0xfff, W1, 0),
    ] {
        assert_eq!(pci.read(OWN + at, width), value, "{at} {width:?}");
    }
    pci.write(OWN, W4, 0);
    assert_eq!(pci.read(OWN, W4), 0x0403_0201);
}

#[test]
fn what_is_between_and_behind_the_parts_of_the_bar_is_nothing() {
    let pci = Pci::new();
    for at in (0x6000..0x8000).step_by(0x100).chain([0x48, 0x100, 0xff8]) {
        for width in Width::ALL {
            pci.write(at, width, width.mask());
            assert_eq!(pci.read(at, width), 0, "{at:#x} {width:?}");
        }
    }
}
