//! The virtio console with a port beside it: see [`served`](super::served). Its output takes what the input
//! says; the port's program sends, reads and goes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runner::devices::uart::Uart;
use runner::devices::virtio::console::{Channel, Console, Keyboard, Output, Wrote};

use super::input::Input;
use super::served::{DATA, Machine, WRITE};

/// What the output does with the next bytes, and how many it has taken.
#[derive(Clone, Debug)]
struct Screen(Arc<Mutex<(Wrote, Vec<u8>)>>);

impl Output for Screen {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        assert!((1..=512).contains(&bytes.len()), "{} bytes at once", bytes.len());
        let (answer, text) = &mut *self.0.lock().expect("nobody panics with it");
        if let Wrote::Taken(count) = *answer {
            let taken = count.min(bytes.len());
            text.clear();
            text.extend(&bytes[..taken]);
            return Wrote::Taken(taken);
        }
        *answer
    }

    fn wait(&mut self, _patience: Duration) -> bool {
        false
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The key of the port's socket.
const PORT_SOCKET: usize = 7;

/// A list of actions.
pub fn console(data: &[u8]) {
    let screen = Screen(Arc::new(Mutex::new((Wrote::Taken(512), Vec::new()))));
    let keyboard = Arc::new(Keyboard::new(Box::new(|| ())).expect("an event"));
    let mut device = Console::new(Box::new(screen.clone()), Arc::clone(&keyboard), None);
    let (program, ours) = UnixStream::pair().expect("a pair");
    for end in [&program, &ours] {
        end.set_nonblocking(true).expect("a socket");
    }
    device.add(Channel::over("port", ours)).expect("an event");
    let mut machine = Machine::new(device);
    machine.run(Input(data), |machine, input| match input.byte() % 6 {
        0 => {
            let room = keyboard.room();
            let typed = vec![input.byte(); usize::from(input.half())];
            let taken = keyboard.receive(&typed);
            assert_eq!(taken, room.min(typed.len()), "what there is room for");
        }
        1 => {
            let answer = match input.byte() % 4 {
                0 => Wrote::Full,
                1 => Wrote::Busy,
                _ => Wrote::Taken(usize::from(input.half() % 600).max(1)),
            };
            screen.0.lock().expect("nobody panics with it").0 = answer;
        }
        // It is announced as writable.
        2 => machine.ready(0),
        3 => {
            let _ = (&program).write(&vec![input.byte(); usize::from(input.half())]);
            machine.ready(PORT_SOCKET);
        }
        4 => {
            let _ = (&program).read(&mut vec![0; usize::from(input.half())]);
            machine.ready(PORT_SOCKET);
        }
        _ => {
            let how = if input.one_in(2) { Shutdown::Write } else { Shutdown::Both };
            let _ = program.shutdown(how);
            machine.ready(PORT_SOCKET);
        }
    });
    screen.0.lock().expect("nobody panics with it").0 = Wrote::Taken(512);
    machine.ready(0);
    machine.later();
    machine.write(DATA, b"it works");
    machine.request(1, &[(DATA, 8, 0)]);
    assert_eq!(machine.used(1), (1, 0));
    assert_eq!(screen.0.lock().expect("nobody panics with it").1, b"it works");
    let left = 4096 - keyboard.room();
    keyboard.receive(b"?");
    machine.request(0, &[(DATA, 4097, WRITE)]);
    let (used, written) = machine.used(0);
    let wanted = (left + 1).min(4096);
    assert_eq!((used, written as usize), (1, wanted), "all that was typed");
}
