//! Ways out of the folder, none of which is one.

use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// A link was no folder on the way. Systems say so in two ways.
#[track_caller]
fn nowhere<T: std::fmt::Debug>(result: Result<T, u32>) {
    let error = result.unwrap_err();
    assert!([ENOTDIR, ELOOP].contains(&error), "{error}");
}

impl Guest {
    /// Nothing outside was read, changed or made.
    fn nothing_happened(&self) {
        let outside = fs::read_dir(self.place.path()).unwrap().count();
        let secrets = fs::read_dir(self.place.path().join("secret")).unwrap().count();
        assert_eq!((outside, secrets), (2, 1));
        assert_eq!(fs::read_to_string(self.secret()).unwrap(), Self::SECRET);
        assert_eq!(fs::metadata(self.secret()).unwrap().nlink(), 1);
    }

    /// Attempts to do anything with fid `number`, if it stands for anything: none gets at the secret.
    fn try_all(&mut self, number: u32) {
        for flags in [0, WRONLY, RDWR, TRUNC] {
            if self.open(number, flags).is_ok() {
                let read = self.read(number, 0, 4096).unwrap_or_default();
                assert_ne!(read, Self::SECRET.as_bytes());
                let _ = self.write(number, 0, b"overwritten");
            }
        }
        let _ = self.create(number, "made", 0);
        let _ = self.mkdir(number, "made");
        let _ = self.unlink(number, "key", 0);
        let _ = self.set(number, 1 | 8, 0o777, 0);
        let _ = self.ask(kind::REMOVE, &fid(number));
        self.nothing_happened();
    }
}

#[test]
fn way_1_up_from_the_folder_leads_to_the_folder() {
    let mut guest = Guest::new();
    assert_eq!(guest.walk(1, "../../.."), Ok(3));
    assert_eq!(guest.attributes(1), guest.attributes(0));
    assert_eq!(guest.walk(2, "../secret/key"), Ok(1), "there is no such folder here");
    guest.try_all(2);
}

#[test]
fn way_2_up_and_down_again_never_gets_above_the_folder() {
    let mut guest = Guest::new();
    guest.mkdir(0, "a").unwrap();
    assert_eq!(guest.walk(1, "a/../a/../../a/../.."), Ok(8));
    assert_eq!(guest.attributes(1), guest.attributes(0));
}

#[test]
fn way_3_a_name_with_a_slash_is_no_name() {
    let mut guest = Guest::new();
    for name in ["../secret", "/etc", "a/../../secret", "/", "./..", "../"] {
        let walk = fid(0).u32(1).u16(1).text(name);
        assert_eq!(guest.ask(kind::WALK, &walk), Err(EINVAL), "{name}");
        assert_eq!(guest.create(0, name, 0), Err(EINVAL));
        assert_eq!(guest.mkdir(0, name), Err(EINVAL));
        assert_eq!(guest.symlink(0, name, "x"), Err(EINVAL));
        assert_eq!(guest.unlink(0, name, REMOVEDIR), Err(EINVAL));
    }
    guest.nothing_happened();
}

#[test]
fn way_4_a_name_with_a_nul_is_no_name() {
    let mut guest = Guest::new();
    let walk = fid(0).u32(1).u16(1).text(b"..\0x");
    assert_eq!(guest.ask(kind::WALK, &walk), Err(EINVAL));
    assert_eq!(guest.create(0, "x\0/../..", 0), Err(EINVAL));
}

#[test]
fn way_5_dots_are_no_names_of_files_that_are_made_moved_or_removed() {
    let mut guest = Guest::new();
    guest.mkdir(0, "a").unwrap();
    guest.walk(1, "a").unwrap();
    for name in [".", "..", ""] {
        let wanted = if name.is_empty() { ENOENT } else { EINVAL };
        assert_eq!(guest.create(1, name, 0), Err(wanted));
        assert_eq!(guest.mkdir(1, name), Err(wanted));
        assert_eq!(guest.unlink(1, name, REMOVEDIR), Err(wanted));
        assert_eq!(guest.rename((0, "a"), (1, name)), Err(wanted));
        assert_eq!(guest.rename((1, name), (0, "b")), Err(wanted));
        assert_eq!(guest.ask(kind::LINK, &fid(1).u32(0).text(name)), Err(wanted));
        assert_eq!(guest.ask(kind::RENAME, &fid(1).u32(0).text(name)), Err(wanted));
    }
}

