//! The console device (virtio 1.2 §5.3): what the guest writes goes to an [`Output`], what comes in to
//! the guest. Neither ever waits: bytes that the output does not take stay in their queue, input that the
//! guest has no room for stays where it comes from.

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
use super::state::Own;
use super::transport::Identity;
use super::virtqueues::{Request, Virtqueues};
use crate::devices::state::Refused;
use crate::devices::uart::{Drained, Uart};
use crate::io::event::Event;
use crate::io::event_loop::{Ready, Watcher};

/// It has a size, in columns and rows (§5.3.3, VIRTIO_CONSOLE_F_SIZE).
const SIZE: u64 = 1 << 0;
/// Where that is in the configuration space.
const SIZE_BYTES: Range<usize> = 0..4;

/// The queues (§5.3.2), as the driver has them.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Keys of what is watched.
const OUTPUT: usize = 0;
const KEYBOARD: usize = 1;
const WINDOW: usize = 2;

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
    output: Box<dyn Output>,
    keyboard: Arc<Keyboard>,
    window: Option<Window>,
    /// The output takes no bytes until it is announced.
    blocked: bool,
    /// The window may have another size.
    resized: bool,
    /// When to try again.
    again: Option<Duration>,
    /// How many bytes of the request that is next in turn the output has.
    sent: u64,
    /// Bytes in all.
    out: u64,
    taken_in: u64,
}

/// For a person.
impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes out, {} bytes in", self.out, self.taken_in)
    }
}

/// What became of a request's bytes.
enum Flow {
    /// The output has them all.
    Done,
    /// There is more, for another turn.
    More,
}

impl Console {
    /// A console between `output` and `keyboard`, as large as `window`.
    pub fn new(output: Box<dyn Output>, keyboard: Arc<Keyboard>, window: Option<Window>) -> Self {
        Self {
            output,
            keyboard,
            window,
            blocked: false,
            resized: false,
            again: None,
            sent: 0,
            out: 0,
            taken_in: 0,
        }
    }

    /// Columns and rows as the configuration space has them (§5.3.4).
    fn size(&self) -> [u8; 4] {
        let size = self.window.and_then(|window| (window.size)());
        let (columns, rows) = size.unwrap_or_default();
        let ([c0, c1], [r0, r1]) = (columns.to_le_bytes(), rows.to_le_bytes());
        [c0, c1, r0, r1]
    }

    /// Sends at most `left` bytes of a request, which it counts down, from where it was left.
    fn send(&mut self, request: &mut Request<'_>, left: &mut usize) -> Flow {
        let buffers = &mut request.chain.readable;
        buffers.take(self.sent);
        let mut bytes = [0; CHUNK];
        while *left > 0 {
            let len = buffers.copy_to(&mut bytes);
            if len == 0 {
                self.sent = 0;
                return Flow::Done;
            }
            match self.output.write(bytes.get(..len).unwrap_or_default()) {
                Wrote::Taken(taken) => {
                    let taken = taken.min(len) as u64;
                    buffers.take(taken);
                    self.sent = self.sent.saturating_add(taken);
                    self.out = self.out.saturating_add(taken);
                    *left = left.saturating_sub(CHUNK);
                }
                Wrote::Full => {
                    self.blocked = true;
                    return Flow::More;
                }
                Wrote::Busy => {
                    self.again = Some(Duration::ZERO);
                    return Flow::More;
                }
            }
        }
        Flow::More
    }

    /// Sends what the guest has written, up to a bound. Returns whether there is more that could go now.
    fn transmit(&mut self, queues: &mut Virtqueues, memory: &GuestMemory) -> bool {
        let mut left = MOST;
        while left > 0 && !self.blocked && self.again.is_none() {
            let Some(mut request) = queues.take(memory, TRANSMIT) else { return false };
            match self.send(&mut request, &mut left) {
                Flow::Done => queues.give_back(memory, TRANSMIT, request.head, 0),
                Flow::More => queues.put_back(TRANSMIT, request.head),
            }
            left = left.saturating_sub(LEAST);
        }
        !self.blocked && self.again.is_none() && queues.is_waiting(TRANSMIT)
    }

