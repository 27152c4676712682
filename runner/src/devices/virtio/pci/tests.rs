//! A driver that reaches a device by its function alone: configuration space, and the BAR.

use std::time::Duration;

use Width::{W1, W2, W4, W8};

use super::*;
use crate::devices::Level;
use crate::devices::virtio::COMMON_FEATURES;
use crate::devices::virtio::tests::{AVAILABLE, DESCRIPTORS, Nothing, Rig, SIZE, USED};

const BASE: u32 = 0xc000_8000;

/// Where the parts of the BAR are, as the capabilities say.
const ISR: u64 = 0x1000;
const OWN: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const PENDING: u64 = 0x5000;

/// The common configuration by the names of §4.1.4.3.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: u64 = 0x10;
    pub(super) const NUM_QUEUES: u64 = 0x12;
    pub(super) const DEVICE_STATUS: u64 = 0x14;
    pub(super) const CONFIG_GENERATION: u64 = 0x15;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
    /// The reserved part behind them.
    pub(super) const END: u64 = 0x38;
}
use common::*;

/// What came out of the device: its pin's levels, and its messages' data.
#[derive(Default)]
struct Wires {
    pin: Mutex<Vec<bool>>,
    messages: Mutex<Vec<u32>>,
}

struct Pci {
    rig: Rig,
    function: VirtioPci,
    wires: Arc<Wires>,
}

fn device(kind: u32) -> Identity {
    Identity {
        name: "test".into(),
        device: kind,
        features: COMMON_FEATURES | 1 << 5,
        queues: vec![256, 16],
        config: (1..=10).collect(),
        writable: 0..0,
    }
}

impl Pci {
    fn new() -> Self {
        Self::of(device(42), true)
    }

    fn of(identity: Identity, msi: bool) -> Self {
        let wires = Arc::new(Wires::default());
        let (pin, sent) = (Arc::clone(&wires), Arc::clone(&wires));
        let pin: Level = Arc::new(move |high| pin.pin.lock().unwrap().push(high));
        let send = Arc::new(move |_, data| sent.messages.lock().unwrap().push(data));
        let msix = msi.then(|| Msix::new(vectors(&identity), send));
        let signals = Signals::new(identity.queues.len(), msix, pin);
        let interrupts = Arc::clone(&signals) as _;
        let rig = Rig::wired(identity, Box::new(Nothing), Duration::ZERO, interrupts);
        let function = VirtioPci::new(Arc::clone(&rig.mmio.0), signals, BASE, 33);
        Self { rig, function, wires }
    }

    fn read(&self, at: u64, width: Width) -> u64 {
        self.function.read(at, width)
    }

    fn write(&self, at: u64, width: Width, value: u64) {
        self.function.write(at, width, value);
    }

    fn config(&self, register: u16) -> u32 {
        self.function.read_config(register, W4)
    }

    /// The capabilities in their order: where each is, its ID, and its virtio type.
    fn capabilities(&self) -> Vec<(u16, u8, u8)> {
        let byte = |at| u8::try_from(self.function.read_config(at, W1)).unwrap();
        let (mut found, mut at) = (Vec::new(), byte(0x34));
        while at != 0 {
            found.push((at.into(), byte(at.into()), byte(u16::from(at) + 3)));
            at = byte(u16::from(at) + 1);
        }
        found
    }

    fn virtio_capability(&self, kind: u8) -> u16 {
        let all = self.capabilities();
        all.iter().find(|(_, id, its)| (*id, *its) == (9, kind)).unwrap().0
    }

    /// Goes up to FEATURES_OK with VERSION_1 alone.
    fn negotiate(&self) {
        for (at, width, value) in [
            (DEVICE_STATUS, W1, 1),
            (DEVICE_STATUS, W1, 3),
            (DRIVER_FEATURE_SELECT, W4, 1),
            (DRIVER_FEATURE, W4, 1),
            (DRIVER_FEATURE_SELECT, W4, 0),
            (DRIVER_FEATURE, W4, 0),
            (DEVICE_STATUS, W1, 0xb),
        ] {
            self.write(at, width, value);
        }
        assert_eq!(self.read(DEVICE_STATUS, W1), 0xb);
    }

