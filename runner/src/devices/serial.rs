//! COM1: a 16550A UART (National Semiconductor PC16550D; crate `vm-superio`) whose line is the
//! console: what the guest sends goes to stdout at once, what comes on stdin goes to the guest.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv::Width;
use serde::{Deserialize, Serialize};
use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, SerialState, Trigger};

use super::Interrupt;
use super::state::Refused;
use super::uart::{Console, Drained, Uart};
use crate::machine::bus::Device;

/// The UART's interrupt, as vm-superio wants it.
struct Line(Interrupt);

impl Trigger for Line {
    type E = std::convert::Infallible;

    fn trigger(&self) -> Result<(), Self::E> {
        (self.0)();
        Ok(())
    }
}

struct Events(Arc<Drained>);

impl SerialEvents for Events {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        (*self.0)();
    }
}

/// What the UART sends on its way to the console: at most a byte for each register of an access.
#[derive(Default)]
struct Outbox {
    bytes: [u8; 8],
    len: usize,
}

impl Outbox {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let free = self.bytes.iter_mut().skip(self.len);
        let taken = free.zip(bytes).map(|(to, from)| *to = *from).count();
        self.len = self.len.saturating_add(taken);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Modem control register, and its bit that connects the UART to itself.
const MCR: u8 = 4;
const LOOPBACK: u8 = 1 << 4;

struct Registers {
    chip: Serial<Line, Events, Outbox>,
    /// The guest talks to itself: it takes no input.
    loopback: bool,
}

/// What is kept of it. All it has been sent is on the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Com1State {
    /// Divisor latch, low and high byte.
    pub divisor: [u8; 2],
    /// Registers by their names in PC16550D, table II.
    pub interrupt_enable: u8,
    /// Of its FIFO and interrupts.
    pub interrupt_identification: u8,
    /// Line control.
    pub line_control: u8,
    /// Line status.
    pub line_status: u8,
    /// Modem control.
    pub modem_control: u8,
    /// Modem status.
    pub modem_status: u8,
    /// Scratch.
    pub scratch: u8,
    /// What the guest has not read.
    pub input: Vec<u8>,
}

/// Line status: there is input to read.
const DATA_READY: u8 = 1;
/// What there is of the interrupt enable register, and of the interrupt identification register inside of
/// the chip.
const IER_BITS: u8 = 0x0f;
const IIR_BITS: u8 = 0x07;

/// COM1.
pub struct Com1<W: Write + Send> {
    uart: Mutex<Registers>,
    console: Console<W>,
    interrupt: Interrupt,
    drained: Arc<Drained>,
}

impl<W: Write + Send> std::fmt::Debug for Com1<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Com1")
    }
}

/// Ports the UART answers at, from its base on.
pub const PORTS: u64 = 8;

impl<W: Write + Send> Com1<W> {
    /// A UART that sends to `console`.
    pub fn new(interrupt: Interrupt, console: W, drained: Drained) -> Self {
        let drained = Arc::new(drained);
        let (line, events) = (Line(Arc::clone(&interrupt)), Events(Arc::clone(&drained)));
        let chip = Serial::with_events(line, events, Outbox::default());
        let uart = Mutex::new(Registers { chip, loopback: false });
        Self { uart, console: Console::new(console), interrupt, drained }
    }

    /// What it is while no vCPU runs.
    pub fn describe(&self) -> Com1State {
        let chip = self.lock().chip.state();
        Com1State {
            divisor: [chip.baud_divisor_low, chip.baud_divisor_high],
            interrupt_enable: chip.interrupt_enable,
            interrupt_identification: chip.interrupt_identification,
            line_control: chip.line_control,
            line_status: chip.line_status,
            modem_control: chip.modem_control,
            modem_status: chip.modem_status,
            scratch: chip.scratch,
            input: chip.in_buffer,
        }
    }

