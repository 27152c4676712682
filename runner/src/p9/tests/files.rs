//! What a guest does with files.

use super::*;

#[test]
fn a_file_is_made_written_read_and_removed() {
    let mut guest = Guest::new();
    guest.walk(1, "").unwrap();
    guest.create(1, "file", RDWR).unwrap();
    assert_eq!(guest.write(1, 0, b"hello"), Ok(5));
    assert_eq!(guest.write(1, 10, b"world"), Ok(5));
    assert_eq!(guest.read(1, 0, 100).unwrap(), b"hello\0\0\0\0\0world");
    assert_eq!(guest.read(1, 15, 100).unwrap(), b"");
    assert_eq!(guest.read(1, 3, 2).unwrap(), b"lo");
    guest.ask(kind::FSYNC, &fid(1).u32(0)).unwrap();
    guest.ask(kind::FSYNC, &fid(1).u32(1)).unwrap();
    guest.clunk(1).unwrap();
    assert_eq!(guest.read(1, 0, 1), Err(EBADF));
    assert_eq!(fs::read(guest.host("file")).unwrap(), b"hello\0\0\0\0\0world");
    guest.walk(2, "file").unwrap();
    assert_eq!(guest.read(2, 0, 1), Err(EBADF), "not open");
    guest.ask(kind::REMOVE, &fid(2)).unwrap();
    assert!(!guest.host("file").exists());
    assert_eq!(guest.clunk(2), Err(EBADF));
}

#[test]
fn a_large_read_is_cut_to_the_agreed_size_and_the_room() {
    let mut guest = Guest::new();
    fs::write(guest.host("file"), vec![7; 1 << 20]).unwrap();
    guest.walk(1, "file").unwrap();
    guest.open(1, 0).unwrap();
    assert_eq!(guest.read(1, 0, u32::MAX).unwrap().len(), (512 << 10) - 11);
    let read = message(kind::READ, 1, &fid(1).u64(0).u32(u32::MAX));
    assert_eq!(guest.send(&read, 100).1.len(), 100 - HEADER);
}

#[test]
fn flags_of_opening_do_what_they_say() {
    let mut guest = Guest::new();
    fs::write(guest.host("file"), "12345").unwrap();
    guest.walk(1, "file").unwrap();
    guest.open(1, 0).unwrap();
    assert_eq!(guest.write(1, 0, b"x"), Err(EBADF));
    assert_eq!(guest.open(1, 0), Err(EINVAL), "it is open");
    guest.walk(2, "file").unwrap();
    guest.open(2, WRONLY | 0o2000).unwrap();
    assert_eq!(guest.read(2, 0, 1), Err(EBADF));
    guest.write(2, 5, b"6").unwrap();
    assert_eq!(fs::read(guest.host("file")).unwrap(), b"123456");
    guest.walk(3, "file").unwrap();
    guest.open(3, WRONLY | TRUNC).unwrap();
    assert_eq!(fs::read(guest.host("file")).unwrap(), b"");
    guest.walk(4, "file").unwrap();
    assert_eq!(guest.open(4, 3), Err(EINVAL));
    assert_eq!(guest.open(4, 0o200_000), Err(ENOTDIR));
    guest.walk(5, "").unwrap();
    assert_eq!(guest.open(5, RDWR), Err(EISDIR));
    assert_eq!(guest.create(5, "file", EXCL), Err(EEXIST));
    guest.create(5, "file", RDWR).unwrap();
}

