//! The bus with two functions that say what they are asked.

use std::sync::Mutex;

use Width::{W1, W2, W4, W8};

use super::*;

const LEN: u64 = 0x8000;
const HOMES: [u64; 2] = [0xc000_0000, 0xc000_8000];

/// A function that knows nothing but where it is: a configuration register reads as its number, the
/// BAR as `name` and the offset, and what is written is kept.
struct Echo {
    name: u64,
    bar: Mutex<Option<u64>>,
    written: Mutex<Vec<(u64, Width, u64)>>,
}

impl Echo {
    fn note(&self, at: u64, width: Width, value: u64) {
        self.written.lock().unwrap().push((at, width, value));
    }

    fn written(&self) -> Vec<(u64, Width, u64)> {
        std::mem::take(&mut *self.written.lock().unwrap())
    }

    fn move_to(&self, bar: Option<u64>) {
        *self.bar.lock().unwrap() = bar;
    }
}

impl Function for Echo {
    fn read_config(&self, register: u16, width: Width) -> u32 {
        u32::try_from(u64::from(register) & width.mask()).unwrap()
    }

    fn write_config(&self, register: u16, width: Width, value: u32) {
        self.note(register.into(), width, value.into());
    }

    fn bar(&self) -> Option<(u64, u64)> {
        self.bar.lock().unwrap().map(|bar| (bar, LEN))
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        (self.name << 16 | offset) & width.mask()
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        self.note(offset, width, value);
    }
}

/// Devices 1 and 3 of a bus, at home.
fn bus() -> (Arc<PciBus>, [Arc<Echo>; 2]) {
    let function = |index: usize| {
        let (bar, written) = (Mutex::new(Some(HOMES[index])), Mutex::default());
        Arc::new(Echo { name: index as u64 + 1, bar, written })
    };
    let functions = [function(0), function(1)];
    let mut bus = PciBus::default();
    for (device, function) in [1, 3].into_iter().zip(&functions) {
        bus.add(device, Arc::clone(function) as Arc<dyn Function>);
    }
    (Arc::new(bus), functions)
}

/// Where the configuration space of a function is in memory.
fn ecam(device: u64, function: u64) -> u64 {
    device << 15 | function << 12
}

#[test]
fn memory_has_the_configuration_space_of_the_functions_that_are_there() {
    let (bus, [first, second]) = bus();
    let ecam_of = Ecam(bus);
    for (at, width, value) in [
        (0x00, W4, 0x00),
        (0x40, W4, 0x40),
        (0x3e, W2, 0x3e),
        (0x3f, W1, 0x3f),
        (0x3d, W2, 0x3d),
        (0xffc, W4, 0xffc),
        // Two words at once are the two words.
        (0x48, W8, 0x4c_0000_0048),
    ] {
        assert_eq!(ecam_of.read(ecam(1, 0) + at, width), value, "{at:#x} {width:?}");
    }
    ecam_of.write(ecam(3, 0) + 0x11, W1, 0xab);
    ecam_of.write(ecam(3, 0) + 0x20, W8, 0x2_0000_0001);
    assert_eq!(second.written(), [(0x11, W1, 0xab), (0x20, W4, 1), (0x24, W4, 2)]);
    assert_eq!(first.written(), []);
}

#[test]
fn what_is_not_there_reads_as_ones_and_takes_nothing() {
    // P39
    let (bus, functions) = bus();
    let ecam_of = Ecam(bus);
    let absent = [(0, 0), (2, 0), (31, 0), (1, 1), (1, 7), (3, 4)];
    for at in absent.map(|(device, function)| ecam(device, function)) {
        for width in Width::ALL {
            assert_eq!(ecam_of.read(at, width), width.mask(), "{at:#x} {width:?}");
            ecam_of.write(at, width, 0);
        }
    }
    // Across words, and across two functions.
    for (at, width) in [(0x03, W2), (0x02, W4), (0x04, W8), (0xffe, W4)] {
        let at = ecam(1, 0) + at;
        assert_eq!(ecam_of.read(at, width), width.mask(), "{at:#x} {width:?}");
        ecam_of.write(at, width, 0);
    }
    assert_eq!(ecam_of.read(u64::MAX - 7, W8), u64::MAX);
    ecam_of.write(u64::MAX - 7, W8, 0);
    assert!(functions.iter().all(|function| function.written().is_empty()));
}

