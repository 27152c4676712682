//! What only Linux does this way.

// UNSAFETY: locks of open file descriptions, preadv2 and BLKDISCARD have no safe interface
// in libc or rustix.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with,
    socket_with,
};
use rustix::process::{getpriority_process, setpriority_process};

use crate::io::event::Event;
use crate::io::lock::{Holder, Mode};
use crate::net::Transport;

/// The descriptors of an event: to read, and to write where that is another. An eventfd, as KVM's
/// doorbells need.
pub(super) fn event() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    Ok((eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, None))
}

/// RAM in bytes (sysinfo(2)).
pub(super) fn host_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    info.totalram.checked_mul(info.mem_unit.into())
}

/// How much nicer a thread is that gives way (setpriority(2), of the calling thread alone): one that has slept for
/// long still takes the CPU when it is woken, one that is busy does not.
const NICER: i32 = 3;

pub(super) fn give_way() {
    // Where a sandbox around us refuses it, the thread is as it was, and nothing depends on it.
    let _ = getpriority_process(None)
        .and_then(|nice| setpriority_process(None, nice.saturating_add(NICER).min(19)));
}

/// Bytes that QEMU locks to say what it does to an image and what others may not do meanwhile
/// (block/file-posix.c, docs/system/qemu-block-drivers.rst.inc "Disk image file locking"): 100 and
/// on for the one, 200 and on for the other. Bit 0 is reading, 1 writing, 3 changing the length.
mod qemu {
    pub(super) const READS: i64 = 100;
    pub(super) const WRITES: i64 = 101;
    pub(super) const RESIZES: i64 = 103;
    pub(super) const NO_READING: i64 = 200;
    pub(super) const NO_WRITING: i64 = 201;
    pub(super) const NO_RESIZING: i64 = 203;
}

/// Locks `file` with locks of its open file description (fcntl(2), F_OFD_SETLK), so that closing
/// another descriptor of ours for the same file does not drop them. A writer locks the whole file
/// but for [`SIGNATURE`]; a reader does as QEMU's readers do. Returns whether nobody was in the way.
pub(super) fn lock(file: &File, mode: Mode) -> io::Result<bool> {
    let done = match mode {
        Mode::Write => set(file, libc::F_WRLCK, 0, SIGNATURE)?,
        Mode::Read => {
            let ours = [qemu::READS, qemu::NO_WRITING, qemu::NO_RESIZING];
            let others = [qemu::WRITES, qemu::RESIZES, qemu::NO_READING];
            all(ours, |byte| set(file, libc::F_RDLCK, byte, 1))?
                && all(others, |byte| is_free(file, byte))?
        }
    };
    match done {
        true => sign(file),
        false => unlock(file),
    }
    Ok(done)
}

/// The last byte a file could have. Whoever locks a disk locks this one as well, by the process's own
/// kind of lock (fcntl(2), F_SETLK): it stops nobody, and the kernel tells whose it is. In the jail a
/// process's descriptors are not to be seen in /proc.
const SIGNATURE: i64 = i64::MAX;

fn sign(file: &File) {
    // A disk without it is locked all the same, and whoever finds it so is told less.
    let _ = fcntl(file, libc::F_SETLK, &mut flock(libc::F_RDLCK, SIGNATURE, 1));
}

/// A process that has signed `file`.
fn signer(file: &File) -> Option<u32> {
    let mut lock = flock(libc::F_WRLCK, SIGNATURE, 1);
    fcntl(file, libc::F_GETLK, &mut lock).ok()?;
    let signed = i32::from(lock.l_type) != libc::F_UNLCK;
    u32::try_from(lock.l_pid).ok().filter(|pid| signed && *pid > 0)
}

/// Gives every lock of `file` back.
pub(super) fn unlock(file: &File) {
    // Cannot fail for a descriptor that is open, and what is not locked stays so.
    let _ = set(file, libc::F_UNLCK, 0, 0);
}