#[test]
fn folders_are_made_listed_in_pieces_and_removed_when_they_are_empty() {
    let mut guest = Guest::new();
    guest.mkdir(0, "folder").unwrap();
    assert_eq!(guest.mkdir(0, "folder"), Err(EEXIST));
    let mut wanted = vec![".".to_owned(), "..".to_owned()];
    for number in 0..500 {
        let name = format!("a file with the number {number}");
        fs::write(guest.host("folder").join(&name), "").unwrap();
        wanted.push(name);
    }
    wanted.sort();
    guest.walk(1, "folder").unwrap();
    assert_eq!(guest.read_dir(1, 0, 4096), Err(EBADF), "not open");
    guest.open(1, 0).unwrap();
    for count in [100, 1000, 1 << 20] {
        assert_eq!(guest.names(1, count), wanted, "{count}");
    }
    assert_eq!(guest.read_dir(1, 0, 20), Err(EINVAL), "no room for one");
    assert_eq!(guest.read(1, 0, 10), Err(EISDIR));
    assert_eq!(guest.unlink(0, "folder", REMOVEDIR), Err(ENOTEMPTY));
    fs::remove_dir_all(guest.host("folder")).unwrap();
    guest.mkdir(0, "empty").unwrap();
    // Linux's and POSIX's.
    assert!([EISDIR, EPERM].contains(&guest.unlink(0, "empty", 0).unwrap_err()));
    guest.unlink(0, "empty", REMOVEDIR).unwrap();
}

#[test]
fn a_listing_goes_on_where_it_is_told_to() {
    let mut guest = Guest::new();
    for number in 0..50 {
        fs::write(guest.host(&format!("{number:02}")), "").unwrap();
    }
    guest.walk(1, "").unwrap();
    guest.open(1, 0).unwrap();
    let all = guest.read_dir(1, 0, 1 << 16).unwrap();
    assert_eq!(all.len(), 52);
    for (at, (name, ..)) in all.iter().enumerate().skip(1).rev() {
        let entries = guest.read_dir(1, all[at - 1].2, 60).unwrap();
        assert_eq!(&entries[0].0, name);
    }
    assert_eq!(guest.read_dir(1, 52, 4096), Ok(Vec::new()));
    assert_eq!(guest.read_dir(1, u64::MAX, 4096), Ok(Vec::new()));
    assert_eq!(guest.read_dir(1, 0, 1 << 16).unwrap(), all);
}

#[test]
fn entries_say_what_kind_of_file_they_are() {
    let mut guest = Guest::new();
    guest.mkdir(0, "folder").unwrap();
    guest.symlink(0, "link", "somewhere").unwrap();
    fs::write(guest.host("file"), "").unwrap();
    guest.walk(1, "").unwrap();
    guest.open(1, 0).unwrap();
    for (name, kind, _) in guest.read_dir(1, 0, 4096).unwrap() {
        let wanted = match name.as_str() {
            "file" => 8,
            "link" => 10,
            _ => 4,
        };
        assert_eq!(kind, wanted, "{name}");
    }
}

#[test]
fn links_say_where_they_lead_and_hard_links_are_the_same_file() {
    let mut guest = Guest::new();
    guest.symlink(0, "link", "/a/../b").unwrap();
    guest.walk(1, "link").unwrap();
    let answer = guest.ask(kind::READLINK, &fid(1)).unwrap();
    assert_eq!(Reader::new(&answer).string(), Ok(&b"/a/../b"[..]));
    assert_eq!(guest.attributes(1).unwrap().1 & 0o170_000, 0o120_000);
    fs::write(guest.host("file"), "").unwrap();
    guest.walk(2, "file").unwrap();
    guest.ask(kind::LINK, &fid(0).u32(2).text("other")).unwrap();
    guest.walk(3, "other").unwrap();
    assert_eq!(guest.attributes(2), guest.attributes(3));
    assert_eq!(guest.ask(kind::READLINK, &fid(2)), Err(EINVAL));
    assert_eq!(guest.ask(kind::LINK, &fid(0).u32(0).text("x")), Err(EPERM), "the folder itself");
    let long = fid(0).text("x").text(vec![b'a'; 4096]).u32(0);
    assert_eq!(guest.ask(kind::SYMLINK, &long), Err(ENAMETOOLONG));
}

