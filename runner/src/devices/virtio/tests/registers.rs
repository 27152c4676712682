//! Registers and the status field, before any request.

use std::sync::Arc;

use hv::Width;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

use super::super::COMMON_FEATURES;
use super::super::transport::Identity;
use super::{AVAILABLE, DESCRIPTORS, Nothing, RAM, Rig, reg};
use crate::machine::bus::Device;

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;

fn rig() -> Rig {
    let identity = Identity {
        name: "test".into(),
        device: 42,
        features: COMMON_FEATURES | 1 << 5,
        queues: vec![256, 16],
        config: (1..=10).collect(),
        writable: 4..6,
    };
    Rig::new(identity, Box::new(Nothing))
}

#[test]
fn a_driver_finds_a_modern_device_and_what_it_offers() {
    let rig = rig();
    assert_eq!(rig.read(reg::MAGIC), u64::from(u32::from_le_bytes(*b"virt")));
    assert_eq!(rig.read(reg::VERSION), 2);
    assert_eq!(rig.read(reg::DEVICE_ID), 42);
    assert_eq!(rig.offered(), COMMON_FEATURES | 1 << 5);
    rig.write(reg::DEVICE_FEATURES_SEL, 2);
    assert_eq!(rig.read(reg::DEVICE_FEATURES), 0);
    assert_eq!(rig.read(reg::CONFIG_GENERATION), 0);
    assert_eq!(rig.read(reg::SHM_LEN), 0xffff_ffff);
    assert_eq!(rig.status(), 0);
}

#[test]
fn a_driver_writes_what_of_the_configuration_is_its_own_and_nothing_else() {
    // R34
    let rig = rig();
    rig.mmio.write(reg::CONFIG + 4, Width::W2, 0xbbaa);
    assert_eq!(rig.read(reg::CONFIG + 4), 0x0807_bbaa);
    rig.mmio.write(reg::CONFIG, Width::W8, 0);
    assert_eq!(rig.mmio.read(reg::CONFIG, Width::W8), 0x0807_0000_0403_0201);
    for (offset, width) in
        [(3, Width::W1), (6, Width::W4), (9, Width::W8), (u64::MAX - 0x100, Width::W8)]
    {
        rig.mmio.write(reg::CONFIG.wrapping_add(offset), width, u64::MAX);
    }
    rig.mmio.write(reg::CONFIG + 5, Width::W4, 0xffff_ff11);
    assert_eq!(rig.mmio.read(reg::CONFIG, Width::W8), 0x0807_1100_0403_0201);
    assert_eq!(rig.mmio.read(reg::CONFIG + 8, Width::W8), 0x0a09);
    assert_eq!(rig.read(reg::CONFIG_GENERATION), 0, "the device has changed nothing");
}

#[test]
fn a_change_of_the_devices_has_a_generation_and_interrupts_a_driver_that_is_there() {
    let mut rig = rig();
    let transport = Arc::clone(&rig.mmio.0);
    transport.set_config(0, &[9]);
    assert_eq!((rig.read(reg::CONFIG), rig.read(reg::CONFIG_GENERATION)), (0x0403_0209, 1));
    assert_eq!((rig.interrupts(), rig.read(reg::INTERRUPT_STATUS)), (0, 0), "there is no driver");
    rig.start(0);
    transport.set_config(0, &[9]);
    assert_eq!(rig.interrupts(), 0, "it is as it was");
    transport.set_config(8, &[7, 7]);
    assert_eq!((rig.interrupts(), rig.read(reg::INTERRUPT_STATUS)), (1, 2));
    assert_eq!((rig.read(reg::CONFIG + 8), rig.read(reg::CONFIG_GENERATION)), (0x0707, 2));
    transport.set_config(9, &[1, 1]);
    assert_eq!(rig.read(reg::CONFIG_GENERATION), 2, "there is no such place");
}

#[test]
fn features_that_were_not_offered_leave_features_ok_clear() {
    // R27
    for features in [VERSION_1 | 1 << 6, VERSION_1 | 1 << 63, 1 << 6] {
        let rig = rig();
        rig.negotiate(features);
        assert_eq!(rig.status(), 3, "{features:#x}");
        rig.write(reg::STATUS, 0xf);
        assert_eq!(rig.status(), 3, "{features:#x}");
    }
    let beyond = rig();
    beyond.write(reg::DRIVER_FEATURES_SEL, 2);
    beyond.write(reg::DRIVER_FEATURES, 1);
    beyond.negotiate(VERSION_1);
    assert_eq!(beyond.status(), 3);
    // A driver that leaves out VERSION_1, as OSv's do, means it all the same.
    for features in [VERSION_1 | 1 << 5, 1 << 5, 0] {
        let good = rig();
        good.negotiate(features);
        assert_eq!(good.status(), 0xb, "{features:#x}");
    }
}

