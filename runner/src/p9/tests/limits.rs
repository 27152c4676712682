//! How much a guest can have.

use super::*;

#[test]
fn open_files_have_a_bound_and_come_back_when_they_are_closed() {
    let mut guest = Guest::new();
    fs::write(guest.host("file"), "").unwrap();
    let most = u32::try_from(MAX_OPEN).unwrap();
    // The process may have no more than 1024 descriptors: those that there are not are refused by it.
    let mut count = 0;
    let refused = loop {
        count += 1;
        guest.walk(count, "file").unwrap();
        if let Err(refused) = guest.open(count, 0) {
            break refused;
        }
    };
    assert!(count <= most + 1 && [ENFILE, 24].contains(&refused), "{count} {refused}");
    guest.clunk(1).unwrap();
    guest.open(count, 0).unwrap();
    guest.begin();
    assert_eq!(guest.server.fids(), (1, 0), "a new session begins with nothing");
}

#[test]
fn a_reset_closes_everything() {
    let mut guest = Guest::new();
    guest.walk(1, "").unwrap();
    guest.create(1, "file", RDWR).unwrap();
    guest.server.reset();
    assert_eq!(guest.server.fids(), (0, 0));
    assert_eq!(guest.walk(1, ""), Err(EPROTO), "there is no session");
    guest.begin();
    guest.walk(1, "file").unwrap();
}

#[test]
fn fids_are_the_guests_to_choose_but_not_twice() {
    let mut guest = Guest::new();
    guest.walk(1, "").unwrap();
    assert_eq!(guest.walk(1, ""), Err(EINVAL));
    let attach = fid(0).u32(!0).text("root").text("").u32(0);
    assert_eq!(guest.ask(kind::ATTACH, &attach), Err(EINVAL));
    assert_eq!(guest.walk_from(77, 78, ""), Err(EBADF));
    guest.mkdir(0, "a").unwrap();
    assert_eq!(guest.walk_from(1, 1, "a"), Ok(1), "in place");
    assert_eq!(guest.walk_from(1, 1, "b"), Err(ENOENT));
    assert_eq!(guest.walk_from(1, 1, ".."), Ok(1), "as before");
    guest.open(1, 0).unwrap();
    assert_eq!(guest.walk_from(1, 1, ""), Err(EINVAL), "it is open");
    assert_eq!(guest.walk_from(1, 2, "a"), Ok(1));
}

#[test]
fn a_path_that_grows_for_ever_comes_to_an_end() {
    let mut guest = Guest::new();
    let name = "d".repeat(255);
    guest.walk(1, "").unwrap();
    let mut refused = Ok(());
    for _ in 0..20 {
        refused = guest.mkdir(1, &name);
        if refused.is_err() {
            break;
        }
        guest.walk_from(1, 1, &name).unwrap();
    }
    assert_eq!(refused, Err(ENAMETOOLONG));
    let long = "d".repeat(256);
    assert_eq!(guest.walk(2, &long), Err(ENAMETOOLONG));
}

#[test]
fn a_path_does_not_grow_by_moves_either() {
    let mut guest = Guest::new();
    let name = "d".repeat(255);
    // Two folders with others in them, one in the other, as deep as paths go, and a fid for the last.
    for (number, top) in [(1, "a"), (2, "b")] {
        guest.mkdir(0, top).unwrap();
        guest.walk(number, top).unwrap();
        for _ in 0..15 {
            guest.mkdir(number, &name).unwrap();
            guest.walk_from(number, number, &name).unwrap();
        }
    }
    assert_eq!(guest.rename((0, "a"), (2, "a")), Err(ENAMETOOLONG), "of the fid below it");
    assert!(guest.host("a").exists());
    guest.attributes(1).unwrap();
    guest.clunk(1).unwrap();
    guest.rename((0, "a"), (2, "a")).unwrap();
    assert!(!guest.host("a").exists());
}
