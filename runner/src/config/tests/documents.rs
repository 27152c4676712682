//! The README's table and the JSON schema are made from the table of fields; these tests hold them to it.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::fields::{Class, FIELDS, Field, Kind};
use super::super::values::MAX_CPUS;
use super::{parse_str, settled};

const SIZE: &str = "^0*[1-9][0-9]*[MmGgTt]?$";
const SIZE_UNITS: &[&str] = &["", "M", "m", "G", "g", "T", "t"];
const TIME: &str = "^0*[1-9][0-9]*(ms|s|m|h)?$";
const TIME_UNITS: &[&str] = &["", "ms", "s", "m", "h"];
const INTERFACE: &str = "^[^/:%\\s]{0,15}$";
const NET: &str = "^(user|none|(tap|bridge):[^/:%\\s]{1,15}|(unix|unixgram):.+)$";
const TAG: &str = "^[A-Za-z0-9._-]{1,31}$";
/// Addresses of no guest are the parser's to refuse.
const VSOCK: &str = "^.*[^/]$";
const MAC: &str = "^[0-9A-Fa-f][02468ACEace]([:-][0-9A-Fa-f]{2}){5}$";
/// The most seconds whose milliseconds are a u64.
const MOST_SECONDS: u64 = u64::MAX / 1000;

/// Whether `^0*[1-9][0-9]*` and one of `units` match the whole text.
fn is_quantity(text: &str, units: &[&str]) -> bool {
    let rest = text.trim_start_matches('0');
    let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() > unit.len() && units.contains(&unit)
}

fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len()) && !text.contains(['/', ':', '%', ' '])
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(checkout().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The fields that stand directly in a section.
fn members(section: &str) -> impl Iterator<Item = (&'static str, &'static Field)> {
    FIELDS.iter().filter_map(move |field| {
        let (there, name) = field.path.rsplit_once('.').unwrap_or(("", field.path));
        (there == section).then_some((name, field))
    })
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Works => "works",
        Class::Warned => "warning",
        Class::Image => "image building",
        Class::Cloud => "clouds",
        Class::Ops => "ops itself",
        Class::Refused => "refused",
    }
}

/// What stands between the README's markers.
fn readme_table() -> String {
    let mut text = String::new();
    for (section, title) in [
        ("", "At the top"),
        ("RunConfig", "In `RunConfig`"),
        ("Runner", "In `Runner`"),
        ("Runner.Disks[]", "In each of `Runner.Disks`"),
        ("Runner.Shares[]", "In each of `Runner.Shares`"),
    ] {
        write!(text, "\n| {title} | | |\n|---|---|---|\n").unwrap();
        for (name, field) in members(section) {
            let class = class(field.class);
            writeln!(text, "| `{name}` | {class} | {} |", field.note).unwrap();
        }
    }
    text.replace(" |  |", " | |") + "\n"
}

#[test]
fn the_readme_has_the_table_of_fields() {
    let readme = read("README.md");
    let table = readme
        .split_once("<!-- config-fields -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /config-fields -->"))
        .map(|(table, _)| table)
        .expect("README.md has the two markers");
    let wanted = readme_table();
    assert!(
        table == wanted,
        "README.md does not have the table of runner/src/config/fields.rs, which is:\n{wanted}"
    );
}

fn schema(field: &Field) -> Value {
    let mut schema = match field.kind {
        Kind::Section => section(field.path),
        Kind::Text | Kind::Path => json!({"type": "string"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Number => json!({"type": "integer"}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Map | Kind::Nets => {
            json!({"type": "object", "additionalProperties": {"type": "string"}})
        }
        Kind::AnyMap => json!({"type": "object"}),
        Kind::AnyList => json!({"type": "array"}),
        Kind::Size => json!({"type": "string", "pattern": SIZE}),
        Kind::Cpus => json!({"type": "integer", "minimum": 1, "maximum": MAX_CPUS}),
        Kind::Which => json!({"type": "string", "enum": ["auto", "kvm", "hvf", "off"]}),
        Kind::Balloon => json!({"type": ["boolean", "string"], "pattern": SIZE}),
        Kind::Console => json!({"type": "string", "enum": ["serial", "virtio"]}),
        Kind::Bus => json!({"type": "string", "enum": ["mmio", "pci"]}),
        Kind::Jail => json!({"type": "string", "enum": ["on", "strict", "off"]}),
        Kind::Entry => {
            json!({"type": "string", "enum": ["linux64", "linux32", "pvh", "multiboot", "arm64", "hvt", "uhyve"]})
        }
        Kind::Time => json!({
            "type": ["integer", "string"], "minimum": 1, "maximum": MOST_SECONDS, "pattern": TIME,
        }),
        // An empty text is none.
        Kind::Ip4 | Kind::Mask => {
            json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"const": ""}]})
        }
        Kind::Ip6 => json!({"type": "string", "anyOf": [{"format": "ipv6"}, {"const": ""}]}),
        Kind::Interface => json!({"type": "string", "pattern": INTERFACE}),
        Kind::Net => json!({"type": "string", "pattern": NET}),
        Kind::Vsock => json!({"type": "string", "pattern": VSOCK}),
        Kind::Mac => json!({"type": "string", "pattern": MAC}),
        // Each item has a grammar of its own, `config/network/ports.rs`.
        Kind::Ports => json!({"type": "array", "items": {"type": "string"}}),
        Kind::DiskFormat => json!({"type": "string", "enum": ["raw", "qcow2"]}),
        Kind::Disks => {
            let mut disk = section("Runner.Disks[]");
            disk["required"] = json!(["Path"]);
            json!({"type": "array", "items": disk})
        }
        Kind::Shares => {
            let mut share = section("Runner.Shares[]");
            share["required"] = json!(["Path"]);
            share["properties"]["Tag"]["pattern"] = json!(TAG);
            json!({"type": "array", "items": share})
        }
    };
    let description = match field.note {
        "" => class(field.class).to_owned(),
        note => format!("{}: {note}", class(field.class)),
    };
    schema["description"] = Value::String(description);
    // What has to be there cannot be nothing.
    if !["Runner.Disks[].Path", "Runner.Shares[].Path"].contains(&field.path) {
        allow_null(&mut schema);
    }
    schema
}

