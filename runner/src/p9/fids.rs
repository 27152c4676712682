//! What the guest's fids stand for.

use std::collections::BTreeMap;
use std::fs::File;

use super::MAX_OPEN;
use super::errno::Errno;
use super::path::{MAX_PATH, Path};
use super::tree::Listing;

/// How many fids there can be. A guest that caches names has one for each.
const MAX_FIDS: usize = 1 << 17;

/// Bytes that their paths take, all together.
const MAX_PATHS: usize = 8 << 20;

/// An open file.
#[derive(Debug)]
pub(super) enum Open {
    /// A regular file, and whether it can be written.
    File(File, bool),
    /// A folder, whose entries are read.
    Folder(Listing),
}

/// What a fid stands for.
#[derive(Debug, Default)]
pub(super) struct Fid {
    path: Path,
    pub(super) open: Option<Box<Open>>,
    /// Another file was moved to its path: by which move, counted. All fids of one file have the same.
    replaced: Option<u64>,
}

impl Fid {
    /// Where its file is, which has a name.
    pub(super) fn path(&self) -> Result<&Path, Errno> {
        match self.replaced {
            None => Ok(&self.path),
            Some(_) => Err(Errno::NOENT),
        }
    }
}

/// All of a session's.
#[derive(Debug, Default)]
pub(super) struct Fids {
    fids: BTreeMap<u32, Fid>,
    /// Bytes of all paths.
    paths: usize,
    /// How many are open.
    open: usize,
    /// How often something was moved.
    moves: u64,
}

