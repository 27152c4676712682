//! What a config has at a field, by the field's kind; nothing where it has nothing, or something of another kind.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::parse::{Set, Value};
use super::{Config, ConsoleChoice, Error, JailChoice, Vsock};
use crate::boot::Protocol;
use crate::machine::slot::VirtioBus;

impl Config {
    /// Where the record of the run goes, whether the rest can be settled or not.
    pub fn report(&self) -> Option<PathBuf> {
        self.path("Runner.Report")
    }

    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        self.get(path).map(|set| &set.value)
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        match self.value(path) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        self.switch(path) == Some(true)
    }

    pub(super) fn switch(&self, path: &str) -> Option<bool> {
        match self.value(path) {
            Some(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        match self.value(path) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn time(&self, path: &str) -> Option<Duration> {
        match self.value(path) {
            Some(Value::Time(time)) => Some(*time),
            _ => None,
        }
    }

    pub(super) fn jail(&self, path: &str) -> Option<JailChoice> {
        match self.value(path) {
            Some(Value::Jail(jail)) => Some(*jail),
            _ => None,
        }
    }

    pub(super) fn entry(&self, path: &str) -> Option<Protocol> {
        match self.value(path) {
            Some(Value::Entry(entry)) => Some(*entry),
            _ => None,
        }
    }

    pub(super) fn bus(&self, path: &str) -> Option<VirtioBus> {
        match self.value(path) {
            Some(Value::Bus(bus)) => Some(*bus),
            _ => None,
        }
    }

    pub(super) fn console(&self, path: &str) -> Option<ConsoleChoice> {
        match self.value(path) {
            Some(Value::Console(console)) => Some(*console),
            _ => None,
        }
    }

    pub(super) fn vsock(&self, path: &str) -> Option<Vsock> {
        match self.value(path) {
            Some(Value::Vsock(vsock)) => Some(vsock.clone()),
            _ => None,
        }
    }

    pub(super) fn mac(&self, path: &str) -> Option<[u8; 6]> {
        match self.value(path) {
            Some(Value::Mac(mac)) => Some(*mac),
            _ => None,
        }
    }

    pub(super) fn ip4(&self, path: &str) -> Option<Ipv4Addr> {
        match self.value(path) {
            Some(Value::Ip4(address)) => Some(*address),
            _ => None,
        }
    }

    pub(super) fn ip6(&self, path: &str) -> Option<Ipv6Addr> {
        match self.value(path) {
            Some(Value::Ip6(address)) => Some(*address),
            _ => None,
        }
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        match self.value(path) {
            Some(Value::Texts(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }

    /// Names, and what stands by each.
    pub(super) fn map(&self, path: &str) -> BTreeMap<String, String> {
        match self.value(path) {
            Some(Value::Map(map)) => map.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Devices by name: each name and what stands by it, read as on the command line.
    pub(super) fn named<T>(
        &self,
        path: &str,
        read: impl Fn(&OsStr) -> Result<T, String>,
    ) -> Result<Vec<T>, Error> {
        let Some(Set { value: Value::Map(map), place }) = self.get(path) else {
            return Ok(Vec::new());
        };
        let device = |(name, what): (&String, &String)| {
            let given = format!("{name}={what}");
            read(OsStr::new(&given))
                .map_err(|why| Error(format!("{place}: {path} `{}` {why}", given.escape_debug())))
        };
        map.iter().map(device).collect()
    }
}
