//! The console device (virtio 1.2 §5.3): what the guest writes goes to an [`Output`], what comes in to
//! the guest. Neither ever waits: bytes that the output does not take stay in their queue, input that the
//! guest has no room for stays where it comes from.
//!
//! It may have ports beside the console, or in its place, each before a program of the host's and found
//! by its name; `control` is what the two sides say of them, `channel` what is behind one, `port` any of
//! them. A device without such ports has the two queues of the console alone: Linux, up to 6.14, takes the
//! size of a console that is one of several ports for columns times rows.

mod channel;
mod control;
mod port;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hv::GuestMemory;
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;

use super::COMMON_FEATURES;
use super::chain::{Broken, MAX_SEGMENTS};
use super::served::Served;
use super::state::{DueState, Own};
use super::transport::Identity;
use super::virtqueues::{Request, Virtqueues};
pub use channel::Channel;
use control::Message;
use port::{KEYBOARD, KEYS, OUTPUT, Port};

use crate::devices::state::Refused;
use crate::devices::uart::{Drained, Uart};
use crate::io::event::Event;
use crate::io::event_loop::{Ready, Watcher};

/// It has a size, in columns and rows (§5.3.3, VIRTIO_CONSOLE_F_SIZE).
const SIZE: u64 = 1 << 0;
/// Where that is in the configuration space.
const SIZE_BYTES: Range<usize> = 0..4;

/// It has ports, which are spoken of (VIRTIO_CONSOLE_F_MULTIPORT).
const MULTIPORT: u64 = 1 << 1;

/// The queues (§5.3.2), as the driver has them: the first port's, and those for messages.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;

/// The key of the window: none of the first port's.
const WINDOW: usize = 2;
const _: () = assert!(WINDOW != OUTPUT && WINDOW != KEYBOARD && WINDOW < KEYS);

/// Ports beside the console.
pub const MOST_CHANNELS: usize = 8;

/// Messages that are heard in a turn.
const BATCH: usize = 64;

/// Bytes that go to the output at once: it takes so many without waiting if it takes any.
const CHUNK: usize = 512;
/// What is taken from the guest before others have their turn.
const MOST: usize = 64 << 10;
/// The least that a request counts.
const LEAST: usize = 64;
/// When to try an output again that somebody else has.
const AGAIN: Duration = Duration::from_millis(10);
/// How long an output may take nothing at all of what a guest left, how often it is waited for, and how
/// much is sent.
const PATIENCE: Duration = Duration::from_secs(1);
const WAITS: usize = 64;
const LAST: usize = 16;
/// Input that waits for the guest.
const ROOM: usize = 4096;

/// What an output did with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It took so many.
    Taken(usize),
    /// It takes none before it is announced as writable.
    Full,
    /// Somebody else is writing to it.
    Busy,
}

/// Where the guest's words go.
pub trait Output: Send + fmt::Debug {
    /// Writes some of `bytes`, at most `CHUNK` of which are asked for at once, without waiting.
    fn write(&mut self, bytes: &[u8]) -> Wrote;

    /// Waits until it takes bytes, at most as long as `patience`. Returns whether it does.
    fn wait(&mut self, patience: Duration) -> bool;

    /// What becomes writable, to be watched; nothing where that cannot be.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// The size of a window, and what says that it has changed.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Columns and rows.
    pub size: fn() -> Option<(u16, u16)>,
    /// Signalled by changes.
    pub changed: &'static Event,
}

/// Input on its way to the guest: whoever brings it sees a serial port.
pub struct Keyboard {
    waiting: Mutex<VecDeque<u8>>,
    arrived: Event,
    drained: Drained,
}

impl fmt::Debug for Keyboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of input", self.waiting().len())
    }
}

impl Keyboard {
    /// Without input. `drained` is called when the guest has taken all there was.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new(drained: Drained) -> io::Result<Self> {
        // All of it now: in the jail it could not grow.
        let waiting = Mutex::new(VecDeque::with_capacity(ROOM));
        Ok(Self { waiting, arrived: Event::new()?, drained })
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uart for Keyboard {
    fn room(&self) -> usize {
        ROOM.saturating_sub(self.waiting().len())
    }

    fn receive(&self, input: &[u8]) -> usize {
        let taken = input.get(..self.room().min(input.len())).unwrap_or_default();
        self.waiting().extend(taken);
        self.arrived.signal();
        taken.len()
    }
}

/// The device.
pub struct Console {
    /// In the order of their numbers, which begin with `first`.
    ports: Vec<Port>,
    /// 0 where the console is the first of them, which it is under that number alone.
    first: usize,
    window: Option<Window>,
    /// The window may have another size.
    resized: bool,
}

/// For a person.
impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, port) in self.ports.iter().enumerate() {
            let comma = if index > 0 { "; " } else { "" };
            write!(f, "{comma}{port:?}")?;
        }
        Ok(())
    }
}

