//! Registers as no good driver uses them (virtio 1.2 §2.1, §3.1.1, §4.2.2).

use super::driver::register::*;
use super::driver::*;
use super::script::Script;
use super::{END, Guest, accelerator, or_skip, served};

/// Whether a guest can reach so many bytes there at all. On aarch64 its MMU is off, and what is not aligned
/// is its own exception.
fn reachable(width: u64, at: u64) -> bool {
    cfg!(target_arch = "x86_64") || at.is_multiple_of(width)
}

/// A guest whose queue the device does not take.
fn refuses(queue: Queue, fault: &str) {
    let script = Script::default().negotiate(VERSION_1).queue(queue).set(STATUS, DRIVER_OK);
    let script = script.broken().get(STATUS, 0x4f).recovers().end(0);
    Guest::new(script).stops_its_device(&format!("queue 0: {fault}"));
}

#[test]
fn r22_sizes_that_no_queue_can_have_are_refused() {
    or_skip!(accelerator());
    for size in [0, 3, 512, 0x1_0000, 0x1_0008, 0xffff_ffff] {
        let fault = format!("its size {size} is not a power of two up to 256");
        refuses(Queue { size, ..QUEUE }, &fault);
    }
}

#[test]
fn r23_parts_that_are_misaligned_overlap_or_are_not_in_ram_are_refused() {
    or_skip!(accelerator());
    for (queue, part, address) in [
        (Queue { descriptors: DESCRIPTORS + 8, ..QUEUE }, "descriptor table", DESCRIPTORS + 8),
        (Queue { available: AVAILABLE + 1, ..QUEUE }, "available ring", AVAILABLE + 1),
        (Queue { used: USED + 2, ..QUEUE }, "used ring", USED + 2),
    ] {
        refuses(queue, &format!("its {part} at {address:#x} is not aligned"));
    }
    for queue in [
        Queue { used: AVAILABLE, ..QUEUE },
        Queue { available: DESCRIPTORS + 126, ..QUEUE },
        Queue { used: DESCRIPTORS - 4, ..QUEUE },
    ] {
        refuses(queue, "its parts overlap");
    }
    for queue in [
        Queue { used: END - 4, ..QUEUE },
        Queue { descriptors: DEVICE, ..QUEUE },
        Queue { available: END - 2, ..QUEUE },
        Queue { descriptors: 0xffff_0000, ..QUEUE },
        Queue { used: !3, ..QUEUE },
    ] {
        refuses(queue, "it is not in the guest's RAM");
    }
}

#[test]
fn r26_a_queue_in_service_hears_of_no_register_any_more() {
    or_skip!(accelerator());
    served(0, |script| {
        let hostile = [0, 3, 0x1_0000, 0xffff_ffff];
        let registers = [QUEUE_NUM, QUEUE_READY, QUEUE_DESC, QUEUE_DESC + 4, QUEUE_AVAIL];
        let more = [QUEUE_AVAIL + 4, QUEUE_USED, QUEUE_USED + 4, DRIVER_FEATURES];
        let mut script = script;
        for register in registers.into_iter().chain(more) {
            script = hostile.iter().fold(script, |script, value| script.set(register, *value));
        }
        script
            .get(QUEUE_READY, 1)
            .get(STATUS, DRIVER_OK)
            .request(IN, 1, &[(DATA, 512, WRITE)])
            .expect(1, ANSWER, OK)
    });
}

