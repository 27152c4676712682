//! A Solo5 unikernel's devices: each that its manifest declares is named by the user, and opened.

use std::fs::File;
use std::sync::Arc;

use super::network::{self, Cable};
use super::{DumpPlan, Error, Plan, disks};
use crate::boot::hvt::Attached;
use crate::boot::{BootPlan, CommandLine};
use crate::config::Settings;
use crate::config::named::{Dialect, NamedBlock, NamedNet};
use crate::config::network::{Asked, NetChoice};
use crate::devices::virtio::block::Scratch;
use crate::image::solo5::{Kind, Manifest};
use crate::image::{Image, Source};
use crate::io::lock::DiskLock;
use crate::machine::map::MIB;
use crate::machine::map::hvt::MEMORY_UNIT;

/// Bytes of a block when nobody says.
const BLOCK_SIZE: u16 = 512;

/// The devices of a guest of hvt.
#[derive(Debug)]
pub struct HvtPlan {
    /// Block storage.
    pub blocks: Vec<BlockPlan>,
    /// Networks.
    pub ports: Vec<PortPlan>,
    /// Where its core goes, if somebody wants it.
    pub dump: Option<DumpPlan>,
}

/// Block storage of a guest of hvt.
#[derive(Debug)]
pub struct BlockPlan {
    /// What the guest calls it in hypercalls.
    pub handle: usize,
    /// Its name in the manifest.
    pub name: String,
    /// Bytes of a block.
    pub block_size: u16,
    /// The file by the name it was opened with, and its length.
    pub source: Source,
    /// The open file.
    pub file: Arc<File>,
    /// The guest can only read it.
    pub read_only: bool,
    /// Takes what the guest writes, in place of the file.
    pub scratch: Option<Scratch>,
    /// Keeps other programs away from the file.
    pub lock: DiskLock,
}

/// A network of a guest of hvt.
#[derive(Debug)]
pub struct PortPlan {
    /// What the guest calls it in hypercalls.
    pub handle: usize,
    /// Its name in the manifest.
    pub name: String,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// The network.
    pub cable: Cable,
}

impl HvtPlan {
    /// The devices for a person, one line for each.
    pub(super) fn describe(&self) -> impl Iterator<Item = String> {
        let blocks = self.blocks.iter().map(|block| {
            let mode = match &block.scratch {
                Some(scratch) => &format!("ephemeral, written to {}", scratch.folder),
                None if block.read_only => "read-only",
                None => "read-write",
            };
            let (handle, name) = (block.handle, &block.name);
            let file = block.source.name();
            format!(
                "device: {name}, handle {handle}: {file}, {mode}, blocks of {}",
                block.block_size
            )
        });
        let ports = self.ports.iter().map(|port| {
            format!("device: {}, handle {}: {}", port.name, port.handle, port.cable.about())
        });
        let dump = self
            .dump
            .iter()
            .map(|dump| format!("core dump, if the guest aborts: {}", dump.printable_path()));
        blocks.chain(ports).chain(dump)
    }
}

/// The plan for a guest of hvt: `boot` and `manifest` are its kernel's.
///
/// # Errors
/// What such a guest cannot have, devices that it does not declare, and those that it does and that nobody
/// attaches.
pub(super) fn plan(
    settings: &Settings,
    image: &Image,
    mut boot: BootPlan,
    manifest: &Manifest,
) -> Result<Plan, Error> {
    let name = image.source().name();
    refuse(settings, image)?;
    let memory = memory(settings, &boot)?;
    let nets = nets(settings, manifest)?;
    complete(settings, manifest, &nets)?;
    if nets.is_empty() {
        // All that the manifest declares are there.
        network::refuse_without(
            &settings.network,
            "the guest's manifest declares no network: leave it out",
        )?;
    }
    apart(settings.dialect(), &nets)?;
    boot.tell(command_line(settings)?)?;
    let blocks: Vec<BlockPlan> = settings
        .blocks
        .iter()
        .map(|named| block(settings, manifest, named))
        .collect::<Result<_, _>>()?;
    // Last: from here on clients may come.
    let ports: Vec<PortPlan> = nets
        .iter()
        .map(|named| port(settings, manifest, named, &nets))
        .collect::<Result<_, _>>()?;
    let dump = settings.dump.as_deref().map(DumpPlan::new).transpose()?;
    let mut attached = Vec::new();
    for block in &blocks {
        let (capacity, block_size) = (block.source.len(), block.block_size);
        attached.push((block.handle, Attached::Block { capacity, block_size }));
    }
    for port in &ports {
        let (mac, mtu) = (port.cable.mac(), port.mtu);
        attached.push((port.handle, Attached::Net { mac, mtu }));
    }
    if let Some(hvt) = &mut boot.hvt {
        hvt.attached = attached;
    }
    Ok(Plan {
        format: image.format().to_string(),
        image: name.to_owned(),
        boot,
        disks: Vec::new(),
        network: None,
        devices: Vec::new(),
        hvt: Some(HvtPlan { blocks, ports, dump }),
        uhyve: None,
        words: Vec::new(),
        bus_was_asked_for: true,
        memory,
        cpus: 1,
        timeout: settings.timeout,
    })
}