#[test]
fn ports_lead_to_the_register_that_the_address_names_while_it_is_enabled() {
    let (bus, [_, second]) = bus();
    let ports = Ports::new(bus);
    assert_eq!(ports.read(0, W4), 0);
    assert_eq!(ports.read(4, W4), 0xffff_ffff, "not enabled");
    ports.write(4, W4, 7);
    ports.write(0, W4, 0xffff_ffff);
    assert_eq!(ports.read(0, W4), 0x80ff_fffc, "reserved bits are 0");
    ports.write(0, W4, 0x8000_1840);
    for (port, width, value) in [
        (4, W4, 0x40),
        (4, W2, 0x40),
        (6, W2, 0x42),
        (4, W1, 0x40),
        (5, W1, 0x41),
        (7, W1, 0x43),
        // Across the window's end, and where only the whole address is.
        (6, W4, 0xffff_ffff),
        (7, W2, 0xffff),
        (0, W1, 0xff),
        (0, W2, 0xffff),
        (3, W1, 0xff),
    ] {
        assert_eq!(ports.read(port, width), value, "{port} {width:?}");
    }
    for (port, width) in [(0, W1), (0, W2), (2, W2), (1, W4)] {
        ports.write(port, width, 0);
        assert_eq!(ports.read(0, W4), 0x8000_1840, "the address takes 32 bits at once");
    }
    for (port, width, value) in [(4, W4, 1), (6, W2, 2), (7, W1, 3), (6, W4, 4)] {
        ports.write(port, width, value);
    }
    assert_eq!(second.written(), [(0x40, W4, 1), (0x42, W2, 2), (0x43, W1, 3)]);
}

#[test]
fn ports_of_another_bus_an_absent_function_or_without_the_enable_bit_lead_nowhere() {
    let (bus, functions) = bus();
    let ports = Ports::new(bus);
    for address in [0x0000_1840, 0x8001_1840, 0x80ff_1840, 0x8000_1940, 0x8000_1040] {
        ports.write(0, W4, address);
        assert_eq!(ports.read(4, W4), 0xffff_ffff, "{address:#x}");
        ports.write(4, W4, 0);
    }
    assert!(functions.iter().all(|function| function.written().is_empty()));
}

#[test]
fn a_bar_answers_where_it_is_and_only_for_what_lies_in_it_as_a_whole() {
    let (bus, [first, second]) = bus();
    let window = Window { bus, base: HOMES[0] };
    assert_eq!(window.read(0x1234, W4), 0x1_1234);
    assert_eq!(window.read(LEN + 0x1234, W4), 0x2_1234);
    for (offset, width) in [(LEN - 1, W2), (LEN - 4, W8), (2 * LEN - 1, W2), (2 * LEN, W1)] {
        assert_eq!(window.read(offset, width), width.mask(), "{offset:#x}");
        window.write(offset, width, 0);
    }
    window.write(LEN + 0x3000, W2, 9);
    assert_eq!((first.written(), second.written()), (vec![], vec![(0x3000, W2, 9)]));
    assert_eq!(window.read(u64::MAX, W8), u64::MAX, "the address does not wrap");
}

#[test]
fn a_bar_that_was_moved_is_found_there_and_no_longer_at_home() {
    let (bus, [first, second]) = bus();
    let window = Window { bus, base: HOMES[0] };
    first.move_to(Some(HOMES[0] + 0x10_0000));
    assert_eq!((window.read(0, W4), window.read(0x10_0004, W4)), (0xffff_ffff, 0x1_0004));
    first.move_to(None);
    assert_eq!(window.read(0x10_0004, W4), 0xffff_ffff);
    // P36: in another's home it is nobody's, whether that one is there or not; elsewhere, where two
    // are, it is nobody's either.
    first.move_to(Some(HOMES[1]));
    assert_eq!(window.read(LEN, W4), 0x2_0000);
    second.move_to(None);
    assert_eq!(window.read(LEN, W4), 0xffff_ffff);
    second.move_to(Some(HOMES[0] + 0x10_0000));
    first.move_to(Some(HOMES[0] + 0x10_4000));
    assert_eq!(window.read(0x10_0000, W4), 0x2_0000);
    assert_eq!(window.read(0x10_4000, W4), 0xffff_ffff);
    assert_eq!(window.read(0x10_8000, W4), 0x1_4000);
    window.write(0x10_4000, W4, 0);
    assert_eq!((first.written(), second.written()), (vec![], vec![]));
}

#[test]
fn restored_ports_lead_where_they_led() {
    let (bus, _) = bus();
    let ports = Ports::new(Arc::clone(&bus));
    ports.write(0, W4, 0x8000_1810);
    let other = Ports::new(bus);
    other.restore(ports.describe()).unwrap();
    assert_eq!((other.describe(), other.read(0, W4)), (0x8000_1810, 0x8000_1810));
    assert_eq!(other.read(4, W2), ports.read(4, W2));
    assert_eq!(other.restore(1).unwrap_err().field, "pci_ports");
}
