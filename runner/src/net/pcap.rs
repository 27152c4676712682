//! What goes over a network, written to a file for tcpdump and Wireshark: a link before another
//! (draft-ietf-opsawg-pcap, with times in nanoseconds and link type 1, Ethernet).
//!
//! Frames are written as they are: a segment to be cut is one large frame, and a checksum that is left
//! to others is not there yet.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vm_memory::VolatileSlice;

use super::frame::{Bytes, Frame, HEADER, LARGEST, Offload};
use super::{Inbox, Link, Offer, Put, Sent};
use crate::io::event_loop::{Ready, Watcher};
use crate::log::printable_path;
use crate::warning;

/// Times in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;

/// How captures begin, in either order of bytes: times in micro- or nanoseconds, and the next
/// generation of the format (draft-ietf-opsawg-pcapng).
const CAPTURES: [u32; 5] = [0xa1b2_c3d4, 0xd4c3_b2a1, MAGIC, 0x4d3c_b2a1, 0x0a0d_0d0a];

/// Bytes of a packet's header.
const RECORD: usize = 16;

/// Room for what has not been written yet: some segments of the largest size.
const ROOM: usize = 256 << 10;

/// No longer than this does a frame wait to be written.
const DELAY: Duration = Duration::from_millis(100);

/// The file.
#[derive(Debug)]
struct Capture {
    /// None when it has failed, which has been said.
    file: Option<Arc<File>>,
    name: String,
    /// What has not been written yet.
    waiting: Vec<u8>,
    /// When it is to be.
    due: Option<Duration>,
    /// The time of day when the run began, as far as is known.
    began: Option<Duration>,
}

/// A link whose frames are written to a file.
#[derive(Debug)]
pub struct Recorded {
    link: Box<dyn Link>,
    capture: Capture,
}

/// Opens the file at `path` for what goes over the network. A capture of an earlier run is replaced, as
/// by `tcpdump -w`; nothing else is.
///
/// # Errors
/// One sentence.
pub fn create(path: &Path) -> Result<File, String> {
    let name = printable_path(path);
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(libc::ELOOP) => format!("--pcap {name}: a symbolic link: name the file itself"),
        _ => format!("--pcap {name}: {error}: name a file in a folder that you may write to"),
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A FIFO would wait for its other end.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!("--pcap {name}: no regular file: name another"));
    }
    if file.try_lock().is_err_and(|error| matches!(error, TryLockError::WouldBlock)) {
        return Err(format!("--pcap {name}: another run writes it: name another"));
    }
    if metadata.len() > 0 {
        let mut magic = [0; 4];
        let read = file.read_exact(&mut magic);
        if read.is_err() || !CAPTURES.contains(&u32::from_le_bytes(magic)) {
            return Err(format!(
                "--pcap {name}: there is a file that is no capture, and it would be lost: name another"
            ));
        }
    }
    Ok(file)
}

impl Recorded {
    /// Writes what goes over `link` to `file`, which is called `name`, and empties that first.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(link: Box<dyn Link>, file: Arc<File>, name: &str) -> Result<Self, String> {
        let failed = |error: io::Error| format!("--pcap {name}: {error}");
        // The place in it is behind what was looked at.
        io::Seek::rewind(&mut &*file).and_then(|()| file.set_len(0)).map_err(failed)?;
        let largest = u32::try_from(LARGEST).unwrap_or(u32::MAX);
        let words = [MAGIC, 2 | 4 << 16, 0, 0, largest, 1];
        let header: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        (&*file).write_all(&header).map_err(failed)?;
        let capture = Capture {
            file: Some(file),
            name: name.to_owned(),
            waiting: Vec::with_capacity(ROOM),
            due: None,
            began: None,
        };
        Ok(Self { link, capture })
    }
}

impl Capture {
    /// A frame that begins `skip` bytes into `bytes`.
    fn frame(&mut self, bytes: Bytes<'_>, now: Duration) {
        let len = bytes.len().min(LARGEST);
        let Some(place) = self.record(len, now) else { return };
        // Guest memory may change under us: what it is now is what is kept.
        bytes.take(len).copy_to(place);
    }