fn all(bytes: [i64; 3], check: impl Fn(i64) -> io::Result<bool>) -> io::Result<bool> {
    for byte in bytes {
        if !check(byte)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sets or drops a lock on `len` bytes from `start` on; 0 bytes are all. Returns whether it could.
fn set(file: &File, kind: i32, start: i64, len: i64) -> io::Result<bool> {
    match fcntl(file, libc::F_OFD_SETLK, &mut flock(kind, start, len)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether nobody else has `byte` locked in any way.
fn is_free(file: &File, byte: i64) -> io::Result<bool> {
    let mut lock = flock(libc::F_WRLCK, byte, 1);
    fcntl(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(i32::from(lock.l_type) == libc::F_UNLCK)
}

fn flock(kind: i32, start: i64, len: i64) -> libc::flock {
    let narrow = |value: i32| libc::c_short::try_from(value).unwrap_or_default();
    libc::flock {
        l_type: narrow(kind),
        l_whence: narrow(libc::SEEK_SET),
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

fn fcntl(file: &File, command: i32, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: both lock commands take a flock, which lives as long as the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The processes that have `file` open, as far as this user may see (proc(5)), and one that has
/// signed it.
pub(super) fn holders(file: &File) -> Vec<Holder> {
    let mut holders = openers(file);
    if let Some(pid) = signer(file).filter(|pid| holders.iter().all(|holder| holder.pid != *pid)) {
        holders.push(Holder {
            pid,
            name: name(&Path::new("/proc").join(pid.to_string())),
            locks: true,
        });
    }
    holders
}

/// A process's name.
fn name(process: &Path) -> Vec<u8> {
    let mut name = fs::read(process.join("comm")).unwrap_or_default();
    name.truncate(name.trim_ascii_end().len());
    name
}

fn openers(file: &File) -> Vec<Holder> {
    let Ok(wanted) = file.metadata() else { return Vec::new() };
    processes()
        .filter_map(|(pid, process)| {
            let locks = holds(&process, (wanted.dev(), wanted.ino()))?;
            Some(Holder { pid, name: name(&process), locks })
        })
        .collect()
}

/// Whether `process` has a lock on the file with that device and inode; nothing if it has not even
/// opened it.
fn holds(process: &Path, wanted: (u64, u64)) -> Option<bool> {
    let descriptors = fs::read_dir(process.join("fd")).ok()?.flatten();
    let same = descriptors.filter(|entry| {
        let found = fs::metadata(entry.path());
        found.is_ok_and(|found| (found.dev(), found.ino()) == wanted)
    });
    same.map(|entry| {
        let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name()));
        info.unwrap_or_default().lines().any(|line| line.starts_with("lock:"))
    })
    .max()
}

/// The process that listens at the other end of `fd`, a socket in the file system that has just been
/// connected (unix(7), SO_PEERCRED).
pub(super) fn listener(fd: &OwnedFd) -> Option<Holder> {
    let pid = rustix::net::sockopt::socket_peercred(fd).ok()?.pid;
    let pid = u32::try_from(pid.as_raw_nonzero().get()).ok()?;
    Some(Holder { pid, name: name(&Path::new("/proc").join(pid.to_string())), locks: false })
}

/// The processes that listen at `port`, as far as this user may see (proc(5)).
pub(super) fn port_holders(transport: Transport, port: u16) -> Vec<Holder> {
    let sockets: Vec<_> = match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    }
    .into_iter()
    .flat_map(|table| listeners(&fs::read_to_string(table).unwrap_or_default(), transport, port))
    .map(|inode| format!("socket:[{inode}]"))
    .collect();
    let has = |process: &Path| {
        let mut descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors.any(|entry| {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            sockets.iter().any(|socket| target == Path::new(socket))
        })
    };
    let holding = processes().filter(|(_, process)| !sockets.is_empty() && has(process));
    holding.map(|(pid, process)| Holder { pid, name: name(&process), locks: false }).collect()
}

/// The inodes of sockets that listen at `port`, out of a table of /proc/net. Columns: number, local
/// and remote address, state, queues, timer, retransmissions, user, timeout, inode.
fn listeners(table: &str, transport: Transport, port: u16) -> Vec<String> {
    let state = match transport {
        Transport::Tcp => "0A", // TCP_LISTEN
        Transport::Udp => "07", // TCP_CLOSE: not connected
    };
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let (_, local) = columns.nth(1)?.rsplit_once(':')?;
        let here = u16::from_str_radix(local, 16).ok()? == port && columns.nth(1)? == state;
        here.then(|| columns.nth(5).map(str::to_owned))?
    });
    lines.collect()
}

/// All processes: their ids, and their directories.
fn processes() -> impl Iterator<Item = (u32, std::path::PathBuf)> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    })
}

