//! What `runner inspect` says of an image, the same of every family: what it is, how it is entered, what it wants
//! of memory and devices, and how it ends with which status.

use std::path::Path;

use super::describe::MOST_SEGMENTS;
use super::{Error, images, usual_bus};
use crate::boot::{BootPlan, Protocol};
use crate::family::Announcement;
use crate::image::hermit::Hermit;
use crate::image::solo5::{Declared, Kind, Solo5};
use crate::image::{Access, Image, Marks};
use crate::machine::map::MIB;
use crate::machine::map::hvt::MEMORY_UNIT;

use super::images::Opened;

/// One line for each thing there is to say.
///
/// # Errors
/// As [`super::Plan::new`].
pub fn inspect(name: &Path) -> Result<Vec<String>, Error> {
    let Opened { image, .. } = images::open(name, Access::Read, Marks::Needed)?;
    let boot = BootPlan::new(&image, image.kernel().clone(), None)?;
    let mut lines = vec![
        format!("image: {}", image.source().name()),
        format!("format: {}", image.format()),
        format!("architecture: {}", image.arch()),
        format!("family: {}", boot.family.guests),
    ];
    what(&boot, &mut lines);
    entries(&boot, &mut lines);
    memory(&boot, &mut lines);
    devices(&image, &boot, &mut lines);
    lines.extend(boot.family.ends.lines().map(|end| format!("end: {end}")));
    program(&image, &mut lines)?;
    Ok(lines)
}

/// Whose it is, and of which version.
fn what(boot: &BootPlan, lines: &mut Vec<String>) {
    let kernel = &boot.kernel;
    lines.extend(kernel.system().map(|system| format!("system: {system}")));
    if let Some(setup) = kernel.setup() {
        lines.extend(setup.version.as_ref().map(|version| format!("version: {version}")));
        lines.push(setup.to_string());
        lines.push(format!("command line: at most {} bytes", setup.cmdline_size));
        lines.push(format!("ram disk: up to {:#x}", setup.initrd_addr_max));
    }
    if let Some(Solo5 { abi, .. }) = kernel.solo5() {
        lines.push(format!("hvt ABI: version {}", abi.version));
    }
    if let Some(Hermit { kernel, interface, .. }) = kernel.hermit() {
        lines.push(match kernel {
            Some([major, minor, patch]) => format!("version: Hermit {major}.{minor}.{patch}"),
            None => "version: Hermit before 0.10, which does not say".to_owned(),
        });
        lines.push(format!("uhyve's interface: {interface}"));
    }
}

/// The way in that is taken if nobody says otherwise, and the others.
fn entries(boot: &BootPlan, lines: &mut Vec<String>) {
    lines.push(format!("entry: {:#x}, {} protocol", boot.entry, boot.protocol));
    let others = Protocol::ALL.into_iter().filter(|other| *other != boot.protocol);
    lines.extend(others.filter_map(|other| {
        let entry = other.entry(&boot.kernel)?;
        Some(format!("entry: {entry:#x}, {other} protocol, by --entry={}", other.name()))
    }));
}

fn memory(boot: &BootPlan, lines: &mut Vec<String>) {
    let segments = boot.kernel.segments();
    for segment in segments.iter().take(MOST_SEGMENTS) {
        let (start, end) = (segment.paddr, segment.end());
        lines.push(format!("segment {}: {start:#x}-{end:#x}", segment.index));
    }
    let more = segments.len().saturating_sub(MOST_SEGMENTS);
    lines.extend((more > 0).then(|| format!("segments: … and {more} more")));
    if boot.kernel.hermit().is_some_and(|hermit| hermit.is_relocatable) {
        lines.push("segments: position-independent, relocated to where they are above".to_owned());
    }
    let ram = boot.board.ram(u64::MAX);
    let start = ram.first().map_or(0, |ram| ram.start);
    let end = segments.iter().map(|segment| segment.end()).max();
    // Behind a hole there is none before all of what is below.
    let least = end.unwrap_or_default().saturating_sub(start).div_ceil(MIB);
    let most = ram.iter().map(|ram| ram.end - ram.start).fold(0_u64, u64::saturating_add) / MIB;
    lines.push(match boot.protocol {
        Protocol::Hvt => {
            let unit = MEMORY_UNIT / MIB;
            let least = least.next_multiple_of(unit);
            format!("memory: {least} MiB for what is loaded, a multiple of {unit} MiB, {most} MiB at the most")
        }
        Protocol::Uhyve => {
            format!("memory: {least} MiB for what is loaded, {most} MiB at the most")
        }
        _ => format!("memory: {least} MiB for what is loaded"),
    });
}

fn devices(image: &Image, boot: &BootPlan, lines: &mut Vec<String>) {
    if let Some(solo5) = boot.kernel.solo5() {
        lines.push("cpus: 1".to_owned());
        lines.extend(solo5.manifest.devices().map(|(handle, Declared { name, kind })| {
            let option = match kind {
                Kind::Block => format!("--block {name}=FILE"),
                Kind::Net => format!("--net {name}=user"),
            };
            format!("manifest: handle {handle}: {name} ({kind}), by {option}")
        }));
    }
    lines.extend(boot.board.fixed.iter().map(|device| format!("device: {device}")));
    lines.extend(boot.family.own_hardware().iter().map(|device| format!("device: {device}")));
    if image.is_disk() {
        lines.push("device: disk0, this image".to_owned());
    }
    if boot.family.told != Announcement::Manifest {
        let told = boot.family.tells(boot.board.arch, usual_bus(image, boot));
        lines.push(match told {
            Some(told) => format!("device: virtio, told of by {told}"),
            None => "device: virtio, which it looks for itself".to_owned(),
        });
    }
}

/// What a disk image says of its program.
fn program(image: &Image, lines: &mut Vec<String>) -> Result<(), Error> {
    let Some(manifest) = image.manifest()? else { return Ok(()) };
    lines.extend(manifest.program.map(|program| format!("program: {program}")));
    if !manifest.arguments.is_empty() {
        lines.push(format!("arguments: {}", manifest.arguments.join(" ")));
    }
    lines.extend(manifest.environment.iter().map(|(k, v)| format!("environment: {k}={v}")));
    lines.extend(manifest.settings.iter().map(|(k, v)| format!("setting: {k}={v}")));
    Ok(())
}