/// The queues of a port by its number, for what comes in and what goes out.
fn queues_of(number: usize) -> (usize, usize) {
    match number {
        0 => (RECEIVE, TRANSMIT),
        number => {
            let receive = number.saturating_mul(2).saturating_add(2);
            (receive, receive.saturating_add(1))
        }
    }
}

impl Console {
    /// A console between `output` and `keyboard`, as large as `window`.
    pub fn new(output: Box<dyn Output>, keyboard: Arc<Keyboard>, window: Option<Window>) -> Self {
        let ports = vec![Port::console(output, keyboard)];
        Self { ports, first: 0, window, resized: false }
    }

    /// A device that has no console.
    pub fn without_console() -> Self {
        Self { ports: Vec::new(), first: 1, window: None, resized: false }
    }

    /// One more port, at most [`MOST_CHANNELS`] of them.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn add(&mut self, channel: Channel) -> io::Result<()> {
        self.ports.push(Port::channel(channel)?);
        Ok(())
    }

    /// How many numbers of ports there are.
    fn numbers(&self) -> usize {
        self.first.saturating_add(self.ports.len())
    }

    fn has_channels(&self) -> bool {
        self.numbers() > 1
    }

    /// Columns and rows as the configuration space has them (§5.3.4).
    fn size(&self) -> [u8; 4] {
        let size = self.window.and_then(|window| (window.size)());
        let (columns, rows) = size.unwrap_or_default();
        let ([c0, c1], [r0, r1]) = (columns.to_le_bytes(), rows.to_le_bytes());
        [c0, c1, r0, r1]
    }

    fn port(&mut self, number: u32) -> Option<&mut Port> {
        let index = usize::try_from(number).ok()?.checked_sub(self.first)?;
        self.ports.get_mut(index)
    }

    /// Hears what the driver says of ports, up to a bound.
    fn hear(&mut self, queues: &mut Virtqueues, memory: &GuestMemory) {
        for _ in 0..BATCH {
            let Some(Request { head, chain }) = queues.take(memory, CONTROL_TRANSMIT) else {
                return;
            };
            let mut bytes = [0; control::LEN];
            if chain.readable.copy_to(&mut bytes) < control::LEN {
                return queues.refuse(head, Broken::NoHeader);
            }
            self.heard(Message::read(bytes));
            queues.give_back(memory, CONTROL_TRANSMIT, head, 0);
        }
    }

    /// What is said of a port that does not exist, or makes no sense, is nobody's.
    fn heard(&mut self, Message { id, event, value }: Message) {
        let has_window = self.window.is_some();
        match event {
            control::DEVICE_READY if value == 1 => {
                for port in &mut self.ports {
                    port.due.add = true;
                }
            }
            control::PORT_READY => {
                let Some(port) = self.port(id) else { return };
                port.ready = value == 1;
                let (is_console, host_open) = (port.channel.is_none(), port.host_open());
                port.due.console = port.ready && is_console;
                port.due.resize = port.due.console && has_window;
                port.due.name = port.ready && !is_console;
                port.due.open = port.ready && host_open;
            }
            control::PORT_OPEN => {
                if let Some(port) = self.port(id) {
                    port.open = value == 1;
                }
            }
            _ => {}
        }
    }

    /// Tells the driver what it is to hear, as far as it has room.
    fn say(&mut self, queues: &mut Virtqueues, memory: &GuestMemory) {
        let size = self.size();
        for (id, port) in (0u32..).skip(self.first).zip(&mut self.ports) {
            while let Some(event) = next(port) {
                let Some(Request { head, chain }) = queues.take(memory, CONTROL_RECEIVE) else {
                    return;
                };
                let (value, more) = match event {
                    control::PORT_OPEN => (port.host_open().into(), &[][..]),
                    control::RESIZE => (0, &size[..]),
                    control::PORT_NAME => {
                        (1, port.channel.as_ref().map_or(&[][..], |it| it.name().as_bytes()))
                    }
                    _ => (1, &[][..]),
                };
                let message = Message { id, event, value }.with(more);
                let written = chain.writable.copy_from(&message);
                if written < message.len() {
                    return queues.refuse(head, Broken::NoAnswer);
                }
                said(&mut port.due, event);
                let written = u32::try_from(written).unwrap_or_default();
                queues.give_back(memory, CONTROL_RECEIVE, head, written);
            }
        }
    }
}

/// What the driver is to hear next of a port.
fn next(port: &Port) -> Option<u16> {
    let DueState { add, console, resize, name, open } = port.due;
    // What came before the end is read first.
    let open = open && (port.host_open() || port.keyboard.waiting().is_empty());
    let all = [
        (add, control::PORT_ADD),
        (console, control::CONSOLE_PORT),
        (resize, control::RESIZE),
        (name, control::PORT_NAME),
        (open, control::PORT_OPEN),
    ];
    all.into_iter().find_map(|(due, event)| due.then_some(event))
}

/// It has heard that.
fn said(due: &mut DueState, event: u16) {
    let DueState { add, console, resize, name, open } = due;
    *match event {
        control::PORT_ADD => add,
        control::CONSOLE_PORT => console,
        control::RESIZE => resize,
        control::PORT_NAME => name,
        _ => open,
    } = false;
}

