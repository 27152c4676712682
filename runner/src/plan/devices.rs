//! The guest's further virtio devices, neither disks nor its network: chosen, opened, given a place in
//! the machine behind those.

mod console;
mod vsock;

use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::Error;
use crate::config::{ConsoleChoice, Settings, Share};
use crate::log::printable_path;
use crate::machine::map::MIB;
use crate::machine::slot::{VIRTIO_SLOTS, VirtioBus, VirtioSlot};
use crate::p9::{Folder, Unfit};
pub use console::ConsolePlan;
pub use vsock::VsockPlan;

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
    /// Sockets.
    Vsock(VsockPlan),
    /// A console on stdout and stdin, ports before programs of the host's, or both.
    Console(ConsolePlan),
    /// Memory that goes back to the host: this many bytes in any case.
    Balloon(u64),
    /// A folder of the host.
    Share(SharePlan),
}

/// A shared folder.
#[derive(Debug)]
pub struct SharePlan {
    /// The folder, open.
    pub folder: Folder,
    /// Its name as it was asked for, for a person.
    pub path: String,
    /// By what the guest finds it.
    pub tag: String,
}

impl DeviceKind {
    /// What its kind is called in names.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            DeviceKind::Rng => "rng",
            DeviceKind::Share(_) => "share",
            DeviceKind::Vsock(_) => "vsock",
            DeviceKind::Balloon(_) => "balloon",
            DeviceKind::Console(_) => "console",
        }
    }
}

/// For a person, behind its place.
impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceKind::Rng => f.write_str("random bytes of the host's"),
            DeviceKind::Share(SharePlan { folder, path, tag }) => {
                let how = if folder.is_read_only() { ", read-only" } else { "" };
                write!(f, "{path}{how}, tag {tag}")
            }
            DeviceKind::Vsock(vsock) => vsock.fmt(f),
            DeviceKind::Console(console) => console.fmt(f),
            DeviceKind::Balloon(0) => f.write_str("free memory goes back to the host"),
            DeviceKind::Balloon(size) => {
                write!(f, "free memory goes back to the host, and {} MiB of it always", size / MIB)
            }
        }
    }
}

/// Which devices a guest has, in the order of their slots. Of what is opened, nobody else notices.
///
/// Nobody having said, what OPS builds has an entropy device on PCI, as under OPS, whose Nanos looks for
/// it there alone; on arm64 it has no instruction for random numbers to fall back on. It yields to what was
/// asked for: disks and network, which take `taken` slots, and all other devices, `shares` among them.
///
/// # Errors
/// More than the machine has room for; a folder that cannot be shared.
pub(super) fn choose(
    settings: &Settings,
    shares: &[Share],
    ops_image: bool,
    bus: VirtioBus,
    taken: usize,
) -> Result<Vec<DeviceKind>, Error> {
    let mut kinds = Vec::new();
    for (number, asked) in (1..).zip(shares) {
        let tag = asked.tag.clone().unwrap_or_else(|| format!("{number}"));
        if ops_image {
            findable(&tag, bus)?;
        }
        let taken =
            |kind: &DeviceKind| matches!(kind, DeviceKind::Share(other) if other.tag == tag);
        if kinds.iter().any(taken) {
            return Err(Error::Asked(format!(
                "two shares are called {tag}: give each a tag of its own, --share FOLDER:TAG"
            )));
        }
        kinds.push(DeviceKind::Share(share(asked, tag)?));
    }
    kinds.extend(settings.devices.vsock.clone().map(VsockPlan::new).map(DeviceKind::Vsock));
    if let Some(size) = settings.devices.balloon {
        if size >= settings.memory {
            let (size, memory) = (size / MIB, settings.memory / MIB);
            return Err(Error::Asked(format!(
                "a balloon of {size} MiB in a guest of {memory} MiB, which would have nothing left: \
                 make it smaller (--balloon), or the guest larger (-m)"
            )));
        }
        kinds.push(DeviceKind::Balloon(size));
    }
    let is_console = settings.devices.console == Some(ConsoleChoice::Virtio);
    let console = ConsolePlan::new(is_console, settings.devices.channels.clone());
    kinds.extend(console.map_err(Error::Asked)?.map(DeviceKind::Console));
    let has_room = taken + kinds.len() < VIRTIO_SLOTS;
    let is_usual = ops_image && bus == VirtioBus::Pci && has_room;
    if settings.devices.rng.unwrap_or(is_usual) {
        kinds.insert(0, DeviceKind::Rng);
    }
    match kinds.len() <= VIRTIO_SLOTS {
        true => Ok(kinds),
        false => Err(Error::Asked(format!(
            "{} devices, where the machine has room for {VIRTIO_SLOTS}: leave some out",
            kinds.len()
        ))),
    }
}

/// Opens a folder.
pub(super) fn share(asked: &Share, tag: String) -> Result<SharePlan, Error> {
    let path = printable_path(&asked.path);
    let folder = Folder::open(&asked.path, asked.read_only);
    let folder = folder.map_err(|error| {
        let remedy = match error {
            // A tag with a slash has been taken for a part of the path.
            Unfit::System(_)
                if !asked.path.exists() && asked.path.as_os_str().as_bytes().contains(&b':') =>
            {
                "; a share is a folder that this user may read, and a tag behind its `:` has no `/`"
            }
            Unfit::System(_) => "; a share is a folder that this user may read",
            Unfit::Kernels => "",
        };
        Error::Asked(format!("--share {path}: {error}{remedy}"))
    })?;
    Ok(SharePlan { folder, path, tag })
}

