//! Messages that no good driver sends to a shared folder (9P2000.L), and folders that no guest gets to.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::driver::register::{CONFIG, INTERRUPT_STATUS};
use super::driver::*;
use super::script::{Bus, Script};
use super::{Folder, Guest, Runner, accelerator, or_skip};

/// Where messages and answers are.
const MESSAGE: u64 = DATA;
const REPLY: u64 = DATA + 0x8000;

/// Kinds of messages (`enum p9_msg_t` of `include/net/9p/9p.h`).
const LERROR: u8 = 7;
const LOPEN: u8 = 12;
const LCREATE: u8 = 14;
const SYMLINK: u8 = 16;
const RENAME: u8 = 20;
const READLINK: u8 = 22;
const GETATTR: u8 = 24;
const SETATTR: u8 = 26;
const READDIR: u8 = 40;
const FSYNC: u8 = 50;
const STATFS: u8 = 8;
const LINK: u8 = 70;
const MKDIR: u8 = 72;
const RENAMEAT: u8 = 74;
const UNLINKAT: u8 = 76;
const VERSION: u8 = 100;
const ATTACH: u8 = 104;
const WALK: u8 = 110;
const READ: u8 = 116;
const WRITE_TO: u8 = 118;
const CLUNK: u8 = 120;

const ENOENT: u32 = 2;
const ENOTDIR: u32 = 20;
const EINVAL: u32 = 22;
const EROFS: u32 = 30;
const ELOOP: u32 = 40;
const EPROTO: u32 = 71;

/// A message's body in the making.
#[derive(Clone, Default)]
struct Body(Vec<u8>);

impl Body {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut body = self.u16(u16::try_from(text.len()).unwrap());
        body.0.extend(text.bytes());
        body
    }
}

fn fid(fid: u32) -> Body {
    Body::default().u32(fid)
}

fn message(kind: u8, body: &Body) -> Vec<u8> {
    let len = u32::try_from(7 + body.0.len()).unwrap();
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend([kind, 1, 0]);
    bytes.extend(&body.0);
    bytes
}

/// A driver that sends one message after the other.
struct Session {
    script: Script,
    /// Messages since the device was started.
    sent: u16,
}

impl Session {
    /// With the device in service.
    fn new(script: Script) -> Self {
        Self { script: script.start(0), sent: 0 }
    }

    /// Sends bytes as they are, and waits for the answer in `room` bytes.
    fn send(self, bytes: &[u8], room: u32) -> Self {
        let len = u32::try_from(bytes.len()).unwrap();
        let slot = AVAILABLE + 4 + 2 * u64::from(self.sent % 8);
        let script = self
            .script
            .copy(MESSAGE, bytes)
            .chain(&[(MESSAGE, len, NEXT, 1), (REPLY, room, WRITE, 0)])
            .store(2, slot, 0)
            .add(AVAILABLE + 2, 1)
            .notify()
            .served(self.sent + 1);
        Self { script, sent: self.sent + 1 }
    }

    /// Sends a message that has to be answered.
    fn does(self, kind: u8, body: &Body) -> Self {
        let session = self.send(&message(kind, body), 0x4000);
        Self { script: session.script.expect(1, REPLY + 4, u64::from(kind) + 1), ..session }
    }

    /// Sends a message that has to be refused.
    fn fails(self, kind: u8, body: &Body, errno: u32) -> Self {
        let session = self.send(&message(kind, body), 0x4000);
        let script = session.script.expect(1, REPLY + 4, LERROR.into());
        Self { script: script.copied(REPLY + 7, &errno.to_le_bytes()), ..session }
    }

    /// Begins a session: fid 0 is the folder.
    fn attach(self) -> Self {
        self.does(VERSION, &Body::default().u32(0x2000).text("9P2000.L"))
            .does(ATTACH, &fid(0).u32(!0).text("root").text("").u32(0))
    }

    /// Walks from the folder, however far that leads.
    fn walk(self, new: u32, names: &[&str]) -> Self {
        let body = fid(0).u32(new).u16(u16::try_from(names.len()).unwrap());
        self.does(WALK, &names.iter().fold(body, |body, name| body.text(name)))
    }
}

/// A folder to share beside one that is not, in which is a file.
struct Place(Folder);

