use super::*;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// That the code which interprets values does what is said of one.
fn holds(code: ExitCode, raw: Raw, status: Status) {
    let of = |raw| code.status(raw);
    match (raw, status) {
        // None of them has a line of its own.
        (Raw::Any, Status::Low) => assert_eq!(
            [0, 7, 255, 0x107, 0x100, 1 << 40].map(of),
            [0, 7, 255, 7, 255, 255].map(Some)
        ),
        (Raw::Any, Status::Is(status)) => {
            assert_eq!([0, 7, 0x101, 1 << 40].map(of), [Some(status); 4]);
        }
        (Raw::Is(value), Status::Is(status)) => assert_eq!(of(value), Some(status)),
        (Raw::Bit(bit), Status::Is(status)) => {
            assert_eq!((of(1 << bit), of(u64::MAX), of(0)), (Some(status), Some(status), None));
        }
        other => panic!("README.md has no words for {other:?}"),
    }
}

fn readme_table() -> String {
    let mut text =
        "\n| guests | end by | value | status | whose |\n|---|---|---|---|---|\n".to_owned();
    for ends in Ends::ALL {
        for (at, code) in ends.exits {
            for ((raw, meant), (value, status)) in code.0.iter().zip(code.words()) {
                holds(*code, *raw, *meant);
                let guests = ends.guests;
                writeln!(text, "| {guests} | {at} | {value} | {status} | the guest's |").unwrap();
            }
        }
    }
    let silent = Silent::ALL.iter().flat_map(|all| all.ends.iter().map(|end| (all.guests, end)));
    for (guests, (how, reason)) in silent {
        let Outcome { status, origin, raw, .. } = Outcome::of(reason);
        assert_eq!(raw, None);
        let whose = match origin {
            Origin::Guest => "the guest's",
            Origin::Runner => "runner's",
            Origin::Unknown => "nobody knows",
        };
        writeln!(text, "| {guests} | {how} | – | {status} | {whose} |").unwrap();
    }
    text + "\n"
}

#[test]
fn the_readme_has_the_table_of_ends() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let table = readme
        .split_once("<!-- ends -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /ends -->"))
        .map(|(table, _)| table)
        .expect("README.md has the two markers");
    let wanted = readme_table();
    assert!(
        table == wanted,
        "README.md does not have the table of family/ends.rs, which is:\n{wanted}"
    );
}

#[test]
fn no_two_ends_of_a_guest_are_at_one_place_and_the_first_takes_any_value() {
    for ends in Ends::ALL {
        for (index, (place, _)) in ends.exits.iter().enumerate() {
            assert!(ends.exits.iter().take(index).all(|(before, _)| before != place), "{ends:?}");
        }
        assert!((0..1000).all(|raw| ends.code().status(raw).is_some()), "{ends:?}");
    }
}
