use super::*;
use crate::machine::stop::Reason;
use crate::outcome::{Origin, Outcome};
use hv::Crash;
use std::fmt::Write;
use std::fs;
use std::path::Path;

fn place(place: Place) -> String {
    match place {
        Place::Port(port) => format!("a write to port {port:#x}"),
        Place::Panic(port) => format!("a write to port {port:#x} (pvpanic)"),
        Place::SysExit => "`SYS_EXIT`".into(),
        Place::Halt => "`halt`".into(),
        Place::Exit => "`exit`".into(),
    }
}

fn raw(raw: Raw, is_first: bool) -> String {
    match raw {
        Raw::Is(value) => value.to_string(),
        Raw::Bit(bit) => format!("any with bit {bit}"),
        Raw::Any if is_first => "any".into(),
        Raw::Any => "any other".into(),
    }
}

/// A status, as far as the code that interprets it does what is said of it.
fn status(code: ExitCode, raw: Raw, status: Status) -> String {
    let of = |raw| code.status(raw);
    match (raw, status) {
        (Raw::Any, Status::Low) => {
            // None of them has a line of its own.
            assert_eq!(
                [0, 7, 255, 0x107, 0x100, 1 << 40].map(of),
                [0, 7, 255, 7, 255, 255].map(Some)
            );
            "its low 8 bits; 255 where those are 0 and it is not".into()
        }
        (Raw::Any, Status::Is(status)) => {
            assert_eq!([0, 7, 0x101, 1 << 40].map(of), [Some(status); 4]);
            status.to_string()
        }
        (Raw::Is(value), Status::Is(status)) => {
            assert_eq!(of(value), Some(status));
            status.to_string()
        }
        (Raw::Bit(bit), Status::Is(status)) => {
            assert_eq!((of(1 << bit), of(u64::MAX), of(0)), (Some(status), Some(status), None));
            status.to_string()
        }
        other => panic!("README.md has no words for {other:?}"),
    }
}

/// Ends without a value, which are every guest's.
fn valueless() -> [(&'static str, &'static str, Reason); 8] {
    let crash = Reason::Crash { vcpu: 0, crash: Crash::TripleFault };
    [
        (
            "x86_64",
            "a reset: 0xfe to port 0x64, or ACPI's reset register, which is the same",
            Reason::Reset,
        ),
        ("aarch64", "PSCI's `SYSTEM_OFF`", Reason::Shutdown),
        ("aarch64", "PSCI's `SYSTEM_RESET`", Reason::Restart),
        ("x86_64", "a triple fault", crash),
        ("x86_64", "all vCPUs halted with interrupts off", Reason::Asleep),
        ("hvt", "a vCPU that halts: nothing wakes it", Reason::Halted { vcpu: 0 }),
        (
            "hvt",
            "a write to constants, a pointer out of memory, a call that there is none of",
            Reason::Violation("…".into()),
        ),
        (
            "uhyve",
            "a pointer out of memory, a call that there is none of",
            Reason::Violation("…".into()),
        ),
    ]
}

fn readme_table() -> String {
    let mut text =
        "\n| guests | end by | value | status | whose |\n|---|---|---|---|---|\n".to_owned();
    for ends in Ends::ALL {
        for (at, code) in ends.exits {
            for (index, (value, meant)) in code.0.iter().enumerate() {
                let (place, guests) = (place(*at), ends.guests);
                let (value, status) = (raw(*value, index == 0), status(*code, *value, *meant));
                writeln!(text, "| {guests} | {place} | {value} | {status} | the guest's |")
                    .unwrap();
            }
        }
    }
    for (guests, how, reason) in valueless() {
        let Outcome { status, origin, raw, .. } = Outcome::of(&reason);
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