/// Whether what OPS builds finds a share: Nanos looks for them on PCI, and by numbers.
fn findable(tag: &str, bus: VirtioBus) -> Result<(), Error> {
    if bus != VirtioBus::Pci {
        return Err(Error::Asked(
            "what OPS builds looks for shared folders on PCI alone: leave out --virtio=mmio".into(),
        ));
    }
    match tag.parse::<u32>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Asked(format!(
            "--share: what OPS builds finds a share by its number, as `%1` in Mounts, and `{tag}` is \
             none: leave the tag out, or give a number"
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
    /// Opens what brings clients: when nothing can be in the way of a run any more.
    ///
    /// # Errors
    /// Names it, what is wrong with it and what to do.
    pub(super) fn open(&self) -> Result<(), Error> {
        match &self.kind {
            DeviceKind::Vsock(vsock) => vsock.open().map_err(Error::Asked),
            DeviceKind::Console(console) => console.open().map_err(Error::Asked),
            _ => Ok(()),
        }
    }

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
        choose(&settings, &settings.devices.shares, ops_image, bus, 0).unwrap().len()
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
    fn an_entropy_device_that_nobody_asked_for_yields_to_every_other() {
        let line =
            ["runner", "image", "--balloon", "--console=virtio", "--vsock=v", "--share=/tmp"];
        let Ok(crate::cli::Command::Run(options)) = crate::cli::parse(line) else { panic!() };
        let settings = settle(*options, &parse_str("c.json", "{}").unwrap()).unwrap();
        for (taken, first, count) in [(3, "rng", 5), (4, "share", 4)] {
            let kinds =
                choose(&settings, &settings.devices.shares, true, VirtioBus::Pci, taken).unwrap();
            assert_eq!((kinds[0].name(), kinds.len()), (first, count));
        }
    }

    /// What is chosen for a line of words, or the refusal.
    fn shared(line: &str, ops_image: bool, bus: VirtioBus) -> Result<Vec<String>, String> {
        let line = ["runner", "image"].into_iter().chain(line.split(' '));
        let Ok(crate::cli::Command::Run(options)) = crate::cli::parse(line) else { panic!() };
        let settings = settle(*options, &parse_str("c.json", "{}").unwrap()).unwrap();
        let kinds = choose(&settings, &settings.devices.shares, ops_image, bus, 0)
            .map_err(|error| error.to_string())?;
        Ok(kinds.iter().map(ToString::to_string).filter(|text| text.contains("tag")).collect())
    }

    #[test]
    fn shares_are_found_by_their_tags_or_their_numbers() {
        let chosen = shared("--share /tmp --share /usr:u:ro --share /usr", false, VirtioBus::Mmio);
        assert_eq!(chosen.unwrap(), ["/tmp, tag 1", "/usr, read-only, tag u", "/usr, tag 3"]);
        assert_eq!(shared("--share /tmp", true, VirtioBus::Pci).unwrap(), ["/tmp, tag 1"]);
    }

    #[test]
    fn shares_that_cannot_be_found_or_opened_are_refused_with_the_remedy() {
        use VirtioBus::{Mmio, Pci};
        for (line, ops_image, bus, wanted) in [
            ("--share /tmp:a --share /usr:a", false, Mmio, "two shares are called a: give each"),
            ("--share /tmp:2 --share /usr", false, Mmio, "two shares are called 2"),
            ("--share /nowhere", false, Mmio, "--share /nowhere: No such file"),
            ("--share /etc/passwd", false, Mmio, "--share /etc/passwd: Not a directory"),
            ("--share /tmp:a/b", false, Mmio, "and a tag behind its `:` has no `/`"),
            ("--share /tmp:../..", false, Mmio, "and a tag behind its `:` has no `/`"),
            ("--share /tmp", true, Mmio, "on PCI alone: leave out --virtio=mmio"),
            ("--share /tmp:data", true, Pci, "and `data` is none: leave the tag out"),
        ] {
            let refusal = shared(line, ops_image, bus).unwrap_err();
            assert!(refusal.contains(wanted), "{line}: {refusal}");
        }
    }

    #[test]
    fn a_balloon_leaves_the_guest_something() {
        let image = (false, VirtioBus::Mmio);
        let count = |option| chosen(Some(option), "{}", image.0, image.1);
        assert_eq!((count("--balloon"), count("--balloon=2047M")), (1, 1));
        for (value, count) in [("true", 1), ("false", 0), (r#""64M""#, 1)] {
            let config = format!(r#"{{"Runner": {{"Balloon": {value}}}}}"#);
            assert_eq!(chosen(None, &config, image.0, image.1), count);
        }
        let line = ["runner", "image", "-m512M", "--balloon=512M"];
        let Ok(crate::cli::Command::Run(options)) = crate::cli::parse(line) else { panic!() };
        let settings = settle(*options, &parse_str("c.json", "{}").unwrap()).unwrap();
        let error = choose(&settings, &[], image.0, image.1, 0).unwrap_err().to_string();
        assert!(error.starts_with("a balloon of 512 MiB in a guest of 512 MiB"), "{error}");
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