#[test]
fn accepted_features_cannot_be_changed() {
    let mut rig = rig();
    rig.negotiate(VERSION_1);
    rig.write(reg::DRIVER_FEATURES_SEL, 0);
    rig.write(reg::DRIVER_FEATURES, 1 << 5);
    rig.configure();
    rig.write(reg::STATUS, 0xf);
    rig.turn();
    assert!(rig.mmio.0.describe().contains("features 0x100000000"), "{:?}", rig.mmio);
}

#[test]
fn status_steps_out_of_order_change_nothing() {
    // R27
    let rig = rig();
    for value in [2, 4, 8, 0xf8, 0xffff_ffff, 0x10] {
        rig.write(reg::STATUS, value);
        assert_eq!(rig.status(), 0, "{value:#x}");
    }
    rig.negotiate(VERSION_1);
    for value in [1, 3, 7, 0x1f] {
        rig.write(reg::STATUS, value);
        assert_eq!(rig.status(), 0xb, "{value:#x}");
    }
}

#[test]
fn a_driver_that_fails_can_only_reset() {
    let rig = rig();
    rig.negotiate(VERSION_1);
    rig.write(reg::STATUS, 0x8b);
    rig.configure();
    rig.write(reg::STATUS, 0x8f);
    assert_eq!(rig.status(), 0x8b);
    assert_eq!(rig.read(reg::QUEUE_READY), 0, "no queue after FAILED");
    rig.write(reg::STATUS, 0);
    assert_eq!(rig.status(), 0);
}

#[test]
fn queue_registers_are_open_between_features_ok_and_driver_ok_only() {
    // R26, CVE-2026-5747
    let mut rig = rig();
    rig.configure();
    assert_eq!(rig.read(reg::QUEUE_READY), 0);
    rig.negotiate(VERSION_1);
    rig.configure();
    assert_eq!(rig.read(reg::QUEUE_READY), 1);
    rig.write(reg::STATUS, 0xf);
    rig.turn();
    rig.write(reg::QUEUE_READY, 0);
    assert_eq!(rig.read(reg::QUEUE_READY), 1, "after DRIVER_OK");
    rig.write(reg::QUEUE_NUM, 0);
    rig.write_address(reg::QUEUE_DESC, RAM);
    rig.write_address(reg::QUEUE_DRIVER, u64::MAX);
    rig.write_address(reg::QUEUE_DEVICE, u64::MAX);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.kick();
    assert_eq!((rig.used_index(), rig.status()), (1, 0xf), "the worker's copy is its own");
}

#[test]
fn driver_ok_without_a_queue_needs_a_reset_and_harms_nobody() {
    // R28
    let mut rig = rig();
    rig.negotiate(VERSION_1);
    rig.write(reg::STATUS, 0xf);
    rig.turn();
    rig.expect_broken();
    rig.write(reg::STATUS, 0);
    assert_eq!(rig.status(), 0);
    assert_eq!(rig.read(reg::INTERRUPT_STATUS), 0);
    rig.start(0);
}

#[test]
fn driver_ok_with_a_queue_that_cannot_be_needs_a_reset() {
    // R22, R23
    for (register, value) in [
        (reg::QUEUE_NUM, 0),
        (reg::QUEUE_NUM, 3),
        (reg::QUEUE_NUM, 512),
        (reg::QUEUE_NUM, 0x1_0000),
        (reg::QUEUE_DESC, 0x1008),
        (reg::QUEUE_DRIVER, DESCRIPTORS),
        (reg::QUEUE_DEVICE, AVAILABLE),
        (reg::QUEUE_DEVICE, RAM - 4),
        (reg::QUEUE_DEVICE + 4, 1),
    ] {
        let mut rig = rig();
        rig.negotiate(VERSION_1);
        rig.configure();
        rig.write(register, value);
        rig.write(reg::STATUS, 0xf);
        rig.turn();
        rig.expect_broken();
    }
}

#[test]
fn driver_ok_twice_starts_the_device_once() {
    // R27
    let mut rig = rig();
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.kick();
    rig.write(reg::STATUS, 0xf);
    rig.turn();
    rig.offer(0);
    rig.kick();
    assert_eq!((rig.used_index(), rig.status()), (2, 0xf), "indices were not taken back");
}

