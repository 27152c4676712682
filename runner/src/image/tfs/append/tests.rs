//! What is appended is read back; what cannot be appended is said.

use super::*;
use crate::image::testing::{Node, extension, first_extension, link, log, record as record_of};
use crate::image::tfs::{Region, Tuple, Value};
use crate::image::{Source, tfs::Filesystem};

fn open(bytes: &[u8]) -> Filesystem {
    let source = Source::from_bytes("test", bytes);
    let region = Region { start: 0, len: source.len() };
    Filesystem::open(&source, region).unwrap()
}

fn patched(bytes: &[u8], patch: &Patch) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = usize::try_from(patch.at).unwrap();
    assert!(at.is_multiple_of(512) && patch.bytes.len().is_multiple_of(512));
    bytes[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
    bytes
}

fn texts(tuple: &Tuple<'_>, name: &str) -> Vec<Vec<u8>> {
    let Some(Value::Tuple(tuple)) = tuple.get(name) else { panic!("no tuple {name}") };
    let numbered = |key: &crate::image::tfs::Key<'_>| key.number().unwrap_or(u64::MAX);
    let mut entries = tuple.entries();
    entries.sort_by_key(|(key, _)| numbered(key));
    entries.iter().map(|(_, value)| value.text().unwrap().to_vec()).collect()
}

fn manifest() -> Node {
    Node::Tuple(vec![
        ("program", Node::Text("/web")),
        ("arguments", Node::Vector(vec![Node::Text("web"), Node::Text("a"), Node::Text("b")])),
        ("environment", Node::Tuple(vec![("USER", Node::Text("bobby"))])),
    ])
}

#[test]
fn what_is_appended_is_the_root_tuples_and_replaces_what_was() {
    let long = vec![b'x'; 700];
    for version in [4, 5] {
        let bytes = log(version, 4, &[manifest()]);
        let settings = [
            Setting::Text("debug_exit", b"t"),
            Setting::List("arguments", vec![b"web", b"two words"]),
            Setting::Table("environment", vec![(b"USER", b"bobby"), (b"LONG", &long)]),
        ];
        let patch = open(&bytes).append(&settings).unwrap();
        let changed = open(&patched(&bytes, &patch));
        let root = changed.root();
        assert_eq!(root.get("program").unwrap().text(), Some(&b"/web"[..]), "version {version}");
        assert_eq!(root.get("debug_exit").unwrap().text(), Some(&b"t"[..]));
        assert_eq!(texts(&root, "arguments"), [b"web".to_vec(), b"two words".to_vec()]);
        assert_eq!(texts(&root, "environment"), [b"bobby".to_vec(), long.clone()]);
    }
}

#[test]
fn an_appended_record_can_be_followed_by_another() {
    let mut bytes = log(5, 4, &[manifest()]);
    for value in [b"1", b"2", b"3"] {
        let patch = open(&bytes).append(&[Setting::Text("n", value)]).unwrap();
        bytes = patched(&bytes, &patch);
    }
    assert_eq!(open(&bytes).root().get("n").unwrap().text(), Some(&b"3"[..]));
}

#[test]
fn an_empty_list_and_long_names_are_encoded_as_they_are() {
    let name = "n".repeat(300);
    for version in [4, 5] {
        let bytes = log(version, 4, &[manifest()]);
        let settings = [Setting::List("arguments", vec![]), Setting::Text(&name, b"x")];
        let patch = open(&bytes).append(&settings).unwrap();
        let changed = open(&patched(&bytes, &patch));
        assert!(texts(&changed.root(), "arguments").is_empty());
        assert_eq!(changed.root().get(&name).unwrap().text(), Some(&b"x"[..]));
    }
}

#[test]
fn a_log_without_room_is_refused_with_the_bytes_there_are() {
    let bytes = log(5, 1, &[manifest()]);
    let filesystem = open(&bytes);
    let fits = vec![b'x'; 100];
    filesystem.append(&[Setting::Text("n", &fits)]).unwrap();
    let error = filesystem.append(&[Setting::Text("n", &[b'x'; 500])]).unwrap_err().to_string();
    assert!(error.contains("do not fit") && error.contains("has room for"), "{error}");
}

#[test]
fn nothing_follows_a_record_that_is_not_whole() {
    let whole = record_of(&manifest().encode(5));
    let part = [&[2, 100, 3][..], b"abc", &[1]].concat();
    let bytes = [first_extension(5, &link(1, 4)), extension(5, 4, &[whole, part].concat())];
    let error = open(&bytes.concat()).append(&[Setting::Text("n", b"x")]).unwrap_err();
    assert!(matches!(error, AppendError::Unfinished), "{error}");
}