    /// Starts the device with queue 0, for which `vector` is.
    fn start(&mut self, vector: u64) {
        self.negotiate();
        for (at, width, value) in [
            (QUEUE_SELECT, W2, 0),
            (QUEUE_SIZE, W2, SIZE.into()),
            (QUEUE_MSIX_VECTOR, W2, vector),
            (QUEUE_DESC, W8, DESCRIPTORS),
            (QUEUE_DRIVER, W8, AVAILABLE),
            (QUEUE_DEVICE, W8, USED),
            (QUEUE_ENABLE, W2, 1),
            (DEVICE_STATUS, W1, 0xf),
        ] {
            self.write(at, width, value);
        }
        self.rig.turn();
        assert_eq!(self.read(DEVICE_STATUS, W1), 0xf);
    }

    /// Switches MSI-X on: vector `n` has the data 0x50 + n.
    fn with_messages(&self) {
        for vector in 0..3 {
            self.write(TABLE + 16 * vector + 8, W4, 0x50 + vector);
            self.write(TABLE + 16 * vector + 12, W4, 0);
        }
        self.control(0x8000, 0x6);
    }

    /// Writes MSI-X's control register and the command register.
    fn control(&self, control: u32, command: u32) {
        let (at, ..) = self.capabilities().into_iter().find(|(_, id, _)| *id == 0x11).unwrap();
        self.function.write_config(at + 2, W2, control);
        self.function.write_config(COMMAND, W2, command);
    }

    /// One request, served.
    fn request(&mut self) {
        self.rig.chain(&[(0x1_0000, 16, 0)]);
        self.rig.offer(0);
        self.write(NOTIFY, W2, 0);
        self.rig.turn();
    }

    fn pin(&self) -> Vec<bool> {
        std::mem::take(&mut *self.wires.pin.lock().unwrap())
    }

    fn messages(&self) -> Vec<u32> {
        std::mem::take(&mut *self.wires.messages.lock().unwrap())
    }
}

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
fn the_isr_status_drives_the_pin_until_it_is_read() {
    let mut pci = Pci::new();
    pci.start(0xffff);
    pci.request();
    assert_eq!(pci.pin(), [true]);
    assert_eq!(pci.config(COMMAND) >> 16 & 8, 8, "the status register says so, too");
    for at in [ISR + 1, ISR + 4, ISR + 0xfff] {
        assert_eq!((pci.read(at, W1), pci.pin()), (0, vec![]), "{at:#x}");
    }
    pci.write(ISR, W1, 0xff);
    assert!(pci.pin().is_empty(), "a write is nothing");
    assert_eq!((pci.read(ISR, W1), pci.pin()), (1, vec![false]));
    assert_eq!((pci.read(ISR, W1), pci.config(COMMAND) >> 16 & 8), (0, 0), "reading clears it");
    pci.request();
    assert_eq!((pci.read(0x13, W1), pci.pin()), (1, vec![true, false]), "as Nanos does");
    pci.request();
    pci.write(DEVICE_STATUS, W1, 0);
    pci.rig.turn();
    assert_eq!((pci.pin(), pci.read(ISR, W1)), (vec![true, false], 0), "a reset clears it");
}

#[test]
fn a_device_that_gives_up_says_so_by_bit_1_and_its_configuration_vector() {
    let mut pci = Pci::new();
    pci.start(0xffff);
    pci.rig.set_available_index(SIZE + 1);
    pci.write(NOTIFY, W2, 0);
    pci.rig.turn();
    assert_eq!((pci.read(DEVICE_STATUS, W1), pci.pin(), pci.read(ISR, W1)), (0x4f, vec![true], 2));
    let mut pci = Pci::new();
    pci.with_messages();
    pci.write(CONFIG_MSIX_VECTOR, W2, 2);
    pci.start(1);
    pci.rig.set_available_index(SIZE + 1);
    pci.write(NOTIFY, W2, 0);
    pci.rig.turn();
    assert_eq!((pci.messages(), pci.pin()), (vec![0x52], vec![]));
    // §4.1.4.5.1: this bit with a message as with the pin. Not so the status register's, which is the pin's.
    assert_eq!((pci.config(COMMAND) >> 16 & 8, pci.read(ISR, W1)), (0, 2));
}

