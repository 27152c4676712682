use super::*;

/// A file system of 16 sectors, each filled with its number behind the log, with one file.
fn with_file(metadata: Node) -> Result<Option<View>, TfsError> {
    let mut bytes = log(5, 4, &[directory("f", metadata)]);
    for sector in 5..16 {
        bytes.extend([sector; 512]);
    }
    open(&bytes).unwrap().lookup("f")
}

fn extents(list: Vec<(&'static str, Node)>) -> Node {
    Node::Tuple(vec![("filelength", Node::Number(2048)), ("extents", Node::Tuple(list))])
}

fn extent(offset: Node, length: Node) -> Node {
    Node::Tuple(vec![("offset", offset), ("length", length)])
}

fn at(offset: u64, length: u64) -> Node {
    extent(Node::Number(offset), Node::Number(length))
}

fn problem(metadata: Node) -> FileError {
    match with_file(metadata) {
        Err(TfsError::File { path, problem }) if path == "f" => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn extents_in_any_order_holes_and_unwritten_ones_make_up_a_file() {
    let mut unwritten = vec![("offset", Node::Number(9)), ("length", Node::Number(1))];
    unwritten.push(("uninited", Node::Text("")));
    let view = with_file(extents(vec![
        ("3", at(7, 2)),
        ("0", extent(Node::Text("6"), Node::Text("1"))),
        ("2", Node::Tuple(unwritten)),
    ]));
    let view = view.unwrap().unwrap();
    let mut bytes = [0xff; 2048];
    view.read_exact_at(0, &mut bytes).unwrap();
    let sectors: Vec<_> = bytes.chunks(512).map(|sector| (sector[0], sector[511])).collect();
    assert_eq!(sectors, [(6, 6), (0, 0), (0, 0), (7, 7)]);
    assert_eq!(view.pieces(512, 1024).map(|piece| piece.source).collect::<Vec<_>>(), [None, None]);
}

#[test]
fn extents_outside_of_the_file_system_are_refused() {
    let outside = |offset, length| problem(extents(vec![("1", at(offset, length))]));
    for (offset, length) in
        [(16, 1), (15, 2), (0, 17), (u64::MAX, 1), (1, u64::MAX), (u64::MAX / 512, 3)]
    {
        assert_eq!(outside(offset, length), FileError::Outside { sector: 1, offset, length });
    }
    assert_eq!(outside(8, 0), FileError::Outside { sector: 1, offset: 8, length: 0 });
}

#[test]
fn overlapping_extents_are_refused() {
    assert_eq!(problem(extents(vec![("0", at(6, 2)), ("1", at(8, 1))])), FileError::Overlap);
    assert_eq!(problem(extents(vec![("1", at(6, 1)), ("01", at(8, 1))])), FileError::Overlap);
}

#[test]
fn two_extents_in_the_same_sectors_of_the_disk_are_two_names_for_them() {
    assert!(with_file(extents(vec![("0", at(6, 1)), ("1", at(6, 1))])).is_ok());
}

#[test]
fn one_tuple_at_two_places_of_a_file_is_refused() {
    // 1 root, 2 "children", 3 the children, 4 "f", 5 the file, 6 "filelength", 7 "extents", 8 the
    // extents, 9 "0", 10 the extent.
    let tree = directory("f", extents(vec![("0", at(6, 1)), ("1", Node::More(10, vec![]))]));
    let mut bytes = log(5, 4, &[tree]);
    bytes.resize(16 * 512, 0);
    let error = open(&bytes).unwrap().lookup("f").unwrap_err();
    assert!(matches!(error, TfsError::File { problem: FileError::Shared(1), .. }), "{error}");
}

#[test]
fn more_extents_than_a_file_may_have_are_refused() {
    let names: Vec<&'static str> = (0..=1 << 16).map(|i| &*String::leak(format!("{i}"))).collect();
    let list = names.iter().map(|name| (*name, Node::Text(""))).collect();
    let bytes = log(5, 4096, &[directory("f", extents(list))]);
    let error = open(&bytes).unwrap().lookup("f").unwrap_err();
    assert!(matches!(error, TfsError::File { problem: FileError::Extents, .. }), "{error}");
}

#[test]
fn extents_whose_numbers_are_none_are_refused() {
    for name in ["", "x", "-1", "1 ", "0x1", "99999999999999999999"] {
        assert_eq!(problem(extents(vec![(name, at(6, 1))])), FileError::Place, "{name}");
    }
    assert_eq!(problem(extents(vec![("36028797018963968", at(6, 1))])), FileError::Place);
    assert_eq!(
        problem(extents(vec![("0", extent(Node::Text("six"), Node::Number(1)))])),
        FileError::Extent(0)
    );
    assert_eq!(problem(extents(vec![("0", Node::Text("6"))])), FileError::Extent(0));
    assert_eq!(
        problem(extents(vec![("0", Node::Tuple(vec![("offset", Node::Number(6))]))])),
        FileError::Extent(0)
    );
}

#[test]
fn a_length_that_is_no_number_is_refused_and_a_huge_one_is_a_hole() {
    let with_length =
        |length| Node::Tuple(vec![("filelength", length), ("extents", Node::Tuple(vec![]))]);
    assert_eq!(problem(with_length(Node::Text("long"))), FileError::Length);
    assert_eq!(problem(Node::Tuple(vec![("extents", Node::Tuple(vec![]))])), FileError::Length);
    let view = with_file(with_length(Node::Number(u64::MAX))).unwrap().unwrap();
    assert_eq!(view.len(), u64::MAX);
    let mut bytes = [1; 8];
    view.read_exact_at(1 << 60, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 8]);
    assert!(view.read_exact_at(u64::MAX - 8, &mut bytes).is_ok());
    assert!(view.read_exact_at(u64::MAX - 7, &mut bytes).is_err());
}

#[test]
fn a_directory_a_link_and_a_text_are_no_files() {
    assert_eq!(problem(Node::Tuple(vec![("children", Node::Tuple(vec![]))])), FileError::NotFile);
    assert_eq!(problem(Node::Tuple(vec![("linktarget", Node::Text("f"))])), FileError::NotFile);
    assert_eq!(problem(Node::Tuple(vec![("extents", Node::Text("0"))])), FileError::NotFile);
    assert!(with_file(Node::Text("f")).unwrap().is_none());
}

#[test]
fn only_plain_names_on_the_way_lead_to_a_file() {
    let inner = Node::Tuple(vec![(
        "children",
        Node::Tuple(vec![("k", file(5, 6, 1)), ("..", file(6, 6, 1))]),
    )]);
    let tree = directory("klib", inner);
    let mut bytes = log(5, 4, &[tree]);
    bytes.resize(16 * 512, 0);
    let filesystem = open(&bytes).unwrap();
    let length = |path| filesystem.lookup(path).unwrap().map(|view| view.len());
    assert_eq!(length("klib/k"), Some(5));
    assert_eq!(length("/klib//k"), Some(5));
    // Names are compared, not interpreted: this is a file of that name.
    assert_eq!(length("klib/.."), Some(6));
    for nothing in ["k", "klib/x", "klib/k/x", "klib/./k", "Klib/k", "klib\0/k", "klib/k\0"] {
        assert_eq!(length(nothing), None, "{nothing:?}");
    }
}

#[test]
fn names_with_slashes_and_nul_in_them_are_never_reached() {
    let tree = Node::Tuple(vec![(
        "children",
        Node::Tuple(vec![("a/b", file(5, 6, 1)), ("", file(5, 6, 1)), ("a\0", file(5, 6, 1))]),
    )]);
    let mut bytes = log(5, 4, &[tree]);
    bytes.resize(16 * 512, 0);
    let filesystem = open(&bytes).unwrap();
    assert!(filesystem.lookup("a/b").unwrap().is_none());
    assert!(filesystem.lookup("a").unwrap().is_none());
}