impl Fids {
    /// How many there are, and how many of them are open.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.fids.len(), self.open)
    }

    pub(super) fn get(&self, fid: u32) -> Result<&Fid, Errno> {
        self.fids.get(&fid).ok_or(Errno::BADF)
    }

    /// The open file or folder of `fid`.
    pub(super) fn open_mut(&mut self, fid: u32) -> Result<&mut Open, Errno> {
        let fid = self.fids.get_mut(&fid).ok_or(Errno::BADF)?;
        fid.open.as_deref_mut().ok_or(Errno::BADF)
    }

    /// The path of `fid`, which must not be open.
    pub(super) fn closed(&self, fid: u32) -> Result<&Path, Errno> {
        let fid = self.get(fid)?;
        match fid.open {
            None => fid.path(),
            Some(_) => Err(Errno::INVAL),
        }
    }

    /// `fid`, or an open one of the same file where that has no name any more.
    pub(super) fn known(&self, fid: u32) -> Result<&Fid, Errno> {
        let fid = self.get(fid)?;
        match fid.replaced {
            Some(_) if fid.open.is_none() => {
                let same = |other: &&Fid| other.replaced == fid.replaced && other.path == fid.path;
                let mut others = self.fids.values().filter(same);
                others.find(|other| other.open.is_some()).ok_or(Errno::NOENT)
            }
            _ => Ok(fid),
        }
    }

    pub(super) fn is_used(&self, fid: u32) -> bool {
        self.fids.contains_key(&fid)
    }

    /// Whether one more file may be opened.
    pub(super) fn room_to_open(&self) -> Result<(), Errno> {
        match self.open < MAX_OPEN {
            true => Ok(()),
            false => Err(Errno::NFILE),
        }
    }

    /// Makes `fid` stand for `path`, whatever it stood for.
    pub(super) fn set(&mut self, fid: u32, path: Path, open: Option<Open>) -> Result<(), Errno> {
        let old = self.fids.get(&fid).map(|fid| fid.path.len());
        let paths = self.paths.saturating_sub(old.unwrap_or(0)).saturating_add(path.len());
        if paths > MAX_PATHS || (old.is_none() && self.fids.len() >= MAX_FIDS) {
            return Err(Errno::NFILE);
        }
        self.remove(fid);
        self.paths = paths;
        self.open = self.open.saturating_add(usize::from(open.is_some()));
        self.fids.insert(fid, Fid { path, open: open.map(Box::new), replaced: None });
        Ok(())
    }

    /// Makes `new` stand for the file that `fid` stands for.
    pub(super) fn copy(&mut self, fid: u32, new: u32) -> Result<(), Errno> {
        let Fid { path, replaced, .. } = self.get(fid)?;
        let (path, replaced) = (path.clone(), *replaced);
        self.set(new, path, None)?;
        if let Some(new) = self.fids.get_mut(&new) {
            new.replaced = replaced;
        }
        Ok(())
    }

    /// Forgets `fid`, and closes it.
    pub(super) fn remove(&mut self, fid: u32) -> Option<Fid> {
        let old = self.fids.remove(&fid)?;
        self.paths = self.paths.saturating_sub(old.path.len());
        self.open = self.open.saturating_sub(usize::from(old.open.is_some()));
        Some(old)
    }

    /// Whether the paths would have room if `from` became `to`, and none be too long: every request goes
    /// down the whole of its own.
    pub(super) fn room_to_move(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        let mut paths = self.paths;
        for path in self.fids.values().filter_map(|fid| fid.path().ok()) {
            if let Some(moved) = path.moved(from, to) {
                if moved.len() > MAX_PATH {
                    return Err(Errno::NAMETOOLONG);
                }
                paths = paths.saturating_sub(path.len()).saturating_add(moved.len());
            }
        }
        match paths <= MAX_PATHS {
            true => Ok(()),
            false => Err(Errno::NOMEM),
        }
    }

    /// `from` has become `to`: whatever is below it has another path now, and what was at `to` has none.
    pub(super) fn moved(&mut self, from: &Path, to: &Path) {
        self.moves = self.moves.wrapping_add(1);
        for fid in self.fids.values_mut().filter(|fid| fid.replaced.is_none()) {
            if let Some(path) = fid.path.moved(from, to) {
                self.paths = self.paths.saturating_sub(fid.path.len()).saturating_add(path.len());
                fid.path = path;
            } else if fid.path.below(to).is_some() {
                fid.replaced = Some(self.moves);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p9::path::Name;

    fn path(name: &[u8]) -> Path {
        Path::default().join(Name::new(name).unwrap()).unwrap()
    }

    #[test]
    fn fids_and_their_paths_are_bounded_and_give_back_what_they_took() {
        let mut fids = Fids::default();
        let mut count = 0;
        while fids.set(count, path(&[b'a'; 200]), None).is_ok() {
            count += 1;
        }
        assert_eq!(usize::try_from(count).unwrap(), MAX_PATHS / 200);
        assert_eq!(fids.room_to_move(&path(&[b'a'; 200]), &path(&[b'b'; 201])), Err(Errno::NOMEM));
        assert_eq!(fids.room_to_move(&path(b"other"), &path(&[b'b'; 201])), Ok(()));
        for fid in 0..count {
            fids.remove(fid);
        }
        assert_eq!((fids.paths, fids.count()), (0, (0, 0)));
        count = 0;
        while fids.set(count, Path::default(), None).is_ok() {
            count += 1;
        }
        assert_eq!(usize::try_from(count).unwrap(), MAX_FIDS);
        assert_eq!(fids.set(0, path(b"a"), None), Ok(()), "one that is there may change");
    }

    #[test]
    fn a_move_takes_along_what_is_below_and_its_account() {
        let mut fids = Fids::default();
        fids.set(1, path(b"a"), None).unwrap();
        fids.set(2, path(b"a").join(Name::new(b"x").unwrap()).unwrap(), None).unwrap();
        fids.set(3, path(b"ab"), None).unwrap();
        fids.moved(&path(b"a"), &path(b"longer"));
        assert_eq!(fids.get(1).unwrap().path, path(b"longer"));
        assert_eq!(fids.get(2).unwrap().path.split().unwrap().0, path(b"longer"));
        assert_eq!(fids.get(3).unwrap().path, path(b"ab"));
        assert_eq!(fids.paths, "longer".len() + "longer/x".len() + "ab".len());
    }

    #[test]
    fn what_another_was_moved_over_has_no_path_and_stays_one_file() {
        let mut fids = Fids::default();
        for (fid, name) in [(1, b"a"), (2, b"b"), (3, b"c")] {
            fids.set(fid, path(name), None).unwrap();
        }
        fids.moved(&path(b"a"), &path(b"b"));
        fids.copy(2, 4).unwrap();
        fids.moved(&path(b"c"), &path(b"b"));
        let name = |fid| fids.get(fid).unwrap().path().cloned();
        assert_eq!(name(3), Ok(path(b"b")));
        assert_eq!(
            (name(1), name(2), name(4)),
            (Err(Errno::NOENT), Err(Errno::NOENT), Err(Errno::NOENT))
        );
        assert_eq!(fids.closed(2), Err(Errno::NOENT));
        let (one, two, copy) = (fids.get(1), fids.get(2), fids.get(4));
        let of = |fid: Result<&Fid, _>| fid.unwrap().replaced;
        assert!(of(two) == of(copy) && of(one) != of(two), "two files were there");
        assert_eq!(fids.room_to_move(&path(b"b"), &path(&[b'b'; 255])), Ok(()));
        for fid in 1..5 {
            fids.remove(fid);
        }
        assert_eq!((fids.paths, fids.count()), (0, (0, 0)));
    }
}