    /// Gives the guest its input, as far as it has room.
    fn receive(&mut self, queues: &mut Virtqueues, memory: &GuestMemory) {
        let mut waiting = self.keyboard.waiting();
        let before = waiting.len();
        while !waiting.is_empty() {
            let Some(Request { head, chain }) = queues.take(memory, RECEIVE) else { break };
            if chain.writable.is_empty() {
                queues.refuse(head, Broken::NoAnswer);
                break;
            }
            let written = chain.writable.copy_from(waiting.make_contiguous());
            waiting.drain(..written.min(before));
            let written = u32::try_from(written).unwrap_or_default();
            queues.give_back(memory, RECEIVE, head, written);
        }
        let (after, taken) = (waiting.len(), before.saturating_sub(waiting.len()));
        drop(waiting);
        self.taken_in = self.taken_in.saturating_add(taken as u64);
        if after == 0 && taken > 0 {
            (self.keyboard.drained)();
        }
    }
}

impl Served for Console {
    fn identity(&self, name: &str) -> Identity {
        let size = if self.window.is_some() { SIZE } else { 0 };
        Identity {
            name: name.to_owned(),
            device: VIRTIO_ID_CONSOLE,
            features: COMMON_FEATURES | size,
            queues: vec![MAX_SEGMENTS; 2],
            // struct virtio_console_config (§5.3.4): columns, rows; no ports beside this one, and no way
            // to write without a queue.
            config: self.size().into_iter().chain([0; 8]).collect(),
            writable: 0..0,
        }
    }

    fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        if let Some(fd) = self.output.fd() {
            match watcher.watch_writing(fd, OUTPUT) {
                // A file is never full.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result?,
            }
        }
        if let Some(window) = self.window {
            watcher.watch_reading(window.changed.as_fd(), WINDOW)?;
        }
        watcher.watch_reading(self.keyboard.arrived.as_fd(), KEYBOARD)
    }

    fn ready(&mut self, ready: Ready) {
        match ready.key {
            OUTPUT => self.blocked = false,
            KEYBOARD => self.keyboard.arrived.rearm(),
            WINDOW => {
                if let Some(window) = self.window {
                    window.changed.rearm();
                }
                self.resized = true;
            }
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.sent = 0;
    }

    fn describe(&self) -> Own {
        Own::Console { sent: self.sent, input: self.keyboard.waiting().iter().copied().collect() }
    }

    fn changing(&self) -> Range<usize> {
        SIZE_BYTES
    }

    /// More than a request has is as good as all of it.
    fn restore(&mut self, own: &Own) -> Result<(), Refused> {
        let Own::Console { sent, input } = own else { return Err(Own::foreign("`console`")) };
        let most = format!("{} bytes, and there is room for {}", input.len(), self.keyboard.room());
        Refused::unless(input.len() <= self.keyboard.room(), "own.input", &most)?;
        self.keyboard.receive(input);
        // The window may be another one.
        (self.sent, self.resized) = (*sent, true);
        Ok(())
    }

    fn serve(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, now: Duration) -> bool {
        if std::mem::take(&mut self.resized) {
            queues.transport().set_config(SIZE_BYTES.start, &self.size());
        }
        if self.again.is_some_and(|again| again <= now) {
            self.again = None;
        }
        self.receive(queues, memory);
        let more = self.transmit(queues, memory);
        // Somebody else has the output: nothing will tell when that is over.
        if self.again == Some(Duration::ZERO) {
            self.again = Some(now.saturating_add(AGAIN));
        }
        more
    }

    fn deadline(&self) -> Option<Duration> {
        self.again
    }

    /// All of it, as long as somebody reads, and up to a bound: a guest's last words are worth most.
    fn finish(&mut self, queues: &mut Virtqueues, memory: &GuestMemory, _now: Duration) {
        let (mut waits, mut turns) = (0usize, 0usize);
        loop {
            (self.blocked, self.again) = (false, None);
            let more = self.transmit(queues, memory);
            if !more && !self.blocked && self.again.is_none() {
                return;
            }
            let lost = match more {
                true => turns == LAST,
                false => waits == WAITS || !self.output.wait(PATIENCE),
            };
            if lost {
                crate::warning!("some of what the guest wrote to its console last is lost");
                return;
            }
            turns = turns.saturating_add(usize::from(more));
            waits = waits.saturating_add(usize::from(!more));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::virtio::tests::{Rig, SEAM, WRITE, reg};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    const BYTES: u64 = SEAM - 0x800;

    /// What was written, and how the next writes end: each takes so many, and the rest finds no room.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<(Vec<u8>, VecDeque<Wrote>)>>);

    impl Screen {
        fn text(&self) -> Vec<u8> {
            std::mem::take(&mut self.0.lock().unwrap().0)
        }

        fn will(&self, answers: &[Wrote]) {
            self.0.lock().unwrap().1.extend(answers);
        }
    }

    impl Output for Screen {
        fn write(&mut self, bytes: &[u8]) -> Wrote {
            assert!((1..=CHUNK).contains(&bytes.len()));
            let (text, answers) = &mut *self.0.lock().unwrap();
            let answer = answers.pop_front().unwrap_or(Wrote::Full);
            if let Wrote::Taken(count) = answer {
                let taken = count.min(bytes.len());
                text.extend(&bytes[..taken]);
                return Wrote::Taken(taken);
            }
            answer
        }

        fn wait(&mut self, _: Duration) -> bool {
            !self.0.lock().unwrap().1.is_empty()
        }

        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    /// A console in service, its screen, its keyboard, and how often that was empty.
    fn console(window: Option<Window>) -> (Rig, Screen, Arc<Keyboard>, Arc<AtomicUsize>) {
        let (screen, drained) = (Screen::default(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&drained);
        let on_drained = Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let keyboard = Arc::new(Keyboard::new(on_drained).unwrap());
        let device = Console::new(Box::new(screen.clone()), Arc::clone(&keyboard), window);
        let mut rig = Rig::served(Box::new(device));
        rig.set_up_queues(2);
        rig.start(rig.offered() & SIZE);
        (rig, screen, keyboard, drained)
    }

    /// The guest writes `bytes`, half of them on each side of a seam of RAM.
    fn prints(rig: &mut Rig, bytes: &[u8]) {
        rig.write_bytes(BYTES, bytes);
        let half = u32::try_from(bytes.len() / 2).unwrap();
        let rest = u32::try_from(bytes.len()).unwrap() - half;
        rig.chain_of(TRANSMIT, &[(BYTES, half, 0), (BYTES + u64::from(half), rest, 0)]);
        rig.offer_to(TRANSMIT, 0);
        rig.kick_queue(TRANSMIT);
    }

    #[test]
    fn what_the_guest_writes_is_on_the_screen_byte_for_byte() {
        let (mut rig, screen, ..) = console(None);
        screen.will(&[Wrote::Taken(usize::MAX); 8]);
        let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
        prints(&mut rig, &bytes);
        assert_eq!(screen.text(), bytes);
        assert_eq!((rig.used_index_of(TRANSMIT), rig.interrupts(), rig.more()), (1, 1, false));
    }

    #[test]
    fn c59_a_screen_that_is_full_holds_the_guests_bytes_up_and_loses_none() {
        let (mut rig, screen, ..) = console(None);
        let bytes: Vec<u8> = (0..=255).cycle().take(2000).collect();
        screen.will(&[Wrote::Taken(100), Wrote::Taken(1), Wrote::Full]);
        prints(&mut rig, &bytes);
        assert_eq!((rig.used_index_of(TRANSMIT), rig.more()), (0, false));
        rig.turn();
        assert_eq!(screen.text(), bytes[..101], "it was not announced");
        screen.will(&[Wrote::Taken(512), Wrote::Full]);
        rig.ready(OUTPUT);
        assert_eq!((screen.text(), rig.used_index_of(TRANSMIT)), (bytes[101..613].to_vec(), 0));
        screen.will(&[Wrote::Taken(512); 4]);
        rig.ready(OUTPUT);
        assert_eq!((screen.text(), rig.used_index_of(TRANSMIT)), (bytes[613..].to_vec(), 1));
        assert_eq!(rig.used_of(TRANSMIT, 0), (0, 0));
    }

    #[test]
    fn a_screen_that_another_thread_has_is_tried_again_soon() {
        let (mut rig, screen, ..) = console(None);
        screen.will(&[Wrote::Busy, Wrote::Taken(512)]);
        prints(&mut rig, b"late");
        assert_eq!((rig.deadline(), rig.more()), (Some(AGAIN), false));
        rig.pass(AGAIN / 2);
        rig.turn();
        assert_eq!(screen.text(), b"");
        rig.pass(AGAIN / 2);
        rig.turn();
        assert_eq!((screen.text(), rig.deadline()), (b"late".to_vec(), None));
    }

    #[test]
    fn a_flood_has_its_turns_and_its_bounds() {
        let (mut rig, screen, ..) = console(None);
        screen.will(&[Wrote::Taken(512); 400]);
        rig.chain_of(TRANSMIT, &[(SEAM, 0x2_0000, 0)]);
        rig.offer_to(TRANSMIT, 0);
        rig.kick_queue(TRANSMIT);
        assert_eq!((screen.text().len(), rig.more()), (MOST, true));
        rig.turn();
        assert_eq!(screen.text().len(), MOST);
        rig.turn();
        assert_eq!((rig.used_index_of(TRANSMIT), rig.more()), (1, false));
    }

    #[test]
    fn input_waits_for_the_guests_room_and_comes_in_order() {
        let (mut rig, _, keyboard, drained) = console(None);
        let typed: Vec<u8> = (0..=255).cycle().take(ROOM + 10).collect();
        assert_eq!((keyboard.room(), keyboard.receive(&typed), keyboard.room()), (ROOM, ROOM, 0));
        rig.turn();
        assert_eq!((rig.used_index_of(RECEIVE), drained.load(Ordering::SeqCst)), (0, 0));
        let mut seen = Vec::new();
        for round in 0.. {
            rig.chain_of(RECEIVE, &[(BYTES, 1000, WRITE), (BYTES + 1000, 500, WRITE)]);
            rig.offer_to(RECEIVE, 0);
            rig.kick_queue(RECEIVE);
            if rig.used_index_of(RECEIVE) == round {
                break;
            }
            let (_, len) = rig.used_of(RECEIVE, round);
            seen.extend(rig.bytes(BYTES, usize::try_from(len).unwrap()));
        }
        assert_eq!(seen, typed[..ROOM]);
        assert_eq!((keyboard.room(), drained.load(Ordering::SeqCst)), (ROOM, 1));
        // The last buffer is still there.
        assert_eq!(keyboard.receive(b"x"), 1);
        rig.turn();
        assert_eq!((rig.bytes(BYTES, 1), drained.load(Ordering::SeqCst)), (b"x".to_vec(), 2));
    }

    #[test]
    fn a_buffer_for_input_that_cannot_be_written_stops_the_device_and_keeps_the_input() {
        let (mut rig, _, keyboard, _) = console(None);
        keyboard.receive(b"kept");
        rig.chain_of(RECEIVE, &[(BYTES, 64, 0)]);
        rig.offer_to(RECEIVE, 0);
        rig.kick_queue(RECEIVE);
        rig.expect_broken();
        rig.restart(0);
        rig.chain_of(RECEIVE, &[(BYTES, 64, WRITE)]);
        rig.offer_to(RECEIVE, 0);
        rig.kick_queue(RECEIVE);
        assert_eq!((rig.used_of(RECEIVE, 0), rig.bytes(BYTES, 4)), ((0, 4), b"kept".to_vec()));
    }

    #[test]
    fn a_window_has_a_size_and_changes_interrupt() {
        static COLUMNS: AtomicU32 = AtomicU32::new(80);
        static CHANGED: OnceLock<Event> = OnceLock::new();
        fn size() -> Option<(u16, u16)> {
            Some((u16::try_from(COLUMNS.load(Ordering::SeqCst)).unwrap(), 24))
        }
        let changed = CHANGED.get_or_init(|| Event::new().unwrap());
        let (mut rig, ..) = console(Some(Window { size, changed }));
        assert_eq!((rig.offered() & SIZE, rig.read(reg::DEVICE_ID)), (SIZE, 3));
        assert_eq!(rig.read(reg::CONFIG), 24 << 16 | 80);
        rig.ready(WINDOW);
        assert_eq!((rig.interrupts(), rig.read(reg::CONFIG_GENERATION)), (0, 0), "it is as it was");
        COLUMNS.store(132, Ordering::SeqCst);
        rig.ready(WINDOW);
        assert_eq!((rig.interrupts(), rig.read(reg::INTERRUPT_STATUS)), (1, 2));
        assert_eq!((rig.read(reg::CONFIG), rig.read(reg::CONFIG_GENERATION)), (24 << 16 | 132, 1));
        let (rig, ..) = console(None);
        assert_eq!((rig.offered() & SIZE, rig.read(reg::CONFIG)), (0, 0));
    }

    #[test]
    fn the_last_words_of_a_guest_go_out_as_long_as_somebody_reads() {
        let (mut rig, screen, ..) = console(None);
        prints(&mut rig, &[b'x'; 2000]);
        screen.will(&[Wrote::Taken(100), Wrote::Full, Wrote::Taken(512), Wrote::Busy]);
        screen.will(&[Wrote::Taken(512), Wrote::Taken(512), Wrote::Taken(512)]);
        rig.finish();
        assert_eq!(screen.text(), [b'x'; 2000]);
        let (mut rig, screen, ..) = console(None);
        prints(&mut rig, b"nobody reads this");
        rig.finish();
        assert_eq!(screen.text(), b"");
    }
}
