//! Names, and paths below the folder: components with nothing in between that means more than a name.

use super::errno::Errno;

/// Bytes of the longest path, as on Linux (`PATH_MAX`).
pub(super) const MAX_PATH: usize = 4096;

/// Bytes of the longest name, as on Linux (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// The name of one file within its folder: one component, and neither `.` nor `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        match bytes {
            b"" => Err(Errno::NOENT),
            b"." | b".." => Err(Errno::INVAL),
            _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(Errno::INVAL),
            _ if bytes.len() > MAX_NAME => Err(Errno::NAMETOOLONG),
            _ => Ok(Self(bytes)),
        }
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A path below the folder, which itself has the empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Box<[u8]>);

impl Path {
    /// The names on the way down.
    pub(crate) fn components(&self) -> impl Iterator<Item = Name<'_>> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(Name)
    }

    /// Bytes that it takes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of the file `name` in the folder that this is the path of.
    pub(crate) fn join(&self, name: Name<'_>) -> Result<Self, Errno> {
        if self.is_root() {
            return Ok(Self(name.0.into()));
        }
        let path = [&self.0, &b"/"[..], name.0].concat();
        match path.len() <= MAX_PATH {
            true => Ok(Self(path.into())),
            false => Err(Errno::NAMETOOLONG),
        }
    }

    /// The folder it is in, and its name there; nothing for the folder at the top.
    pub(crate) fn split(&self) -> Option<(Self, Name<'_>)> {
        if self.is_root() {
            return None;
        }
        let at = self.0.iter().rposition(|byte| *byte == b'/');
        let (folder, name) = match at {
            Some(at) => (self.0.get(..at)?, self.0.get(at.checked_add(1)?..)?),
            None => (&b""[..], &*self.0),
        };
        Some((Self(folder.into()), Name(name)))
    }

    /// The way on from `folder`; nothing if it is not on the way.
    pub(crate) fn below(&self, folder: &Self) -> Option<Self> {
        if folder.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(&*folder.0)?;
        match rest.is_empty() {
            true => Some(Self::default()),
            false => Some(Self(rest.strip_prefix(b"/")?.into())),
        }
    }

    /// What this path is once `from` has become `to`; nothing if it is neither `from` nor below it.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(&*from.0)?;
        (rest.is_empty() || rest.starts_with(b"/")).then(|| Self([&to.0, rest].concat().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split('/').filter(|name| !name.is_empty()).fold(Path::default(), |path, name| {
            path.join(Name::new(name.as_bytes()).unwrap()).unwrap()
        })
    }

    #[test]
    fn a_name_is_one_component_and_not_the_way_up() {
        assert_eq!(Name::new(b""), Err(Errno::NOENT));
        for name in [&b"."[..], b"..", b"a/b", b"/", b"a\0", b"/etc", b"../x"] {
            assert_eq!(Name::new(name), Err(Errno::INVAL), "{name:?}");
        }
        assert_eq!(Name::new(&[b'a'; 256]), Err(Errno::NAMETOOLONG));
        for name in [&b"..."[..], b".a", b"a\\b", b"\xff", &[b'a'; 255]] {
            assert_eq!(Name::new(name).unwrap().bytes(), name);
        }
    }

    #[test]
    fn paths_are_joined_and_split_by_components() {
        let deep = path("a/b/c");
        let (folder, name) = deep.split().unwrap();
        assert_eq!((folder, name.bytes()), (path("a/b"), &b"c"[..]));
        assert_eq!(path("a").split().unwrap().0, Path::default());
        assert_eq!(Path::default().split(), None);
        assert_eq!(Path::default().components().count(), 0);
        let names: Vec<_> = deep.components().map(Name::bytes).collect();
        assert_eq!(names, [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_path_has_an_end() {
        let name = Name::new(&[b'a'; 255]).unwrap();
        let mut path = Path::default();
        while let Ok(longer) = path.join(name) {
            path = longer;
        }
        assert_eq!(path.len(), 16 * 256 - 1);
    }

    #[test]
    fn the_way_on_from_a_folder_is_a_path_of_its_own() {
        let below = |text: &str, folder: &str| path(text).below(&path(folder));
        assert_eq!(below("a/b/c", "a"), Some(path("b/c")));
        assert_eq!((below("a", ""), below("a", "a")), (Some(path("a")), Some(path(""))));
        assert_eq!((below("ab", "a"), below("a", "a/b"), below("", "a")), (None, None, None));
    }

    #[test]
    fn what_is_below_a_folder_moves_with_it_and_nothing_else() {
        let moved = |text: &str| path(text).moved(&path("a/b"), &path("x"));
        assert_eq!(moved("a/b"), Some(path("x")));
        assert_eq!(moved("a/b/c/d"), Some(path("x/c/d")));
        assert_eq!((moved("a"), moved("a/bc"), moved("b")), (None, None, None));
    }
}
