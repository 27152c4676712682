//! `config.json` as text to values, by the table of fields, with the place of everything that is wrong.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::document::{Document, describe, show};
use super::fields::{Class, FIELDS, Field, Kind, find, nearest};
use super::network::{self, NetChoice, Ports};
use super::{
    AccelChoice, ConsoleChoice, Disk, DiskFormat, Error, JailChoice, Share, Vsock, values,
};
use crate::boot::Protocol;
use crate::machine::slot::VirtioBus;

/// Names that are there twice are each told, up to so many.
const MOST_REPEATED: usize = 10;

/// Config files read so far, one over the other.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What is set, by the field's place in [`FIELDS`].
    set: Vec<Option<Set>>,
    /// What whoever wrote the files should know.
    pub(super) warnings: Vec<String>,
}

/// A field's value and where it was set last: `config.json:4:14`.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) value: Value,
    pub(super) place: String,
}

/// A value, by its field's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Texts(Vec<String>),
    Map(BTreeMap<String, String>),
    Accel(AccelChoice),
    Jail(JailChoice),
    Console(ConsoleChoice),
    /// Of [`Kind::Balloon`]: its size, if there is one.
    Balloon(Option<u64>),
    /// Of [`Kind::Bus`].
    Bus(VirtioBus),
    Entry(Protocol),
    Time(Duration),
    Ip4(Ipv4Addr),
    Ip6(Ipv6Addr),
    Disks(Vec<Disk>),
    Shares(Vec<Share>),
    Net(NetChoice),
    Mac([u8; 6]),
    Ports(Vec<Ports>),
    Vsock(Vsock),
    /// An object or a list nobody looks into, and whether there is anything in it.
    Unread(bool),
}

/// Reads one config text; `name` is what errors call it.
///
/// # Errors
/// Text that is not JSON, a field that is not in [`FIELDS`], a value that is not what its field takes: with the file,
/// the line, the column and what to write. A refused field is no error yet, as a later file may unset it.
pub fn parse_str(name: &str, text: &str) -> Result<Config, Error> {
    let mut config = Config::default();
    config.read(name, text)?;
    Ok(config)
}

impl Config {
    /// Reads one more config text over what is there: a field set anew replaces the old one, except that `Env` and
    /// other maps are merged key by key. `null` leaves a field as it was, as in Go.
    ///
    /// # Errors
    /// As for [`parse_str`]; the config is not to be used then.
    pub fn read(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let doc = Document { name, text };
        let whole = text.trim_matches([' ', '\t', '\r', '\n']);
        if whole.is_empty() {
            return Err(doc.error(text, "nothing here; the least a config has is {}"));
        }
        if !whole.starts_with('{') {
            let why = format!(
                "a config is an object, {{ … }}, and begins with {{; here is {}",
                show(whole)
            );
            return Err(doc.error(whole, why));
        }
        self.set.resize_with(FIELDS.len(), || None);
        let mut reader = Reader {
            doc,
            set: &mut self.set,
            seen: vec![None; FIELDS.len()],
            repeated: Vec::new(),
        };
        reader.section(text, "")?;
        let Reader { seen, repeated, .. } = reader;
        // Places last and once: each takes a walk through the text.
        for (set, offset) in self.set.iter_mut().zip(seen) {
            if let (Some(set), Some(offset)) = (set, offset) {
                set.place = doc.place(offset);
            }
        }
        for (first, second, what) in repeated {
            let (line, place) = (doc.line(first), doc.place(second));
            self.warnings.push(format!(
                "{place}: {what} is on line {line} already; the later wins, as in OPS"
            ));
        }
        Ok(())
    }

    /// What a field is set to; `path` must be in the table.
    pub(super) fn get(&self, path: &str) -> Option<&Set> {
        let is_it = |field: &Field| field.path == path;
        debug_assert!(FIELDS.iter().any(is_it), "{path} is not in the table of fields");
        if self.set.is_empty() {
            return None; // no file was read, as in most runs
        }
        self.set.get(FIELDS.iter().position(is_it)?)?.as_ref()
    }

    /// All fields that are set, in the table's order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static Field, &Set)> {
        let set = self.set.iter().zip(FIELDS);
        set.filter_map(|(set, field)| Some((field, set.as_ref()?)))
    }
}

/// One text being read.
struct Reader<'a, 'c> {
    doc: Document<'a>,
    set: &'c mut [Option<Set>],
    /// Where in this text a field was, by its place in [`FIELDS`].
    seen: Vec<Option<usize>>,
    /// Names that were there already: offsets of the earlier and the later, and the name. No more than
    /// [`MOST_REPEATED`].
    repeated: Vec<(usize, usize, String)>,
}

