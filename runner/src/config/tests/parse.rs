use super::super::MAX_SIZE;
use super::super::fields::{Class, FIELDS, Kind};
use super::{error, parse_str, settled, try_settled};

/// A value each kind takes, that is not nothing.
pub(super) fn sample(kind: Kind) -> &'static str {
    match kind {
        Kind::Section | Kind::AnyMap => r#"{"a": [1, {"b": null}]}"#,
        Kind::Text | Kind::Path => r#""x""#,
        Kind::Flag => "true",
        Kind::Number => "7",
        Kind::Texts => r#"["x"]"#,
        Kind::Map => r#"{"X": "/y"}"#,
        Kind::Nets => r#"{"X": "user"}"#,
        Kind::AnyList => "[1]",
        Kind::Size | Kind::Balloon => r#""64M""#,
        Kind::Cpus => "3",
        Kind::Which | Kind::Jail => r#""off""#,
        Kind::Bus => r#""pci""#,
        Kind::Console => r#""virtio""#,
        Kind::Entry => r#""pvh""#,
        Kind::Time => r#""3s""#,
        Kind::Ip4 => r#""10.0.0.1""#,
        Kind::Ip6 => r#""fd00::1""#,
        Kind::Mask => r#""255.0.0.0""#,
        Kind::DiskFormat => r#""qcow2""#,
        Kind::Disks => r#"[{"path": "d", "readonly": true, "format": "qcow2"}]"#,
        Kind::Shares => r#"[{"path": "d", "tag": "t", "readonly": true}]"#,
        Kind::Interface => r#""tap9""#,
        Kind::Net => r#""tap:tap9""#,
        Kind::Vsock => r#""v.sock,cid=9""#,
        Kind::Mac => r#""52:54:00:00:00:01""#,
        Kind::Ports => r#"["8080:80", "90-91"]"#,
    }
}

/// Fields that say nothing without a path beside them.
const LONE: [&str; 4] = [
    "Runner.Disks[].ReadOnly",
    "Runner.Disks[].Format",
    "Runner.Shares[].ReadOnly",
    "Runner.Shares[].Tag",
];

