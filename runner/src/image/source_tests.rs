use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory of its own for a test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("runner-source-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.join(name.as_ref())
    }

    fn file(&self, contents: &[u8]) -> PathBuf {
        let path = self.path("image");
        fs::write(&path, contents).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The problem, after its message has been checked to name the path.
fn refused(path: &Path, access: Access) -> OpenError {
    let error = Source::open(path, access).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
    match *error.problem {
        Problem::Open(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_file_is_named() {
    let scratch = Scratch::new();
    assert!(matches!(refused(&scratch.path("missing"), Access::Read), OpenError::Missing));
}

#[test]
fn an_empty_file_is_refused() {
    let scratch = Scratch::new();
    assert!(matches!(refused(&scratch.file(b""), Access::Read), OpenError::Empty));
}

#[test]
fn a_directory_is_refused_to_read_and_to_write() {
    let scratch = Scratch::new();
    assert!(matches!(refused(&scratch.0, Access::Read), OpenError::Directory));
    assert!(matches!(refused(&scratch.0, Access::ReadWrite), OpenError::Directory));
}

#[test]
fn a_fifo_without_a_writer_is_refused_and_not_waited_for() {
    let scratch = Scratch::new();
    let path = scratch.path("fifo");
    let status = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    assert!(matches!(refused(&path, Access::Read), OpenError::Fifo));
    assert!(matches!(refused(&path, Access::ReadWrite), OpenError::Fifo));
}

#[test]
fn a_character_device_is_refused() {
    assert!(matches!(refused(Path::new("/dev/zero"), Access::Read), OpenError::CharDevice));
}

#[test]
fn a_socket_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    assert!(matches!(refused(&path, Access::Read), OpenError::Socket));
}

#[test]
fn a_file_without_permissions_is_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let path = scratch.file(b"image");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        eprintln!("skipped: this user may read every file");
        return;
    }
    assert!(matches!(refused(&path, Access::Read), OpenError::Denied));
}

#[test]
fn a_symbolic_link_is_followed_once_and_then_the_file_stays_the_same() {
    let scratch = Scratch::new();
    let (path, link) = (scratch.file(b"first"), scratch.path("link"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let source = Source::open(&link, Access::Read).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"other").unwrap();
    let mut bytes = [0; 5];
    source.read_exact_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"first");
}

#[test]
fn a_loop_of_symbolic_links_is_an_error() {
    let scratch = Scratch::new();
    let link = scratch.path("link");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    assert!(matches!(refused(&link, Access::Read), OpenError::Circle));
}

#[test]
fn reading_past_the_end_names_offset_and_length() {
    let scratch = Scratch::new();
    for source in [
        Source::open(&scratch.file(b"12345678"), Access::Read).unwrap(),
        Source::from_bytes("memory", b"12345678"),
        Source::from_static("static", b"12345678"),
    ] {
        let mut buf = [0; 4];
        source.read_exact_at(4, &mut buf).unwrap();
        assert_eq!(&buf, b"5678");
        for offset in [5, 8, 9, u64::MAX] {
            let error = source.read_exact_at(offset, &mut buf).unwrap_err();
            assert!(matches!(error, ReadError::PastEnd { wanted: 4, len: 8, .. }), "{error}");
            assert!(error.to_string().contains(&format!("at byte {offset}")), "{error}");
        }
    }
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_an_error_that_names_the_offset() {
    let scratch = Scratch::new();
    let path = scratch.file(&[7; 4096]);
    let source = Source::open(&path, Access::ReadWrite).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let mut buf = [0; 100];
    source.read_exact_at(900, &mut buf).unwrap();
    assert!(matches!(source.read_exact_at(901, &mut buf), Err(ReadError::Shrunk { offset: 901 })));
}

#[test]
fn a_sparse_file_of_terabytes_is_only_as_long_as_what_is_read_of_it() {
    let scratch = Scratch::new();
    let path = scratch.path("sparse");
    let file = fs::File::create(&path).unwrap();
    if file.set_len(8 << 40).is_err() {
        eprintln!("skipped: no sparse files of 8 TiB in {}", scratch.0.display());
        return;
    }
    let source = Source::open(&path, Access::Read).unwrap();
    assert_eq!(source.len(), 8 << 40);
    let mut buf = [1; 16];
    source.read_exact_at((8 << 40) - 16, &mut buf).unwrap();
    assert_eq!(buf, [0; 16]);
    assert!(crate::image::Image::recognise(source).is_err());
}