impl<'a> Reader<'a, '_> {
    /// Reads the members of one object; its fields' paths begin with `section`.
    fn section(&mut self, raw: &'a str, section: &str) -> Result<(), Error> {
        let doc = self.doc;
        for (raw_name, raw_value) in doc.members(raw)? {
            let name = doc.string(raw_name)?;
            let index = find(section, &name);
            let Some((index, field)) = index.and_then(|i| Some((i, FIELDS.get(i)?))) else {
                return Err(doc.error(raw_name, unknown(section, &name, raw_name)));
            };
            if describe(raw_value) == "null" {
                continue;
            }
            let offset = doc.offset(raw_name);
            if let Some(first) = self.seen.get_mut(index).and_then(|seen| seen.replace(offset)) {
                self.repeat(first, offset, field.path.into());
            }
            if field.kind == Kind::Section {
                self.expect(raw_value, '{', field.kind, field.path)?;
                self.section(raw_value, field.path)?;
            } else {
                let value = self.value(field, raw_value)?;
                if let Some(slot) = self.set.get_mut(index) {
                    put(slot, field, value);
                }
            }
        }
        Ok(())
    }

    fn repeat(&mut self, first: usize, second: usize, what: String) {
        if self.repeated.len() < MOST_REPEATED {
            self.repeated.push((first, second, what));
        }
    }

    fn value(&mut self, field: &Field, raw: &'a str) -> Result<Value, Error> {
        let (doc, kind, path) = (self.doc, field.kind, field.path);
        let bad = |why: String| doc.error(raw, format!("{path} {} {why}", show(raw)));
        let text = || self.text(raw, kind, path);
        let number = describe(raw) == "a number";
        Ok(match kind {
            Kind::Section | Kind::AnyMap => Value::Unread(self.inner(raw, '{', kind, path)?),
            Kind::AnyList => Value::Unread(self.inner(raw, '[', kind, path)?),
            Kind::Text | Kind::Path => Value::Text(text()?),
            Kind::Flag => Value::Flag(self.flag(raw, path)?),
            Kind::Number => match raw.parse::<i64>() {
                Ok(number) => Value::Number(number.unsigned_abs()),
                Err(_) => return Err(self.mismatch(raw, kind, path)),
            },
            Kind::Cpus if number => Value::Number(values::cpus(raw).map_err(bad)?.into()),
            Kind::Cpus => return Err(self.mismatch(raw, kind, path)),
            Kind::Size => Value::Number(values::memory(&text()?).map_err(bad)?),
            Kind::Which => Value::Accel(values::accelerator(&text()?).map_err(bad)?),
            Kind::Jail => Value::Jail(values::jail(&text()?).map_err(bad)?),
            Kind::Balloon if raw == "true" => Value::Balloon(Some(0)),
            Kind::Balloon if raw == "false" => Value::Balloon(None),
            Kind::Balloon => Value::Balloon(Some(values::memory(&text()?).map_err(bad)?)),
            Kind::Console => Value::Console(values::console(&text()?).map_err(bad)?),
            Kind::Bus => Value::Bus(values::bus(&text()?).map_err(bad)?),
            Kind::Vsock => Value::Vsock(values::vsock(text()?.as_ref()).map_err(bad)?),
            // Looked at with the disk that it is of.
            Kind::DiskFormat => Value::Text(text()?),
            Kind::Entry => Value::Entry(values::entry(&text()?).map_err(bad)?),
            Kind::Time if number => Value::Time(values::duration(raw).map_err(bad)?),
            Kind::Time => Value::Time(values::duration(&text()?).map_err(bad)?),
            Kind::Ip4 | Kind::Ip6 | Kind::Mask => match address(kind, &text()?) {
                Some(address) => address,
                None => return Err(bad(format!("is not {}", kind.expected()))),
            },
            Kind::Interface => match text()? {
                name if name.is_empty() => Value::Text(name),
                name => Value::Text(network::interface(&name).map_err(bad)?),
            },
            Kind::Texts => Value::Texts(self.texts(raw, path)?),
            Kind::Map | Kind::Nets => Value::Map(self.map(raw, path)?),
            Kind::Disks => Value::Disks(self.disks(raw, path)?),
            Kind::Shares => Value::Shares(self.shares(raw, path)?),
            Kind::Net => Value::Net(network::net(text()?.as_ref()).map_err(bad)?),
            Kind::Mac => Value::Mac(network::mac(&text()?).map_err(bad)?),
            Kind::Ports => Value::Ports(self.ports(raw, path)?),
        })
    }

    fn text(&self, raw: &'a str, kind: Kind, path: &str) -> Result<String, Error> {
        self.expect(raw, '"', kind, path)?;
        self.doc.string(raw)
    }

    fn flag(&self, raw: &str, path: &str) -> Result<bool, Error> {
        match raw {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.mismatch(raw, Kind::Flag, path)),
        }
    }

    fn texts(&self, raw: &'a str, path: &str) -> Result<Vec<String>, Error> {
        self.expect(raw, '[', Kind::Texts, path)?;
        let items = self.doc.items(raw)?;
        let text = |item| self.text(item, Kind::Texts, path);
        items.into_iter().map(text).collect()
    }

    fn ports(&self, raw: &'a str, path: &str) -> Result<Vec<Ports>, Error> {
        self.expect(raw, '[', Kind::Ports, path)?;
        let ports = |item| {
            let text = self.text(item, Kind::Ports, path)?;
            let why = |why| self.doc.error(item, format!("{path} {} {why}", show(item)));
            network::ports(&text).map_err(why)
        };
        self.doc.items(raw)?.into_iter().map(ports).collect()
    }

    fn map(&mut self, raw: &'a str, path: &str) -> Result<BTreeMap<String, String>, Error> {
        self.expect(raw, '{', Kind::Map, path)?;
        let mut map = BTreeMap::new();
        for (raw_name, raw_value) in self.doc.members(raw)? {
            let name = self.doc.string(raw_name)?;
            if path == "Env" && (name.is_empty() || name.contains('=')) {
                let why = "a variable's name is not empty and has no `=`";
                return Err(self.doc.error(raw_name, format!("Env {}: {why}", show(raw_name))));
            }
            let value = self.text(raw_value, Kind::Map, path)?;
            if path == "Mounts"
                && let Err(why) = values::mount_at(&name, &value)
            {
                let why = format!("Mounts {}: {} {why}", show(raw_name), show(raw_value));
                return Err(self.doc.error(raw_value, why));
            }
            let offset = self.doc.offset(raw_name);
            if let Some((first, _)) = map.insert(name, (offset, value)) {
                self.repeat(first, offset, format!("{path} {}", show(raw_name)));
            }
        }
        Ok(map.into_iter().map(|(name, (_, value))| (name, value)).collect())
    }

    fn disks(&self, raw: &'a str, path: &str) -> Result<Vec<Disk>, Error> {
        const SECTION: &str = "Runner.Disks[]";
        let doc = self.doc;
        self.expect(raw, '[', Kind::Disks, path)?;
        let mut disks = Vec::new();
        for item in doc.items(raw)? {
            self.expect(item, '{', Kind::Disks, path)?;
            let (mut path, mut read_only, mut format) = (String::new(), false, DiskFormat::Raw);
            for (raw_name, raw_value) in doc.members(item)? {
                let name = doc.string(raw_name)?;
                let is_null = describe(raw_value) == "null";
                match find(SECTION, &name).and_then(|index| FIELDS.get(index)) {
                    Some(_) if is_null => {}
                    Some(field) if field.kind == Kind::Path => {
                        path = self.text(raw_value, field.kind, field.path)?;
                    }
                    Some(field) if field.kind == Kind::DiskFormat => {
                        let text = self.text(raw_value, field.kind, field.path)?;
                        let why = |why| {
                            doc.error(
                                raw_value,
                                format!("{} {} {why}", field.path, show(raw_value)),
                            )
                        };
                        format = values::disk_format(&text).map_err(why)?;
                    }
                    Some(field) => read_only = self.flag(raw_value, field.path)?,
                    None => return Err(doc.error(raw_name, unknown(SECTION, &name, raw_name))),
                }
            }
            if path.is_empty() {
                let example = Kind::Disks.expected();
                return Err(doc.error(item, format!("a disk without a Path; write {example}")));
            }
            disks.push(Disk { path: path.into(), read_only, format });
        }
        Ok(disks)
    }

    fn shares(&self, raw: &'a str, path: &str) -> Result<Vec<Share>, Error> {
        const SECTION: &str = "Runner.Shares[]";
        let doc = self.doc;
        self.expect(raw, '[', Kind::Shares, path)?;
        let mut shares = Vec::new();
        for item in doc.items(raw)? {
            self.expect(item, '{', Kind::Shares, path)?;
            let mut share = Share { path: PathBuf::new(), tag: None, read_only: false };
            for (raw_name, raw_value) in doc.members(item)? {
                let name = doc.string(raw_name)?;
                let is_null = describe(raw_value) == "null";
                let field = find(SECTION, &name).and_then(|index| FIELDS.get(index));
                let text = |field: &Field| self.text(raw_value, field.kind, field.path);
                match field.map(|field| (field, field.kind)) {
                    Some(_) if is_null => {}
                    Some((field, Kind::Path)) => share.path = text(field)?.into(),
                    Some((field, Kind::Text)) => {
                        let bad = |why| {
                            let shown = show(raw_value);
                            doc.error(raw_value, format!("{} {shown} {why}", field.path))
                        };
                        share.tag = Some(values::tag(&text(field)?).map_err(bad)?);
                    }
                    Some((field, _)) => share.read_only = self.flag(raw_value, field.path)?,
                    None => return Err(doc.error(raw_name, unknown(SECTION, &name, raw_name))),
                }
            }
            if share.path.as_os_str().is_empty() {
                let example = Kind::Shares.expected();
                return Err(doc.error(item, format!("a share without a Path; write {example}")));
            }
            shares.push(share);
        }
        Ok(shares)
    }

    /// Checks what an object or a list nobody looks into is, and says whether there is anything in it.
    fn inner(&self, raw: &str, first: char, kind: Kind, path: &str) -> Result<bool, Error> {
        self.expect(raw, first, kind, path)?;
        Ok(!raw.trim_matches(['{', '[', ']', '}', ' ', '\t', '\r', '\n']).is_empty())
    }

    fn expect(&self, raw: &str, first: char, kind: Kind, path: &str) -> Result<(), Error> {
        if raw.starts_with(first) {
            return Ok(());
        }
        Err(self.mismatch(raw, kind, path))
    }

    fn mismatch(&self, raw: &str, kind: Kind, path: &str) -> Error {
        let (shown, expected) = (show(raw), kind.expected());
        let found = match describe(raw) {
            what @ ("an object" | "a list") => what.to_owned(),
            what @ ("a string" | "a number") => format!("{} {shown}", what.replace("a ", "the ")),
            _ => shown,
        };
        self.doc.error(raw, format!("{path} takes {expected}; here is {found}"))
    }
}