/// What a guest of hvt cannot have.
fn refuse(settings: &Settings, image: &Image) -> Result<(), Error> {
    let network = &settings.network;
    let wanted = [
        (image.is_disk(), "an OPS image with a Solo5 kernel", "run the unikernel alone"),
        (settings.cpus > 1, "--cpus", "Solo5 guests have one CPU; start several guests"),
        (settings.initrd.is_some(), "--initrd", "Solo5 guests take no ram disk"),
        (!settings.disks.is_empty(), "--disk", "its disks have names: --block NAME=FILE"),
        (settings.virtio.is_some(), "--virtio", "Solo5 guests have no virtio devices"),
        (settings.devices.rng == Some(true), "--rng", "Solo5 guests have no virtio devices"),
        (!settings.mounts.is_empty(), "--mounts", "Solo5 guests have no volumes of OPS's"),
        (settings.devices.vsock.is_some(), "--vsock", "Solo5 guests have no virtio devices"),
        (!settings.devices.shares.is_empty(), "--share", "Solo5 guests have no shared folders"),
        (settings.devices.balloon.is_some(), "--balloon", "Solo5 guests have no virtio devices"),
        (settings.devices.console.is_some(), "--console", "Solo5 guests have one console, stdout"),
        (!settings.devices.channels.is_empty(), "--channel", "Solo5 guests have no virtio devices"),
        (!settings.env.is_empty(), "environment", "Solo5 guests have arguments only"),
        (!network.addresses.is_empty(), "an address", "tell the guest by its arguments (-a)"),
        (settings.stdin, "--stdin", "Solo5 guests have no console to read from"),
    ];
    match wanted.into_iter().find(|(wanted, ..)| *wanted) {
        Some((_, what, why)) => {
            let name = image.source().name();
            Err(Error::Asked(format!("{name}: {what}: {why}")))
        }
        None => Ok(()),
    }
}

fn memory(settings: &Settings, boot: &BootPlan) -> Result<u64, Error> {
    let asked = settings.memory;
    let most: u64 = boot.board.ram(u64::MAX).iter().map(|range| range.end - range.start).sum();
    let whole = asked - asked % MEMORY_UNIT;
    // The tender rounds down, and has 4 GiB on x86_64, too.
    let memory = match settings.tender && asked <= 4 << 30 {
        true => whole.clamp(MEMORY_UNIT, most),
        false => asked,
    };
    if memory != asked {
        crate::warning!("adjusting memory to {memory} bytes");
    }
    if memory % MEMORY_UNIT != 0 || memory > most {
        return Err(Error::Asked(format!(
            "{} MiB of guest memory: a Solo5 guest has a multiple of 2 MiB, {} MiB at the most ({})",
            asked / MIB,
            most / MIB,
            settings.dialect().memory()
        )));
    }
    Ok(memory)
}

/// As the tender has it: arguments with a space between each, whatever is in them.
fn command_line(settings: &Settings) -> Result<CommandLine, Error> {
    let mut words = settings.args.clone();
    words.extend(settings.append.clone());
    Ok(CommandLine::new([words.join(" ")])?)
}

