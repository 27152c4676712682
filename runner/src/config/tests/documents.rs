//! The README's table and the JSON schema are made from the table of fields; these tests hold them to it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::fields::{Class, FIELDS, Field, Kind};
use super::super::{values, values::MAX_CPUS};
use super::{error, settled};

const SIZE: &str = "^[0-9]+[MmGgTt]?$";
const TIME: &str = "^[0-9]+(ms|s|m|h)?$";

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
        Kind::Map => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::AnyMap => json!({"type": "object"}),
        Kind::AnyList => json!({"type": "array"}),
        Kind::Size => json!({"type": "string", "pattern": SIZE}),
        Kind::Cpus => json!({"type": "integer", "minimum": 1, "maximum": MAX_CPUS}),
        Kind::Which => json!({"type": "string", "enum": ["auto", "kvm", "hvf", "off"]}),
        Kind::Jail => json!({"type": "string", "enum": ["on", "strict", "off"]}),
        Kind::Entry => json!({"type": "string", "enum": ["linux64", "linux32", "pvh"]}),
        Kind::Time => json!({"type": ["integer", "string"], "minimum": 1, "pattern": TIME}),
        Kind::Ip4 | Kind::Mask => json!({"type": "string", "format": "ipv4"}),
        Kind::Ip6 => json!({"type": "string", "format": "ipv6"}),
        Kind::Disks => {
            let mut disk = section("Runner.Disks[]");
            disk["required"] = json!(["Path"]);
            json!({"type": "array", "items": disk})
        }
    };
    let description = match field.note {
        "" => class(field.class).to_owned(),
        note => format!("{}: {note}", class(field.class)),
    };
    schema["description"] = Value::String(description);
    schema
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
    schema["$comment"] =
        json!("Made from runner/src/config/fields.rs, which reads names without case.");
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
        "$schema" | "$comment" | "title" | "description" | "format" => true,
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
        "minimum" => value.as_i64().is_none_or(|n| n >= rule.as_i64().unwrap()),
        "maximum" => value.as_i64().is_none_or(|n| n <= rule.as_i64().unwrap()),
        "pattern" => value.as_str().is_none_or(|text| match rule.as_str() {
            Some(SIZE) => values::memory(text).is_ok(),
            Some(TIME) => values::duration(text).is_ok(),
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

#[test]
fn the_schema_and_the_parser_agree_on_what_is_wrong() {
    let schema: Value = serde_json::from_str(&read("config/config.schema.json")).unwrap();
    for field in FIELDS.iter().filter(|field| !field.path.contains("[]")) {
        if field.kind != Kind::Section {
            let text = super::parse::with(field.path, super::parse::sample(field.kind));
            // Samples of disks have names in small letters, which no schema can allow.
            let text = text.replace("path", "Path").replace("readonly", "ReadOnly");
            let value = serde_json::from_str(&text).unwrap();
            assert!(valid(&schema, &value), "{text}");
        }
        let text = super::parse::with(field.path, "1.5");
        let value = serde_json::from_str(&text).unwrap();
        assert!(!valid(&schema, &value), "{text}");
        error(&text);
    }
    for text in [
        r#"{"Envs": {}}"#,
        r#"{"Runner": {"Disks": [{"ReadOnly": true}]}}"#,
        r#"{"RunConfig": {"Memory": "0"}}"#,
        r#"{"RunConfig": {"CPUs": 0}}"#,
        r#"{"Runner": {"Accel": "tcg"}}"#,
        r#"{"Runner": {"Timeout": 0}}"#,
        r#"{"Env": {"A": 1}}"#,
    ] {
        let value = serde_json::from_str(text).unwrap();
        assert!(!valid(&schema, &value), "{text}");
        error(text);
    }
}