/// Sets a field: maps are merged, and what is nothing (Go's zero value, but for a flag that means something) unsets.
fn put(slot: &mut Option<Set>, field: &Field, value: Value) {
    if let (Some(Set { value: Value::Map(old), .. }), Value::Map(new)) = (slot.as_mut(), &value) {
        old.extend(new.clone());
        return;
    }
    let nothing = match &value {
        Value::Text(text) => text.is_empty(),
        Value::Flag(flag) => !flag && field.class != Class::Works,
        Value::Number(number) => *number == 0,
        Value::Texts(texts) => texts.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Disks(disks) => disks.is_empty(),
        Value::Shares(shares) => shares.is_empty(),
        Value::Ports(ports) => ports.is_empty(),
        Value::Unread(something) => !something,
        Value::Accel(_) | Value::Jail(_) | Value::Bus(_) | Value::Entry(_) => false,
        Value::Time(_) | Value::Ip4(_) | Value::Ip6(_) => false,
        Value::Net(_) | Value::Mac(_) | Value::Vsock(_) => false,
        Value::Balloon(_) | Value::Console(_) => false,
    };
    let place = String::new();
    *slot = (!nothing).then_some(Set { value, place });
}

/// An address or a mask; an empty text is none, as in OPS.
fn address(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        _ if text.is_empty() => Some(Value::Text(String::new())),
        Kind::Ip6 => text.parse().ok().map(Value::Ip6),
        Kind::Mask => values::netmask(text).ok().map(Value::Ip4),
        _ => text.parse().ok().map(Value::Ip4),
    }
}

/// What to say of a name that is no field of `section`.
fn unknown(section: &str, name: &str, raw_name: &str) -> String {
    let inside = match section {
        "" => "a config".into(),
        section => section.replace("[]", ""),
    };
    let remedy =
        match nearest(section, name).map(|path| path.rsplit_once('.').unwrap_or(("", path))) {
            None => "the README lists all there are".into(),
            Some((there, near)) if there == section => format!("did you mean \"{near}\"?"),
            Some(("", near)) => format!("\"{near}\" stands at the top, outside of {inside}"),
            Some((there, near)) => {
                format!("\"{near}\" stands in \"{there}\": {{\"{there}\": {{\"{near}\": …}}}}")
            }
        };
    format!("no field {} in {inside}; {remedy}", show(raw_name))
}
