//! The guest's further virtio devices, neither disks nor its network: chosen, opened, given a place in
//! the machine behind those.

use std::fmt;

use super::Error;
use crate::config::Settings;
use crate::machine::slot::{VIRTIO_SLOTS, VirtioBus, VirtioSlot};

/// A further device of the guest.
#[derive(Debug)]
pub struct DevicePlan {
    /// Stable name: its kind's, and its number among those.
    pub id: String,
    /// Where it stands in the machine.
    pub slot: VirtioSlot,
    /// What it is.
    pub kind: DeviceKind,
}

/// What a device is, with what was opened for it.
#[derive(Debug)]
pub enum DeviceKind {
    /// Random bytes.
    Rng,
}

impl DeviceKind {
    /// What its kind is called in names.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            DeviceKind::Rng => "rng",
        }
    }
}

/// For a person, behind its place.
impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceKind::Rng => f.write_str("random bytes of the host's"),
        }
    }
}

/// Which devices a guest has, in the order of their slots, before anything is opened.
///
/// Nobody having said, what OPS builds has an entropy device on PCI, as under OPS, whose Nanos looks for
/// it there alone; on arm64 it has no instruction for random numbers to fall back on.
///
/// # Errors
/// More than the machine has room for.
pub(super) fn choose(
    settings: &Settings,
    ops_image: bool,
    bus: VirtioBus,
) -> Result<Vec<DeviceKind>, Error> {
    let mut kinds = Vec::new();
    if settings.devices.rng.unwrap_or(ops_image && bus == VirtioBus::Pci) {
        kinds.push(DeviceKind::Rng);
    }
    match kinds.len() <= VIRTIO_SLOTS {
        true => Ok(kinds),
        false => Err(Error::Asked(format!(
            "{} devices, where the machine has room for {VIRTIO_SLOTS}: leave some out",
            kinds.len()
        ))),
    }
}

/// Gives each a place.
pub(super) fn place(
    kinds: Vec<DeviceKind>,
    slots: &mut impl Iterator<Item = VirtioSlot>,
) -> Vec<DevicePlan> {
    let mut placed: Vec<DevicePlan> = Vec::new();
    for (kind, slot) in kinds.into_iter().zip(slots) {
        let number = placed.iter().filter(|other| other.kind.name() == kind.name()).count();
        placed.push(DevicePlan { id: format!("{}{number}", kind.name()), slot, kind });
    }
    placed
}

impl DevicePlan {
    /// The device for a person, one line.
    pub(super) fn describe(&self) -> String {
        format!("device: {}, {}: {}", self.id, self.slot.place, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse_str, settle};
    use crate::machine::map::Board;
    use hv::Arch;

    fn chosen(option: Option<&str>, config: &str, ops_image: bool, bus: VirtioBus) -> usize {
        let line = ["runner", "image"].into_iter().chain(option);
        let Ok(crate::cli::Command::Run(options)) = crate::cli::parse(line) else { panic!() };
        let settings = settle(*options, &parse_str("c.json", config).unwrap()).unwrap();
        choose(&settings, ops_image, bus).unwrap().len()
    }

    #[test]
    fn an_entropy_device_is_there_when_asked_for_and_for_what_ops_builds_on_pci() {
        use VirtioBus::{Mmio, Pci};
        for (ops_image, bus, unasked) in
            [(true, Pci, 1), (true, Mmio, 0), (false, Pci, 0), (false, Mmio, 0)]
        {
            assert_eq!(chosen(None, "{}", ops_image, bus), unasked);
            assert_eq!(chosen(Some("--rng"), "{}", ops_image, bus), 1);
            for (value, count) in [("true", 1), ("false", 0)] {
                let config = format!(r#"{{"Runner": {{"Rng": {value}}}}}"#);
                assert_eq!(chosen(None, &config, ops_image, bus), count);
                assert_eq!(chosen(Some("--rng"), &config, ops_image, bus), 1);
            }
        }
    }

    #[test]
    fn devices_take_slots_in_order_and_have_stable_names_by_kind() {
        let mut slots = Board::of(Arch::X86_64).virtio.on(VirtioBus::Mmio).skip(2);
        let placed = place(vec![DeviceKind::Rng, DeviceKind::Rng], &mut slots);
        let lines: Vec<_> = placed.iter().map(DevicePlan::describe).collect();
        let line = |id, base, line| {
            format!("device: {id}, virtio-mmio {base}, line {line}: random bytes of the host's")
        };
        assert_eq!(lines, [line("rng0", "0xfeb00400", 7), line("rng1", "0xfeb00600", 8)]);
    }
}
