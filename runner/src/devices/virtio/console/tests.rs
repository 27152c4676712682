//! A console and ports, with a driver in front of them.

use super::*;
use crate::devices::virtio::tests::{Kind, On, Rig, SEAM, WRITE, reg};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const BYTES: u64 = SEAM - 0x800;

/// The key of the second port's socket.
const PORT_SOCKET: usize = KEYS + 3;

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

/// The control queues, and those of the second port.
const SAID: usize = 2;
const HEARD: usize = 3;
const IN: usize = 4;
const OUT: usize = 5;

const MESSAGE: u64 = SEAM - 0x1800;
const ANSWER: u64 = SEAM - 0x1000;

/// A driver that knows of several ports.
struct Driver {
    rig: Rig,
    /// How many messages it has heard.
    heard: u16,
}

impl std::ops::Deref for Driver {
    type Target = Rig;
    fn deref(&self) -> &Rig {
        &self.rig
    }
}

impl std::ops::DerefMut for Driver {
    fn deref_mut(&mut self) -> &mut Rig {
        &mut self.rig
    }
}

/// A device with a console and a port beside it, and the port's program.
fn with_port() -> (Driver, Screen, Arc<Keyboard>, UnixStream) {
    let (program, ours) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    program.set_nonblocking(true).unwrap();
    let screen = Screen::default();
    let keyboard = Arc::new(Keyboard::new(Box::new(|| ())).unwrap());
    let mut device = Console::new(Box::new(screen.clone()), Arc::clone(&keyboard), None);
    device.add(Channel::over("agent", ours)).unwrap();
    let mut rig = Rig::served(Box::new(device));
    rig.set_up_queues(6);
    rig.start(MULTIPORT);
    (Driver { rig, heard: 0 }, screen, keyboard, program)
}

/// The driver says something of a port.
fn says(rig: &mut Rig, id: u32, event: u16, value: u16) {
    rig.write_bytes(MESSAGE, &Message { id, event, value }.with(&[]));
    rig.chain_of(HEARD, &[(MESSAGE, 8, 0)]);
    rig.offer_to(HEARD, 0);
    rig.kick_queue(HEARD);
}

/// What the device says of ports, until it has no more to say.
fn hears(rig: &mut Driver) -> Vec<(Message, Vec<u8>)> {
    let mut all = Vec::new();
    // After a reset there are none.
    rig.heard = rig.heard.min(rig.used_index_of(SAID));
    loop {
        // What was offered the last time may still be there.
        if rig.offered_of(SAID) == rig.heard {
            rig.chain_of(SAID, &[(ANSWER, 64, WRITE)]);
            rig.offer_to(SAID, 0);
        }
        rig.kick_queue(SAID);
        if rig.used_index_of(SAID) == rig.heard {
            return all;
        }
        let (_, len) = rig.used_of(SAID, rig.heard);
        rig.heard += 1;
        let mut bytes = rig.bytes(ANSWER, len as usize);
        let more = bytes.split_off(control::LEN);
        all.push((Message::read(bytes.try_into().unwrap()), more));
    }
}

fn message(id: u32, event: u16, value: u16) -> (Message, Vec<u8>) {
    (Message { id, event, value }, Vec::new())
}

/// The driver has the second port, and a program of the guest's has it open.
fn opens(rig: &mut Driver) {
    says(rig, u32::MAX, control::DEVICE_READY, 1);
    says(rig, 1, control::PORT_READY, 1);
    says(rig, 1, control::PORT_OPEN, 1);
    hears(rig);
}

fn sends(rig: &mut Rig, bytes: &[u8]) {
    rig.write_bytes(BYTES, bytes);
    rig.chain_of(OUT, &[(BYTES, u32::try_from(bytes.len()).unwrap(), 0)]);
    rig.offer_to(OUT, 0);
    rig.kick_queue(OUT);
}

#[test]
fn a_driver_is_told_of_every_port_its_name_and_that_its_program_is_there() {
    let (mut rig, ..) = with_port();
    assert_eq!((rig.identity().queues.len(), rig.read(reg::CONFIG + 4)), (6, 2));
    assert_eq!(hears(&mut rig), []);
    says(&mut rig, u32::MAX, control::DEVICE_READY, 1);
    let added = [message(0, control::PORT_ADD, 1), message(1, control::PORT_ADD, 1)];
    assert_eq!(hears(&mut rig), added);
    says(&mut rig, 0, control::PORT_READY, 1);
    let console = [message(0, control::CONSOLE_PORT, 1), message(0, control::PORT_OPEN, 1)];
    assert_eq!(hears(&mut rig), console);
    says(&mut rig, 1, control::PORT_READY, 1);
    let name = (Message { id: 1, event: control::PORT_NAME, value: 1 }, b"agent".to_vec());
    assert_eq!(hears(&mut rig), [name, message(1, control::PORT_OPEN, 1)]);
}

