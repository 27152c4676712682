//! Where frames change hands between the guest's vCPU, which makes hypercalls, and the I/O loop, which has
//! the networks: for each network a bounded queue in each direction.
//!
//! The vCPU waits here in `poll`, for a frame, a time or the end of the run. The I/O loop never waits: it is
//! woken when there is a frame for it, and when the guest has made room.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vm_memory::{Bytes, VolatileSlice};

use super::Answer;
use crate::io::event::Event;
use crate::machine::stop::Stop;
use crate::net::ETHERNET;

/// Frames that wait in one direction. All of their memory is there from the start, and costs nothing until
/// it is used: in the jail no queue could grow.
const FRAMES: usize = 256;

/// How long a guest waits for the I/O loop to take frames, before its own is dropped: it asked for a call
/// that does not block.
const PATIENCE: Duration = Duration::from_millis(20);

/// Frames in a row.
struct Queue {
    bytes: Vec<u8>,
    lens: [usize; FRAMES],
    /// Bytes there are for each.
    most: usize,
    first: usize,
    count: usize,
}

impl Queue {
    fn new(most: usize) -> Self {
        let bytes = vec![0; most.saturating_mul(FRAMES)];
        Self { bytes, lens: [0; FRAMES], most, first: 0, count: 0 }
    }

    fn is_full(&self) -> bool {
        self.count == FRAMES
    }

    fn slot(&mut self, place: usize) -> Option<(&mut [u8], &mut usize)> {
        let index = self.first.saturating_add(place).checked_rem(FRAMES)?;
        let at = index.saturating_mul(self.most);
        let bytes = self.bytes.get_mut(at..at.saturating_add(self.most))?;
        Some((bytes, self.lens.get_mut(index)?))
    }

    /// Has `fill` put a frame behind the last, and say how long it is; 0 is none.
    fn push(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) {
        if self.is_full() {
            return;
        }
        let most = self.most;
        let pushed = self.slot(self.count).is_some_and(|(bytes, len)| {
            *len = fill(bytes).min(most);
            *len > 0
        });
        self.count = self.count.saturating_add(usize::from(pushed));
    }

    /// Has `take` look at the first frame, which is gone then.
    fn pop<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        if self.count == 0 {
            return None;
        }
        let (bytes, len) = self.slot(0)?;
        let taken = take(bytes.get(..*len).unwrap_or_default());
        self.first = self.first.saturating_add(1).checked_rem(FRAMES)?;
        self.count = self.count.saturating_sub(1);
        Some(taken)
    }
}

/// A network's two queues.
struct Port {
    handle: u64,
    to_guest: Queue,
    from_guest: Queue,
    /// Frames of the guest's that nobody took in time.
    dropped: u64,
}

#[derive(Default)]
struct State {
    ports: Vec<Port>,
    over: bool,
}

impl State {
    fn port(&mut self, handle: u64) -> Option<&mut Port> {
        self.ports.iter_mut().find(|port| port.handle == handle)
    }

    /// The networks with frames for the guest, a bit for each handle.
    fn ready(&self) -> u64 {
        let ready = self.ports.iter().filter(|port| port.to_guest.count > 0);
        let bit = |port: &Port| 1_u64.checked_shl(u32::try_from(port.handle).ok()?);
        ready.filter_map(bit).fold(0, |set, bit| set | bit)
    }
}

/// The desk.
pub struct Desk {
    state: Mutex<State>,
    /// Frames came for the guest, the I/O loop took some of its, or the run is over.
    changed: Condvar,
    /// Wakes the I/O loop.
    wake: Option<Arc<Event>>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("wake", &self.wake).finish_non_exhaustive()
    }
}