/// The networks that were asked for by name, and the one that was not, for a guest that has one.
fn nets(settings: &Settings, manifest: &Manifest) -> Result<Vec<NamedNet>, Error> {
    let mut nets = settings.network.named.clone();
    let forward = settings.network.forwards.first().filter(|_| nets.is_empty());
    let user = forward.map(|first| Asked { value: NetChoice::User, by: first.by.clone() });
    let choice = settings.network.choice.clone().or(user);
    let Some(Asked { value, by }) = choice.filter(|choice| choice.value != NetChoice::None) else {
        return Ok(nets);
    };
    let mut declared = manifest.devices().filter(|(_, device)| device.kind == Kind::Net);
    match (declared.next(), declared.next()) {
        (Some((_, only)), None) => {
            nets.push(NamedNet {
                name: only.name.clone(),
                choice: value,
                mac: settings.network.mac,
            });
        }
        (None, _) => {
            return Err(Error::Asked(format!(
                "{by}: the guest's manifest declares no network: leave it out"
            )));
        }
        (Some(_), Some(_)) => {
            return Err(Error::Asked(format!(
                "{by}: the guest has several networks, {}: give each by its name, --net NAME=user",
                names(manifest, Kind::Net)
            )));
        }
    }
    Ok(nets)
}

/// Whether what is named is declared, each once, and all that is declared is named.
fn complete(settings: &Settings, manifest: &Manifest, nets: &[NamedNet]) -> Result<(), Error> {
    let dialect = settings.dialect();
    let blocks = settings.blocks.iter().map(|block| (block.name.as_str(), Kind::Block));
    let nets = nets.iter().map(|net| (net.name.as_str(), Kind::Net));
    let named: Vec<(&str, Kind)> = blocks.chain(nets).collect();
    for (index, (name, kind)) in named.iter().enumerate() {
        let (option, what) = words(*kind);
        let option = dialect.device(option, name);
        if manifest.find(name, *kind).is_none() {
            return Err(Error::Asked(format!(
                "{option}: resource not declared in the guest's manifest, which has as {what} {}",
                names(manifest, *kind)
            )));
        }
        if named.iter().take(index).any(|before| before == &(*name, *kind)) {
            return Err(Error::Asked(format!("{option}: it is given twice; leave out one")));
        }
    }
    let missing: Vec<String> = manifest
        .devices()
        .filter(|(_, device)| !named.contains(&(&device.name, device.kind)))
        .map(|(_, device)| {
            let value = match device.kind {
                Kind::Block => "FILE".to_owned(),
                Kind::Net => dialect.network(None),
            };
            format!("{}={value}", dialect.device(words(device.kind).0, &device.name))
        })
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Asked(format!(
            "the guest's manifest declares devices that are not attached, and it does not start without: add {}",
            missing.join(" ")
        ))),
    }
}

/// No two networks are at one tap device, which root would have made for the first.
fn apart(dialect: Dialect, nets: &[NamedNet]) -> Result<(), Error> {
    let tap = |net: &NamedNet| match &net.choice {
        NetChoice::Tap(name) | NetChoice::Bridge { tap: Some(name), .. } => Some(name.clone()),
        _ => None,
    };
    for (index, net) in nets.iter().enumerate() {
        let Some(name) = tap(net) else { continue };
        let first = nets.iter().take(index).find(|before| tap(before).as_ref() == Some(&name));
        if let Some(first) = first {
            return Err(Error::Asked(format!(
                "{}: the guest's network {} is at tap device {name} already, and there is one network at \
                 each: name another device; sudo ip tuntap add NAME mode tap user $USER makes one",
                asked(dialect, net),
                first.name
            )));
        }
    }
    Ok(())
}

/// The option that asked for a network.
fn asked(dialect: Dialect, net: &NamedNet) -> String {
    format!("{}={}", dialect.device("--net", &net.name), dialect.network(Some(&net.choice)))
}

fn words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Block => ("--block", "block storage"),
        Kind::Net => ("--net", "networks"),
    }
}

