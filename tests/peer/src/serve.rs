//! The end that answers. A connection begins with a header of 9 bytes, a letter and a number (little
//! endian), that says what it is for; one that begins as HTTP does is answered as HTTP. Datagrams come
//! back as they are.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::pattern::{self, CHUNK};

/// How long an end waits for the other before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What comes goes back, until the end.
    Echo,
    /// The pattern comes until the end; then its length goes back.
    Put,
    /// The pattern goes, this long.
    Get,
    /// Nothing comes but the end; after that the pattern goes, this long.
    Late,
    /// It is reset at once.
    Reset,
    /// As Put, but nothing is read for so many milliseconds.
    Slow,
    /// How many connections were reset by the other end goes back, and how many are open.
    Count,
    /// Bytes go until nobody takes them.
    Flood,
    /// Bytes come, and are not looked at.
    Discard,
}

impl Purpose {
    const ALL: [(u8, Self); 9] = [
        (b'e', Self::Echo),
        (b'p', Self::Put),
        (b'g', Self::Get),
        (b'l', Self::Late),
        (b'r', Self::Reset),
        (b's', Self::Slow),
        (b'c', Self::Count),
        (b'f', Self::Flood),
        (b'd', Self::Discard),
    ];

    /// The bytes that a connection for this begins with.
    #[must_use]
    pub fn header(self, number: u64) -> [u8; 9] {
        let mut header = [0; 9];
        let letter = Self::ALL.iter().find(|(_, purpose)| *purpose == self);
        header[0] = letter.map_or(0, |(letter, _)| *letter);
        header[1..].copy_from_slice(&number.to_le_bytes());
        header
    }

    fn of(header: [u8; 9]) -> Option<(Self, u64)> {
        let [letter, number @ ..] = header;
        let (_, purpose) = Self::ALL.iter().find(|(known, _)| *known == letter)?;
        Some((*purpose, u64::from_le_bytes(number)))
    }
}

#[derive(Debug, Default)]
struct Counters {
    all: AtomicU64,
    resets: AtomicU64,
    open: AtomicU64,
}

/// A server on a thread of its own, for as long as the process lives.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    counters: Arc<Counters>,
}

impl Server {
    /// Listens at `address` for connections and for datagrams.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = listener(address)?;
        let address = listener.local_addr()?;
        let datagrams = UdpSocket::bind(address)?;
        let counters = Arc::new(Counters::default());
        let server = Self { address, counters: Arc::clone(&counters) };
        thread::spawn(move || accept(&listener, &counters));
        thread::spawn(move || send_back(&datagrams));
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections that there have been.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.counters.all.load(Relaxed)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.counters.open.load(Relaxed)
    }

    /// Connections that the other end has reset.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.counters.resets.load(Relaxed)
    }
}

/// With a backlog for a thousand at once; the library's is 128.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 1024)?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, counters: &Arc<Counters>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let counters = Arc::clone(counters);
        counters.all.fetch_add(1, Relaxed);
        counters.open.fetch_add(1, Relaxed);
        let work = Arc::clone(&counters);
        // A thousand at once, in a guest with little memory.
        let started = thread::Builder::new().stack_size(CHUNK).spawn(move || {
            if answer(stream, &work).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
            {
                work.resets.fetch_add(1, Relaxed);
            }
            work.open.fetch_sub(1, Relaxed);
        });
        if started.is_err() {
            counters.open.fetch_sub(1, Relaxed);
        }
    }
}

fn answer(mut stream: TcpStream, counters: &Counters) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut header = [0; 9];
    stream.read_exact(&mut header)?;
    if header.starts_with(b"GET /") {
        return http(stream, &header);
    }
    let Some((purpose, number)) = Purpose::of(header) else { return Ok(()) };
    match purpose {
        Purpose::Echo => echo(stream),
        Purpose::Put => take(stream),
        Purpose::Slow => {
            thread::sleep(Duration::from_millis(number));
            take(stream)
        }
        Purpose::Get => give(&mut stream, number),
        Purpose::Late => match stream.read(&mut [0; 16])? {
            0 => give(&mut stream, number),
            _ => Ok(()),
        },
        Purpose::Reset => reset(stream),
        Purpose::Count => {
            stream.write_all(&counters.resets.load(Relaxed).to_le_bytes())?;
            // This one is not counted.
            let open = counters.open.load(Relaxed).saturating_sub(1);
            stream.write_all(&open.to_le_bytes())
        }
        Purpose::Flood => loop {
            stream.write_all(pattern::at(0))?;
        },
        Purpose::Discard => {
            let length = drain(&mut stream)?;
            stream.write_all(&length.to_le_bytes())
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    loop {
        let length = stream.read(&mut bytes)?;
        let Some(read @ [_, ..]) = bytes.get(..length) else {
            return stream.shutdown(Shutdown::Write);
        };
        stream.write_all(read)?;
    }
}

/// Says how much of the pattern came, or nothing when it was something else.
fn take(mut stream: TcpStream) -> io::Result<()> {
    let length = check(&mut stream)?;
    stream.write_all(&length.to_le_bytes())
}

/// Reads to the end what has to be the pattern, and gives its length.
///
/// # Errors
/// When something else comes, or the connection fails.
pub fn check(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let read = stream.read(&mut bytes)?;
        let read = bytes.get(..read).unwrap_or_default();
        if !pattern::is_at(read, length) {
            let why = format!(
                "something else than was sent, in the {} bytes from {length} on",
                read.len()
            );
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        match read.len() as u64 {
            0 => return Ok(length),
            more => length += more,
        }
    }
}

/// Sends `length` bytes of the pattern.
///
/// # Errors
/// When the connection fails.
pub fn give(stream: &mut impl Write, length: u64) -> io::Result<()> {
    let mut sent = 0;
    while sent < length {
        let chunk = pattern::at(sent);
        let some = usize::try_from(length - sent).map_or(CHUNK, |rest| rest.min(CHUNK));
        stream.write_all(chunk.get(..some).unwrap_or_default())?;
        sent += some as u64;
    }
    Ok(())
}

/// Reads to the end, and gives how much that was.
///
/// # Errors
/// When the connection fails.
pub fn drain(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = vec![0; 4 * CHUNK];
    let mut length = 0;
    loop {
        match stream.read(&mut bytes)? as u64 {
            0 => return Ok(length),
            more => length += more,
        }
    }
}

/// Ends a connection with a reset (socket(7), SO_LINGER).
///
/// # Errors
/// When the socket has none to give.
pub fn reset(stream: TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

/// `GET /N`: N bytes of the pattern.
fn http(mut stream: TcpStream, beginning: &[u8]) -> io::Result<()> {
    let mut request = beginning.to_vec();
    let mut bytes = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") && request.len() < 1 << 14 {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            read => request.extend(bytes.get(..read).unwrap_or_default()),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).and_then(|path| path.strip_prefix('/')).unwrap_or_default();
    let length = path.parse().unwrap_or(0);
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    give(&mut stream, length)
}

fn send_back(datagrams: &UdpSocket) {
    let mut bytes = vec![0; CHUNK];
    loop {
        // An error is that of a datagram before this one, which nobody took.
        if let Ok((length, from)) = datagrams.recv_from(&mut bytes) {
            let _ = datagrams.send_to(bytes.get(..length).unwrap_or_default(), from);
        }
    }
}
