use super::*;

fn problem(result: Result<Filesystem, TfsError>) -> LogProblem {
    match result {
        Err(TfsError::Log { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

/// What is wrong with one tuple's bytes.
fn tuple(bytes: &[&[u8]]) -> LogProblem {
    problem(records(&record(&bytes.concat())))
}

#[test]
fn every_truncation_is_an_error_and_none_a_panic() {
    for version in [4, 5] {
        let whole = log(version, 1, &[directory("kernel", file(100, 3, 1))]);
        let used = whole.iter().rposition(|byte| *byte == 1).unwrap();
        for len in 0..whole.len() {
            assert!(open(&whole[..len]).is_err(), "version {version}, {len} bytes");
        }
        assert!(used > 512 && open(&whole).is_ok());
    }
}

#[test]
fn no_single_byte_of_a_log_can_make_it_panic() {
    for version in [4, 5] {
        let mut whole = log(version, 1, &[directory("kernel", file(100, 3, 1))]);
        whole.resize(4 * 512, 0);
        for at in (0..64).chain(512..700) {
            for value in [0, 1, 2, 3, 5, 0x7f, 0x80, 0x90, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                if let Ok(filesystem) = open(&broken) {
                    let _ = filesystem.lookup("kernel");
                }
            }
        }
    }
}

#[test]
fn a_region_too_small_or_without_magic_is_no_file_system() {
    let source = Source::from_bytes("test", &[0; 1024]);
    for len in [0, 1, 511, 512, 1024] {
        let region = Region { start: 0, len };
        assert!(!Filesystem::probe(&source, region).unwrap());
        assert_eq!(problem(Filesystem::open(&source, region)), LogProblem::Magic);
    }
    let beyond = Region { start: u64::MAX, len: u64::MAX };
    assert!(Filesystem::probe(&source, beyond).is_err());
    assert!(Filesystem::open(&source, beyond).is_err());
}

#[test]
fn an_error_names_the_byte_of_the_image() {
    let bytes = [vec![0; 4096], first_extension(5, &[9])].concat();
    let source = Source::from_bytes("test", &bytes);
    let error = Filesystem::open(&source, Region { start: 4096, len: 512 }).unwrap_err();
    // 6 of magic, 1 version, 1 length, 16 UUID, 6 label.
    let text = error.to_string();
    assert!(text.contains("at byte 4126 of the image: a record of unknown type 9"), "{text}");
}

#[test]
fn another_version_is_named() {
    assert_eq!(problem(open(&first_extension(6, &[1]))), LogProblem::Version(6));
    let second = [first_extension(5, &link(1, 1)), extension(3, 1, &[1])].concat();
    assert_eq!(problem(open(&second)), LogProblem::Version(3));
}

#[test]
fn a_label_without_an_end_is_refused() {
    let label = vec![b'x'; 400];
    let bytes = extension(5, 1, &[&[0; 16][..], &label].concat());
    assert_eq!(problem(open(&bytes)), LogProblem::Label);
}

#[test]
fn a_link_that_leads_back_is_a_loop() {
    let to = |first: &[u8], second: &[u8]| {
        problem(open(&[first_extension(5, first), extension(5, 2, second)].concat()))
    };
    assert_eq!(to(&link(0, 1), &[1]), LogProblem::Loop(0));
    assert_eq!(to(&link(0, 3), &[1]), LogProblem::Loop(0));
    assert_eq!(to(&link(1, 2), &link(1, 2)), LogProblem::Loop(1));
    assert_eq!(to(&link(1, 2), &link(2, 1)), LogProblem::Loop(2));
    assert_eq!(to(&link(1, 1), &link(0, 1)), LogProblem::Loop(0));
}

#[test]
fn a_link_out_of_the_file_system_is_refused() {
    for (sector, sectors) in
        [(1, 0), (1, 1), (0, 2), (u64::MAX, 1), (1, u64::MAX), (1 << 55, 1), (1 << 54, 1 << 54)]
    {
        let bytes = first_extension(5, &link(sector, sectors));
        assert_eq!(problem(open(&bytes)), LogProblem::LinkOutside { sector, sectors });
    }
}

#[test]
fn a_chain_of_too_many_extensions_is_refused() {
    let mut bytes = first_extension(5, &link(1, 1));
    for next in 2..6000 {
        bytes.extend(extension(5, 1, &link(next, 1)));
    }
    assert_eq!(problem(open(&bytes)), LogProblem::Extensions);
}

#[test]
fn an_extension_without_an_end_of_log_is_refused() {
    assert_eq!(problem(open(&first_extension(5, &[4; 482]))), LogProblem::PastExtension);
    let bytes = [first_extension(5, &link(1, 1)), extension(5, 1, &[4; 504])].concat();
    assert_eq!(problem(open(&bytes)), LogProblem::PastExtension);
    // A tuple that claims more than there is.
    let lying = [
        first_extension(5, &link(1, 1)),
        extension(5, 1, &[&[2][..], &varint(4000), &varint(4000)].concat()),
    ];
    assert_eq!(problem(open(&lying.concat())), LogProblem::PastExtension);
}

#[test]
fn a_log_without_end_is_read_up_to_a_limit() {
    let sectors = (log::MAX_LOG / 512) + 1000;
    let mut bytes = [first_extension(5, &link(1, sectors)), extension(5, 1, &[4])].concat();
    bytes.resize(usize::try_from((sectors + 1) * 512).unwrap(), 4);
    bytes[512..1024].iter_mut().skip(8).for_each(|byte| *byte = 4);
    let source = Source::from_static("test", Vec::leak(bytes));
    let region = Region { start: 0, len: source.len() };
    assert_eq!(problem(Filesystem::open(&source, region)), LogProblem::TooLong);
}

#[test]
fn records_without_entries_are_counted_too() {
    // More of a tuple, of no bytes.
    let nothing = [3, 0].repeat(1 << 20);
    let log = [&[2, 4, 0][..], &nothing, &[1]].concat();
    let sectors = log.len() as u64 / 512 + 1;
    let bytes = [first_extension(5, &link(1, sectors)), extension(5, sectors, &log)].concat();
    assert_eq!(problem(open(&bytes)), LogProblem::Records);
}

#[test]
fn numbers_of_more_than_64_bits_are_refused() {
    let long = [0xff; 10];
    assert_eq!(problem(records(&[&[2][..], &long].concat())), LogProblem::Number);
    assert_eq!(tuple(&[&[0x98], &long, &[0]]), LogProblem::Number);
    assert_eq!(problem(open(&first_extension(5, &[&[5][..], &long].concat()))), LogProblem::Number);
    // A run of zero groups is not more than 64 bits, but it ends with the record.
    assert_eq!(tuple(&[&[0x98], &[0x80; 300]]), LogProblem::Short);
}

#[test]
fn parts_that_do_not_fit_together_are_refused() {
    assert_eq!(problem(records(&[3, 1, 0])), LogProblem::Parts { total: 0, part: 1 });
    assert_eq!(problem(records(&[2, 2, 3, 0, 0, 0])), LogProblem::Parts { total: 2, part: 3 });
    assert_eq!(problem(records(&[2, 4, 1, 0, 3, 4])), LogProblem::Parts { total: 4, part: 4 });
    assert_eq!(problem(records(&[2, 4, 1, 0, 2, 1, 1, 0])), LogProblem::Unfinished(3));
}

#[test]
fn a_record_holds_one_tuple_and_nothing_else() {
    assert_eq!(problem(records(&[2, 0, 0])), LogProblem::Short);
    assert_eq!(tuple(&[&Node::Text("x").encode(5)]), LogProblem::NotTuple);
    assert_eq!(tuple(&[&Node::Number(1).encode(5)]), LogProblem::NotTuple);
    assert_eq!(tuple(&[&Node::Tuple(vec![]).encode(5), &[0, 0]]), LogProblem::Trailing(2));
    assert_eq!(problem(records(&[])), LogProblem::NoRoot);
}

#[test]
fn values_that_end_early_are_refused() {
    let one = header(5, true, testing::TUPLE, 1);
    assert_eq!(tuple(&[&one]), LogProblem::Short);
    assert_eq!(tuple(&[&one, &header(5, true, 0, 9), b"short"]), LogProblem::Short);
    assert_eq!(tuple(&[&one, &header(5, true, 0, u64::MAX)]), LogProblem::Short);
    assert_eq!(
        tuple(&[&one, &symbol(5, "k"), &header(5, true, testing::STRING, u64::MAX)]),
        LogProblem::Short
    );
    assert_eq!(tuple(&[&header(5, true, testing::TUPLE, u64::MAX)]), LogProblem::Short);
    assert_eq!(
        tuple(&[&one, &symbol(5, "k"), &header(5, true, testing::VECTOR, u64::MAX)]),
        LogProblem::Short
    );
}

#[test]
fn unknown_types_and_references_to_nothing_are_refused() {
    let one = [header(5, true, testing::TUPLE, 1), symbol(5, "k")].concat();
    for kind in 5..8 {
        assert_eq!(tuple(&[&one, &header(5, true, kind, 1)]), LogProblem::Type(kind));
    }
    // An integer is always immediate.
    assert_eq!(
        tuple(&[&one, &header(5, false, testing::INTEGER, 0), &[1]]),
        LogProblem::Type(testing::INTEGER)
    );
    // 1 is the root tuple, 2 the key, 3 nothing yet.
    for index in [1, 3, u64::MAX] {
        assert_eq!(
            tuple(&[&one, &header(5, false, testing::STRING, index)]),
            LogProblem::Reference(index)
        );
    }
    for index in [0, 2, 3, u64::MAX] {
        let reference = [header(5, false, testing::TUPLE, 0), varint(index)].concat();
        assert_eq!(tuple(&[&one, &reference]), LogProblem::Reference(index));
        assert_eq!(tuple(&[&reference]), LogProblem::Reference(index));
    }
}

#[test]
fn tuples_that_contain_each_other_are_read_and_walked_no_further_than_asked() {
    // 1 root, 2 "children": the root is its own directory, and so its file "children" is a
    // directory again.
    let cyclic = Node::Tuple(vec![("children", Node::More(1, vec![]))]);
    let filesystem = records(&record(&cyclic.encode(5))).unwrap();
    let error = filesystem.lookup("children/children/children").unwrap_err();
    assert!(matches!(error, TfsError::File { problem: FileError::NotFile, .. }));
    assert!(filesystem.lookup("kernel").unwrap().is_none());
    assert_eq!(format!("{:?}", filesystem.root().entries().len()), "1");
}

#[test]
fn nesting_beyond_the_limit_is_refused_without_a_deep_stack() {
    let nested = |levels: usize| {
        let level = [header(5, true, testing::TUPLE, 1), symbol(5, "d")].concat();
        let tuple = [level.repeat(levels - 1), header(5, true, testing::TUPLE, 0)].concat();
        let log = [record(&tuple), vec![1]].concat();
        let sectors = log.len() as u64 / 512 + 1;
        open(&[first_extension(5, &link(1, sectors)), extension(5, sectors, &log)].concat())
    };
    assert!(nested(encoding::MAX_DEPTH).is_ok());
    assert_eq!(problem(nested(encoding::MAX_DEPTH + 1)), LogProblem::Depth);
}

/// A root tuple of which each entry is two bytes: a reference to its only key, and an empty string.
fn entries(count: u64) -> Result<Filesystem, TfsError> {
    let empty = header(5, true, testing::STRING, 0);
    let first = [header(5, true, testing::TUPLE, count), symbol(5, "k"), empty.clone()].concat();
    let more = [header(5, false, 0, 2), empty].concat();
    let tuple = [first, more.repeat(usize::try_from(count - 1).unwrap())].concat();
    let log = [record(&tuple), vec![1]].concat();
    let sectors = log.len() as u64 / 512 + 1;
    open(&[first_extension(5, &link(1, sectors)), extension(5, sectors, &log)].concat())
}

#[test]
fn a_million_entries_are_read_and_more_are_refused() {
    let filesystem = entries(1 << 20).unwrap();
    assert_eq!(filesystem.root().entries().len(), 1);
    assert!(filesystem.root().get("other").is_none());
    assert_eq!(problem(entries((1 << 20) + 1)), LogProblem::Entries);
}

#[test]
fn a_million_tuples_are_refused_before_their_dictionary_grows_further() {
    let tuples = header(5, true, testing::TUPLE, 0).repeat(1 << 20);
    let vector = [header(5, true, testing::VECTOR, 1 << 20), tuples].concat();
    let tuple = [header(5, true, testing::TUPLE, 1), symbol(5, "v"), vector].concat();
    let log = [record(&tuple), vec![1]].concat();
    let sectors = log.len() as u64 / 512 + 1;
    let bytes = [first_extension(5, &link(1, sectors)), extension(5, sectors, &log)].concat();
    assert_eq!(problem(open(&bytes)), LogProblem::Entries);
}