#[test]
fn a_queue_that_does_not_exist_reads_as_absent_and_takes_nothing() {
    // R32
    let rig = rig();
    rig.negotiate(VERSION_1);
    for select in [2, 0xffff, 0x1_0000, 0xffff_ffff] {
        rig.write(reg::QUEUE_SEL, select);
        for register in (0..0x100).step_by(4) {
            if ![reg::STATUS, reg::QUEUE_SEL].contains(&register) {
                rig.write(register, 0xffff_ffff);
            }
            rig.read(register);
        }
        rig.write(reg::QUEUE_SEL, select);
        assert_eq!(rig.read(reg::QUEUE_NUM_MAX), 0);
        assert_eq!(rig.read(reg::QUEUE_READY), 0);
    }
    rig.write(reg::QUEUE_SEL, 1);
    assert_eq!((rig.read(reg::QUEUE_NUM_MAX), rig.read(reg::QUEUE_READY)), (16, 0));
    rig.write(reg::QUEUE_SEL, 0);
    assert_eq!((rig.read(reg::QUEUE_NUM_MAX), rig.read(reg::QUEUE_READY)), (256, 0));
}

#[test]
fn registers_answer_aligned_words_and_nothing_else() {
    // R33
    let rig = rig();
    for (offset, width) in [(0, Width::W1), (0, Width::W2), (0, Width::W8), (1, Width::W4)] {
        assert_eq!(rig.mmio.read(offset, width), 0, "{offset} {width:?}");
    }
    for width in [Width::W1, Width::W2, Width::W8] {
        rig.mmio.write(reg::STATUS, width, 1);
    }
    rig.mmio.write(reg::STATUS - 1, Width::W4, 1 << 8);
    rig.mmio.write(reg::STATUS, Width::W4, 1 << 32 | 1);
    assert_eq!(rig.status(), 0);
    // The gaps, write-only registers, and what legacy devices had.
    for offset in (0..0x100).step_by(4).filter(|offset| *offset != reg::STATUS) {
        rig.write(offset, 0xffff_ffff);
    }
    for offset in [0x0c + 4 + 8, 0x20, 0x28, 0x3c, 0x40, 0x50, 0x64, 0xc0, 0xf8] {
        assert_eq!(rig.read(offset), 0, "{offset:#x}");
    }
    assert_eq!(rig.mmio.read(u64::MAX, Width::W8), 0);
    rig.mmio.write(u64::MAX, Width::W8, u64::MAX);
}

#[test]
fn configuration_space_is_read_at_any_width_and_is_zero_behind_its_end() {
    // R34
    let rig = rig();
    let read = |offset, width| rig.mmio.read(reg::CONFIG + offset, width);
    assert_eq!(read(0, Width::W1), 1);
    assert_eq!(read(1, Width::W2), 0x0302);
    assert_eq!(read(3, Width::W4), 0x0706_0504);
    assert_eq!(read(2, Width::W8), 0x0a09_0807_0605_0403);
    assert_eq!(read(7, Width::W8), 0x000a_0908);
    assert_eq!(read(9, Width::W2), 0x0a);
    for offset in [10, 11, 0xf8, u64::MAX - 0x100 - 8] {
        assert_eq!(read(offset, Width::W8), 0);
    }
    for width in Width::ALL {
        rig.mmio.write(reg::CONFIG, width, u64::MAX);
    }
    assert_eq!(read(0, Width::W4), 0x0403_0201);
}

#[test]
fn an_acknowledged_interrupt_is_over_and_others_stay() {
    // R35
    let mut rig = rig();
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.kick();
    assert_eq!((rig.read(reg::INTERRUPT_STATUS), rig.interrupts()), (1, 1));
    rig.write(reg::INTERRUPT_ACK, 0xffff_fffe);
    assert_eq!(rig.read(reg::INTERRUPT_STATUS), 1);
    rig.write(reg::INTERRUPT_ACK, 1);
    assert_eq!(rig.read(reg::INTERRUPT_STATUS), 0);
    rig.write(reg::INTERRUPT_ACK, 1);
    assert_eq!(rig.read(reg::INTERRUPT_STATUS), 0);
}

#[test]
fn notifications_too_early_of_no_queue_or_too_many_do_no_harm() {
    // R31
    let mut rig = rig();
    rig.write(reg::QUEUE_NOTIFY, 0);
    rig.turn();
    rig.start(0);
    for queue in [1, 2, 0xffff, 0x1_0000, 0xffff_ffff] {
        rig.write(reg::QUEUE_NOTIFY, queue);
        rig.turn();
    }
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    for _ in 0..100_000 {
        rig.write(reg::QUEUE_NOTIFY, 0);
    }
    rig.turn();
    assert_eq!((rig.used_index(), rig.interrupts(), rig.status()), (1, 1, 0xf));
}

#[test]
fn what_was_offered_before_driver_ok_is_served_without_a_notification() {
    let mut rig = rig();
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.start(0);
    assert_eq!(rig.used_index(), 1);
    assert_eq!(rig.used(0), (0, 0));
}