    /// Makes it what another one was, and interrupts where that one had.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&self, saved: &Com1State) -> Result<(), Refused> {
        for (field, value, bits) in [
            ("interrupt_enable", saved.interrupt_enable, IER_BITS),
            ("interrupt_identification", saved.interrupt_identification, IIR_BITS),
        ] {
            let why = format!("{value:#x} has bits other than {bits:#x}");
            Refused::unless(value & !bits == 0, field, &why)?;
        }
        let ready = saved.line_status & DATA_READY != 0;
        let why = "it says whether there is input, and there is not what it says";
        Refused::unless(ready != saved.input.is_empty(), "line_status", why)?;
        let state = SerialState {
            baud_divisor_low: saved.divisor[0],
            baud_divisor_high: saved.divisor[1],
            interrupt_enable: saved.interrupt_enable,
            interrupt_identification: saved.interrupt_identification,
            line_control: saved.line_control,
            line_status: saved.line_status,
            modem_control: saved.modem_control,
            modem_status: saved.modem_status,
            scratch: saved.scratch,
            in_buffer: saved.input.clone(),
        };
        let (line, events) = (Line(Arc::clone(&self.interrupt)), Events(Arc::clone(&self.drained)));
        let chip = Serial::from_state(&state, line, events, Outbox::default());
        let why = || format!("{} bytes, which it has no room for", saved.input.len());
        let chip = chip.map_err(|_| Refused::new("input", why()))?;
        *self.lock() = Registers { chip, loopback: saved.modem_control & LOOPBACK != 0 };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write + Send> Uart for Com1<W> {
    /// At most 64; none while the guest has it in loopback.
    fn room(&self) -> usize {
        let uart = self.lock();
        if uart.loopback { 0 } else { uart.chip.fifo_capacity() }
    }

    fn receive(&self, input: &[u8]) -> usize {
        let mut uart = self.lock();
        if uart.loopback { 0 } else { uart.chip.enqueue_raw_bytes(input).unwrap_or(0) }
    }
}

impl Registers {
    fn write(&mut self, register: u8, byte: u8) {
        // Its errors are the outbox's, which has none, and a full FIFO in loopback, which is the
        // guest's affair.
        let _ = self.chip.write(register, byte);
        if register == MCR {
            let before = std::mem::replace(&mut self.loopback, byte & LOOPBACK != 0);
            if before && !self.loopback {
                self.chip.events().in_buffer_empty();
            }
        }
    }
}

/// The registers an access of `width` at `offset` covers: the UART is an 8-bit device, and a wider
/// access reaches its neighbours, as on an ISA bus.
fn registers(offset: u64, width: Width) -> impl Iterator<Item = u8> {
    let first = u8::try_from(offset).unwrap_or(u8::MAX);
    (0..width.bytes()).zip(first..=7).map(|(_, register)| register)
}

impl<W: Write + Send> Device for Com1<W> {
    fn read(&self, offset: u64, width: Width) -> u64 {
        let mut uart = self.lock();
        let mut bytes = [0xff; 8];
        for (byte, register) in bytes.iter_mut().zip(registers(offset, width)) {
            *byte = uart.chip.read(register);
        }
        u64::from_le_bytes(bytes)
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let sent = {
            let mut uart = self.lock();
            for (register, byte) in registers(offset, width).zip(value.to_le_bytes()) {
                uart.write(register, byte);
            }
            std::mem::take(uart.chip.writer_mut())
        };
        self.console.send(sent.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const DATA: u64 = 0;
    const IER: u64 = 1;
    const LSR: u64 = 5;

    #[derive(Clone, Default)]
    struct Console(Arc<Mutex<Vec<u8>>>);

    impl Write for Console {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn com1() -> (Com1<Console>, Console, Arc<AtomicU32>, Arc<AtomicU32>) {
        let (console, interrupts, drained) = (Console::default(), Arc::default(), Arc::default());
        let count = |counter: &Arc<AtomicU32>| {
            let counter = Arc::clone(counter);
            move || {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        };
        let com1 =
            Com1::new(Arc::new(count(&interrupts)), console.clone(), Box::new(count(&drained)));
        (com1, console, interrupts, drained)
    }

    #[test]
    fn what_the_guest_sends_is_on_the_console_at_once() {
        let (com1, console, ..) = com1();
        for byte in *b"hi" {
            assert_eq!(com1.read(LSR, Width::W1) & 0x20, 0x20, "ready to send");
            com1.write(DATA, Width::W1, byte.into());
        }
        assert_eq!(*console.0.lock().unwrap(), b"hi");
    }

    #[test]
    fn input_interrupts_a_guest_that_wants_it_and_is_read_in_order() {
        let (com1, _, interrupts, drained) = com1();
        com1.write(IER, Width::W1, 1);
        assert_eq!(com1.receive(b"ab"), 2);
        assert!(interrupts.load(Ordering::SeqCst) > 0);
        assert_eq!(com1.read(LSR, Width::W1) & 1, 1);
        assert_eq!(com1.read(DATA, Width::W1) & 0xff, u64::from(b'a'));
        assert_eq!(drained.load(Ordering::SeqCst), 0);
        assert_eq!(com1.read(DATA, Width::W1) & 0xff, u64::from(b'b'));
        assert_eq!(drained.load(Ordering::SeqCst), 1);
        assert_eq!(com1.read(LSR, Width::W1) & 1, 0);
    }

    #[test]
    fn input_beyond_the_fifo_is_not_taken() {
        let (com1, ..) = com1();
        let room = com1.room();
        assert_eq!(com1.receive(&vec![b'x'; room + 100]), room);
        assert_eq!(com1.room(), 0);
        assert_eq!(com1.receive(b"y"), 0);
    }

    #[test]
    fn input_waits_until_the_guest_has_left_loopback() {
        let (com1, _, _, drained) = com1();
        com1.write(4, Width::W1, 0x10);
        assert_eq!((com1.room(), com1.receive(b"lost?")), (0, 0));
        assert_eq!(drained.load(Ordering::SeqCst), 0);
        com1.write(4, Width::W1, 0);
        assert_eq!(drained.load(Ordering::SeqCst), 1, "time for more");
        assert_eq!(com1.receive(b"here"), 4);
    }

    #[test]
    fn wide_and_late_accesses_stay_within_the_uart() {
        let (com1, console, ..) = com1();
        com1.write(DATA, Width::W4, u64::from(b'z'));
        assert_eq!(*console.0.lock().unwrap(), b"z");
        com1.write(7, Width::W8, u64::MAX);
        assert_eq!(com1.read(7, Width::W2) >> 8 & 0xff, 0xff);
        com1.read(u64::MAX, Width::W8);
    }

    #[test]
    fn a_restored_uart_goes_on_with_its_input_and_its_registers() {
        let (com1, ..) = com1_of(&[(IER, 1), (4, 3), (7, 0x5a)]);
        com1.receive(b"bc");
        let saved = com1.describe();
        assert_eq!((saved.input.as_slice(), saved.scratch), (&b"bc"[..], 0x5a));
        let (other, console, interrupts, drained) = super::tests::com1();
        other.restore(&saved).unwrap();
        assert_eq!(other.describe(), saved);
        assert!(interrupts.load(Ordering::SeqCst) > 0, "the guest may not have heard of it");
        for byte in *b"bc" {
            assert_eq!(other.read(DATA, Width::W1) & 0xff, u64::from(byte));
        }
        assert_eq!(drained.load(Ordering::SeqCst), 1);
        other.write(DATA, Width::W1, u64::from(b'!'));
        assert_eq!(*console.0.lock().unwrap(), b"!");
    }

    #[test]
    fn a_uart_in_loopback_is_in_loopback() {
        let (com1, ..) = com1_of(&[(4, 0x10), (DATA, 7)]);
        let (other, ..) = super::tests::com1();
        other.restore(&com1.describe()).unwrap();
        assert_eq!((other.room(), other.describe()), (0, com1.describe()));
        assert_eq!(other.read(DATA, Width::W1) & 0xff, 7);
    }

    #[test]
    fn what_a_uart_cannot_be_is_refused_by_its_name() {
        let good = com1().0.describe();
        for (bad, field) in [
            (Com1State { interrupt_enable: 0x10, ..good.clone() }, "interrupt_enable"),
            (Com1State { interrupt_identification: 8, ..good.clone() }, "interrupt_identification"),
            (Com1State { line_status: 0x61, ..good.clone() }, "line_status"),
            (Com1State { input: vec![1], ..good.clone() }, "line_status"),
            (Com1State { input: vec![1; 65], line_status: 0x61, ..good.clone() }, "input"),
        ] {
            assert_eq!(com1().0.restore(&bad).unwrap_err().field, field);
        }
    }

    /// A UART whose registers have been written.
    fn com1_of(writes: &[(u64, u64)]) -> (Com1<Console>, Console) {
        let (com1, console, ..) = com1();
        for (register, value) in writes {
            com1.write(*register, Width::W1, *value);
        }
        (com1, console)
    }
}