#[test]
fn fids_follow_what_is_moved() {
    let mut guest = Guest::new();
    guest.mkdir(0, "a").unwrap();
    guest.walk(1, "a").unwrap();
    guest.walk(2, "a").unwrap();
    guest.create(2, "file", RDWR).unwrap();
    guest.walk(3, "a/file").unwrap();
    guest.mkdir(0, "b").unwrap();
    guest.walk(4, "b").unwrap();
    guest.rename((0, "a"), (4, "c")).unwrap();
    guest.attributes(3).unwrap();
    guest.ask(kind::RENAME, &fid(3).u32(0).text("top")).unwrap();
    assert!(guest.host("top").exists());
    assert_eq!(guest.walk_from(3, 5, ".."), Ok(1));
    assert_eq!(guest.attributes(5), guest.attributes(0));
    assert_eq!(guest.walk_from(1, 6, "../../b"), Ok(3));
    assert_eq!(guest.attributes(6), guest.attributes(4));
    assert_eq!(guest.ask(kind::RENAME, &fid(0).u32(1).text("x")), Err(EBUSY), "the folder itself");
    assert_eq!(guest.rename((0, "b"), (1, "x")), Err(EINVAL), "into itself");
}

#[test]
fn a_fid_of_what_another_file_was_moved_over_is_not_that_file() {
    let mut guest = Guest::new();
    for name in ["old", "new"] {
        fs::write(guest.host(name), name).unwrap();
    }
    for (number, name) in [(1, "old"), (2, "old"), (3, "new")] {
        guest.walk(number, name).unwrap();
    }
    let (old, new) = (guest.attributes(1), guest.attributes(3));
    guest.open(2, RDWR).unwrap();
    guest.rename((0, "new"), (0, "old")).unwrap();
    // By the one that is open, it is known and changed as before.
    assert_eq!((guest.attributes(1), guest.attributes(2), guest.attributes(3)), (old, old, new));
    guest.set(1, 8, 0, 2).unwrap();
    assert_eq!(guest.read(2, 0, 9).unwrap(), b"ol");
    guest.walk_from(1, 4, "").unwrap();
    assert_eq!((guest.attributes(4), guest.open(4, 0)), (old, Err(ENOENT)));
    assert_eq!(guest.ask(kind::LINK, &fid(0).u32(1).text("x")), Err(ENOENT));
    assert_eq!(guest.ask(kind::RENAME, &fid(1).u32(0).text("x")), Err(ENOENT));
    guest.clunk(2).unwrap();
    assert_eq!((guest.attributes(1), guest.set(1, 8, 0, 0)), (Err(ENOENT), Err(ENOENT)));
    assert_eq!(guest.ask(kind::REMOVE, &fid(1)), Err(ENOENT));
    assert_eq!(fs::read(guest.host("old")).unwrap(), b"new", "nothing has happened to it");
    guest.walk(5, "old").unwrap();
    assert_eq!(guest.attributes(5), new);
}

#[test]
fn a_move_from_one_name_of_a_file_to_another_of_its_leaves_both() {
    let mut guest = Guest::new();
    fs::write(guest.host("a"), "").unwrap();
    fs::hard_link(guest.host("a"), guest.host("b")).unwrap();
    guest.walk(1, "a").unwrap();
    guest.walk(2, "b").unwrap();
    guest.rename((0, "a"), (0, "b")).unwrap();
    guest.rename((0, "a"), (0, "a")).unwrap();
    assert!(guest.host("a").exists() && guest.attributes(1) == guest.attributes(2));
    guest.unlink(0, "b", 0).unwrap();
    guest.attributes(1).unwrap();
    assert_eq!(guest.attributes(2), Err(ENOENT));
}

#[test]
fn an_open_file_is_there_until_it_is_closed() {
    let mut guest = Guest::new();
    guest.walk(1, "").unwrap();
    guest.create(1, "file", RDWR).unwrap();
    guest.write(1, 0, b"still here").unwrap();
    guest.unlink(0, "file", 0).unwrap();
    guest.attributes(1).unwrap();
    guest.set(1, 8, 0, 5).unwrap();
    guest.set(1, 1, 0o600, 0).unwrap();
    assert_eq!(guest.read(1, 0, 100).unwrap(), b"still");
    assert_eq!(guest.walk(2, "file"), Err(ENOENT));
}