#[test]
fn bytes_go_both_ways_through_a_port_that_the_guest_has_opened() {
    let (mut rig, screen, _, mut program) = with_port();
    program.write_all(b"early").unwrap();
    rig.chain_of(IN, &[(BYTES + 0x400, 64, WRITE)]);
    rig.offer_to(IN, 0);
    rig.ready(PORT_SOCKET);
    assert_eq!(rig.used_index_of(IN), 0, "nobody has it open");
    opens(&mut rig);
    assert_eq!((rig.used_of(IN, 0), rig.bytes(BYTES + 0x400, 5)), ((0, 5), b"early".to_vec()));
    sends(&mut rig, b"answer");
    let mut answer = [0; 6];
    program.read_exact(&mut answer).unwrap();
    assert_eq!((&answer, rig.used_index_of(OUT)), (b"answer", 1));
    screen.will(&[Wrote::Taken(512)]);
    prints(&mut rig, b"to the screen");
    assert_eq!(screen.text(), b"to the screen");
}

#[test]
fn a_program_that_does_not_read_holds_its_port_up_and_no_other() {
    let (mut rig, screen, _, mut program) = with_port();
    opens(&mut rig);
    let mut sent = 0;
    while rig.used_index_of(OUT) == sent {
        sends(&mut rig, &[7; 0x400]);
        sent += 1;
        assert!(sent < 10_000);
    }
    screen.will(&[Wrote::Taken(512)]);
    prints(&mut rig, b"goes on");
    assert_eq!((screen.text(), rig.more()), (b"goes on".to_vec(), false));
    let mut all = Vec::new();
    while all.len() < usize::from(sent) * 0x400 {
        let _ = program.read_to_end(&mut all);
        rig.ready(PORT_SOCKET);
    }
    assert!(all.iter().all(|byte| *byte == 7));
    assert_eq!((all.len(), rig.used_index_of(OUT)), (usize::from(sent) * 0x400, sent));
}

#[test]
fn a_program_that_goes_closes_its_port_behind_its_last_byte() {
    let (mut rig, _, _, mut program) = with_port();
    opens(&mut rig);
    program.write_all(b"last").unwrap();
    drop(program);
    rig.ready(PORT_SOCKET);
    assert_eq!(hears(&mut rig), [], "the guest has not read it yet");
    rig.chain_of(IN, &[(BYTES, 64, WRITE)]);
    rig.offer_to(IN, 0);
    rig.kick_queue(IN);
    assert_eq!((rig.used_of(IN, 0), rig.bytes(BYTES, 4)), ((0, 4), b"last".to_vec()));
    assert_eq!(hears(&mut rig), [message(1, control::PORT_OPEN, 0)]);
    // What it still says is nobody's, and does not wait.
    sends(&mut rig, b"is anybody there?");
    assert_eq!((rig.used_index_of(OUT), rig.more(), rig.status()), (1, false, 0xf));
    rig.restart(MULTIPORT);
    says(&mut rig, 1, control::PORT_READY, 1);
    assert_eq!(hears(&mut rig).last().unwrap().0.event, control::PORT_NAME);
}

#[test]
fn c60_messages_of_ports_and_events_that_do_not_exist_are_nobodys() {
    let (mut rig, ..) = with_port();
    for id in [2, 1000, u32::MAX] {
        for event in [control::PORT_READY, control::PORT_OPEN] {
            says(&mut rig, id, event, 1);
        }
    }
    for event in [1, 2, 4, 5, 7, 8, u16::MAX] {
        says(&mut rig, 1, event, 1);
    }
    says(&mut rig, 1, control::PORT_READY, 0);
    says(&mut rig, 0, control::DEVICE_READY, 0);
    assert_eq!((hears(&mut rig), rig.status()), (vec![], 0xf));
    opens(&mut rig);
    sends(&mut rig, b"works");
    assert_eq!(rig.used_index_of(OUT), 1);
}

