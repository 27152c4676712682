//! What devices were when they stood still, as values that can be kept in a file and given to devices
//! made anew: those of another process, behind a guest whose RAM is as it was.
//!
//! Nothing in the program keeps a machine: what a guest runs on is described here, what it runs as,
//! vCPUs and interrupt controller, is not. So this is the library's alone. Every device takes its own
//! state and gives it back; who keeps a machine puts them together in a [`Machine`].
//!
//! While a device is described, and until it has been restored, no vCPU runs, and whoever serves it has
//! carried out all that it had begun. What is restored is believed no more than what a guest writes: a
//! value that its device could never have had is refused by its name. A device that has refused one is
//! not to be used.
//!
//! What a device was given by its user is no part of its state: files, sockets, sizes. Who restores it
//! gives it the same, and is told where that shows not to be so. What cannot be kept is said where it
//! would be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pl011::Pl011State;
use super::pl031::Pl031State;
use super::rtc::RtcState;
use super::serial::Com1State;
use super::virtio::pci::PciState;
use super::virtio::state::VirtioState;

/// Which values these are. One that changes its meaning, or has another beside it, is another version;
/// none is read but this one.
pub const VERSION: u32 = 1;

/// The longest text that is read, in bytes.
const LONGEST: usize = 16 << 20;

/// A value that no device here could have had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("saved device state: {field}: {why}")]
pub struct Refused {
    /// Its name, from the outside in.
    pub field: String,
    /// What is wrong, and with what it would be right.
    pub why: String,
}

impl Refused {
    /// Of a field of a device's.
    pub(super) fn new(field: &str, why: impl Into<String>) -> Self {
        Self { field: field.to_owned(), why: why.into() }
    }

    /// The same as a field of `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), ..self }
    }

    /// Refuses a `field` that is not as it has to be, which `why` says.
    pub(super) fn unless(good: bool, field: &str, why: &str) -> Result<(), Self> {
        match good {
            true => Ok(()),
            false => Err(Self::new(field, why)),
        }
    }
}

/// Why a device cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undescribed {
    /// It has something under way.
    #[error("{device} has {what}: let it go on, and ask again")]
    Busy {
        /// What messages call it.
        device: String,
        /// What is under way.
        what: &'static str,
    },
    /// A part of it is in this process alone.
    #[error("{device} cannot be kept: {why}")]
    Never {
        /// What messages call it.
        device: String,
        /// What that is, and what to do instead.
        why: &'static str,
    },
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// A virtio device, whatever bus it is on.
    Virtio(VirtioState),
    /// What a virtio device on PCI has beside that.
    Pci(PciState),
    /// The register that says which of PCI's a PC's ports reach.
    PciPorts(u32),
    /// A PC's serial port.
    Com1(Com1State),
    /// A PC's clock.
    Rtc(RtcState),
    /// An aarch64 machine's serial port.
    Pl011(Pl011State),
    /// Its clock.
    Pl031(Pl031State),
}

/// A machine's devices by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    version: u32,
    /// The devices.
    pub devices: BTreeMap<String, State>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { version: VERSION, devices: BTreeMap::new() }
    }
}

/// All that is read of another version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Machine {
    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("keys are strings"))
    }

    /// What [`Machine::to_json`] wrote. Whether devices can be like that is theirs to say.
    ///
    /// # Errors
    /// [`Refused`]: it is no such text, or of another version.
    pub fn from_json(text: &[u8]) -> Result<Self, Refused> {
        let length = format!("{} bytes, and at most {LONGEST} are read", text.len());
        Refused::unless(text.len() <= LONGEST, "length", &length)?;
        let wrong = |error: serde_json::Error| Refused::new("text", error.to_string());
        let Version { version } = serde_json::from_slice(text).map_err(wrong)?;
        let known =
            format!("{version}: this runner knows {VERSION}; restore it by the one it is of");
        Refused::unless(version == VERSION, "version", &known)?;
        serde_json::from_slice(text).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_as_it_was_written() {
        let mut machine = Machine::default();
        machine.devices.insert("ports".into(), State::PciPorts(0x8000_0800));
        let text = machine.to_json();
        assert_eq!(text, r#"{"version":1,"devices":{"ports":{"pci_ports":2147485696}}}"#);
        assert_eq!(Machine::from_json(text.as_bytes()), Ok(machine));
    }

    #[test]
    fn another_version_or_another_text_is_refused_by_what_is_wrong() {
        for (text, why) in [
            ("", "text: EOF"),
            ("{}", "text: missing field `version`"),
            (r#"{"version":2,"new":[]}"#, "version: 2: this runner knows 1"),
            (r#"{"version":1}"#, "text: missing field `devices`"),
            (r#"{"version":1,"devices":{},"more":1}"#, "text: unknown field `more`"),
            (r#"{"version":1,"devices":{"a":{"floppy":1}}}"#, "text: unknown variant `floppy`"),
            (r#"{"version":1,"devices":{"a":{"pci_ports":4294967296}}}"#, "text: invalid value"),
        ] {
            let refused = Machine::from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("saved device state: {why}")), "{refused}");
        }
        let long = vec![b' '; LONGEST + 1];
        assert!(Machine::from_json(&long).unwrap_err().to_string().contains("length: 16777217"));
    }

    #[test]
    fn a_field_is_named_from_the_outside_in() {
        let refused = Refused::new("size", "3 is odd").within("queues[1]").within("disk0");
        assert_eq!(refused.to_string(), "saved device state: disk0.queues[1].size: 3 is odd");
    }
}