fn names(manifest: &Manifest, kind: Kind) -> String {
    let devices = manifest.devices().filter(|(_, device)| device.kind == kind);
    let names: Vec<&str> = devices.map(|(_, device)| device.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn block(settings: &Settings, manifest: &Manifest, named: &NamedBlock) -> Result<BlockPlan, Error> {
    let NamedBlock { name, path, read_only, block_size } = named;
    let block_size = block_size.unwrap_or(BLOCK_SIZE);
    let wanted = disks::Use::of(*read_only, settings.ephemeral);
    let source = Source::open(path, wanted.access())?;
    let len = source.len();
    let block = u64::from(block_size);
    let why = if len < block { "must be at least 1 block" } else { "size must be block aligned" };
    if len < block || !len.is_multiple_of(block) {
        return Err(Error::Asked(format!(
            "{name}: {}, {len} bytes: Backing storage {why} ({block} bytes): extend it with \
             truncate -s %{block}",
            source.name()
        )));
    }
    let (file, lock) = disks::take(&source, wanted)?;
    let scratch = disks::scratch_for(source.name(), wanted, len)?;
    Ok(BlockPlan {
        handle: manifest.find(name, Kind::Block).unwrap_or_default(),
        name: name.clone(),
        block_size,
        source,
        file,
        read_only: *read_only,
        scratch,
        lock,
    })
}

/// Opens a network. What is asked of the network at large is for the only one; forwarded ports lead to the
/// first user-mode network.
fn port(
    settings: &Settings,
    manifest: &Manifest,
    named: &NamedNet,
    all: &[NamedNet],
) -> Result<PortPlan, Error> {
    let mut own = settings.clone();
    let several = all.len() > 1;
    let shared = [("--pcap", own.network.pcap.is_some()), ("--mac", own.network.mac.is_some())];
    if let Some((option, _)) = shared.into_iter().find(|(_, asked)| *asked && several) {
        return Err(Error::Asked(format!(
            "{option}: the guest has several networks, and it is for one"
        )));
    }
    let by = asked(settings.dialect(), named);
    own.network.choice = Some(Asked { value: named.choice.clone(), by });
    own.network.mac = named.mac.or(own.network.mac);
    let first_user = all.iter().find(|net| net.choice == NetChoice::User);
    if let (None, Some(forward)) = (first_user, own.network.forwards.first()) {
        let by = &forward.by;
        return Err(Error::Asked(format!(
            "{by}: only the user-mode network forwards ports, and the guest has none: --net NAME=user"
        )));
    }
    if first_user != Some(named) {
        own.network.forwards.clear();
    }
    let cable = network::cable(&named.choice, &own)?;
    Ok(PortPlan {
        handle: manifest.find(&named.name, Kind::Net).unwrap_or_default(),
        name: named.name.clone(),
        mtu: cable.mtu(),
        cable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_networks_at_one_tap_device_are_refused_before_any_device_is_made() {
        let net = |name: &str, choice| NamedNet { name: name.to_owned(), choice, mac: None };
        let tap = |name: &str| NetChoice::Tap(name.to_owned());
        let bridge = |tap: Option<&str>| NetChoice::Bridge {
            bridge: "br0".to_owned(),
            tap: tap.map(str::to_owned),
        };
        for (first, second) in [
            (tap("tap0"), tap("tap1")),
            (tap("tap0"), bridge(Some("tap1"))),
            (bridge(None), bridge(None)),
            (NetChoice::User, NetChoice::User),
        ] {
            assert!(apart(Dialect::Runner, &[net("a", first), net("b", second)]).is_ok());
        }
        for (first, second, asked) in [
            (tap("tap0"), tap("tap0"), "--net b=tap:tap0: "),
            (bridge(Some("tap0")), tap("tap0"), "--net b=tap:tap0: "),
            (tap("tap0"), bridge(Some("tap0")), "--net b="),
        ] {
            let nets = [net("a", first), net("c", tap("tap1")), net("b", second)];
            let why = apart(Dialect::Runner, &nets).unwrap_err().to_string();
            assert!(why.starts_with(asked), "{why}");
            assert!(why.contains("network a is at tap device tap0 already"), "{why}");
        }
        let nets = [net("a", tap("tap0")), net("b", tap("tap0"))];
        let why = apart(Dialect::Tender, &nets).unwrap_err().to_string();
        assert!(why.starts_with("--net:b=tap0: "), "{why}");
    }
}