impl Served for Console {
    fn identity(&self, name: &str) -> Identity {
        let size = if self.window.is_some() { SIZE } else { 0 };
        let (ports, queues) = match self.has_channels() {
            true => (MULTIPORT, self.numbers().saturating_add(1).saturating_mul(2)),
            false => (0, 2),
        };
        let most = u32::try_from(self.numbers()).unwrap_or(u32::MAX);
        let most = if self.has_channels() { most } else { 0 };
        Identity {
            name: name.to_owned(),
            device: VIRTIO_ID_CONSOLE,
            features: COMMON_FEATURES | size | ports,
            queues: vec![MAX_SEGMENTS; queues],
            // struct virtio_console_config (§5.3.4): columns, rows; ports; no way to write without a queue.
            config: self.size().into_iter().chain(most.to_le_bytes()).chain([0; 4]).collect(),
            writable: 0..0,
        }
    }

    fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        for (number, port) in (self.first..).zip(&self.ports) {
            port.watch(&watcher, number.saturating_mul(KEYS))?;
        }
        match self.window {
            Some(window) => watcher.watch_reading(window.changed.as_fd(), WINDOW),
            None => Ok(()),
        }
    }

    fn ready(&mut self, ready: Ready) {
        if ready.key == WINDOW {
            if let Some(window) = self.window {
                window.changed.rearm();
            }
            self.resized = true;
        } else if let Some(port) =
            u32::try_from(ready.key / KEYS).ok().and_then(|number| self.port(number))
        {
            port.ready(Ready { key: ready.key % KEYS, ..ready });
        }
    }

    fn reset(&mut self) {
        self.ports.iter_mut().for_each(Port::reset);
    }

    fn describe(&self) -> Own {
        Own::Console { ports: self.ports.iter().map(Port::describe).collect() }
    }

    fn changing(&self) -> Range<usize> {
        SIZE_BYTES
    }

    fn restore(&mut self, own: &Own) -> Result<(), Refused> {
        let Own::Console { ports } = own else { return Err(Own::foreign("`console`")) };
        let why = format!("{}, and this device has {}", ports.len(), self.ports.len());
        Refused::unless(ports.len() == self.ports.len(), "own.ports", &why)?;
        for (index, (port, saved)) in self.ports.iter_mut().zip(ports).enumerate() {
            port.restore(saved).map_err(|error| error.within(&format!("own.ports[{index}]")))?;
        }
        // The window may be another one.
        self.resized = true;
        Ok(())
    }

    fn serve(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, now: Duration) -> bool {
        let several = queues.features().is_some_and(|features| features & MULTIPORT != 0);
        if std::mem::take(&mut self.resized) {
            queues.transport().set_config(SIZE_BYTES.start, &self.size());
            for port in self.ports.iter_mut().filter(|port| port.channel.is_none()) {
                port.due.resize = port.ready && self.window.is_some();
            }
        }
        if several {
            self.hear(queues, memory);
        }
        let mut more = several && queues.is_waiting(CONTROL_TRANSMIT);
        for (number, port) in (self.first..).zip(&mut self.ports) {
            if number > 0 && !several {
                break;
            }
            let (receive, transmit) = queues_of(number);
            if port.again.is_some_and(|again| again <= now) {
                port.again = None;
            }
            if port.open || !several {
                more |= port.receive(queues, memory, receive);
            }
            more |= port.transmit(queues, memory, transmit);
            // Somebody else has the output: nothing will tell when that is over.
            if port.again == Some(Duration::ZERO) {
                port.again = Some(now.saturating_add(AGAIN));
            }
        }
        if several {
            self.say(queues, memory);
        }
        more
    }

    fn deadline(&self) -> Option<Duration> {
        self.ports.iter().filter_map(|port| port.again).min()
    }

    /// All of it, as long as somebody reads, and up to a bound: a guest's last words are worth most.
    fn finish(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, _now: Duration) {
        for (number, port) in (self.first..).zip(&mut self.ports) {
            if !finish(port, queues, memory, queues_of(number).1) {
                let what = port.channel.as_ref().map_or("its console", |channel| channel.name());
                crate::warning!("some of what the guest wrote to {what} last is lost");
            }
        }
    }
}

/// Whether all that the guest has written to a port has gone.
fn finish(port: &mut Port, queues: &mut Virtqueues, memory: &GuestMemory, queue: usize) -> bool {
    let (mut waits, mut turns) = (0usize, 0usize);
    loop {
        (port.blocked, port.again) = (false, None);
        let more = port.transmit(queues, memory, queue);
        if !more && !port.blocked && port.again.is_none() {
            return true;
        }
        let lost = match more {
            true => turns == LAST,
            false => waits == WAITS || !port.wait(PATIENCE),
        };
        if lost {
            return false;
        }
        turns = turns.saturating_add(usize::from(more));
        waits = waits.saturating_add(usize::from(!more));
    }
}