#[test]
fn c60_a_flood_of_messages_has_its_turns_and_needs_no_memory() {
    let (mut rig, ..) = with_port();
    for _ in 0..1000 {
        says(&mut rig, 0, control::DEVICE_READY, 1);
        says(&mut rig, 1, control::PORT_READY, 1);
    }
    let heard = hears(&mut rig);
    assert_eq!(heard.len(), 4, "two ports, a name, an open end: {heard:?}");
}

#[test]
fn c60_a_message_that_is_not_whole_or_has_no_room_stops_the_device() {
    for len in [0, 1, 7] {
        let (mut rig, ..) = with_port();
        rig.chain_of(HEARD, &[(MESSAGE, len, 0)]);
        rig.offer_to(HEARD, 0);
        rig.kick_queue(HEARD);
        assert_eq!(rig.status(), 0x4f, "{len}");
        rig.restart(MULTIPORT);
        opens(&mut rig);
    }
    for (len, flags) in [(7, WRITE), (0, WRITE), (64, 0)] {
        let (mut rig, ..) = with_port();
        rig.chain_of(SAID, &[(ANSWER, len, flags)]);
        rig.offer_to(SAID, 0);
        says(&mut rig, u32::MAX, control::DEVICE_READY, 1);
        assert_eq!(rig.status(), 0x4f, "{len}");
        rig.restart(MULTIPORT);
    }
}

#[test]
fn a_driver_that_knows_of_one_port_has_the_console_alone() {
    let (mut rig, screen, ..) = with_port();
    rig.restart(0);
    screen.will(&[Wrote::Taken(512)]);
    prints(&mut rig, b"one");
    assert_eq!(screen.text(), b"one");
    sends(&mut rig, b"nowhere");
    says(&mut rig, u32::MAX, control::DEVICE_READY, 1);
    assert_eq!((rig.used_index_of(OUT), rig.used_index_of(HEARD), rig.more()), (0, 0, false));
}

#[test]
fn a_device_without_a_console_has_ports_from_1_on() {
    let (_program, ours) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut device = Console::without_console();
    device.add(Channel::over("agent", ours)).unwrap();
    let mut rig = Driver { rig: Rig::served(Box::new(device)), heard: 0 };
    assert_eq!((rig.identity().queues.len(), rig.read(reg::CONFIG + 4)), (6, 2));
    rig.set_up_queues(6);
    rig.start(MULTIPORT);
    says(&mut rig, u32::MAX, control::DEVICE_READY, 1);
    assert_eq!(hears(&mut rig), [message(1, control::PORT_ADD, 1)]);
}

#[test]
fn a_port_goes_on_over_another_connection_and_what_it_was_to_say_is_said() {
    let (mut rig, ..) = with_port();
    opens(&mut rig);
    says(&mut rig, 0, control::PORT_READY, 1);
    let saved = rig.describe().unwrap();
    let Own::Console { ports } = &saved.0.own else { panic!("{saved:?}") };
    assert!(ports[0].due.open && ports[1].open && !ports[1].due.open, "{ports:?}");
    let (mut program, ours) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let keyboard = Arc::new(Keyboard::new(Box::new(|| ())).unwrap());
    let mut device = Console::new(Box::new(Screen::default()), keyboard, None);
    device.add(Channel::over("agent", ours)).unwrap();
    let mut other = rig.moved_to(On::Mmio, Kind::Loop(Box::new(device)));
    other.restore(&saved).unwrap();
    assert_eq!(other.describe().unwrap(), saved);
    let mut other = Driver { rig: other, heard: rig.heard };
    let console = [message(0, control::CONSOLE_PORT, 1), message(0, control::PORT_OPEN, 1)];
    assert_eq!(hears(&mut other), console);
    sends(&mut other, b"again");
    let mut bytes = [0; 5];
    program.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"again");
}

#[test]
fn a_program_that_accepts_nobody_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let mut waiting = Vec::new();
    let refusal = loop {
        match Channel::connect("agent", &path) {
            Ok(channel) => waiting.push(channel),
            Err(refusal) => break refusal,
        }
        assert!(waiting.len() < 100);
    };
    assert!(!waiting.is_empty() && refusal.starts_with("--channel agent="), "{refusal}");
    // macOS says the same of one that is gone.
    assert!(refusal.contains("accepts nobody") || cfg!(target_os = "macos"), "{refusal}");
}
