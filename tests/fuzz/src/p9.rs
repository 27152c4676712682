//! A shared folder: messages as any guest may send them, on a real folder beside one that is not
//! shared. Most are whole and name what is there, so that they get somewhere.

use std::fs;
use std::os::unix::fs::symlink;

use runner::p9::{Folder, HEADER, SHORTEST_ANSWER, Server};
use tempfile::TempDir;

use super::input::Input;

/// Messages in one input, at most: what more bytes could do, fewer do as well.
const MESSAGES: usize = 128;

/// What the guest has no way to.
const SECRET: &str = "nobody may read this";

/// Names that are there, that are not, and that are none.
const NAMES: [&[u8]; 16] = [
    b"d",
    b"f",
    b"link",
    b"out",
    b"new",
    b"..",
    b"a",
    b"b",
    b"c",
    b".",
    b"",
    b"d/f",
    b"../secret",
    b"/etc",
    b"a\0",
    b"a name that is longer than the others",
];

/// A list of messages.
pub fn p9(data: &[u8]) {
    let mut input = Input(data);
    let mut guest = Guest::new(input.one_in(4));
    for _ in 0..MESSAGES {
        if input.is_empty() {
            break;
        }
        guest.act(&mut input);
    }
    guest.finish();
}

struct Guest {
    server: Server,
    place: TempDir,
    answer: Vec<u8>,
}

/// A message's body in the making.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn half(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn long(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.half(u16::try_from(text.len()).expect("short"));
        self.0.extend(text);
        self
    }

    fn fid(&mut self, input: &mut Input<'_>) -> &mut Self {
        self.word(u32::from(input.byte() % 6))
    }

    fn name(&mut self, input: &mut Input<'_>) -> &mut Self {
        self.text(NAMES[usize::from(input.byte()) % NAMES.len()])
    }

    /// Mostly small.
    fn offset(&mut self, input: &mut Input<'_>) -> &mut Self {
        let offset = if input.one_in(8) { input.long() } else { input.byte().into() };
        self.long(offset)
    }
}

impl Guest {
    fn new(read_only: bool) -> Self {
        let place = tempfile::tempdir().expect("a folder");
        let path = |name: &str| place.path().join(name);
        for folder in ["shared/d", "secret"] {
            fs::create_dir_all(path(folder)).expect("a folder");
        }
        fs::write(path("secret/key"), SECRET).expect("a file");
        fs::write(path("shared/d/f"), "12345").expect("a file");
        symlink("../secret", path("shared/link")).expect("a link");
        symlink(path("secret/key"), path("shared/out")).expect("a link");
        let folder = Folder::open(&path("shared"), read_only).expect("a folder");
        let mut guest = Self { server: Server::new(folder), place, answer: Vec::new() };
        guest.begin();
        guest
    }

    /// Agrees on 8 KiB, and has fid 0 for the folder.
    fn begin(&mut self) -> u8 {
        let mut version = Body::default();
        self.send(100, version.word(0x2000).text(b"9P2000.L"), 4096);
        let mut attach = Body::default();
        self.send(104, attach.word(0).word(!0).text(b"").text(b"").word(0), 4096);
        self.answer[4]
    }

    fn send(&mut self, kind: u8, body: &Body, room: usize) {
        let len = u32::try_from(HEADER + body.0.len()).expect("short");
        let message = [&len.to_le_bytes()[..], &[kind, 1, 0], &body.0].concat();
        self.raw(&message, room);
    }

    fn raw(&mut self, message: &[u8], room: usize) {
        let room = room.max(SHORTEST_ANSWER);
        self.server.serve(message, room, &mut self.answer);
        let len = u32::try_from(self.answer.len()).expect("short");
        assert!(self.answer.len() >= HEADER && self.answer.len() <= room);
        assert_eq!(self.answer[..4], len.to_le_bytes());
        let secret = SECRET.as_bytes();
        assert!(!self.answer.windows(secret.len()).any(|bytes| bytes == secret), "the secret");
        let tag = message.get(5..7).filter(|_| message.len() >= HEADER).unwrap_or(&[0, 0]);
        assert_eq!(self.answer[5..7], *tag);
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let mut body = Body::default();
        let kind = match input.byte() % 24 {
            0 => {
                body.word(input.word()).text(if input.one_in(4) { b"9P" } else { b"9P2000.L" });
                100
            }
            1 => {
                body.fid(input).word(!0).text(b"root").name(input).word(0);
                104
            }
            2..=4 => {
                let count = u16::from(input.byte() % 6);
                body.fid(input).fid(input).half(count);
                for _ in 0..count {
                    body.name(input);
                }
                110
            }
            5 | 6 => {
                body.fid(input).word(input.half().into());
                12
            }
            7 => {
                body.fid(input).name(input).word(input.half().into()).word(input.half().into());
                body.word(0);
                14
            }
            8 => {
                body.fid(input).offset(input).word(input.half().into());
                116
            }
            9 => {
                let bytes = input.bytes::<5>();
                body.fid(input).offset(input).word(bytes.len().try_into().expect("5"));
                body.0.extend(bytes);
                118
            }
            10 => {
                body.fid(input);
                [120, 122, 8, 22][usize::from(input.byte() % 4)]
            }
            11 => {
                body.fid(input).name(input).word(if input.one_in(2) { 0x200 } else { 0 });
                76
            }
            12 => {
                body.fid(input).name(input).word(input.half().into()).word(0);
                72
            }
            13 => {
                body.fid(input).name(input).word(input.half().into()).long(0).word(0);
                18
            }
            14 => {
                body.fid(input).name(input).name(input).word(0);
                16
            }
            15 => {
                body.fid(input).fid(input).name(input);
                if input.one_in(2) { 70 } else { 20 }
            }
            16 => {
                body.fid(input).name(input).fid(input).name(input);
                74
            }
            17 => {
                body.fid(input).long(0x7ff);
                24
            }
            18 => {
                body.fid(input).word(input.half().into()).word(input.half().into());
                body.word(0).word(0).offset(input);
                for _ in 0..4 {
                    body.offset(input);
                }
                26
            }
            19 | 20 => {
                body.fid(input).offset(input).word(input.half().into());
                40
            }
            21 => {
                body.fid(input).word(input.byte().into());
                50
            }
            22 => {
                let bytes = input.bytes::<24>();
                body.0.extend(bytes);
                input.byte()
            }
            _ => {
                let bytes = input.bytes::<16>();
                return self.raw(&bytes[..usize::from(input.byte() % 17)], 4096);
            }
        };
        let room = if input.one_in(8) { input.byte().into() } else { 4096 };
        self.send(kind, &body, room);
    }

    /// Whatever was asked for, what is outside is as it was, and a new session finds the folder.
    fn finish(mut self) {
        assert_eq!(self.begin(), 105, "a session");
        assert_eq!(self.server.fids(), (1, 0), "all else is forgotten");
        let path = self.place.path();
        let names = |folder: &str| fs::read_dir(path.join(folder)).expect("a folder").count();
        assert_eq!((names(""), names("secret")), (2, 1), "nothing was made or moved outside");
        let key = fs::read_to_string(path.join("secret/key")).expect("a file");
        assert_eq!(key, SECRET, "nothing was written outside");
    }
}