#[test]
fn r27_a_status_that_is_out_of_order_is_ignored() {
    or_skip!(accelerator());
    let mut script = Script::default();
    for (status, after) in [(2, 0), (4, 0), (9, 0), (0x20, 0), (0x8000_0000, 0), (1, 1), (7, 1)] {
        script = script.set(STATUS, status).get(STATUS, after);
    }
    // FEATURES_OK stays clear with a feature that was not offered.
    for (low, high) in [(1 << 31, 1), (1 << 31, 0), (0, 0x8000_0001)] {
        script = script.reset().set(STATUS, 3).set(DRIVER_FEATURES_SEL, 0);
        script = script.set(DRIVER_FEATURES, low).set(DRIVER_FEATURES_SEL, 1);
        script = script.set(DRIVER_FEATURES, high).set(STATUS, 0xb).get(STATUS, 3);
        script = script.set(STATUS, 0xf).get(STATUS, 3);
    }
    script = script.reset().start(0).set(STATUS, 0xf).get(STATUS, 0xf);
    for backwards in [0xb, 3, 1] {
        script = script.set(STATUS, backwards).get(STATUS, 0xf);
    }
    script = script.request(IN, 1, &[(DATA, 512, WRITE)]).expect(1, ANSWER, OK);
    // After FAILED there is only a reset.
    script = script.set(STATUS, 0x8f).get(STATUS, 0x8f).set(STATUS, 0xf).get(STATUS, 0x8f);
    let finished = Guest::new(script.recovers().end(0)).ends_with(0);
    let said =
        |line: &str| line.contains(": the driver wrote status 0x") && line.ends_with("ignored");
    assert!(finished.stderr.lines().all(said), "{finished}");
}

#[test]
fn r28_a_device_that_is_started_without_a_queue_stops() {
    or_skip!(accelerator());
    let script = Script::default().negotiate(VERSION_1).set(STATUS, DRIVER_OK).broken();
    Guest::new(script.recovers().end(0))
        .stops_its_device("the driver started the device without a queue");
}

/// Chains for the disk's name, as many as a queue of 256 has room for, all available at once.
fn many(script: Script) -> Script {
    let chain = |head| [(HEADER, 16, NEXT, head + 1), (DATA, 4096, NEXT | WRITE, head + 2)];
    let chains = (0..64u16).flat_map(|number| {
        let head = 4 * number;
        chain(head).into_iter().chain([(ANSWER, 1, WRITE, 0), (0, 0, 0, 0)])
    });
    let chains: Vec<Descriptor> = chains.collect();
    let heads: Vec<u16> = (0..64).map(|number| 4 * number).collect();
    script
        .store(4, AVAILABLE, 0)
        .negotiate(VERSION_1)
        .queue(Queue { size: 256, ..QUEUE })
        .set(STATUS, DRIVER_OK)
        .header(IN, 0)
        .chain(&chains)
        .offer(&heads)
}

#[test]
fn r29_nothing_is_used_any_more_after_a_reset_in_the_middle_of_requests() {
    or_skip!(accelerator());
    let mark = u64::from_le_bytes(*b"mine now");
    let script = Script::default().times(20, |script| {
        many(script)
            .reset()
            .get(INTERRUPT_STATUS, 0)
            .store(8, USED, mark)
            .store(8, DATA, mark)
            .times(200, |script| script.read(4, DEVICE + MAGIC))
            .expect(8, USED, mark)
            .expect(8, DATA, mark)
            .get(INTERRUPT_STATUS, 0)
    });
    Guest::new(script.recovers().end(0)).passes();
}

#[test]
fn r31_doorbells_that_nobody_waits_for_or_too_many_of_them_are_nothing() {
    or_skip!(accelerator());
    let mut script = Script::default();
    for value in [0, 1, 0xffff, 0xffff_ffff] {
        script = script.set(QUEUE_NOTIFY, value);
    }
    script = script.start(0);
    for value in [1, 7, 0xffff_ffff] {
        script = script.set(QUEUE_NOTIFY, value);
    }
    for width in [1, 2, 8] {
        script = script.store(width, DEVICE + QUEUE_NOTIFY, 0);
    }
    script = script.times(20_000, Script::notify).expect(2, USED + 2, 0);
    let script = script.request(IN, 1, &[(DATA, 512, WRITE)]).expect(1, ANSWER, OK);
    Guest::new(script.recovers().end(0)).passes();
}