/// preadv2(2): reads what is in the page cache, and no more. `offset` has been checked.
pub(super) fn read_cached(file: &File, vectors: &[libc::iovec], offset: i64) -> io::Result<usize> {
    let count = libc::c_int::try_from(vectors.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: every vector is a range of guest memory that outlives the call, and guest memory is
    // plain bytes that anybody may write at any time.
    let read = unsafe {
        libc::preadv2(file.as_raw_fd(), vectors.as_ptr(), count, offset, libc::RWF_NOWAIT)
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// fallocate(2): a hole, which reads as zeros. Of a block device: zeros, unmapped.
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    allocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
}

/// fallocate(2): zeros, which have their room.
pub(super) fn zero_range(file: &File, offset: u64, len: u64) -> io::Result<()> {
    // A block device has its size, and insists that it is kept.
    allocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, len)
}

fn allocate(file: &File, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, flags, offset, len))?)
}

/// BLKDISCARD (linux/fs.h): _IO(0x12, 119).
const BLKDISCARD: u16 = 0x1277;

/// Tells a block device that these bytes do not matter.
pub(super) fn discard_on_device(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: BLKDISCARD reads two quadwords, which live as long as the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD.into(), range.as_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What several threads wait for (epoll(7)). Edge-triggered: a signal wakes one thread, once, and
/// events need not be cleared, whose counters nobody lives to see at their end.
#[derive(Debug)]
pub(super) struct Set(OwnedFd);

impl Set {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    pub(super) fn add(&self, event: &Event, number: usize) -> io::Result<()> {
        let data = EventData::new_u64(number as u64);
        Ok(epoll::add(&self.0, event, data, EventFlags::IN | EventFlags::ET)?)
    }

    pub(super) fn wait(
        &self,
        _events: &[Arc<Event>],
        timeout: Option<Duration>,
        mut woken: impl FnMut(usize),
    ) -> io::Result<()> {
        // Too long to be told is for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut ready = [MaybeUninit::uninit(); 8];
        let (ready, _) = match epoll::wait(&self.0, &mut ready, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            result => result?,
        };
        for event in ready {
            woken(usize::try_from(event.data.u64()).unwrap_or(usize::MAX));
        }
        Ok(())
    }
}

/// Flags of every socket.
const SOCKET: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Flags of everything that is sent: no SIGPIPE.
pub(super) const SEND: SendFlags = SendFlags::NOSIGNAL;

/// A socket that does not wait, and that no child has.
pub(super) fn socket(
    family: AddressFamily,
    kind: SocketType,
    protocol: Option<Protocol>,
) -> Result<OwnedFd, Errno> {
    socket_with(family, kind, SOCKET, protocol)
}

/// The next connection, which does not wait either, and where it comes from.
pub(super) fn accept(fd: &OwnedFd) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
    acceptfrom_with(fd, SOCKET)
}

/// How many vectors a message has. The types differ among C libraries.
pub(super) fn set_length(header: &mut libc::msghdr, count: usize) {
    #[allow(clippy::useless_conversion, reason = "glibc's type is usize")]
    {
        header.msg_iovlen = count.try_into().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_that_gives_way_is_nicer_than_before_and_its_process_is_not() {
        // proc(5): field 19, counted from behind the name.
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = stat.rsplit_once(") ").unwrap().1;
            fields.split(' ').nth(19 - 3).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let other = std::thread::spawn(move || {
            super::give_way();
            nice()
        });
        assert_eq!(other.join().unwrap(), (before + super::NICER).min(19));
        assert_eq!(nice(), before);
    }
}
