//! From a name to an image: a path, OPS's folder, or the one that is built in.

use std::env;
use std::path::{Path, PathBuf};

use crate::image::{self, Access, Arch, Image, Marks, Source};
use crate::log::printable_path;

/// Nothing by that name.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// It was looked for in all these places.
    #[error(
        "no image {name:?}: looked for {looked}{nearest}; build it with `ops`, or try `runner hello`"
    )]
    Nowhere {
        /// As the user typed it.
        name: String,
        /// Where, comma separated.
        looked: String,
        /// What is there and sounds like it.
        nearest: String,
    },
    /// It was found and cannot be used.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// It was found and cannot be used, and there is another by that name.
    #[error("{error}; {} has that name, too: give its path", printable_path(other))]
    Hidden {
        /// What is wrong with the first.
        error: image::Error,
        /// The second.
        other: PathBuf,
    },
}

impl NotFound {
    fn image(error: image::Error, other: Option<&Path>) -> Self {
        match other {
            Some(other) => NotFound::Hidden { error, other: other.to_owned() },
            None => NotFound::Image(error),
        }
    }
}

/// An image and whether its file was opened for writing.
pub(super) struct Opened {
    pub(super) image: Image,
    pub(super) writable: bool,
}

/// Opens the image called `name`, once; for writing, if that is wanted, where it is allowed: a disk
/// image will be the guest's disk.
///
/// # Errors
/// [`NotFound`].
pub(super) fn open(name: &Path, access: Access, marks: Marks) -> Result<Opened, NotFound> {
    let places = places(name, ops_folder().as_deref());
    let mut there = places.iter().filter(|place| place.symlink_metadata().is_ok());
    // A folder is no image, and hides none.
    let mut folder = None;
    let file = there.find(|place| {
        let is_folder = place.is_dir();
        if is_folder {
            folder.get_or_insert(*place);
        }
        !is_folder
    });
    match file.or_else(|| folder.filter(|_| builtin(name).is_none())) {
        Some(path) => open_path(path, access, marks).map_err(|error| {
            let others = places.iter().filter(|place| *place != path && place.is_file());
            NotFound::image(error, others.map(|place| place.as_path()).next())
        }),
        None => {
            let image = builtin(name).ok_or_else(|| nowhere(name, &places))??;
            Ok(Opened { image, writable: false })
        }
    }
}

/// Opens the image at `path`.
///
/// # Errors
/// As [`open`], but for other places.
pub(super) fn open_path(path: &Path, access: Access, marks: Marks) -> Result<Opened, image::Error> {
    let writable = match access {
        Access::Read => None,
        Access::ReadWrite => Source::open(path, Access::ReadWrite).ok(),
    };
    let (source, writable) = match writable {
        Some(source) => (source, true),
        None => (Source::open(path, Access::Read)?, false),
    };
    Ok(Opened { image: Image::recognise_as(source, marks)?, writable })
}

/// OPS's folder: `.ops` in `$OPS_HOME`, or in the home folder.
pub(super) fn ops_folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("OPS_HOME").or_else(|| set("HOME")).map(|home| home.join(".ops"))
}

/// A name with a slash is a path and nothing else.
fn places(name: &Path, ops: Option<&Path>) -> Vec<PathBuf> {
    let mut places = vec![name.to_owned()];
    if let Some(ops) = ops
        && name.components().count() == 1
    {
        let images = ops.join("images");
        places.push(images.join(name));
        let mut with_extension = name.as_os_str().to_owned();
        with_extension.push(".img");
        places.push(images.join(with_extension));
    }
    places
}

/// The built-in guest, for this machine.
fn builtin(name: &Path) -> Option<Result<Image, image::Error>> {
    let hello = match Arch::HOST {
        Some(Arch::Aarch64) => guests::aarch64::kernels::HELLO,
        Some(Arch::X86_64) | None => guests::x86_64::kernels::HELLO,
    };
    let image = || Image::recognise(Source::from_static("hello (built in)", hello));
    (name == Path::new("hello")).then(image)
}

fn nowhere(name: &Path, places: &[PathBuf]) -> NotFound {
    let looked: Vec<String> = places.iter().map(|place| printable_path(place)).collect();
    NotFound::Nowhere {
        name: name.display().to_string(),
        looked: looked.join(", "),
        nearest: nearest(name, places)
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?")),
    }
}

/// The file in one of the folders, or the built-in guest, whose name sounds most like `name`.
fn nearest(name: &Path, places: &[PathBuf]) -> Option<String> {
    let wanted = name.file_stem()?.to_string_lossy();
    let folders = places.iter().filter_map(|place| place.parent());
    let entries = folders.flat_map(|folder| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        std::fs::read_dir(folder).into_iter().flatten().flatten()
    });
    let files = entries.filter(|entry| entry.path().is_file());
    let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let distance = |name: String| {
        let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy();
        (strsim::damerau_levenshtein(&wanted, &stem), name)
    };
    let near = names.chain(["hello".to_owned()]).map(distance);
    // One slip in three letters, and no more than two.
    let most = (wanted.chars().count() / 3).min(2);
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_first_then_an_image_of_ops_with_and_without_extension() {
        let places = places(Path::new("web"), Some(Path::new("/o")));
        assert_eq!(places, ["web", "/o/images/web", "/o/images/web.img"].map(PathBuf::from));
    }

    #[test]
    fn a_name_with_a_slash_is_only_a_path() {
        assert_eq!(places(Path::new("./web"), Some(Path::new("/o"))).len(), 1);
        assert_eq!(places(Path::new("/web"), Some(Path::new("/o"))).len(), 1);
    }

    #[test]
    fn an_image_that_is_nowhere_names_every_place_and_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("server.img"), b"x").unwrap();
        let path = folder.path().join("sever.img");
        let error = open(&path, Access::Read, Marks::Needed).err().unwrap().to_string();
        assert!(error.contains("sever.img"), "{error}");
        assert!(error.contains("did you mean \"server.img\"?"), "{error}");
    }
}
