//! Streams over vsock(7), for a guest: to programs of the host's, and from them.

// UNSAFETY: no safe interface knows such addresses.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketType};

/// The host's address, and anybody's.
const HOST: u32 = 2;
const ANY: u32 = u32::MAX;

/// `AF_VSOCK`.
const FAMILY: u16 = 40;

/// struct `sockaddr_vm` of Linux.
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

// SAFETY: the pointer is to an address of the family it says, and the length is its own.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let len = SocketAddrLen::try_from(size_of::<Self>()).unwrap_or_default();
        f(std::ptr::from_ref(self).cast(), len)
    }
}

fn address(cid: u32, port: u32) -> Address {
    Address { family: FAMILY, reserved: 0, port, cid, zero: [0; 4] }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket(AddressFamily::from_raw(FAMILY), SocketType::STREAM, None)?)
}

fn connect(port: u32) -> io::Result<UnixStream> {
    let fd = socket()?;
    rustix::net::connect(&fd, &address(HOST, port))?;
    // Of a stream of any family.
    Ok(fd.into())
}

/// Sends `file` to the host's port, and waits until the other end has closed.
fn put(port: u32, file: &str) -> io::Result<u64> {
    let mut stream = connect(port)?;
    let sent = io::copy(&mut File::open(file)?, &mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0])? {
        0 => Ok(sent),
        _ => Err(io::Error::other("an answer to what was only sent")),
    }
}

/// Writes what the host's port sends into `file`.
fn get(port: u32, file: &str) -> io::Result<u64> {
    io::copy(&mut connect(port)?, &mut File::create(file)?)
}

/// Makes `count` connections with the host's port, one behind the other, and has a byte come back on
/// each.
fn row(port: u32, count: u64) -> io::Result<u64> {
    for nth in 0..count {
        let mut stream = connect(port)?;
        let byte = nth.to_le_bytes();
        stream.write_all(&byte[..1])?;
        let mut back = [0];
        stream.read_exact(&mut back)?;
        if back[0] != byte[0] {
            return Err(io::Error::other("another byte came back"));
        }
    }
    Ok(count)
}

/// Gives back what comes at `port`, on as many connections as come, for ever.
fn echo(port: u32) -> io::Result<u64> {
    let fd = socket()?;
    rustix::net::bind(&fd, &address(ANY, port))?;
    rustix::net::listen(&fd, 128)?;
    println!("serves");
    loop {
        let stream: UnixStream = rustix::net::accept(&fd)?.into();
        thread::spawn(move || {
            let mut to = stream.try_clone()?;
            io::copy(&mut &stream, &mut to)?;
            to.shutdown(Shutdown::Write)
        });
    }
}

/// `put PORT FILE`, `get PORT FILE`, `row PORT COUNT`, `echo PORT`.
///
/// # Errors
/// What went wrong, or that nobody knows the words.
pub fn by_words(words: &[String]) -> crate::Result<String> {
    let word = |at: usize| words.get(at).map(String::as_str);
    let port = word(1).and_then(|port| port.parse().ok()).ok_or("a port is missing")?;
    let more = word(2).unwrap_or_default();
    let done = match word(0).unwrap_or_default() {
        "put" => put(port, more),
        "get" => get(port, more),
        "row" => row(port, more.parse().map_err(|_| "a count is missing")?),
        "echo" => echo(port),
        other => return Err(format!("nobody knows `{other}`")),
    };
    done.map(|count| count.to_string()).map_err(|error| format!("{}: {error}", words.join(" ")))
}