    /// A frame in pieces of our own memory.
    fn pieces(&mut self, pieces: &[&[u8]], now: Duration) {
        let len = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
        let Some(place) = self.record(len.min(LARGEST), now) else { return };
        let bytes = pieces.iter().flat_map(|piece| piece.iter());
        for (to, from) in place.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    /// Room for a frame of `len` bytes, behind its header.
    fn record(&mut self, len: usize, now: Duration) -> Option<&mut [u8]> {
        let whole = RECORD.saturating_add(len);
        if self.waiting.len().saturating_add(whole) > ROOM {
            self.write();
        }
        self.file.as_ref()?;
        let time = self.began(now).saturating_add(now);
        // In 32 bits until the year 2106, as the format has it.
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let bytes = u32::try_from(len).unwrap_or(u32::MAX);
        let words = [seconds, time.subsec_nanos(), bytes, bytes];
        self.waiting.extend(words.into_iter().flat_map(u32::to_le_bytes));
        self.due.get_or_insert(now.saturating_add(DELAY));
        let at = self.waiting.len();
        self.waiting.resize(at.saturating_add(len), 0);
        self.waiting.get_mut(at..)
    }

    fn began(&mut self, now: Duration) -> Duration {
        *self.began.get_or_insert_with(|| {
            let day = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            day.saturating_sub(now)
        })
    }

    fn write_if_due(&mut self, now: Duration) {
        if self.due.is_some_and(|due| due <= now) {
            self.write();
        }
    }

    /// Writes what waits. A file that takes no more is left as it is, and that is said.
    fn write(&mut self) {
        self.due = None;
        if let Some(file) = &self.file
            && let Err(error) = (&**file).write_all(&self.waiting)
        {
            warning!("--pcap {}: {error}: nothing more is written there", self.name);
            self.file = None;
        }
        self.waiting.clear();
    }
}

/// The guest's room, and a look at what goes into it.
struct Seen<'a> {
    inbox: &'a mut dyn Inbox,
    capture: &'a mut Capture,
    now: Duration,
}

impl Inbox for Seen<'_> {
    fn room(&mut self, most: usize) -> usize {
        self.inbox.room(most)
    }

    fn put(&mut self, offload: Offload, pieces: &[&[u8]]) -> Put {
        let put = self.inbox.put(offload, pieces);
        if put == Put::Done {
            self.capture.pieces(pieces, self.now);
        }
        put
    }

    fn fill(
        &mut self,
        most: usize,
        with_header: bool,
        read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Put> {
        let (capture, now) = (&mut *self.capture, self.now);
        let skip = if with_header { HEADER } else { 0 };
        self.inbox.fill(most, with_header, &mut |buffers| {
            let len = read(buffers)?;
            capture.frame(Bytes::new(buffers).take(len).skip(skip), now);
            Ok(len)
        })
    }
}

impl Link for Recorded {
    fn offer(&self) -> Offer {
        self.link.offer()
    }

    fn descriptors(&self) -> u64 {
        self.link.descriptors()
    }

    fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        self.link.watch(watcher)
    }

    fn activate(&mut self, features: Option<u64>) {
        self.link.activate(features);
    }

    fn send(&mut self, frame: &Frame<'_>, now: Duration) -> Sent {
        let sent = self.link.send(frame, now);
        if sent == Sent::Done {
            self.capture.frame(frame.bytes, now);
        }
        sent
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, now: Duration) {
        let capture = &mut self.capture;
        self.link.receive(&mut Seen { inbox, capture, now }, now);
        self.capture.write_if_due(now);
    }

    fn ready(&mut self, ready: Ready, now: Duration) {
        self.link.ready(ready, now);
    }

    fn deadline(&self) -> Option<Duration> {
        [self.link.deadline(), self.capture.due].into_iter().flatten().min()
    }

    fn finish(&mut self) {
        self.link.finish();
        self.capture.write();
    }
}

#[cfg(test)]
mod tests;
