//! Messages that are none.

use super::*;

#[test]
fn every_message_cut_short_anywhere_is_refused_and_nothing_else() {
    let mut guest = Guest::new();
    guest.walk(1, "").unwrap();
    let lock = fid(0).u8(1).u32(1).u64(3).u64(4).u32(77).text("host");
    let set = [0; 5].iter().fold(fid(1).u32(0).u32(0).u32(0).u32(0), |body, _| body.u64(0));
    let bodies = [
        (kind::VERSION, Body::default().u32(8192).text("9P2000.L")),
        (kind::ATTACH, fid(9).u32(!0).text("root").text("").u32(0)),
        (kind::FLUSH, Body::default().u16(1)),
        (kind::WALK, fid(0).u32(9).u16(2).text("a").text("b")),
        (kind::LOPEN, fid(1).u32(0)),
        (kind::LCREATE, fid(1).text("a").u32(0).u32(0o644).u32(0)),
        (kind::READ, fid(1).u64(0).u32(10)),
        (kind::WRITE, fid(1).u64(0).u32(3).u16(0).u8(0)),
        (kind::CLUNK, fid(1)),
        (kind::REMOVE, fid(1)),
        (kind::UNLINKAT, fid(1).text("a").u32(0)),
        (kind::MKDIR, fid(1).text("a").u32(0o755).u32(0)),
        (kind::MKNOD, fid(1).text("a").u32(0o100_644).u32(0).u32(0).u32(0)),
        (kind::SYMLINK, fid(1).text("a").text("b").u32(0)),
        (kind::LINK, fid(1).u32(1).text("a")),
        (kind::RENAME, fid(1).u32(1).text("a")),
        (kind::RENAMEAT, fid(1).text("a").u32(1).text("b")),
        (kind::READLINK, fid(1)),
        (kind::GETATTR, fid(1).u64(0x7ff)),
        (kind::SETATTR, set),
        (kind::READDIR, fid(1).u64(0).u32(100)),
        (kind::FSYNC, fid(1).u32(0)),
        (kind::STATFS, fid(1)),
        (kind::LOCK, lock.clone()),
        (kind::GETLOCK, fid(0).u8(1).u64(3).u64(4).u32(77).text("host")),
    ];
    for (kind, body) in bodies {
        // What no answer depends on may be missing: the group of what is made, and who attaches.
        let needed = match kind {
            kind::ATTACH | kind::LCREATE | kind::MKDIR | kind::SYMLINK => body.0.len() - 4,
            kind::MKNOD => body.0.len() - 12,
            _ => body.0.len(),
        };
        for len in 0..needed {
            let cut = Body(body.0[..len].to_vec());
            assert_eq!(guest.ask(kind, &cut), Err(EPROTO), "{kind}, {len} bytes");
        }
        assert_ne!(guest.ask(kind, &body), Err(EPROTO), "{kind}");
        // Whatever it has done, the next one finds the session.
        guest.begin();
        guest.walk(1, "").unwrap();
    }
}

#[test]
fn a_header_that_lies_about_the_length_is_refused() {
    let mut guest = Guest::new();
    let good = message(kind::STATFS, 5, &fid(0));
    for len in [0, 3, 6, 12, u32::MAX] {
        let mut bad = good.clone();
        bad[..4].copy_from_slice(&len.to_le_bytes());
        let (kind, body) = guest.send(&bad, 100);
        let wanted = Body::default().u32(EPROTO).0;
        assert_eq!((kind, body), (kind::LERROR, wanted), "{len}");
    }
    for len in 0..HEADER {
        let mut answer = Vec::new();
        guest.server.serve(&good[..len], 100, &mut answer);
        assert_eq!(answer[4], kind::LERROR, "{len}");
    }
}

#[test]
fn an_answer_without_room_is_an_error() {
    let mut guest = Guest::new();
    for (kind, body) in [
        (kind::STATFS, fid(0)),
        (kind::GETATTR, fid(0).u64(0x7ff)),
        (kind::WALK, fid(0).u32(1).u16(3).text("..").text("..").text("..")),
    ] {
        let (answered, body) = guest.send(&message(kind, 5, &body), 12);
        assert_eq!((answered, body), (kind::LERROR, Body::default().u32(EMSGSIZE).0));
    }
}

#[test]
fn a_session_begins_with_a_dialect_and_a_size() {
    let mut guest = Guest::new();
    let version = |size: u32, dialect: &str| Body::default().u32(size).text(dialect);
    assert_eq!(guest.ask(kind::VERSION, &version(100, "9P2000.L")), Err(EMSGSIZE));
    assert_eq!(guest.ask(kind::STATFS, &fid(0)), Err(EPROTO), "the old session is over");
    let unknown = Body::default().u32(8192).text("unknown").0;
    for dialect in ["9P2000", "9P2000.u", "", "9P2000.LX"] {
        let answer = guest.ask(kind::VERSION, &version(8192, dialect));
        assert_eq!(answer, Ok(unknown.clone()), "{dialect}");
        assert_eq!(guest.ask(kind::STATFS, &fid(0)), Err(EPROTO));
    }
    let answer = guest.ask(kind::VERSION, &version(u32::MAX, "9P2000.L"));
    assert_eq!(answer, Ok(Body::default().u32(MAX_MESSAGE).text("9P2000.L").0));
    let answer = guest.ask(kind::VERSION, &version(4096, "9P2000.L"));
    assert_eq!(answer, Ok(Body::default().u32(4096).text("9P2000.L").0));
    assert_eq!(guest.server.largest(), 4096);
}

#[test]
fn what_is_not_served_is_said_not_to_be() {
    let mut guest = Guest::new();
    // Tauth, Txattrwalk, Txattrcreate; kinds that there are not; an answer's.
    for kind in [102, 30, 32, 0, 1, 6, 99, 117, 255] {
        let (answered, body) = guest.send(&message(kind, 5, &fid(0)), 100);
        assert_eq!((answered, body), (kind::LERROR, Body::default().u32(EOPNOTSUPP).0), "{kind}");
    }
    assert_eq!(guest.ask(kind::FLUSH, &Body::default().u16(3)), Ok(Vec::new()));
    let walk = [0; 17].iter().fold(fid(0).u32(1).u16(17), |body, _| body.text("a"));
    assert_eq!(guest.ask(kind::WALK, &walk), Err(EINVAL));
}