impl Desk {
    /// A desk for these networks, each a handle and its MTU. `wake` is signalled when the I/O loop has
    /// something to do.
    pub fn new(ports: impl IntoIterator<Item = (u64, u16)>, wake: Option<Arc<Event>>) -> Self {
        let port = |(handle, mtu): (u64, u16)| {
            let most = ETHERNET.saturating_add(mtu.into());
            let (to_guest, from_guest) = (Queue::new(most), Queue::new(most));
            Port { handle, to_guest, from_guest, dropped: 0 }
        };
        let ports = ports.into_iter().map(port).collect();
        Self { state: Mutex::new(State { ports, over: false }), changed: Condvar::new(), wake }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_loop(&self) {
        if let Some(wake) = &self.wake {
            wake.signal();
        }
    }

    /// The run is over: nobody waits here any more.
    pub fn close(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// Waits until there are frames, for `time` at the most. Which networks have some, a bit for each
    /// handle.
    pub(super) fn wait(&self, time: Duration) -> u64 {
        let until = Instant::now().checked_add(time);
        let mut state = self.lock();
        loop {
            let ready = state.ready();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if ready != 0 || state.over || left == Some(Duration::ZERO) {
                return ready;
            }
            state = match left {
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// A frame of the guest's. One that nobody takes in time is dropped, as on any network.
    pub(super) fn send(&self, handle: u64, slices: &[VolatileSlice<'_>], stop: &Stop) -> Answer {
        let len = slices.iter().fold(0_usize, |sum, slice| sum.saturating_add(slice.len()));
        let mut state = self.lock();
        let fits =
            state.port(handle).is_some_and(|port| (ETHERNET..=port.from_guest.most).contains(&len));
        if !fits {
            return Answer::Invalid;
        }
        let until = Instant::now().checked_add(PATIENCE);
        while state.port(handle).is_some_and(|port| port.from_guest.is_full()) {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_none_or(|left| left.is_zero()) || state.over || stop.requested() {
                if let Some(port) = state.port(handle) {
                    port.dropped = port.dropped.saturating_add(1);
                }
                return Answer::Ok;
            }
            let waited = self.changed.wait_timeout(state, left.unwrap_or_default());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let Some(port) = state.port(handle) else { return Answer::Invalid };
        let first = port.from_guest.count == 0;
        port.from_guest.push(|bytes| gather(slices, bytes));
        drop(state);
        if first {
            self.wake_loop();
        }
        Answer::Ok
    }

    /// The first frame for the guest, into `slices`, and how many bytes; what has no room there is cut off. Where
    /// there is no room at all it stays.
    pub(super) fn receive(&self, handle: u64, slices: &[VolatileSlice<'_>]) -> (Answer, usize) {
        let mut state = self.lock();
        let Some(port) = state.port(handle) else { return (Answer::Invalid, 0) };
        if slices.is_empty() {
            return (Answer::Again, 0);
        }
        let was_full = port.to_guest.is_full();
        let taken = port.to_guest.pop(|bytes| scatter(bytes, slices));
        drop(state);
        if was_full && taken.is_some() {
            self.wake_loop();
        }
        taken.map_or((Answer::Again, 0), |read| (Answer::Ok, read))
    }

    /// The I/O loop takes the first frame of the guest's to `handle`, with room for it in `frame`.
    pub fn take(&self, handle: u64, frame: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        let port = state.port(handle)?;
        let was_full = port.from_guest.is_full();
        let taken = port.from_guest.pop(|bytes| {
            let len = bytes.len().min(frame.len());
            if let (Some(to), Some(from)) = (frame.get_mut(..len), bytes.get(..len)) {
                to.copy_from_slice(from);
            }
            len
        });
        drop(state);
        if was_full {
            self.changed.notify_all();
        }
        taken
    }

    /// Bytes of the largest frame that the I/O loop can bring for `handle` now; 0 when there is no room.
    pub fn room(&self, handle: u64) -> usize {
        let mut state = self.lock();
        state
            .port(handle)
            .filter(|port| !port.to_guest.is_full())
            .map_or(0, |port| port.to_guest.most)
    }

    /// The I/O loop brings a frame from `handle`, in pieces. One that is too long is dropped.
    pub fn bring(&self, handle: u64, pieces: &[&[u8]]) {
        let mut state = self.lock();
        let Some(port) = state.port(handle) else { return };
        port.to_guest.push(|bytes| {
            let mut at = 0_usize;
            for piece in pieces {
                let end = at.saturating_add(piece.len());
                match bytes.get_mut(at..end) {
                    Some(to) => to.copy_from_slice(piece),
                    None => return 0,
                }
                at = end;
            }
            at
        });
        drop(state);
        self.changed.notify_all();
    }

    /// How many frames of the guest's were dropped here, by handle.
    pub fn dropped(&self, handle: u64) -> u64 {
        self.lock().port(handle).map_or(0, |port| port.dropped)
    }
}

fn gather(slices: &[VolatileSlice<'_>], bytes: &mut [u8]) -> usize {
    let mut done = 0_usize;
    for slice in slices {
        let Some(rest) = bytes.get_mut(done..) else { break };
        done = done.saturating_add(slice.read(rest, 0).unwrap_or(0));
    }
    done
}

fn scatter(bytes: &[u8], slices: &[VolatileSlice<'_>]) -> usize {
    let mut done = 0_usize;
    for slice in slices {
        let Some(rest) = bytes.get(done..) else { break };
        done = done.saturating_add(slice.write(rest, 0).unwrap_or(0));
    }
    done
}
