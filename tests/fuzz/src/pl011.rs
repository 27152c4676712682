//! A PL011 with input that arrives, on a bus: what is sent is on the console, what is received comes
//! out in order, and the line is what the registers say.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use hv::{Address, Width};
use runner::devices::pl011::Pl011;
use runner::devices::uart::Uart;
use runner::machine::bus::Bus;
use runner::machine::map::virt::{PL011, REGISTERS};

use super::input::Input;

const DR: u64 = 0x00;
const LCR_H: u64 = 0x2c;
const CR: u64 = 0x30;
const IMSC: u64 = 0x38;
const RIS: u64 = 0x3c;
const MIS: u64 = 0x40;
/// CR: what is sent is received.
const LOOPBACK: u64 = 1 << 7;
/// RIS: something was received.
const RX: u64 = 1 << 4;
/// Bytes that the FIFO holds.
const FIFO: usize = 16;

const ACTIONS: u32 = 512;

/// A list of accesses and input.
pub fn pl011(data: &[u8]) {
    let mut input = Input(data);
    let (console, line, drained) = (Console::default(), Arc::default(), Arc::default());
    let uart = Arc::new(Pl011::new(set(&line), console.clone(), count(&drained)));
    let mut bus = Bus::default();
    bus.add(Address::Mmio(PL011), REGISTERS, uart.clone());
    let read = |at| bus.read(Address::Mmio(PL011 + at), Width::W4);
    let (mut sent, mut received) = (Vec::new(), VecDeque::new());
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        let loopback = read(CR) & LOOPBACK != 0;
        match input.byte() % 8 {
            0 => {
                let bytes: [u8; 20] = input.bytes();
                let room = uart.room();
                let taken = uart.receive(&bytes);
                assert_eq!(taken, room.min(bytes.len()));
                assert!(taken == 0 || read(RIS) & RX != 0, "it says that something came");
                received.extend(&bytes[..taken]);
            }
            1 => {
                let byte = received.pop_front().unwrap_or_default();
                assert_eq!(read(DR), u64::from(byte));
            }
            2 => {
                let byte = input.byte();
                bus.write(Address::Mmio(PL011 + DR), Width::W1, byte.into());
                match loopback {
                    false => sent.push(byte),
                    // Full, it is lost.
                    true => received.extend((received.len() < holds(read(LCR_H))).then_some(byte)),
                }
            }
            3 => {
                // Any but DR, whose every access counts.
                let at = input.half() % 0x1400;
                if at >= 8 {
                    bus.read(Address::Mmio(PL011 + u64::from(at)), input.width());
                }
            }
            _ => {
                let at = [0x04, 0x18, 0x20, 0x24, 0x28, LCR_H, CR, 0x34, IMSC, 0x44, 0x48, 0xfe0]
                    [usize::from(input.byte() % 12)];
                bus.write(Address::Mmio(PL011 + at), input.width(), input.half().into());
            }
        }
        let high = read(RIS) & read(IMSC) != 0;
        assert_eq!((line.load(Ordering::SeqCst), read(MIS) != 0), (high, high));
        assert!(uart.room() <= FIFO && received.len() <= FIFO);
    }
    assert_eq!(*console.0.lock().expect("no panic"), sent);
}

/// How many bytes it holds, with and without its FIFO.
fn holds(line_control: u64) -> usize {
    if line_control & 1 << 4 == 0 { 1 } else { FIFO }
}

/// Sets `line`.
fn set(line: &Arc<AtomicBool>) -> Arc<dyn Fn(bool) + Send + Sync> {
    let line = Arc::clone(line);
    Arc::new(move |high| {
        assert_ne!(line.swap(high, Ordering::SeqCst), high, "only a change is told");
    })
}

fn count(counter: &Arc<AtomicU32>) -> Box<dyn Fn() + Send + Sync> {
    let counter = Arc::clone(counter);
    Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    })
}

#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