impl Place {
    fn new() -> Self {
        let folder = Folder::new();
        fs::create_dir(folder.path().join("shared")).unwrap();
        // For whomever root becomes.
        folder.mode("shared", 0o777);
        folder.file("secret/key", "nobody may read this");
        Self(folder)
    }

    fn shared(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("shared").join(name)
    }

    fn guest(&self, script: Script, how: &str) -> Guest {
        let share = format!("--share={}{how}", self.shared("").display());
        Guest::new(script.end(0)).without_disk().option(&share)
    }

    /// On both buses, a session of which runner has nothing to say.
    fn serves(&self, how: &str, steps: impl Fn(Session) -> Session) {
        for bus in [Bus::Mmio, Bus::Pci] {
            let session = steps(Session::new(Script::on(bus)).attach());
            self.guest(session.script, how).passes();
        }
    }

    fn untouched(&self) {
        let key = self.0.path().join("secret/key");
        assert_eq!(fs::read_to_string(&key).unwrap(), "nobody may read this");
        let outside = fs::read_dir(self.0.path()).unwrap().count();
        assert_eq!((outside, fs::metadata(key).unwrap().nlink()), (2, 1));
    }
}

/// Guests that mean no harm: one does all there is to do with files, one reads. They live as long as
/// what is returned first.
#[cfg(target_os = "linux")]
pub(crate) fn with_a_share() -> [([Folder; 2], Runner); 2] {
    let everything = Session::new(Script::default())
        .attach()
        .walk(1, &[])
        .does(LCREATE, &fid(1).text("a").u32(2).u32(0o644).u32(0))
        .does(WRITE_TO, &fid(1).u64(0).u32(2).u16(0x6161))
        .does(READ, &fid(1).u64(0).u32(100))
        .does(FSYNC, &fid(1).u32(0))
        .does(FSYNC, &fid(1).u32(1))
        .does(SETATTR, &times(fid(1).u32(1 | 8 | 1 << 5).u32(0o600)))
        .does(CLUNK, &fid(1))
        .walk(1, &["a"])
        .does(SETATTR, &times(fid(1).u32(1 | 8 | 1 << 5).u32(0o644)))
        .does(LINK, &fid(0).u32(1).text("b"))
        .does(MKDIR, &fid(0).text("d").u32(0o755).u32(0))
        .does(SYMLINK, &fid(0).text("l").text("a").u32(0))
        .walk(2, &["l"])
        .does(READLINK, &fid(2))
        .does(GETATTR, &fid(2).u64(0x7ff))
        .does(STATFS, &fid(0))
        .does(RENAMEAT, &fid(0).text("b").u32(0).text("c"))
        .does(UNLINKAT, &fid(0).text("c").u32(0))
        .walk(3, &[])
        .does(LOPEN, &fid(3).u32(0))
        .does(READDIR, &fid(3).u64(0).u32(0x1000))
        .does(READDIR, &fid(3).u64(0).u32(0x1000));
    let reading = Session::new(Script::default()).attach().walk(1, &["f"]);
    let reading = reading.does(LOPEN, &fid(1).u32(0)).does(READ, &fid(1).u64(0).u32(100));
    [(everything, ""), (reading, ":ro")].map(|(session, how)| {
        let place = Place::new();
        place.0.file("shared/f", "12345");
        let guest = place.guest(session.script, how);
        let run = guest.runner();
        ([guest.folder, place.0], run)
    })
}

/// The rest of Tsetattr: no owners, 2 bytes, the present.
fn times(body: Body) -> Body {
    let body = body.u32(0).u32(0).u64(2);
    [0; 4].iter().fold(body, |body, _| body.u64(0))
}

#[test]
fn a_file_is_written_by_the_guest_and_found_by_the_host() {
    or_skip!(accelerator());
    let place = Place::new();
    place.serves("", |session| {
        session
            .walk(1, &[])
            .does(LCREATE, &fid(1).text("made").u32(0o1002).u32(0o644).u32(0))
            .does(WRITE_TO, &fid(1).u64(0).u32(4).u32(u32::from_le_bytes(*b"mine")))
            .does(READ, &fid(1).u64(1).u32(100))
    });
    assert_eq!(fs::read(place.shared("made")).unwrap(), b"mine");
    place.untouched();
}