/// `null` is as good as no field at all.
fn allow_null(schema: &mut Value) {
    let types = match schema["type"].take() {
        Value::Array(types) => types,
        one => vec![one],
    };
    schema["type"] = types.into_iter().chain([json!("null")]).collect();
    if let Some(names) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        names.push(Value::Null);
    }
}

fn section(path: &str) -> Value {
    let properties = members(path).map(|(name, field)| (name.to_owned(), schema(field)));
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties.collect::<serde_json::Map<_, _>>(),
    })
}

fn whole_schema() -> Value {
    let mut schema = section("");
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("runner's config.json: OPS's fields, and ours under Runner");
    schema["$comment"] = json!(
        "Made from runner/src/config/fields.rs. Runner itself reads names without case, and refuses \
         what no pattern can tell: sizes and times beyond 64 bits, masks with holes, \
         ports that are none."
    );
    schema
}

#[test]
fn the_schema_is_the_table_of_fields() {
    let file: Value = serde_json::from_str(&read("config/config.schema.json")).unwrap();
    let wanted = whole_schema();
    assert!(
        file == wanted,
        "config/config.schema.json is not that of runner/src/config/fields.rs, which is:\n{wanted:#}"
    );
}

/// Whether a value is as a schema of ours has it; panics on a word of JSON Schema it does not know.
fn valid(schema: &Value, value: &Value) -> bool {
    let rules = schema.as_object().expect("a schema is an object");
    rules.iter().all(|(word, rule)| match word.as_str() {
        "$schema" | "$comment" | "title" | "description" => true,
        "format" => value.as_str().is_none_or(|text| match rule.as_str() {
            Some("ipv4") => text.parse::<Ipv4Addr>().is_ok(),
            Some("ipv6") => text.parse::<Ipv6Addr>().is_ok(),
            other => panic!("format {other:?}"),
        }),
        "const" => value == rule,
        "anyOf" => rule.as_array().unwrap().iter().any(|rule| valid(rule, value)),
        "type" => match rule {
            Value::Array(types) => types.iter().any(|rule| is(rule, value)),
            rule => is(rule, value),
        },
        "properties" => value.as_object().is_none_or(|object| {
            let member = |(name, value)| rule.get(name).is_none_or(|schema| valid(schema, value));
            object.iter().all(member)
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let known = |name: &str| schema["properties"].get(name).is_some();
            let mut others = object.iter().filter(|(name, _)| !known(name));
            others.all(|(_, value)| *rule != false && valid(rule, value))
        }),
        "required" => value.as_object().is_none_or(|object| {
            let names = rule.as_array().unwrap();
            names.iter().all(|name| object.contains_key(name.as_str().unwrap()))
        }),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| valid(rule, item))),
        "enum" => rule.as_array().unwrap().contains(value),
        "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
        "maximum" => value.as_u64().is_none_or(|n| n <= rule.as_u64().unwrap()),
        "pattern" => value.as_str().is_none_or(|text| match rule.as_str() {
            Some(SIZE) => is_quantity(text, SIZE_UNITS),
            Some(TIME) => is_quantity(text, TIME_UNITS),
            Some(INTERFACE) => text.is_empty() || is_interface(text),
            Some(NET) => match text.split_once(':') {
                Some(("tap" | "bridge", name)) => is_interface(name),
                Some(("unix" | "unixgram", path)) => !path.is_empty(),
                _ => ["user", "none"].contains(&text),
            },
            Some(VSOCK) => !text.is_empty() && !text.ends_with('/'),
            Some(MAC) => text.split(':').count() == 6,
            Some(TAG) => super::super::values::tag(text).is_ok(),
            other => panic!("pattern {other:?}"),
        }),
        other => panic!("{other}"),
    })
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        other => panic!("type {other:?}"),
    }
}