/// A config that sets one field.
pub(super) fn with(path: &str, value: &str) -> String {
    let mut text = value.to_owned();
    for name in path.split('.').rev() {
        text = match name.strip_suffix("[]") {
            Some(name) => format!(r#"{{"{name}": [{text}]}}"#),
            None => format!(r#"{{"{name}": {text}}}"#),
        };
    }
    text
}

#[test]
fn every_field_is_read_whatever_the_case_of_its_letters() {
    for field in FIELDS.iter().filter(|f| f.kind != Kind::Section) {
        let mut path = field.path.to_owned();
        if LONE.contains(&field.path) {
            continue; // Without a path it is refused; `sample` has all.
        }
        for _ in 0..2 {
            let text = with(&path, sample(field.kind));
            if let Err(error) = parse_str("c.json", &text) {
                panic!("{text}: {error}");
            }
            path = path.to_ascii_lowercase();
        }
    }
}

#[test]
fn every_class_does_what_it_says() {
    let nothing = settled("hello", &["{}"]);
    for field in FIELDS.iter().filter(|f| f.kind != Kind::Section) {
        // Samples that are the defaults would change nothing; a lone ReadOnly is refused.
        let (line, value) = match field.path {
            "RunConfig.Accel" => ("hello", "false"),
            "RunConfig.ImageName" | "Program" => ("-k kernel", sample(field.kind)),
            lone if LONE.contains(&lone) => continue,
            _ => ("hello", sample(field.kind)),
        };
        let text = with(field.path, value);
        let settled = try_settled(line, &[&text]);
        match field.class {
            Class::Refused => {
                let error = settled.expect_err(field.path);
                assert!(error.contains(field.path) && error.ends_with(field.note), "{error}");
            }
            Class::Works => {
                let settled = settled.expect(field.path);
                assert!(settled != nothing, "{text} changes nothing");
                assert!(settled.accepted.is_empty() && settled.warnings.is_empty());
            }
            Class::Warned => {
                let settled = settled.expect(field.path);
                let place = if field.path.contains('.') { "a.json:1:16" } else { "a.json:1:2" };
                let wanted = format!("{place}: {}: {}", field.path, field.note);
                assert_eq!(settled.warnings, [wanted]);
            }
            Class::Image | Class::Cloud | Class::Ops => {
                let settled = settled.expect(field.path);
                assert_eq!(settled.accepted, [field.path]);
                assert!(settled.warnings.is_empty());
            }
        }
    }
}

#[test]
fn null_and_what_go_calls_zero_set_nothing() {
    let nothing = settled("hello", &["{}"]);
    for field in FIELDS {
        let values: &[&str] = match field.kind {
            Kind::Text | Kind::Path | Kind::Ip4 | Kind::Ip6 | Kind::Mask | Kind::Interface => {
                &["null", r#""""#]
            }
            Kind::Flag => &["null", "false"],
            Kind::Number => &["null", "0"],
            Kind::Texts | Kind::AnyList | Kind::Disks | Kind::Shares | Kind::Ports => {
                &["null", "[]", "[ ]"]
            }
            Kind::Section | Kind::Map | Kind::Nets | Kind::AnyMap => &["null", "{}", "{ }"],
            Kind::Size | Kind::Cpus | Kind::Which | Kind::Jail | Kind::Entry | Kind::Time => {
                &["null"]
            }
            Kind::Net
            | Kind::Mac
            | Kind::Bus
            | Kind::Vsock
            | Kind::DiskFormat
            | Kind::Balloon
            | Kind::Console => &["null"],
        };
        for value in values {
            // `false` says something there.
            if ["RunConfig.Accel", "Runner.Rng"].contains(&field.path) || field.path.contains("[]")
            {
                continue;
            }
            let text = with(field.path, value);
            assert_eq!(settled("hello", &[&text]), nothing, "{text}");
        }
    }
}

#[test]
fn an_unknown_field_is_an_error_with_its_place_and_the_nearest_name() {
    for (text, wanted) in [
        (
            "{\n  \"Args\": [],\n  \"Envs\": {}\n}",
            r#"c.json:3:3: no field "Envs" in a config; did you mean "Env"?"#,
        ),
        (
            r#"{"RunConfig": {"Memroy": "1G"}}"#,
            r#"c.json:1:16: no field "Memroy" in RunConfig; did you mean "Memory"?"#,
        ),
        (
            r#"{"memory": "1G"}"#,
            r#"c.json:1:2: no field "memory" in a config; "Memory" stands in "RunConfig": {"RunConfig": {"Memory": …}}"#,
        ),
        (
            r#"{"RunConfig.Memory": "1G"}"#,
            r#"c.json:1:2: no field "RunConfig.Memory" in a config; "Memory" stands in "RunConfig": {"RunConfig": {"Memory": …}}"#,
        ),
        (
            r#"{"RunConfig": {"klibs": []}}"#,
            r#"c.json:1:16: no field "klibs" in RunConfig; "Klibs" stands at the top, outside of RunConfig"#,
        ),
        (
            r#"{"imagename": "hello"}"#,
            r#"c.json:1:2: no field "imagename" in a config; "ImageName" stands in "RunConfig": {"RunConfig": {"ImageName": …}}"#,
        ),
        (
            r#"{"CloudConfig": {"Zon": "x"}}"#,
            r#"c.json:1:18: no field "Zon" in CloudConfig; did you mean "Zone"?"#,
        ),
        (
            r#"{"Runner": {"Disks": [{"Path": "d", "Readonyl": true}]}}"#,
            r#"c.json:1:37: no field "Readonyl" in Runner.Disks; did you mean "ReadOnly"?"#,
        ),
        (
            r#"{"Frobnicate": 1}"#,
            r#"c.json:1:2: no field "Frobnicate" in a config; the README lists all there are"#,
        ),
        (
            "{\"Env\": {\"é\": \"é\"}, \"Тест\": 1}",
            r#"c.json:1:21: no field "Тест" in a config; the README lists all there are"#,
        ),
        (r#"{"": 1}"#, r#"c.json:1:2: no field "" in a config; the README lists all there are"#),
        (
            r#"{"A\u001b[2J": 1}"#,
            r#"c.json:1:2: no field "A\u001b[2J" in a config; the README lists all there are"#,
        ),
        (
            "{\"A\u{202e}\": 1}",
            r#"c.json:1:2: no field "A\u{202e}" in a config; the README lists all there are"#,
        ),
    ] {
        assert_eq!(error(text), wanted, "{text}");
    }
    let long = format!(r#"{{"{}": 1}}"#, "x".repeat(100_000));
    assert!(error(&long).len() < 200);
}

#[test]
fn a_wrong_type_is_an_error_with_its_place_what_was_found_and_an_example() {
    for (text, wanted) in [
        (
            "{\"RunConfig\": {\n  \"Memory\": 512\n}}",
            r#"c.json:2:13: RunConfig.Memory takes a string such as "512M" or "2G"; here is the number 512"#,
        ),
        (
            r#"{"RunConfig": {"CPUs": "2"}}"#,
            r#"c.json:1:24: RunConfig.CPUs takes a whole number from 1, without quotes: 2; here is the string "2""#,
        ),
        (
            r#"{"RunConfig": {"Accel": "kvm"}}"#,
            r#"c.json:1:25: RunConfig.Accel takes true or false, without quotes; here is the string "kvm""#,
        ),
        (
            r#"{"Args": "-v"}"#,
            r#"c.json:1:10: Args takes a list of strings: ["a", "b"]; here is the string "-v""#,
        ),
        (
            r#"{"Args": ["a", 1]}"#,
            r#"c.json:1:16: Args takes a list of strings: ["a", "b"]; here is the number 1"#,
        ),
        (
            r#"{"Env": ["A=1"]}"#,
            r#"c.json:1:9: Env takes an object of strings: {"NAME": "value"}; here is a list"#,
        ),
        (
            r#"{"Env": {"A": 1}}"#,
            r#"c.json:1:15: Env takes an object of strings: {"NAME": "value"}; here is the number 1"#,
        ),
        (
            r#"{"Env": {"A": null}}"#,
            r#"c.json:1:15: Env takes an object of strings: {"NAME": "value"}; here is null"#,
        ),
        (r#"{"RunConfig": []}"#, "c.json:1:15: RunConfig takes an object: { … }; here is a list"),
        (
            r#"{"RunConfig": {"Ports": [8080]}}"#,
            r#"c.json:1:26: RunConfig.Ports takes a list of ports as strings: ["8080", "8443:443"]; here is the number 8080"#,
        ),
        (
            r#"{"RunConfig": {"GdbPort": 1.5}}"#,
            "c.json:1:27: RunConfig.GdbPort takes a whole number without quotes: 1; here is the number 1.5",
        ),
        (
            r#"{"ManifestPassthrough": [1]}"#,
            "c.json:1:25: ManifestPassthrough takes an object: { … }; here is a list",
        ),
        (r#"{"Kernel": false}"#, r#"c.json:1:12: Kernel takes a path: "file"; here is false"#),
        (
            r#"{"Runner": {"Disks": ["d"]}}"#,
            r#"c.json:1:23: Runner.Disks takes a list of disks: [{"Path": "disk.raw", "ReadOnly": true}]; here is the string "d""#,
        ),
        (
            r#"{"Runner": {"Disks": [{"ReadOnly": true}]}}"#,
            r#"c.json:1:23: a disk without a Path; write a list of disks: [{"Path": "disk.raw", "ReadOnly": true}]"#,
        ),
        (
            r#"{"Runner": {"Disks": [{"Path": "d", "ReadOnly": 1}]}}"#,
            "c.json:1:49: Runner.Disks[].ReadOnly takes true or false, without quotes; here is the number 1",
        ),
    ] {
        assert_eq!(error(text), wanted, "{text}");
    }
}

#[test]
fn a_value_out_of_range_is_an_error_with_its_place_and_a_remedy() {
    for (text, wanted) in [
        (
            r#"{"RunConfig": {"Memory": "0"}}"#,
            r#"c.json:1:26: RunConfig.Memory "0" leaves the guest no memory; give a size such as 512M or 2G"#,
        ),
        (
            r#"{"RunConfig": {"Memory": ""}}"#,
            r#"c.json:1:26: RunConfig.Memory "" is not a memory size; write whole MiB or GiB, such as 512M or 2G"#,
        ),
        (
            r#"{"RunConfig": {"CPUs": 0}}"#,
            "c.json:1:24: RunConfig.CPUs 0 leaves the guest no CPU; give 1 or more",
        ),
        (
            r#"{"RunConfig": {"CPUs": 1e3}}"#,
            "c.json:1:24: RunConfig.CPUs 1e3 is not a number of CPUs; give a number from 1 to 65535",
        ),
        (
            r#"{"RunConfig": {"CPUs": 65536}}"#,
            "c.json:1:24: RunConfig.CPUs 65536 is not a number of CPUs; give a number from 1 to 65535",
        ),
        (
            r#"{"Runner": {"Timeout": 0}}"#,
            "c.json:1:24: Runner.Timeout 0 ends the run before it starts; leave it out for no limit",
        ),
        (
            r#"{"Runner": {"Timeout": -1}}"#,
            "c.json:1:24: Runner.Timeout -1 is not a time; \
             give whole seconds, or a number with ms, s, m or h, such as 500ms or 2m",
        ),
        (
            r#"{"Runner": {"Accel": "fast"}}"#,
            r#"c.json:1:22: Runner.Accel "fast" is not an accelerator; choose auto, kvm, hvf or off"#,
        ),
        (
            r#"{"Runner": {"Accel": "true"}}"#,
            r#"c.json:1:22: Runner.Accel "true" is not an accelerator; choose auto, kvm, hvf or off"#,
        ),
        (
            r#"{"Runner": {"Jail": true}}"#,
            r#"c.json:1:21: Runner.Jail takes a string: "on", "strict" or "off"; here is true"#,
        ),
        (
            r#"{"RunConfig": {"IPAddress": "10.0.0"}}"#,
            r#"c.json:1:29: RunConfig.IPAddress "10.0.0" is not an IPv4 address as a string: "10.0.2.15""#,
        ),
        (
            r#"{"Env": {"A=B": "1"}}"#,
            r#"c.json:1:10: Env "A=B": a variable's name is not empty and has no `=`"#,
        ),
        (
            r#"{"Args": ["a\u0000b"]}"#,
            r#"c.json:1:11: "a\u0000b" has a NUL character, which nothing here can take"#,
        ),
    ] {
        assert_eq!(error(text), wanted, "{text}");
    }
}

#[test]
fn text_that_is_not_json_is_an_error_with_its_place() {
    for (text, wanted) in [
        ("", "c.json:1:1: nothing here; the least a config has is {}"),
        (" \n", "c.json:1:1: nothing here; the least a config has is {}"),
        ("\n[1]", "c.json:2:1: a config is an object, { … }, and begins with {; here is [1]"),
        ("hello", "c.json:1:1: a config is an object, { … }, and begins with {; here is hello"),
        ("{", "c.json:1:2: not JSON: EOF while parsing an object"),
        (
            "{\n  \"Args\": [\"a\",],\n}",
            "c.json:2:16: not JSON: expected value; take out the comma before it",
        ),
        ("{\"Args\": [],\n}", "c.json:2:1: not JSON: trailing comma; take out the comma before it"),
        (
            "{'Args': []}",
            "c.json:1:2: not JSON: key must be a string; JSON has strings in double quotes",
        ),
        ("{}\n}", "c.json:2:1: not JSON: trailing characters"),
        ("{\n  // Memory\n}", "c.json:2:3: not JSON: key must be a string; JSON has no comments"),
        ("{\"Env\": {\"é\": \"ü\" \"b\"}}", "c.json:1:19: not JSON: expected `,` or `}`"),
        (r#"{"Args": ["\ud800"]}"#, r#"c.json:1:18: not JSON: unexpected end of hex escape"#),
        (r#"{"Args": ["\q"]}"#, r#"c.json:1:13: not JSON: invalid escape"#),
        (r#"{"RunConfig": {"CPUs": 01}}"#, "c.json:1:25: not JSON: invalid number"),
    ] {
        assert_eq!(error(text), wanted, "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    assert_eq!(settled("hello", &["\u{feff}{\"Args\": [\"a\"]}"]).args, ["a"]);
    assert!(error("\u{feff}{\"Arg\": []}").starts_with("c.json:1:2: "));
}

#[test]
fn a_name_that_is_there_twice_counts_once_and_is_told() {
    let text = "{\n\"Args\": [\"a\"],\n\"args\": [\"b\"],\n\"Env\": {\"A\": \"1\", \"B\": \"2\"},\n\
                \"ENV\": {\"B\": \"3\", \"B\": \"4\"},\n\"RunConfig\": {\"CPUs\": 2},\n\
                \"runconfig\": {\"Verbose\": true}}";
    let settled = settled("hello", &[text]);
    assert_eq!(settled.args, ["b"]);
    let env = [("A", "1"), ("B", "4")];
    assert_eq!(settled.env, env.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert!(settled.cpus == 2 && settled.verbose);
    assert_eq!(
        settled.warnings,
        [
            "a.json:3:1: Args is on line 2 already; the later wins, as in OPS",
            "a.json:5:1: Env is on line 4 already; the later wins, as in OPS",
            "a.json:5:19: Env \"B\" is on line 5 already; the later wins, as in OPS",
            "a.json:7:1: RunConfig is on line 6 already; the later wins, as in OPS",
        ]
    );
}

#[test]
fn a_text_full_of_repetition_or_of_depth_takes_neither_time_nor_stack() {
    let fill = |unit: &str| unit.repeat(usize::try_from(MAX_SIZE).unwrap() / unit.len());
    let repeated = format!("{{{}\"Args\": [\"z\"]}}", fill("\"Env\":{\"a\":\"\"},\n"));
    let settled = settled("hello", &[&repeated]);
    assert_eq!(settled.warnings.len(), 10);
    assert_eq!(settled.args, ["z"]);

    let half = 1 << 19;
    let deep =
        format!("{{\"ManifestPassthrough\": {{\"a\": {}{}}}}}", "[".repeat(half), "]".repeat(half));
    assert_eq!(super::settled("hello", &[&deep]).accepted, ["ManifestPassthrough"]);
    error(&format!("{{\"Args\": {}", "[".repeat(half)));
    error(&"{\"RunConfig\":".repeat(half / 16));
}

#[test]
fn no_text_makes_the_parser_panic() {
    let text = r#"{"Args": ["a\u00e9"], "Env": {"A": "1"}, "RunConfig": {"CPUs": 2, "Memory": "1G", "Nics": [{}],
        "IPAddress": "10.0.0.1"}, "Runner": {"Timeout": 5, "Disks": [{"Path": "é", "ReadOnly": true}]}}"#;
    parse_str("c.json", text).expect("the whole is a config");
    let mut state: u64 = 1;
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        assert!(error(&text[..end]).starts_with("c.json:"));
        // One byte exchanged for another, at every place.
        for _ in 0..8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = text.as_bytes().to_vec();
            bytes[end] = (state >> 57) as u8;
            if let Ok(text) = String::from_utf8(bytes) {
                let _ = parse_str("c.json", &text);
            }
        }
    }
}