#[test]
fn a_folder_that_is_only_read_is_not_changed() {
    or_skip!(accelerator());
    let place = Place::new();
    place.0.file("shared/file", "as it was");
    place.serves(":data:ro", |session| {
        session
            .walk(1, &["file"])
            .fails(LOPEN, &fid(1).u32(1), EROFS)
            .fails(SETATTR, &times(fid(1).u32(8).u32(0)), EROFS)
            .fails(LCREATE, &fid(0).text("x").u32(2).u32(0o644).u32(0), EROFS)
            .fails(UNLINKAT, &fid(0).text("file").u32(0), EROFS)
            .fails(MKDIR, &fid(0).text("x").u32(0o755).u32(0), EROFS)
            .does(LOPEN, &fid(1).u32(0))
            .does(READ, &fid(1).u64(0).u32(100))
            .walk(2, &[])
    });
    assert_eq!(fs::read_dir(place.shared("")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(place.shared("file")).unwrap(), "as it was");
}

#[test]
fn no_name_and_no_link_leads_out_of_the_folder() {
    or_skip!(accelerator());
    let place = Place::new();
    symlink(place.0.path().join("secret/key"), place.shared("theirs")).unwrap();
    place.serves("", |session| {
        session
            .fails(WALK, &fid(0).u32(1).u16(1).text("../secret/key"), EINVAL)
            .fails(WALK, &fid(0).u32(1).u16(1).text("/etc/passwd"), EINVAL)
            .walk(1, &["..", "..", "secret", "key"])
            .fails(LOPEN, &fid(1).u32(0), 9)
            .walk(2, &["theirs"])
            .fails(LOPEN, &fid(2).u32(0), ELOOP)
            .fails(LOPEN, &fid(2).u32(0o1001), ELOOP)
            .does(SYMLINK, &fid(0).text("own").text("../secret").u32(0))
            .walk(3, &["own"])
            .fails(WALK, &fid(3).u32(4).u16(1).text("key"), ENOTDIR)
            .fails(LCREATE, &fid(3).text("x").u32(2).u32(0o644).u32(0), ENOTDIR)
            .fails(RENAME, &fid(2).u32(3).text("key"), ENOTDIR)
            .fails(MKDIR, &fid(0).text("..").u32(0o755).u32(0), EINVAL)
            .fails(RENAMEAT, &fid(0).text("own").u32(0).text("../own"), EINVAL)
            .fails(ATTACH, &fid(9).u32(!0).text("").text("../secret").u32(0), ENOENT)
            .does(UNLINKAT, &fid(0).text("own").u32(0))
    });
    place.untouched();
}

#[test]
fn messages_that_are_none_are_refused_and_the_session_goes_on() {
    or_skip!(accelerator());
    let place = Place::new();
    let refused = |session: Session, bytes: &[u8], errno: u32| {
        let session = session.send(bytes, 0x4000);
        let script = session.script.expect(1, REPLY + 4, LERROR.into());
        Session { script: script.copied(REPLY + 7, &errno.to_le_bytes()), ..session }
    };
    place.serves("", |session| {
        let mut session = session;
        let good = message(STATFS, &fid(0));
        for len in [0u32, 6, 10, 12, 0x7fff_ffff, u32::MAX] {
            let mut lie = good.clone();
            lie[..4].copy_from_slice(&len.to_le_bytes());
            session = refused(session, &lie, EPROTO);
        }
        session = refused(session, &message(STATFS, &Body::default()), EPROTO);
        session = refused(session, &message(WALK, &fid(0).u32(1).u16(17)), EINVAL);
        session = refused(session, &message(WRITE_TO, &fid(0).u64(0).u32(u32::MAX)), EPROTO);
        session.does(STATFS, &fid(0))
    });
    place.untouched();
}

#[test]
fn chains_without_a_header_or_room_for_an_answer_stop_the_device() {
    or_skip!(accelerator());
    let place = Place::new();
    let name = format!("share0 ({})", place.shared("").display());
    let whole = (MESSAGE, 11, NEXT, 1);
    for (chain, fault) in [
        (vec![(MESSAGE, 11, 0, 0)], "no room for an answer"),
        (vec![whole, (REPLY, 10, WRITE, 0)], "no room for an answer"),
        (vec![(REPLY, 100, WRITE, 0)], "no whole header"),
        (vec![(MESSAGE, 6, NEXT, 1), (REPLY, 100, WRITE, 0)], "no whole header"),
    ] {
        for bus in [Bus::Mmio, Bus::Pci] {
            let script = Script::on(bus).start(0).chain(&chain).offer(&[0]).broken();
            let script = script.reset().get(INTERRUPT_STATUS, 0);
            let script = script.store(4, AVAILABLE, 0).store(4, USED, 0);
            let session = Session::new(script).attach();
            let fault = format!("the chain at descriptor 0: {fault}");
            place.guest(session.script, "").stops(&name, &fault);
        }
    }
}

#[test]
fn a_message_in_pieces_is_one_and_an_answer_fills_pieces() {
    or_skip!(accelerator());
    let place = Place::new();
    place.serves("", |session| {
        let bytes = message(STATFS, &fid(0));
        let chain = [
            (MESSAGE, 1, NEXT, 1),
            (MESSAGE + 1, 0, NEXT, 2),
            (MESSAGE + 1, 6, NEXT, 3),
            (MESSAGE + 7, 4, NEXT, 4),
            (REPLY, 5, NEXT | WRITE, 5),
            (REPLY + 5, 1, NEXT | WRITE, 6),
            (REPLY + 6, 0x1000, WRITE, 0),
        ];
        let slot = AVAILABLE + 4 + 2 * u64::from(session.sent % 8);
        let script = session.script.copy(MESSAGE, &bytes).chain(&chain).store(2, slot, 0);
        let script = script.add(AVAILABLE + 2, 1).notify().served(session.sent + 1);
        let script = script.expect(4, REPLY, 7 + 60).expect(1, REPLY + 4, u64::from(STATFS) + 1);
        Session {
            script: script.copied(REPLY + 7, &0x0102_1997_u32.to_le_bytes()),
            sent: session.sent + 1,
        }
    });
}

#[test]
fn a_device_that_is_reset_a_hundred_times_under_open_files_closes_them() {
    or_skip!(accelerator());
    let place = Place::new();
    place.0.file("shared/file", "12345");
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = Script::on(bus).times(100, |script| {
            // More than half of what may be open at once would not be there for the second time.
            let mut session = Session::new(script).attach();
            for fid in 1..12 {
                session = session.walk(fid, &["file"]);
                session = session.does(LOPEN, &self::fid(fid).u32(0));
            }
            session.script.reset().store(4, AVAILABLE, 0).store(4, USED, 0)
        });
        let session = Session::new(script).attach().walk(1, &["file"]);
        place.guest(session.does(LOPEN, &fid(1).u32(0)).script, "").passes();
    }
}

