//! The end that asks, of a server of this crate wherever it is. Each question gives one line: what was
//! measured or counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::pattern;
use crate::serve::{self, PATIENCE, Purpose, check, give};

/// A connection for `purpose`.
fn connect(server: SocketAddr, purpose: Purpose, number: u64) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&purpose.header(number))?;
    Ok(stream)
}

fn number(stream: &mut TcpStream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn at_the_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "more than was to come")),
    }
}

fn exactly(length: u64, wanted: u64) -> io::Result<u64> {
    match length == wanted {
        true => Ok(length),
        false => {
            let why = format!("{length} bytes came, not {wanted}");
            Err(io::Error::new(ErrorKind::UnexpectedEof, why))
        }
    }
}

/// Sends the pattern, ends its half of the connection, and is told afterwards how much came.
///
/// # Errors
/// When it was anything else.
pub fn put(server: SocketAddr, length: u64) -> io::Result<u64> {
    putting(connect(server, Purpose::Put, 0)?, length)
}

/// The same to a server that reads nothing for so long.
///
/// # Errors
/// As [`put`].
pub fn put_slowly(server: SocketAddr, length: u64, pause: Duration) -> io::Result<u64> {
    let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    putting(connect(server, Purpose::Slow, pause)?, length)
}

fn putting(mut stream: TcpStream, length: u64) -> io::Result<u64> {
    give(&mut stream, length)?;
    stream.shutdown(Shutdown::Write)?;
    let came = number(&mut stream)?;
    at_the_end(&mut stream)?;
    exactly(came, length)
}

/// Is sent the pattern, after a pause of its own.
///
/// # Errors
/// When anything else comes.
pub fn get(server: SocketAddr, length: u64, pause: Duration) -> io::Result<u64> {
    let mut stream = connect(server, Purpose::Get, length)?;
    thread::sleep(pause);
    exactly(check(&mut stream)?, length)
}

/// Ends its half of the connection, and is sent the pattern on the other half afterwards.
///
/// # Errors
/// When anything else comes.
pub fn late(server: SocketAddr, length: u64) -> io::Result<u64> {
    let mut stream = connect(server, Purpose::Late, length)?;
    stream.shutdown(Shutdown::Write)?;
    exactly(check(&mut stream)?, length)
}

/// Sends and receives at once.
///
/// # Errors
/// When what comes back is not what was sent.
pub fn echo(server: SocketAddr, length: u64) -> io::Result<u64> {
    let mut stream = connect(server, Purpose::Echo, 0)?;
    let mut writer = stream.try_clone()?;
    let sending = thread::spawn(move || {
        give(&mut writer, length)?;
        writer.shutdown(Shutdown::Write)
    });
    let came = check(&mut stream)?;
    sending.join().map_err(|_| io::Error::other("the sender died"))??;
    exactly(came, length)
}

/// Is told of a reset as one.
///
/// # Errors
/// When it is not.
pub fn reset_by_server(server: SocketAddr) -> io::Result<()> {
    let mut stream = connect(server, Purpose::Reset, 0)?;
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => Err(io::Error::other(format!("not a reset, but {other:?}"))),
    }
}