#[test]
fn the_command_register_keeps_the_pin_low_and_lets_go_of_it() {
    let mut pci = Pci::new();
    pci.start(0xffff);
    pci.function.write_config(COMMAND, W2, 0x0402);
    pci.request();
    assert_eq!((pci.pin(), pci.config(COMMAND) >> 16 & 8), (vec![], 8), "pending all the same");
    pci.function.write_config(COMMAND, W2, 0x0002);
    assert_eq!(pci.pin(), [true]);
    pci.function.write_config(COMMAND + 1, W1, 0x04);
    assert_eq!(pci.pin(), [false]);
    // Without the memory bit there is no BAR; the device goes on.
    pci.function.write_config(COMMAND, W2, 0);
    assert_eq!((pci.function.bar(), pci.pin()), (None, vec![true]));
    pci.function.write_config(BAR, W4, 0xd000_1234);
    pci.function.write_config(COMMAND, W2, 2);
    assert_eq!(pci.function.bar(), Some((0xd000_0000, 0x8000)));
}

#[test]
fn with_messages_there_is_no_pin_and_each_source_has_its_vector() {
    let mut pci = Pci::new();
    pci.with_messages();
    pci.start(1);
    pci.request();
    assert_eq!((pci.messages(), pci.pin()), (vec![0x51], vec![]));
    assert_eq!(pci.config(COMMAND) >> 16 & 8, 0);
    // The byte that Nanos reads is the upper one of the number of queues again.
    assert_eq!((pci.read(0x13, W1), pci.read(ISR, W1)), (0, 1));
    pci.control(0, 0x6);
    pci.request();
    assert_eq!((pci.messages(), pci.pin()), (vec![], vec![true]), "switched off, the pin it is");
    pci.control(0x8000, 0x6);
    assert_eq!(pci.pin(), [false]);
}

#[test]
fn a_vector_that_does_not_exist_is_none_and_none_sends_nothing() {
    // P38
    let mut pci = Pci::new();
    pci.with_messages();
    pci.start(1);
    for register in [CONFIG_MSIX_VECTOR, QUEUE_MSIX_VECTOR] {
        for (vector, kept) in [(0, 0), (2, 2), (3, 0xffff), (0xffff, 0xffff), (0x8001, 0xffff)] {
            pci.write(register, W2, vector);
            assert_eq!(pci.read(register, W2), kept, "{register:#x}");
        }
    }
    pci.request();
    assert_eq!((pci.messages(), pci.read(PENDING, W8)), (vec![], 0));
    pci.write(QUEUE_SELECT, W2, 2);
    pci.write(QUEUE_MSIX_VECTOR, W2, 1);
    assert_eq!(pci.read(QUEUE_MSIX_VECTOR, W2), 0xffff, "a queue that is not there has none");
    let none = Pci::of(device(42), false);
    none.write(CONFIG_MSIX_VECTOR, W2, 0);
    assert_eq!(none.read(CONFIG_MSIX_VECTOR, W2), 0xffff, "nor a device without MSI-X");
    assert_eq!((none.read(TABLE, W4), none.read(PENDING, W8)), (0, 0));
    none.write(TABLE, W4, 7);
}

#[test]
fn masked_messages_are_pending_in_the_bar_and_sent_when_the_mask_goes() {
    let mut pci = Pci::new();
    pci.with_messages();
    pci.start(1);
    for (mask, unmask) in [(0xc000, 0x8000), (0x8000, 0x8000)] {
        // The function's mask, and the vector's.
        pci.control(mask, 0x6);
        pci.write(TABLE + 16 + 12, W4, u64::from(mask == unmask));
        pci.request();
        assert_eq!((pci.messages(), pci.read(PENDING, W4)), (vec![], 0b10));
        pci.write(PENDING, W4, 0);
        assert_eq!(pci.read(PENDING, W4), 0b10, "pending bits are not the driver's to write");
        pci.write(TABLE + 16 + 12, W4, 0);
        pci.control(unmask, 0x6);
        assert_eq!((pci.messages(), pci.read(PENDING, W4)), (vec![0x51], 0));
    }
    pci.control(0x8000, 0x2);
    pci.request();
    assert!(pci.messages().is_empty(), "without the bus-master bit");
    pci.control(0x8000, 0x6);
    assert_eq!(pci.messages(), [0x51]);
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