#[test]
fn attributes_are_the_hosts_and_are_set_there() {
    use std::os::unix::fs::MetadataExt;
    let mut guest = Guest::new();
    fs::write(guest.host("file"), "12345").unwrap();
    guest.walk(1, "file").unwrap();
    guest.set(1, 1, 0o640, 0).unwrap();
    assert_eq!(guest.attributes(1).unwrap().1, 0o100_640);
    guest.set(1, 8, 0, 3).unwrap();
    guest.set(1, 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8, 0, 0).unwrap();
    let metadata = fs::metadata(guest.host("file")).unwrap();
    assert_eq!((metadata.len(), metadata.mtime(), metadata.atime_nsec()), (3, 7, 7));
    guest.set(1, 1 << 5, 0, 0).unwrap();
    assert!(fs::metadata(guest.host("file")).unwrap().mtime() > 7, "the present");
    guest.set(0, 1, 0o700, 0).unwrap();
    assert_eq!(mode_of(guest.host("")), 0o700);
    let body = fid(1).u32(1 << 4 | 1 << 7).u32(0).u32(0).u32(0).u64(0);
    let body = body.u64(0).u64(1_000_000_000).u64(0).u64(0);
    assert_eq!(guest.ask(kind::SETATTR, &body), Err(EINVAL), "a second of nanoseconds");
}

#[test]
fn a_file_that_may_not_be_read_gets_its_mode_back() {
    let mut guest = Guest::new();
    fs::write(guest.host("file"), "").unwrap();
    guest.walk(1, "file").unwrap();
    guest.set(1, 1, 0o200, 0).unwrap();
    guest.set(1, 1, 0o644, 0).unwrap();
    assert_eq!(mode_of(guest.host("file")), 0o644);
}

#[test]
fn a_read_only_folder_is_read_and_nothing_else() {
    let mut guest = Guest::with(true);
    fs::write(guest.host("file"), "12345").unwrap();
    guest.walk(1, "file").unwrap();
    for flags in [WRONLY, RDWR, TRUNC] {
        assert_eq!(guest.open(1, flags), Err(EROFS));
    }
    for valid in [1, 8, 1 << 4] {
        assert_eq!(guest.set(1, valid, 0o777, 0), Err(EROFS));
    }
    assert_eq!(guest.create(0, "x", RDWR), Err(EROFS));
    assert_eq!(guest.mkdir(0, "x"), Err(EROFS));
    assert_eq!(guest.symlink(0, "x", "y"), Err(EROFS));
    assert_eq!(guest.unlink(0, "file", 0), Err(EROFS));
    assert_eq!(guest.rename((0, "file"), (0, "x")), Err(EROFS));
    assert_eq!(guest.ask(kind::LINK, &fid(0).u32(1).text("x")), Err(EROFS));
    assert_eq!(guest.ask(kind::RENAME, &fid(1).u32(0).text("x")), Err(EROFS));
    let node = fid(0).text("x").u32(0o100_644).u32(0).u32(0).u32(0);
    assert_eq!(guest.ask(kind::MKNOD, &node), Err(EROFS));
    guest.open(1, 0).unwrap();
    assert_eq!(guest.write(1, 0, b"x"), Err(EBADF));
    assert_eq!(guest.read(1, 0, 10).unwrap(), b"12345");
    assert_eq!(guest.ask(kind::REMOVE, &fid(1)), Err(EROFS));
    assert_eq!(guest.clunk(1), Err(EBADF), "it is forgotten all the same");
    assert!(guest.host("file").exists() && !guest.host("x").exists());
}

#[test]
fn locks_are_granted_and_none_is_in_the_way() {
    let mut guest = Guest::new();
    let lock = fid(0).u8(1).u32(1).u64(3).u64(4).u32(77).text("host");
    assert_eq!(guest.ask(kind::LOCK, &lock), Ok(vec![0]));
    let get = fid(0).u8(1).u64(3).u64(4).u32(77).text("host");
    let wanted = Body::default().u8(2).u64(3).u64(4).u32(77).text("host");
    assert_eq!(guest.ask(kind::GETLOCK, &get), Ok(wanted.0));
}

#[test]
fn what_the_file_system_is_like_is_told() {
    let mut guest = Guest::new();
    let answer = guest.ask(kind::STATFS, &fid(0)).unwrap();
    let mut reader = Reader::new(&answer);
    assert_eq!(reader.u32(), Ok(0x0102_1997));
    assert!(reader.u32().unwrap() >= 512 && reader.u64().unwrap() > 0);
    assert_eq!(answer.len(), 4 + 4 + 6 * 8 + 4);
}