#[test]
fn r32_the_registers_of_a_queue_that_does_not_exist_do_nothing() {
    or_skip!(accelerator());
    let mut script = Script::default().negotiate(VERSION_1);
    for queue in [1, 0xffff, 0xffff_ffff] {
        script = script.set(QUEUE_SEL, queue);
        for register in (0..CONFIG).step_by(4).filter(|at| ![QUEUE_SEL, STATUS].contains(at)) {
            script = script.set(register, 0xffff_ffff).read(4, DEVICE + register);
        }
        script = script.get(QUEUE_NUM_MAX, 0).get(QUEUE_READY, 0).get(STATUS, 0xb);
    }
    let script = script.queue(QUEUE).set(STATUS, DRIVER_OK).get(STATUS, DRIVER_OK);
    let script = script.request(IN, 1, &[(DATA, 512, WRITE)]).expect(1, ANSWER, OK);
    Guest::new(script.recovers().end(0)).passes();
}

#[test]
fn r33_registers_answer_aligned_words_and_nothing_else() {
    or_skip!(accelerator());
    let mut script = Script::default();
    for width in [1, 2, 8] {
        let all = 0..CONFIG - u64::from(width);
        for offset in all.filter(|offset| reachable(width.into(), *offset)) {
            script = script.store(width, DEVICE + offset, u64::MAX);
            script = script.expect(width, DEVICE + offset, 0);
        }
    }
    for offset in (0..CONFIG - 4).filter(|offset| offset % 4 != 0 && reachable(4, *offset)) {
        script = script.store(4, DEVICE + offset, u64::MAX).expect(4, DEVICE + offset, 0);
    }
    // Across the device's end, nobody's; across its beginning, where a page ends, half of it is.
    if reachable(4, 0x1fe) {
        script = script.store(4, DEVICE + 0x1fe, 0).expect(4, DEVICE + 0x1fe, 0xffff_ffff);
        script = script.store(8, DEVICE - 4, 0).expect(8, DEVICE - 4, 0x7472_6976_ffff_ffff);
    }
    Guest::new(script.recovers().end(0)).passes();
}

#[test]
fn r34_the_configuration_can_be_read_at_any_width_and_not_be_written() {
    or_skip!(accelerator());
    let config = DEVICE + CONFIG;
    let capacity = super::SECTORS as u64;
    // The whole of `struct virtio_blk_config`, up to write_zeroes_may_unmap and what pads it.
    const LEN: u64 = 60;
    let mut script = Script::default();
    for width in [1, 2, 4, 8] {
        let all = 0..=0x100 - u64::from(width);
        for offset in all.filter(|offset| reachable(width.into(), *offset)) {
            script = script.store(width, config + offset, u64::MAX);
            script = match offset < LEN {
                true => script.read(width, config + offset),
                false => script.expect(width, config + offset, 0),
            };
        }
        script = script.expect(width, config, capacity);
    }
    // Of the capacity's eight bytes only the first is not 0.
    for width in [1, 2, 4] {
        for offset in [1, 2, 3].into_iter().filter(|offset| reachable(width.into(), *offset)) {
            script = script.expect(width, config + offset, 0);
        }
    }
    if reachable(4, 0xfe) {
        script = script.expect(4, config + 0xfe, 0xffff_ffff);
    }
    Guest::new(script.recovers().end(0)).passes();
}

#[test]
fn r35_only_interrupts_that_came_can_be_acknowledged() {
    or_skip!(accelerator());
    // On PCI there is nothing to acknowledge: reading does it.
    let script = Script::default()
        .start(0)
        .set(INTERRUPT_ACK, 0xffff_ffff)
        .get(INTERRUPT_STATUS, 0)
        .request(IN, 1, &[(DATA, 512, WRITE)])
        .wait(4, DEVICE + INTERRUPT_STATUS, u64::MAX, 1)
        .set(INTERRUPT_ACK, 0xffff_fffe)
        .get(INTERRUPT_STATUS, 1)
        .set(INTERRUPT_ACK, 1)
        .get(INTERRUPT_STATUS, 0);
    Guest::new(script.recovers().end(0)).passes();
}