#[test]
fn way_6_a_link_that_leads_out_is_not_opened() {
    let mut guest = Guest::new();
    let secret = guest.secret();
    guest.symlink(0, "link", secret.to_str().unwrap()).unwrap();
    guest.walk(1, "link").unwrap();
    for flags in [0, WRONLY, RDWR, TRUNC, WRONLY | TRUNC] {
        assert_eq!(guest.open(1, flags), Err(ELOOP));
    }
    guest.try_all(1);
}

#[test]
fn way_7_a_link_to_a_folder_outside_is_not_walked_through() {
    let mut guest = Guest::new();
    guest.symlink(0, "link", "../secret").unwrap();
    assert_eq!(guest.walk(1, "link/key"), Ok(1));
    assert_eq!(guest.open(1, 0), Err(EBADF), "the walk did not reach its end");
    guest.walk(2, "link").unwrap();
    nowhere(guest.walk_from(2, 3, "key"));
    nowhere(guest.create(2, "made", 0));
    nowhere(guest.mkdir(2, "made"));
    nowhere(guest.unlink(2, "key", 0));
    nowhere(guest.symlink(2, "made", "x"));
    guest.try_all(2);
}

#[test]
fn way_8_up_from_a_link_is_where_the_link_is() {
    let mut guest = Guest::new();
    guest.symlink(0, "link", "../secret").unwrap();
    assert_eq!(guest.walk(1, "link/../../secret"), Ok(3));
    guest.walk(2, "link/..").unwrap();
    assert_eq!(guest.attributes(2), guest.attributes(0));
}

#[test]
fn way_9_links_that_the_host_has_put_there_are_not_followed_either() {
    let mut guest = Guest::new();
    symlink(guest.secret(), guest.host("key")).unwrap();
    symlink("/", guest.host("top")).unwrap();
    guest.walk(1, "key").unwrap();
    guest.try_all(1);
    assert_eq!(guest.walk(2, "top/etc/passwd"), Ok(1));
    assert_eq!(guest.open(2, 0), Err(EBADF));
}

#[test]
fn way_10_what_a_fid_stood_for_may_become_a_link_and_is_not_followed() {
    let mut guest = Guest::new();
    guest.mkdir(0, "a").unwrap();
    guest.walk(1, "a").unwrap();
    guest.create(1, "key", 0).unwrap();
    guest.walk(2, "a").unwrap();
    guest.walk(3, "a/key").unwrap();
    fs::remove_dir_all(guest.host("a")).unwrap();
    symlink("../secret", guest.host("a")).unwrap();
    nowhere(guest.open(3, 0));
    nowhere(guest.create(2, "made", 0));
    nowhere(guest.unlink(2, "key", 0));
    nowhere(guest.walk_from(2, 4, "key"));
    guest.try_all(2);
    guest.try_all(3);
}

