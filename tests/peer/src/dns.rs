//! A name server for tests (RFC 1035, EDNS as in RFC 6891): whatever the question is, the answer is
//! addresses of 192.0.2.0/24. A name that begins with a number has so many of them, which with 30 and
//! more is too long for a datagram without EDNS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

/// Bytes of a header.
const HEADER: usize = 12;
/// What a datagram may have without EDNS.
const SHORT: usize = 512;
/// Response, recursion desired and available; truncated.
const ANSWERED: u8 = 0x81;
const TRUNCATED: u8 = 0x02;
const AVAILABLE: u8 = 0x80;

/// Answers at `address`, on threads of its own.
///
/// # Errors
/// When the address cannot be had.
pub fn start(address: SocketAddr) -> io::Result<()> {
    let datagrams = UdpSocket::bind(address)?;
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            let Ok((length, from)) = datagrams.recv_from(&mut bytes) else { continue };
            let question = bytes.get(..length).unwrap_or_default();
            if let Some(answer) = answer(question, room(question)) {
                let _ = datagrams.send_to(&answer, from);
            }
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || stream_of_questions(stream));
        }
    });
    Ok(())
}

/// Each with its length before it (RFC 1035 §4.2.2).
fn stream_of_questions(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question)?;
        let Some(answer) = answer(&question, usize::from(u16::MAX)) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
    }
}

/// The end of the question's name, type and class.
fn end_of_question(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 5).filter(|end| *end <= message.len()),
            label => at += label + 1,
        }
    }
}

/// What the one who asks has room for: the class of an OPT record, the first behind the question.
fn room(message: &[u8]) -> usize {
    let opt = || {
        let record = message.get(end_of_question(message)?..)?;
        let class = record.get(3..5)?.try_into().ok()?;
        record.starts_with(&[0, 0, 41]).then(|| usize::from(u16::from_be_bytes(class)))
    };
    opt().unwrap_or(SHORT).max(SHORT)
}

fn answer(message: &[u8], room: usize) -> Option<Vec<u8>> {
    let question = message.get(HEADER..end_of_question(message)?)?;
    let label = question.get(1..=usize::from(*question.first()?))?;
    let addresses = std::str::from_utf8(label).ok().and_then(|label| label.parse().ok());
    let addresses: u8 = addresses.unwrap_or(1);
    let mut records = Vec::new();
    for address in 1..=addresses {
        // The name above, an address, of the Internet, for a minute.
        records.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, address]);
    }
    let fits = HEADER + question.len() + records.len() <= room;
    let (flags, count) = if fits { (ANSWERED, addresses) } else { (ANSWERED | TRUNCATED, 0) };
    let mut bytes = message.get(..2)?.to_vec();
    bytes.extend([flags, AVAILABLE, 0, 1, 0, count, 0, 0, 0, 0]);
    bytes.extend(question);
    if fits {
        bytes.extend(records);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, opt: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, 1, 0, 1]);
        bytes.extend(opt);
        bytes
    }

    #[test]
    fn an_answer_that_does_not_fit_says_so_and_fits_where_there_is_room() {
        let short = question("a.test", &[]);
        let answered = answer(&short, room(&short)).unwrap();
        assert_eq!(answered[..8], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1]);
        assert!(answered.ends_with(&[192, 0, 2, 1]));
        let long = question("100.test", &[]);
        assert_eq!(answer(&long, room(&long)).unwrap()[2..8], [0x83, 0x80, 0, 1, 0, 0]);
        let with_room = question("100.test", &[0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(room(&with_room), 4096);
        assert_eq!(answer(&with_room, 4096).unwrap().len(), long.len() + 1600);
        assert!(answer(&long[..20], 512).is_none());
    }
}