#[test]
fn the_examples_are_valid_by_the_schema_and_settle_without_a_warning() {
    let schema: Value = serde_json::from_str(&read("config/config.schema.json")).unwrap();
    let mut examples = Vec::new();
    for entry in fs::read_dir(checkout().join("config")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".json") || name == "config.schema.json" {
            continue;
        }
        let text = read(&format!("config/{name}"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(valid(&schema, &value), "{name}");
        let line = if name == "runner.json" { "hello" } else { "" };
        assert!(settled(line, &[&text]).warnings.is_empty(), "{name}");
        // OPS refuses a config with our section, so that stands alone.
        let ours = value.get("Runner").is_some();
        assert_eq!(ours, name == "runner.json", "{name}");
        assert!(!ours || value.as_object().unwrap().len() == 1, "{name}");
        examples.push(name);
    }
    examples.sort();
    assert_eq!(examples, ["hello.json", "ops.json", "runner.json"]);
}

/// Whether schema and parser both take a config, or both refuse it.
fn taken(schema: &Value, text: &str) -> bool {
    let by_schema = valid(schema, &serde_json::from_str(text).unwrap());
    let by_parser = parse_str("c.json", text);
    assert_eq!(by_schema, by_parser.is_ok(), "{text}: {by_parser:?}");
    by_schema
}

#[test]
fn the_schema_and_the_parser_take_and_refuse_the_same() {
    let schema: Value = serde_json::from_str(&read("config/config.schema.json")).unwrap();
    for field in FIELDS.iter().filter(|field| !field.path.contains("[]")) {
        if field.kind != Kind::Section {
            let text = super::parse::with(field.path, super::parse::sample(field.kind));
            // Samples of disks have names in small letters, which no schema can allow.
            let text = text.replace("path", "Path").replace("readonly", "ReadOnly");
            let text = text.replace("tag", "Tag").replace("format", "Format");
            assert!(taken(&schema, &text), "{text}");
        }
        assert!(taken(&schema, &super::parse::with(field.path, "null")), "{}", field.path);
        assert!(!taken(&schema, &super::parse::with(field.path, "1.5")), "{}", field.path);
        for value in ["true", "-1", "0", "1", "[]", "{}", "[null]", r#"{"a": null}"#] {
            taken(&schema, &super::parse::with(field.path, value));
        }
        for word in [
            "",
            "0",
            "1",
            "007",
            "0s",
            "00ms",
            "2m",
            "3h",
            "5d",
            "0G",
            "64t",
            "-1",
            "1.5",
            "true",
            "false",
            "auto",
            "kvm",
            "hvf",
            "off",
            "on",
            "strict",
            "tcg",
            "linux64",
            "linux32",
            "pvh",
            "multiboot",
            "multiboot2",
            "user",
            "none",
            "tap:tap0",
            "bridge:",
            "unix:/run/passt.sock",
            "an-interface-of-no-system",
            "52:54:00:12:34:56",
            "255.255.255.0",
            "256.0.0.0",
            "fd00::1",
            "::g",
        ] {
            taken(&schema, &super::parse::with(field.path, &format!("\"{word}\"")));
        }
    }
    let share = |share: &str| format!(r#"{{"Runner": {{"Shares": [{share}]}}}}"#);
    assert!(taken(&schema, &share(r#"{"Path": "d", "Tag": null, "ReadOnly": null}"#)));
    let disk = |disk: &str| format!(r#"{{"Runner": {{"Disks": [{disk}]}}}}"#);
    assert!(taken(&schema, &disk(r#"{"Path": "d", "ReadOnly": null}"#)));
    for text in [
        disk(r#"{"ReadOnly": true}"#),
        disk(r#"{"Path": null}"#),
        disk(r#"{"Path": "d", "ReadOnly": "true"}"#),
        disk("null"),
        share(r#"{"Tag": "t"}"#),
        share(r#"{"Path": null}"#),
        share(r#"{"Path": "d", "Tag": ""}"#),
        share(r#"{"Path": "d", "Tag": "a b"}"#),
        share(r#"{"Path": "d", "Tag": "12345678901234567890123456789012"}"#),
        r#"{"Envs": {}}"#.into(),
        r#"{"RunConfig": {"CPUs": 65536}}"#.into(),
        format!(r#"{{"Runner": {{"Timeout": {}}}}}"#, MOST_SECONDS + 1),
        r#"{"Env": {"A": 1}}"#.into(),
        r#"{"Runner": {"Jail": "true"}}"#.into(),
    ] {
        assert!(!taken(&schema, &text), "{text}");
    }
    assert!(taken(&schema, &format!(r#"{{"Runner": {{"Timeout": {MOST_SECONDS}}}}}"#)));
}
