use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::{MAX_SIZE, load};

/// A directory of one test's own.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Directory(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The error of reading one file, without the directory's name.
    fn error(&self, path: &Path) -> String {
        let error = load(&[path.to_owned()]).expect_err("an error").to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn no_config_is_an_empty_one_and_several_are_read_in_order() {
    let directory = Directory::new();
    assert!(load(&[]).unwrap().warnings.is_empty());
    let a = directory.file("a.json", r#"{"Args": ["a"]}"#);
    let b = directory.file("b.json", r#"{"Args": ["b"]}"#);
    let args = |config: &super::super::Config| format!("{:?}", config.get("Args").unwrap().value);
    assert_eq!(args(&load(&[a.clone(), b.clone()]).unwrap()), r#"Texts(["b"])"#);
    assert_eq!(args(&load(&[b, a]).unwrap()), r#"Texts(["a"])"#);
}

#[test]
fn a_missing_config_names_the_nearest_one_in_its_directory() {
    let directory = Directory::new();
    directory.file("config.json", "{}");
    directory.file("README", "");
    let missing = |name: &str| directory.error(&directory.path(name));
    assert_eq!(missing("confg.json"), "no such file: confg.json; did you mean config.json?");
    assert_eq!(missing("config.jsn"), "no such file: config.jsn; did you mean config.json?");
    assert_eq!(missing("zzz"), "no such file: zzz");
    assert_eq!(missing("none/config.json"), "no such file: none/config.json");
    assert_eq!(missing(".."), "..: not a regular file; put the config into one");
    // Relative to the current directory, which is this crate's when tests run.
    let error = load(&[PathBuf::from("Cargo.tmol")]).expect_err("missing");
    assert_eq!(error.to_string(), "no such file: Cargo.tmol; did you mean Cargo.toml?");
}

#[test]
fn only_a_regular_file_is_read_and_a_fifo_does_not_hang() {
    let directory = Directory::new();
    let fifo = directory.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let wanted = "fifo: not a regular file; put the config into one";
    assert_eq!(directory.error(&fifo), wanted);
    fs::create_dir(directory.path("d")).unwrap();
    let wanted = "d: not a regular file; put the config into one";
    assert_eq!(directory.error(&directory.path("d")), wanted);
    let error = load(&["/dev/zero".into()]).expect_err("a device");
    assert_eq!(error.to_string(), "/dev/zero: not a regular file; put the config into one");
    // A link to a regular file is one.
    let real = directory.file("real.json", "{}");
    let link = directory.path("link.json");
    std::os::unix::fs::symlink(real, &link).unwrap();
    load(&[link]).unwrap();
}

#[test]
fn a_config_of_more_than_a_mebibyte_is_refused() {
    let directory = Directory::new();
    let size = usize::try_from(MAX_SIZE).unwrap();
    let mut text = String::from("{}");
    text.push_str(&" ".repeat(size - text.len()));
    load(&[directory.file("full.json", &text)]).unwrap();
    text.push(' ');
    let wanted = "over.json: larger than 1 MiB, so no config";
    assert_eq!(directory.error(&directory.file("over.json", &text)), wanted);
}

#[test]
fn bytes_that_are_not_utf_8_are_an_error_with_their_place() {
    let directory = Directory::new();
    let path = directory.file("c.json", b"{\n\"Args\": [\"\xc3\xa9\xff\"]}");
    assert_eq!(directory.error(&path), "c.json:2:12: not UTF-8; save it as UTF-8");
}

#[test]
fn an_unreadable_config_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    let path = directory.file("c.json", "{}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        println!("skipped: this user may read files that nobody may read");
        return;
    }
    let error = directory.error(&path);
    assert!(error.starts_with("c.json: you may not read it"), "{error}");
}
