//! How the device tells its driver: by its pin and the ISR status, or by messages.

use super::*;

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
