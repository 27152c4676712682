//! The machine's ports: COM1 with input that arrives and a console that takes all, some or nothing;
//! the exit port and the reset port. Compared with a UART of a few lines.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use hv::{Address, Width};
use runner::devices::power::{ExitPort, ResetPort};
use runner::devices::serial::{Com1, PORTS};
use runner::devices::uart::Uart;
use runner::family::ends::PC;
use runner::machine::bus::Bus;
use runner::machine::stop::{Reason, Stop};

use super::input::Input;

const COM1: u16 = 0x3f8;
const EXIT: u16 = 0x501;
const RESET: u16 = 0x64;
/// Bytes that the FIFO holds.
const FIFO: usize = 64;

const ACTIONS: u32 = 512;

/// A list of accesses, input and moods of the console.
pub fn serial(data: &[u8]) {
    let mut input = Input(data);
    let console = Console::default();
    let (stop, interrupts, drained) = (Stop::default(), counter(), counter());
    let com1 = Arc::new(Com1::new(
        Arc::new(count(&interrupts)),
        console.clone(),
        Box::new(count(&drained)),
    ));
    let mut bus = Bus::default();
    bus.add(Address::Port(COM1), PORTS, com1.clone());
    bus.add(Address::Port(EXIT), 4, Arc::new(ExitPort::new(PC.code(), stop.clone())));
    bus.add(Address::Port(RESET), 1, Arc::new(ResetPort::new(stop.clone())));
    let mut model = Model::default();
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 => {
                let bytes: [u8; 16] = input.bytes();
                let len = usize::from(input.byte() % 17);
                model.receive(&com1, &bytes[..len]);
            }
            1 => console.mood.store(input.byte() % 4, Ordering::Relaxed),
            2 => {
                let port = if input.one_in(2) { EXIT } else { RESET };
                let (port, width) = (port.wrapping_add(input.half() % 5), input.width());
                model.end(port, width, input.long() & width.mask(), &bus);
            }
            3 => {
                // Not the UART, whose every read counts.
                let (port, width) = (input.half() | 0x400, input.width());
                assert_eq!(bus.read(Address::Port(port), width) & !width.mask(), 0);
            }
            4 | 5 => model.read(&bus, u16::from(input.byte() % 8), input.width()),
            _ => {
                let (register, width) = (u16::from(input.byte() % 8), input.width());
                model.write(&bus, register, width, input.long() & width.mask());
            }
        }
        assert_eq!(com1.room(), model.room());
    }
    assert_eq!(stop.reason(), model.reason.as_ref());
    let printed = console.printed.lock().expect("nobody panicked");
    if console.refusals.load(Ordering::Relaxed) == 0 {
        assert_eq!(*printed, model.sent);
    }
    assert!(drained.load(Ordering::Relaxed) <= ACTIONS * 8);
}

fn counter() -> Arc<AtomicU32> {
    Arc::default()
}

fn count(counter: &Arc<AtomicU32>) -> impl Fn() + Send + Sync + 'static {
    let counter = Arc::clone(counter);
    move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn low_byte(raw: u64) -> u8 {
    match raw.to_le_bytes()[0] {
        0 if raw != 0 => 255,
        low => low,
    }
}

/// A console in one of four moods: takes all, takes a byte at a time, takes nothing, fails.
#[derive(Clone, Default)]
struct Console {
    mood: Arc<AtomicU8>,
    /// How often it took nothing, or failed.
    refusals: Arc<AtomicU32>,
    printed: Arc<Mutex<Vec<u8>>>,
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = match self.mood.load(Ordering::Relaxed) {
            0 => bytes,
            1 => &bytes[..bytes.len().min(1)],
            mood => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                return if mood == 2 { Ok(0) } else { Err(io::ErrorKind::BrokenPipe.into()) };
            }
        };
        self.printed.lock().expect("nobody panicked").extend(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a UART does as far as bytes go, and what a run ends with.
#[derive(Default)]
struct Model {
    divisor_latch: bool,
    loopback: bool,
    fifo: VecDeque<u8>,
    sent: Vec<u8>,
    reason: Option<Reason>,
}

impl Model {
    fn room(&self) -> usize {
        if self.loopback { 0 } else { FIFO - self.fifo.len() }
    }

    fn receive(&mut self, com1: &Com1<Console>, bytes: &[u8]) {
        let taken = bytes.len().min(self.room());
        assert_eq!(com1.receive(bytes), taken);
        self.fifo.extend(&bytes[..taken]);
    }

    /// The registers an access reaches, if all of it is the UART's.
    fn registers(register: u16, width: Width) -> std::ops::Range<u16> {
        let end = (register..).nth(width.bytes()).unwrap_or(u16::MAX);
        if u64::from(end) <= PORTS { register..end } else { 0..0 }
    }

    fn write(&mut self, bus: &Bus, register: u16, width: Width, value: u64) {
        bus.write(Address::Port(COM1 + register), width, value);
        for (register, byte) in Self::registers(register, width).zip(value.to_le_bytes()) {
            match register {
                0 if self.divisor_latch => {}
                0 if !self.loopback => self.sent.push(byte),
                0 if self.fifo.len() < FIFO => self.fifo.push_back(byte),
                3 => self.divisor_latch = byte & 0x80 != 0,
                4 => self.loopback = byte & 0x10 != 0,
                _ => {}
            }
        }
    }

    fn read(&mut self, bus: &Bus, register: u16, width: Width) {
        let bytes = bus.read(Address::Port(COM1 + register), width).to_le_bytes();
        for (register, byte) in Self::registers(register, width).zip(bytes) {
            match register {
                0 if !self.divisor_latch => assert_eq!(byte, self.fifo.pop_front().unwrap_or(0)),
                3 => assert_eq!(byte & 0x80 != 0, self.divisor_latch),
                5 => assert_eq!(byte & 1 != 0, !self.fifo.is_empty()),
                _ => {}
            }
        }
    }

    fn end(&mut self, port: u16, width: Width, value: u64, bus: &Bus) {
        bus.write(Address::Port(port), width, value);
        let reason = match (port, width, value) {
            (EXIT, Width::W1 | Width::W2 | Width::W4, raw) => {
                Some(Reason::Exit { raw, status: low_byte(raw) })
            }
            (RESET, Width::W1, 0xfe) => Some(Reason::Reset),
            _ => None,
        };
        self.reason = self.reason.take().or(reason);
    }
}