#[test]
fn the_driver_is_told_the_tag() {
    or_skip!(accelerator());
    let place = Place::new();
    for bus in [Bus::Mmio, Bus::Pci] {
        let config = match bus {
            Bus::Mmio => DEVICE + CONFIG,
            Bus::Pci => CONFIGURATION,
        };
        let script = Script::on(bus).expect(2, config, 4);
        let script = script.copied(config + 2, b"data");
        place.guest(script, ":data").passes();
        let script = Script::on(bus).expect(2, config, 1).expect(1, config + 2, b'1'.into());
        place.guest(script, "").passes();
    }
}

#[test]
fn in_software_emulation_the_same_folder_is_qemus_to_serve() {
    let qemu = std::process::Command::new("qemu-system-x86_64").arg("--version").output();
    or_skip!(match cfg!(target_arch = "x86_64") {
        true => qemu.map(drop).map_err(|error| format!("qemu-system-x86_64: {error}")),
        false => Err("the guests are for x86_64".to_owned()),
    });
    let place = Place::new();
    place.0.file("shared/file", "as it was");
    let session = |how: &str, steps: fn(Session) -> Session| {
        let session = steps(Session::new(Script::default()).attach());
        let guest = place.guest(session.script, how).option("--accel=off").option("--net=none");
        guest.runner().ends_with(0);
    };
    session("", |session| {
        session
            .walk(1, &[])
            .does(LCREATE, &fid(1).text("made").u32(0o1002).u32(0o644).u32(0))
            .does(WRITE_TO, &fid(1).u64(0).u32(4).u32(u32::from_le_bytes(*b"mine")))
    });
    assert_eq!(fs::read(place.shared("made")).unwrap(), b"mine");
    session(":ro", |session| session.walk(1, &["file"]).fails(LOPEN, &fid(1).u32(1), EROFS));
    assert_eq!(fs::read_to_string(place.shared("file")).unwrap(), "as it was");
    place.untouched();
}
