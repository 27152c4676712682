use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::register::{CR, DR, FR, ICR, IDS, IMSC, LCR_H, MIS, RIS, RSR_ECR};
use super::*;

#[derive(Clone, Default)]
struct Terminal(Arc<Mutex<Vec<u8>>>);

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A UART and what it is connected to.
struct Rig {
    uart: Pl011<Terminal>,
    terminal: Terminal,
    line: Arc<AtomicBool>,
    /// How often the line has changed.
    changes: Arc<AtomicU32>,
    drained: Arc<AtomicU32>,
}

impl Rig {
    fn new() -> Self {
        let terminal = Terminal::default();
        let (line, changes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let drained = Arc::<AtomicU32>::default();
        let set = {
            let (line, changes) = (Arc::clone(&line), Arc::clone(&changes));
            move |high| {
                line.store(high, Ordering::SeqCst);
                changes.fetch_add(1, Ordering::SeqCst);
            }
        };
        let count = {
            let drained = Arc::clone(&drained);
            move || {
                drained.fetch_add(1, Ordering::SeqCst);
            }
        };
        let uart = Pl011::new(Arc::new(set), terminal.clone(), Box::new(count));
        Self { uart, terminal, line, changes, drained }
    }

    /// As Linux's driver leaves it: FIFOs on, interrupts for what is received.
    fn open() -> Self {
        let rig = Self::new();
        rig.write(LCR_H, 0x70);
        rig.write(CR, 0x301);
        rig.write(IMSC, RX | RT);
        rig
    }

    fn read(&self, at: u64) -> u32 {
        u32::try_from(self.uart.read(at, Width::W4)).unwrap()
    }

    fn write(&self, at: u64, value: u32) {
        self.uart.write(at, Width::W4, value.into());
    }

    fn is_high(&self) -> bool {
        self.line.load(Ordering::SeqCst)
    }

    fn drained(&self) -> u32 {
        self.drained.load(Ordering::SeqCst)
    }
}

#[test]
fn what_the_guest_sends_is_on_the_console_at_once_even_from_a_uart_never_enabled() {
    let rig = Rig::new();
    for byte in *b"hi" {
        assert_eq!(rig.read(FR) & (FR_TXFE | 1 << 5 | 1 << 3), FR_TXFE, "not full, not busy");
        rig.uart.write(DR, Width::W1, byte.into());
    }
    assert_eq!(*rig.terminal.0.lock().unwrap(), b"hi");
    assert!(!rig.is_high(), "nothing is unmasked");
}

#[test]
fn input_raises_the_line_until_it_has_been_read_in_order() {
    let rig = Rig::open();
    assert_eq!(rig.drained(), 1, "now it takes input");
    assert_eq!(rig.uart.receive(b"ab"), 2);
    assert!(rig.is_high());
    assert_eq!((rig.read(RIS), rig.read(MIS)), (RX | RT, RX | RT));
    assert_eq!(rig.read(FR) & FR_RXFE, 0);
    assert_eq!(rig.read(DR), u32::from(b'a'));
    assert!(rig.is_high(), "one is left");
    assert_eq!(rig.drained(), 1);
    assert_eq!(rig.read(DR), u32::from(b'b'));
    assert_eq!((rig.is_high(), rig.read(RIS), rig.drained()), (false, 0, 2));
    assert_eq!(rig.read(FR) & FR_RXFE, FR_RXFE);
    assert_eq!(rig.read(DR), 0);
}

#[test]
fn the_line_is_told_of_changes_and_of_nothing_else() {
    let rig = Rig::open();
    rig.uart.receive(b"a");
    rig.uart.receive(b"b");
    rig.read(FR);
    assert_eq!(rig.changes.load(Ordering::SeqCst), 1);
    rig.write(IMSC, 0);
    assert_eq!((rig.is_high(), rig.changes.load(Ordering::SeqCst)), (false, 2));
    rig.write(IMSC, RT);
    assert_eq!((rig.is_high(), rig.changes.load(Ordering::SeqCst)), (true, 3));
}

#[test]
fn a_sent_byte_interrupts_a_guest_that_wants_to_send_more() {
    let rig = Rig::open();
    rig.write(IMSC, TX);
    assert!(!rig.is_high(), "nothing was sent yet");
    rig.write(DR, b'x'.into());
    assert!(rig.is_high());
    rig.write(ICR, TX);
    assert_eq!((rig.is_high(), rig.read(RIS)), (false, 0));
}

#[test]
fn what_is_cleared_stays_so_until_more_comes() {
    let rig = Rig::open();
    rig.uart.receive(b"a");
    rig.write(ICR, RX | RT);
    assert!(!rig.is_high());
    rig.uart.receive(b"b");
    assert!(rig.is_high());
}

#[test]
fn input_beyond_the_fifo_is_not_taken_and_without_one_there_is_room_for_a_byte() {
    let rig = Rig::open();
    assert_eq!(rig.uart.room(), FIFO);
    assert_eq!(rig.uart.receive(&[b'x'; 100]), FIFO);
    assert_eq!(rig.read(FR) & FR_RXFF, FR_RXFF);
    assert_eq!((rig.uart.room(), rig.uart.receive(b"y")), (0, 0));
    rig.write(LCR_H, 0);
    for _ in 0..FIFO {
        assert_eq!(rig.read(DR), u32::from(b'x'));
    }
    assert_eq!(rig.uart.receive(b"yz"), 1);
}

#[test]
fn input_waits_for_a_guest_that_takes_none() {
    for (at, off, on) in [(IMSC, TX, RT), (CR, 0x101, 0x301), (CR, 0x381, 0x301)] {
        let rig = Rig::open();
        rig.write(at, off);
        assert_eq!((rig.uart.room(), rig.uart.receive(b"lost?")), (0, 0), "{at:#x}");
        let before = rig.drained();
        rig.write(at, on);
        assert_eq!(rig.drained(), before + 1, "time for more");
        assert_eq!(rig.uart.receive(b"here"), 4);
    }
}

#[test]
fn a_guest_that_waits_by_the_flags_gets_input_and_one_that_only_looks_does_not() {
    let rig = Rig::new();
    for _ in 0..10 {
        for _ in 0..WAITING - 1 {
            rig.read(FR);
        }
        rig.write(DR, b'.'.into());
    }
    assert_eq!((rig.uart.room(), rig.drained()), (0, 0));
    for _ in 0..WAITING {
        rig.read(FR);
    }
    assert_eq!(rig.drained(), 1);
    assert_eq!(rig.uart.receive(b"a"), 1);
    assert_eq!((rig.read(FR) & FR_RXFE, rig.read(DR)), (0, u32::from(b'a')));
    assert_eq!((rig.drained(), rig.is_high()), (2, false));
}

#[test]
fn in_loopback_what_is_sent_is_received_and_what_does_not_fit_is_lost_and_told() {
    let rig = Rig::open();
    rig.write(IMSC, OE);
    rig.write(CR, 0x381);
    for byte in 0..=16 {
        assert!(!rig.is_high());
        rig.write(DR, byte);
    }
    assert!(rig.is_high());
    assert_eq!((rig.read(RIS) & OE, rig.read(RSR_ECR)), (OE, RSR_OE));
    rig.write(RSR_ECR, 0);
    assert_eq!(rig.read(RSR_ECR), 0);
    for byte in 0..16 {
        assert_eq!(rig.read(DR), byte);
    }
    assert!(rig.terminal.0.lock().unwrap().is_empty());
}

#[test]
fn registers_keep_what_is_written_and_tell_whose_they_are() {
    let rig = Rig::new();
    assert_eq!((rig.read(CR), rig.read(0x34), rig.read(IMSC)), (0x300, 0x12, 0));
    for at in [0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x48] {
        rig.write(at, 0x55);
        assert_eq!(rig.read(at), 0x55, "{at:#x}");
    }
    rig.write(IMSC, u32::MAX);
    assert_eq!(rig.read(IMSC), INTERRUPTS);
    let ids: Vec<_> = (0..8).map(|index| rig.read(IDS + 4 * index)).collect();
    assert_eq!(ids, [0x11, 0x10, 0x14, 0, 0xd, 0xf0, 5, 0xb1]);
    for at in [1, 0x4c, 0x18 + 2, 0xfe1, 0xfdc] {
        rig.uart.write(at, Width::W8, u64::MAX);
        assert_eq!(rig.uart.read(at, Width::W8), 0, "{at:#x}");
    }
}

#[test]
fn a_restored_uart_goes_on_with_its_input_and_its_line() {
    let rig = Rig::open();
    rig.write(0x24, 0x77);
    rig.uart.receive(b"abc");
    rig.read(DR);
    let saved = rig.uart.describe();
    assert_eq!((saved.input.as_slice(), saved.kept[&0x24]), (&b"bc"[..], 0x77));
    let other = Rig::new();
    other.uart.restore(&saved).unwrap();
    assert_eq!(other.uart.describe(), saved);
    assert!(other.is_high());
    let read = [DR, DR].map(|register| other.read(register));
    assert_eq!((read, other.is_high()), ([b'b'.into(), b'c'.into()], false));
    assert_eq!((other.drained.load(Ordering::SeqCst), other.uart.receive(b"d")), (1, 1));
}

#[test]
fn what_a_uart_cannot_be_is_refused_by_its_name() {
    let good = Rig::new().uart.describe();
    for (bad, field) in [
        (Pl011State { input: vec![0; 17], ..good.clone() }, "input"),
        (Pl011State { errors: 1, ..good.clone() }, "errors"),
        (Pl011State { mask: 0x800, ..good.clone() }, "mask"),
        (Pl011State { raw: 0x800, ..good.clone() }, "raw"),
        (Pl011State { kept: BTreeMap::new(), ..good.clone() }, "kept"),
        (Pl011State { kept: (0..5).map(|at| (at, 0)).collect(), ..good.clone() }, "kept"),
    ] {
        assert_eq!(Rig::new().uart.restore(&bad).unwrap_err().field, field);
    }
}