/// Resets connections, and asks how many resets the server has seen since.
///
/// # Errors
/// When it has not seen all in time.
pub fn reset_by_client(server: SocketAddr, count: u64) -> io::Result<u64> {
    let (before, _) = counters(server)?;
    for _ in 0..count {
        let mut stream = connect(server, Purpose::Echo, 0)?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        serve::reset(stream)?;
    }
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = counters(server)?.0 - before;
        if seen >= count {
            return Ok(seen);
        }
        if Instant::now() >= until {
            return Err(io::Error::other(format!("the server saw {seen} of {count} resets")));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// How many resets the server has seen, and how many of its connections are open.
///
/// # Errors
/// When it does not say.
pub fn counters(server: SocketAddr) -> io::Result<(u64, u64)> {
    let mut stream = connect(server, Purpose::Count, 0)?;
    Ok((number(&mut stream)?, number(&mut stream)?))
}

/// Connections that are open at once, each of which answers; all are opened before any speaks.
///
/// # Errors
/// When one does not.
pub fn many(server: SocketAddr, count: u64) -> io::Result<Vec<TcpStream>> {
    let open = |_| connect(server, Purpose::Echo, 0);
    let mut streams = (0..count).map(open).collect::<io::Result<Vec<_>>>()?;
    for stream in &mut streams {
        stream.write_all(b"?")?;
    }
    for stream in &mut streams {
        stream.read_exact(&mut [0])?;
    }
    Ok(streams)
}

/// The same, but each has answered before the next one is opened.
///
/// # Errors
/// As [`many`].
pub fn one_by_one(server: SocketAddr, count: u64) -> io::Result<Vec<TcpStream>> {
    let open = |_| many(server, 1);
    Ok((0..count).map(open).collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Connections one after the other, each of which answers and is ended by this end.
///
/// # Errors
/// When one does not.
pub fn row(server: SocketAddr, count: u64) -> io::Result<Duration> {
    let begin = Instant::now();
    for _ in 0..count {
        let mut stream = connect(server, Purpose::Echo, 0)?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
    }
    Ok(begin.elapsed())
}

/// A byte there and back, so often: the times, sorted.
///
/// # Errors
/// When one does not come back.
pub fn round_trips(server: SocketAddr, count: usize) -> io::Result<Vec<Duration>> {
    let mut stream = connect(server, Purpose::Echo, 0)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// Sends for a while on so many connections: bytes that came, and the time until the last had.
///
/// # Errors
/// When a connection fails.
pub fn bulk_up(server: SocketAddr, streams: usize, time: Duration) -> io::Result<(u64, Duration)> {
    in_parallel(streams, move || {
        let begin = Instant::now();
        let mut stream = connect(server, Purpose::Discard, 0)?;
        let mut sent = 9;
        while begin.elapsed() < time {
            stream.write_all(pattern::at(0))?;
            sent += pattern::CHUNK as u64;
        }
        stream.shutdown(Shutdown::Write)?;
        exactly(number(&mut stream)?, sent - 9)
    })
}

/// Receives for a while on so many connections.
///
/// # Errors
/// When a connection fails.
pub fn bulk_down(
    server: SocketAddr,
    streams: usize,
    time: Duration,
) -> io::Result<(u64, Duration)> {
    in_parallel(streams, move || {
        let begin = Instant::now();
        let mut stream = connect(server, Purpose::Flood, 0)?;
        let mut bytes = vec![0; 4 * pattern::CHUNK];
        let mut came = 0;
        while begin.elapsed() < time {
            came += match stream.read(&mut bytes)? as u64 {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                more => more,
            };
        }
        serve::reset(stream)?;
        Ok(came)
    })
}

/// Receives for a while: bytes that came, and the longest time in which none did.
///
/// # Errors
/// When the connection fails, or ends.
pub fn silence(server: SocketAddr, time: Duration) -> io::Result<(u64, Duration)> {
    let begin = Instant::now();
    let mut stream = connect(server, Purpose::Flood, 0)?;
    let mut bytes = vec![0; pattern::CHUNK];
    let (mut came, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
    while begin.elapsed() < time {
        came += match stream.read(&mut bytes)? as u64 {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => more,
        };
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    serve::reset(stream)?;
    Ok((came, longest))
}

fn in_parallel(
    streams: usize,
    one: impl Fn() -> io::Result<u64> + Clone + Send + 'static,
) -> io::Result<(u64, Duration)> {
    let begin = Instant::now();
    let start = |_| {
        let one = one.clone();
        thread::spawn(one)
    };
    let running: Vec<_> = (0..streams).map(start).collect();
    let mut sum = 0;
    for stream in running {
        sum += stream.join().map_err(|_| io::Error::other("a stream died"))??;
    }
    Ok((sum, begin.elapsed()))
}

/// Datagrams there and back, one at a time; one that is lost is sent again, twice.
///
/// # Errors
/// When one does not come back as it was.
pub fn datagrams(server: SocketAddr, size: usize, count: u64) -> io::Result<u64> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut bytes = vec![0; pattern::CHUNK];
    for turn in 0..count {
        let sent = pattern::at(turn * 7).get(..size).unwrap_or_default();
        let mut tries = 0;
        let length = loop {
            socket.send(sent)?;
            match socket.recv(&mut bytes) {
                Ok(length) => break length,
                Err(error) if tries == 2 || error.kind() == ErrorKind::ConnectionRefused => {
                    return Err(error);
                }
                Err(_) => tries += 1,
            }
        };
        if bytes.get(..length) != Some(sent) {
            return Err(io::Error::other(format!("{length} bytes that are not the {size} sent")));
        }
    }
    Ok(count)
}

/// An HTTP request: the body of its answer.
///
/// # Errors
/// When there is no whole answer, or one that is no success.
pub fn http(server: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let context = |error: io::Error| format!("http://{server}{path}: {error}");
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(context)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(context)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").map_err(context)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(context)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.map(|end| answer.split_off(end + 4));
    match body {
        Some(body) if answer.starts_with(b"HTTP/1.") && answer.get(8..12) == Some(b" 200") => {
            Ok(body)
        }
        _ => Err(format!("http://{server}{path}: {}", answer.escape_ascii())),
    }
}

/// The question that the words of a command line ask.
///
/// # Errors
/// When it is none, or the answer is not what it has to be.
pub fn by_words(words: &[String]) -> Result<String> {
    let mut words = words.iter().map(String::as_str);
    let what = words.next().unwrap_or_default();
    let server: SocketAddr = words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or("an address and a port are missing")?;
    let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let count = |at| usize::try_from(number(at)).unwrap_or(usize::MAX);
    let millis = |at| Duration::from_millis(number(at));
    let bytes = |result: io::Result<u64>| result.map(|length| format!("{length} bytes"));
    let speed =
        |(bytes, time): (u64, Duration)| format!("{bytes} bytes in {} us", time.as_micros());
    let begin = Instant::now();
    let answer = match what {
        "put" => bytes(put(server, number(0))),
        "put-slowly" => bytes(put_slowly(server, number(0), millis(1))),
        "get" => bytes(get(server, number(0), millis(1))),
        "late" => bytes(late(server, number(0))),
        "echo" => bytes(echo(server, number(0))),
        "is-reset" => reset_by_server(server).map(|()| "reset".to_owned()),
        "resets" => reset_by_client(server, number(0)).map(|seen| format!("{seen} resets")),
        "many" => many(server, number(0)).map(|streams| format!("{} at once", streams.len())),
        "idle" => one_by_one(server, number(0)).map(|streams| {
            println!("{} idle", streams.len());
            loop {
                thread::park();
            }
        }),
        "row" => {
            row(server, number(0)).map(|time| format!("{} in {} us", number(0), time.as_micros()))
        }
        "round-trips" => round_trips(server, count(0)).map(|times| percentiles(&times)),
        "up" => bulk_up(server, count(0), millis(1)).map(speed),
        "down" => bulk_down(server, count(0), millis(1)).map(speed),
        "silence" => silence(server, millis(0))
            .map(|(bytes, gap)| format!("{bytes} bytes, longest silence {} us", gap.as_micros())),
        "datagrams" => {
            datagrams(server, count(0), number(1)).map(|count| format!("{count} datagrams"))
        }
        "open" => counters(server).map(|(_, open)| format!("{open} open")),
        other => return Err(format!("nobody knows how to ask `{other}`")),
    };
    answer.map_err(|error| {
        format!(
            "{what} {server}: {:?}: {error}, after {} ms",
            error.kind(),
            begin.elapsed().as_millis()
        )
    })
}

fn percentiles(times: &[Duration]) -> String {
    let of = |share: usize| {
        let at = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(0, Duration::as_micros)
    };
    format!("p50 {} us p99 {} us", of(50), of(99))
}
