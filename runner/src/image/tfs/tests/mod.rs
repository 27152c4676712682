//! What the two encodings come to, and what hostile logs and files do not.

use super::*;
use crate::image::testing::{
    self, Node, directory, extension, file, first_extension, header, link, log, record, symbol,
    varint,
};

mod files;
mod hostile;

/// Opens the bytes as one file system.
fn open(bytes: &[u8]) -> Result<Filesystem, TfsError> {
    let source = Source::from_bytes("test", bytes);
    let region = Region { start: 0, len: source.len() };
    Filesystem::open(&source, region)
}

/// A file system with these records in its second extension.
fn records(records: &[u8]) -> Result<Filesystem, TfsError> {
    let log = [records, &[1]].concat();
    open(&[first_extension(5, &link(1, 4)), extension(5, 4, &log)].concat())
}

fn text<'a>(tuple: &Tuple<'a>, name: &str) -> Option<&'a [u8]> {
    tuple.get(name)?.text()
}

fn sub<'a>(tuple: &Tuple<'a>, name: &str) -> Tuple<'a> {
    match tuple.get(name) {
        Some(Value::Tuple(tuple)) => tuple,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn both_versions_encode_the_same_tree() {
    let tree = Node::Tuple(vec![
        ("program", Node::Text("/hello")),
        (
            "a rather long name, of more than 31 bytes",
            Node::Text("and an even longer text, of 46 bytes exactly."),
        ),
        ("arguments", Node::Vector(vec![Node::Text("hello"), Node::Text("7")])),
        ("number", Node::Number(u64::MAX)),
        ("inner", Node::Tuple(vec![("x", Node::Text(""))])),
    ]);
    for version in [4, 5] {
        // An empty value means that there is none, in version 4.
        let filesystem = open(&log(version, 4, std::slice::from_ref(&tree))).unwrap();
        assert_eq!(filesystem.version(), u64::from(version));
        assert_eq!(filesystem.label(), b"label");
        let root = filesystem.root();
        assert_eq!(text(&root, "program"), Some(&b"/hello"[..]));
        assert_eq!(
            text(&root, "a rather long name, of more than 31 bytes").map(<[u8]>::len),
            Some(45)
        );
        assert_eq!(root.get("number").and_then(|number| number.number()), Some(u64::MAX));
        let arguments: Vec<_> = (sub(&root, "arguments").entries().iter())
            .map(|(key, value)| (key.number().unwrap(), value.text().unwrap().to_vec()))
            .collect();
        assert_eq!(arguments, [(0, b"hello".to_vec()), (1, b"7".to_vec())], "version {version}");
        assert_eq!(text(&sub(&root, "inner"), "x").is_some(), version == 5);
        assert!(root.get("nothing").is_none());
    }
}

#[test]
fn later_records_change_add_and_delete() {
    for version in [4, 5] {
        // The dictionary: 1 root, 2 "a", 3 "b", 4 the inner tuple.
        let tuples = [
            Node::Tuple(vec![("a", Node::Text("old")), ("b", Node::Tuple(vec![]))]),
            Node::More(1, vec![("a", Node::Text("new")), ("c", Node::Text("added"))]),
            Node::More(4, vec![("in", Node::Text("first"))]),
            Node::More(4, vec![("in", Node::Deleted)]),
            Node::More(1, vec![("c", Node::Deleted), ("d", Node::Text("last"))]),
        ];
        let filesystem = open(&log(version, 4, &tuples)).unwrap();
        let root = filesystem.root();
        assert_eq!(text(&root, "a"), Some(&b"new"[..]));
        assert!(root.get("c").is_none());
        assert!(sub(&root, "b").entries().is_empty());
        let keys: Vec<_> = root.entries().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [Key::Name(b"a"), Key::Name(b"b"), Key::Name(b"d")]);
    }
}

#[test]
fn keys_strings_and_buffers_may_refer_to_the_dictionary() {
    // 1 root, 2 "one"; then a key by its number, and a string and a buffer.
    let tuple = [
        header(5, true, testing::TUPLE, 3),
        symbol(5, "one"),
        Node::Text("x").encode(5),
        symbol(5, "two"),
        header(5, false, testing::STRING, 2),
        header(5, false, 0, 3),
        header(5, false, 0, 2),
    ]
    .concat();
    let filesystem = records(&record(&tuple)).unwrap();
    let root = filesystem.root();
    assert_eq!(text(&root, "one"), Some(&b"x"[..]));
    assert_eq!(text(&root, "two"), Some(&b"one"[..]));
}

#[test]
fn negative_integers_are_no_numbers_to_count_with() {
    let tuple = [
        header(5, true, testing::TUPLE, 1),
        symbol(5, "n"),
        header(5, true, testing::INTEGER, 1),
        varint(300),
    ]
    .concat();
    let filesystem = records(&record(&tuple)).unwrap();
    let value = filesystem.root().get("n").unwrap();
    assert!(matches!(value, Value::Integer { negative: true, magnitude: 300 }));
    assert_eq!(value.number(), None);
}

#[test]
fn a_tuple_may_come_in_parts_over_several_extensions() {
    let tuple = directory("kernel", file(100, 7, 1)).encode(5);
    let total = varint(tuple.len() as u64);
    let (first, rest) = tuple.split_at(10);
    let (second, third) = rest.split_at(20);
    let bytes = [
        first_extension(5, &link(2, 1)),
        vec![0; 512],
        // Sector 2, then back to sector 1, then on to 3.
        extension(5, 1, &[&[2][..], &total, &[10], first, &[4, 4], &link(3, 1)].concat()),
        extension(5, 1, &[&[3][..], &[20], second, &link(1, 1)].concat()),
        vec![0; 512 * 4],
    ];
    let mut bytes = bytes.concat();
    let last = extension(5, 1, &[&[3][..], &varint(third.len() as u64), third, &[1]].concat());
    bytes[512..1024].copy_from_slice(&last);
    let filesystem = open(&bytes).unwrap();
    assert_eq!(filesystem.lookup("kernel").unwrap().unwrap().len(), 100);
}

#[test]
fn a_tuple_that_was_being_written_when_the_guest_went_away_does_not_count() {
    let whole = record(&Node::Tuple(vec![("a", Node::Text("x"))]).encode(5));
    let part = [&[2, 100, 3][..], b"abc"].concat();
    let filesystem = records(&[whole, part].concat()).unwrap();
    assert_eq!(text(&filesystem.root(), "a"), Some(&b"x"[..]));
}

#[test]
fn a_log_of_both_versions_is_read_as_nanos_reads_it() {
    // A new kernel goes on with version 5 behind a log of version 4.
    let old = record(&Node::Tuple(vec![("a", Node::Text("x"))]).encode(4));
    let new = record(&Node::More(1, vec![("b", Node::Text("y"))]).encode(5));
    let bytes = [
        first_extension(4, &link(1, 1)),
        extension(4, 1, &[old, link(2, 1)].concat()),
        extension(5, 1, &[&new[..], &[1]].concat()),
    ];
    let filesystem = open(&bytes.concat()).unwrap();
    assert_eq!(filesystem.version(), 4);
    assert_eq!(text(&filesystem.root(), "b"), Some(&b"y"[..]));
}