#[test]
fn way_11_names_that_are_swapped_all_the_time_never_lead_out() {
    let mut guest = Guest::new();
    guest.mkdir(0, "a").unwrap();
    guest.walk(1, "a").unwrap();
    guest.create(1, "key", RDWR).unwrap();
    guest.write(1, 0, b"harmless").unwrap();
    guest.clunk(1).unwrap();
    symlink("../secret", guest.host("b")).unwrap();
    let (a, b, over) = (guest.host("a"), guest.host("b"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let mut opened = 0;
        for _ in 0..2000 {
            if guest.walk(1, "a/key") == Ok(2) {
                if guest.open(1, RDWR).is_ok() {
                    opened += 1;
                    assert_eq!(guest.read(1, 0, 100).unwrap(), b"harmless");
                }
                let _ = guest.set(1, 1, 0o600, 0);
                guest.clunk(1).unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(opened > 0, "the race was never lost");
    });
    guest.nothing_happened();
}

#[test]
fn way_12_moving_a_link_does_not_move_what_it_leads_to() {
    let mut guest = Guest::new();
    guest.symlink(0, "link", "../secret/key").unwrap();
    guest.rename((0, "link"), (0, "moved")).unwrap();
    guest.nothing_happened();
    guest.symlink(0, "folder", "../secret").unwrap();
    guest.walk(1, "folder").unwrap();
    nowhere(guest.rename((1, "key"), (0, "key")));
    nowhere(guest.rename((0, "moved"), (1, "key")));
    guest.nothing_happened();
}

#[test]
fn way_13_a_hard_link_to_a_symbolic_link_is_one_to_the_link_itself() {
    let mut guest = Guest::new();
    guest.symlink(0, "link", "../secret/key").unwrap();
    guest.walk(1, "link").unwrap();
    let _ = guest.ask(kind::LINK, &fid(0).u32(1).text("hard"));
    if let Ok(metadata) = fs::symlink_metadata(guest.host("hard")) {
        assert!(metadata.file_type().is_symlink());
    }
    guest.nothing_happened();
}

#[test]
fn way_14_attributes_set_through_a_link_are_not_its_targets() {
    let mut guest = Guest::new();
    let before = fs::metadata(guest.secret()).unwrap();
    guest.symlink(0, "link", "../secret/key").unwrap();
    guest.walk(1, "link").unwrap();
    assert_eq!(guest.set(1, 1, 0o777, 0), Err(EOPNOTSUPP));
    assert_eq!(guest.set(1, 8, 0, 0), Err(ELOOP), "its length");
    guest.set(1, 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8, 0, 0).unwrap();
    let after = fs::metadata(guest.secret()).unwrap();
    assert_eq!((after.mode(), after.len()), (before.mode(), before.len()));
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(fs::symlink_metadata(guest.host("link")).unwrap().mtime(), 7);
}

#[test]
fn way_15_removing_a_link_does_not_remove_what_it_leads_to() {
    let mut guest = Guest::new();
    guest.symlink(0, "file", "../secret/key").unwrap();
    guest.symlink(0, "folder", "../secret").unwrap();
    guest.unlink(0, "file", 0).unwrap();
    nowhere(guest.unlink(0, "folder", REMOVEDIR));
    guest.walk(1, "folder").unwrap();
    guest.ask(kind::REMOVE, &fid(1)).unwrap();
    let top = open_top(&mut guest);
    assert_eq!(guest.names(top, 4096), [".", ".."]);
    guest.nothing_happened();
}

/// Opens the folder as fid 9.
fn open_top(guest: &mut Guest) -> u32 {
    guest.walk(9, "").unwrap();
    guest.open(9, 0).unwrap();
    9
}

#[test]
fn way_16_making_a_file_where_a_link_is_makes_none_elsewhere() {
    let mut guest = Guest::new();
    guest.symlink(0, "dangling", "../made").unwrap();
    guest.symlink(0, "link", "../secret/key").unwrap();
    for name in ["dangling", "link"] {
        guest.walk(1, "").unwrap();
        assert_eq!(guest.create(1, name, WRONLY | EXCL), Err(EEXIST));
        assert_eq!(guest.create(1, name, WRONLY | TRUNC), Err(ELOOP));
        assert_eq!(guest.mkdir(1, name), Err(EEXIST));
        let regular = fid(1).text(name).u32(0o100_644).u32(0).u32(0).u32(0);
        assert_eq!(guest.ask(kind::MKNOD, &regular), Err(EEXIST));
        guest.clunk(1).unwrap();
    }
    guest.nothing_happened();
}

#[test]
fn way_17_devices_pipes_and_sockets_are_not_made() {
    let mut guest = Guest::new();
    for mode in [0o020_666, 0o060_666, 0o010_666, 0o140_666, 0o120_777, 0o040_755] {
        let body = fid(0).text("special").u32(mode).u32(1).u32(3).u32(0);
        assert_eq!(guest.ask(kind::MKNOD, &body), Err(EPERM), "{mode:o}");
    }
    assert!(!guest.host("special").exists());
}

#[test]
fn way_18_pipes_and_sockets_of_the_host_are_not_opened_and_hold_up_nobody() {
    let mut guest = Guest::new();
    // Not every system of ours has mkfifoat(2).
    let made = std::process::Command::new("mkfifo").arg(guest.host("pipe")).status().unwrap();
    assert!(made.success());
    let _socket = UnixListener::bind(guest.host("socket")).unwrap();
    for name in ["pipe", "socket"] {
        guest.walk(1, name).unwrap();
        for flags in [0, WRONLY, RDWR] {
            assert_eq!(guest.open(1, flags), Err(ENXIO), "{name}");
        }
        guest.clunk(1).unwrap();
        guest.walk(1, "").unwrap();
        assert_eq!(guest.create(1, name, WRONLY), Err(ENXIO));
        guest.clunk(1).unwrap();
    }
}

#[test]
fn way_19_no_other_tree_can_be_attached() {
    let mut guest = Guest::new();
    for tree in ["..", "../secret", "/etc", "secret", "/.."] {
        let body = fid(1).u32(!0).text("root").text(tree).u32(0);
        assert_eq!(guest.ask(kind::ATTACH, &body), Err(ENOENT), "{tree}");
    }
}

#[test]
fn way_20_other_users_get_no_programs_with_the_users_rights() {
    let mut guest = Guest::new();
    guest.walk(1, "").unwrap();
    let body = fid(1).text("program").u32(RDWR).u32(0o6755).u32(0);
    guest.ask(kind::LCREATE, &body).unwrap();
    assert_eq!(mode_of(guest.host("program")), 0o755);
    guest.set(1, 1, 0o6711, 0).unwrap();
    assert_eq!(mode_of(guest.host("program")), 0o711);
    guest.walk(2, "program").unwrap();
    guest.set(2, 1, 0o4755, 0).unwrap();
    assert_eq!(mode_of(guest.host("program")), 0o755);
    guest.ask(kind::MKDIR, &fid(0).text("folder").u32(0o6775).u32(0)).unwrap();
    assert_eq!(mode_of(guest.host("folder")) & 0o6000, 0);
    let chown = |uid: u32, gid: u32, valid: u32| {
        let body = fid(2).u32(valid).u32(0).u32(uid).u32(gid).u64(0);
        [0; 4].iter().fold(body, |body, _| body.u64(0))
    };
    let own = fs::metadata(guest.host("program")).unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    assert_eq!(guest.ask(kind::SETATTR, &chown(uid ^ 1, gid, 2)), Err(EPERM));
    assert_eq!(guest.ask(kind::SETATTR, &chown(uid, gid ^ 1, 2 | 4)), Err(EPERM));
    assert_eq!(guest.ask(kind::SETATTR, &chown(uid, gid, 2 | 4)), Ok(Vec::new()));
}

#[test]
fn way_21_the_number_of_what_the_folder_is_in_is_not_told() {
    let mut guest = Guest::new();
    let top = fs::metadata(guest.host("")).unwrap().ino();
    let number = open_top(&mut guest);
    let answer = guest.ask(kind::READDIR, &fid(number).u64(0).u32(4096)).unwrap();
    let mut reader = Reader::new(&answer);
    let _len = reader.u32();
    while let Ok(_kind_version) = reader.bytes(5) {
        assert_eq!(reader.u64(), Ok(top), "of . and ..");
        let _next_kind = (reader.u64(), reader.u8());
        reader.string().unwrap();
    }
}

#[test]
fn way_22_other_file_systems_within_the_folder_are_not_part_of_it() {
    let top = std::path::Path::new("/");
    let (own, proc) = (fs::metadata(top).unwrap().dev(), fs::metadata("/proc").map(|p| p.dev()));
    if proc.is_ok_and(|proc| proc != own) {
        let mut server = Server::new(Folder::open(top, true).unwrap());
        let mut answer = Vec::new();
        for (kind, body) in [
            (kind::VERSION, Body::default().u32(8192).text("9P2000.L")),
            (kind::ATTACH, fid(0).u32(!0).text("").text("").u32(0)),
            (kind::WALK, fid(0).u32(1).u16(3).text("proc").text("self").text("mem")),
        ] {
            server.serve(&message(kind, 1, &body), 8192, &mut answer);
        }
        assert_eq!(answer[4..], [kind::LERROR, 1, 0, u8::try_from(EXDEV).unwrap(), 0, 0, 0]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn way_23_the_kernels_own_files_are_not_shared_at_all() {
    for folder in ["/proc", "/proc/self", "/sys"] {
        let refusal = Folder::open(folder.as_ref(), true).unwrap_err();
        assert!(matches!(refusal, Unfit::Kernels), "{folder}: {refusal}");
    }
}

#[test]
fn a_listing_does_not_say_which_folder_the_shared_one_is_in() {
    let guest = Guest::new();
    fs::create_dir(guest.host("below")).unwrap();
    let folder = Folder::open(&guest.place.path().join("shared"), false).unwrap();
    let number = |path: &Path, name: &[u8]| {
        let mut listing = folder.open_folder(path).unwrap();
        let mut entries = std::iter::from_fn(|| listing.read().unwrap());
        entries.find(|entry| entry.name == name).unwrap().inode
    };
    let top = folder.attributes(&Path::default()).unwrap().inode;
    assert_eq!(number(&Path::default(), b".."), top);
    let below = Path::default().join(Name::new(b"below").unwrap()).unwrap();
    assert_eq!(number(&below, b".."), top);
}
