//! Values as people write them, on the command line and in `config.json` alike.
//!
//! Each function takes the text and gives the value, or what is wrong with the text and what to write instead. The
//! caller says where the text stood.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use super::{
    AccelChoice, Channel, ConsoleChoice, Disk, DiskFormat, JailChoice, MIB, Mount, Share, Vsock,
};
use crate::boot::Protocol;
use crate::devices::virtio::vsock::{FIRST_CID, LAST_CID};
use crate::machine::slot::VirtioBus;

/// The most vCPUs that can be asked for at all; backends allow fewer.
pub const MAX_CPUS: u32 = 65_535;

/// A memory size in bytes: `512M`, `2G`, `1T`, small letters too; a plain number is MiB, as in OPS and QEMU.
///
/// # Errors
/// Anything else, 0, and what does not fit in 64 bits.
pub fn memory(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let scale = match unit {
        "" | "M" | "m" => MIB,
        "G" | "g" => 1 << 30,
        "T" | "t" => 1 << 40,
        _ => return Err(not_a_size(digits, unit)),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(not_a_size(digits, unit));
    }
    let size = digits.parse().ok().and_then(|n: u64| n.checked_mul(scale));
    match size {
        None => Err("is more than any host has; give a size such as 512M or 2G".into()),
        Some(0) => Err("leaves the guest no memory; give a size such as 512M or 2G".into()),
        Some(size) => Ok(size),
    }
}

fn not_a_size(digits: &str, unit: &str) -> String {
    let letter = unit.get(..1).map(str::to_ascii_uppercase);
    match letter.as_deref() {
        Some(letter @ ("M" | "G" | "T")) if digits.parse::<u64>().is_ok() => {
            format!("is not a memory size; write {digits}{letter}")
        }
        Some("K") => "is in KiB; memory is given in MiB: 512M, or larger units: 2G".into(),
        _ => "is not a memory size; write whole MiB or GiB, such as 512M or 2G".into(),
    }
}

/// A number of vCPUs, 1 to [`MAX_CPUS`].
///
/// # Errors
/// Anything else.
pub fn cpus(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(0) => Err("leaves the guest no CPU; give 1 or more".into()),
        Ok(n) if n <= MAX_CPUS => Ok(n),
        _ => Err(format!("is not a number of CPUs; give a number from 1 to {MAX_CPUS}")),
    }
}

/// A length of time, not 0: `5` and `5s` are seconds, `500ms`, `2m`, `1h`.
///
/// # Errors
/// Anything else.
pub fn duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "give whole seconds, or a number with ms, s, m or h, such as 500ms or 2m";
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let scale: u64 = match text.strip_prefix(digits).unwrap_or_default() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("is not a time; {HOW}")),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("is not a time; {HOW}"));
    }
    match digits.parse().ok().and_then(|n: u64| n.checked_mul(scale)).map(Duration::from_millis) {
        None => Err(format!("is too long; {HOW}")),
        Some(Duration::ZERO) => {
            Err("ends the run before it starts; leave it out for no limit".into())
        }
        Some(time) => Ok(time),
    }
}

/// An accelerator by its name: `auto`, `kvm`, `hvf`, `off`.
///
/// # Errors
/// Anything else.
pub fn accelerator(text: &str) -> Result<AccelChoice, String> {
    match text {
        "auto" => Ok(AccelChoice::Auto),
        "kvm" => Ok(AccelChoice::Kvm),
        "hvf" => Ok(AccelChoice::Hvf),
        "off" => Ok(AccelChoice::Off),
        _ => Err("is not an accelerator; choose auto, kvm, hvf or off".into()),
    }
}

/// An accelerator as the command line has it: its name, or OPS's `true` and `false`.
///
/// # Errors
/// Anything else.
pub fn accel(text: &str) -> Result<AccelChoice, String> {
    match text {
        "true" => Ok(AccelChoice::Auto),
        "false" => Ok(AccelChoice::Off),
        _ => accelerator(text)
            .map_err(|_| "is not an accelerator; choose auto, true, kvm, hvf, off or false".into()),
    }
}

/// Where virtio devices are: `mmio`, `pci`.
///
/// # Errors
/// Anything else.
pub fn bus(text: &str) -> Result<VirtioBus, String> {
    match text {
        "mmio" => Ok(VirtioBus::Mmio),
        "pci" => Ok(VirtioBus::Pci),
        _ => Err("is not a place for virtio devices; choose mmio or pci".into()),
    }
}

/// Which consoles a guest has: `serial`, `virtio`.
///
/// # Errors
/// Anything else.
pub fn console(text: &str) -> Result<ConsoleChoice, String> {
    match text {
        "serial" => Ok(ConsoleChoice::Serial),
        "virtio" => Ok(ConsoleChoice::Virtio),
        _ => Err("is not a console; choose serial or virtio".into()),
    }
}

/// How much of a jail: `on`, `strict`, `off`.
///
/// # Errors
/// Anything else.
pub fn jail(text: &str) -> Result<JailChoice, String> {
    match text {
        "on" => Ok(JailChoice::On),
        "strict" => Ok(JailChoice::Strict),
        "off" => Ok(JailChoice::Off),
        _ => Err("is not a jail; choose on, strict or off".into()),
    }
}

/// A way into a kernel: `linux64`, `linux32`, `pvh`, `multiboot`, `arm64`, `hvt`, `uhyve`.
///
/// # Errors
/// Anything else.
pub fn entry(text: &str) -> Result<Protocol, String> {
    let named = Protocol::ALL.into_iter().find(|each| each.name() == text);
    named.ok_or_else(|| {
        "is not a way into a kernel; choose linux64, linux32, pvh, multiboot, arm64, hvt or uhyve".into()
    })
}

/// `PATH`, `PATH,ro` or `PATH,rw`, each with `,format=raw` or `,format=qcow2` behind the path or the rest. Only such
/// endings are taken off, each once, so a path may have commas, and one that itself ends in `,ro` is written `PATH,rw`.
///
/// # Errors
/// An empty path; another format.
pub fn disk(text: &OsStr) -> Result<Disk, String> {
    let mut path = text.as_bytes();
    let (mut read_only, mut format) = (None, None);
    while let Some(comma) = path.iter().rposition(|byte| *byte == b',') {
        let (before, word) = path.split_at(comma);
        match word {
            b",ro" | b",rw" if read_only.is_none() => read_only = Some(word == b",ro"),
            [b',', b'f', b'o', b'r', b'm', b'a', b't', b'=', name @ ..] if format.is_none() => {
                format = Some(
                    disk_format(&String::from_utf8_lossy(name))
                        .map_err(|why| format!("has a format that {why}"))?,
                );
            }
            _ => break,
        }
        path = before;
    }
    if path.is_empty() {
        return Err("names no file; write --disk FILE or --disk FILE,ro".into());
    }
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    let (read_only, format) = (read_only.unwrap_or_default(), format.unwrap_or_default());
    Ok(Disk { path, read_only, format })
}

/// What is in a disk's file: `raw`, `qcow2`.
///
/// # Errors
/// Anything else.
pub fn disk_format(text: &str) -> Result<DiskFormat, String> {
    match text {
        "raw" => Ok(DiskFormat::Raw),
        "qcow2" => Ok(DiskFormat::Qcow2),
        _ => Err("is not raw or qcow2; make a raw disk with `qemu-img convert -O raw`".into()),
    }
}

/// Bytes of the longest tag: QEMU's.
const MOST_TAG: usize = 31;

/// A name by which a guest finds a share: letters, digits, `.`, `_` and `-`.
///
/// # Errors
/// Anything else, and more than 31 characters.
pub fn tag(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !text.is_empty() && text.len() <= MOST_TAG && text.chars().all(fine) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "is no tag for a share; write letters, digits, `.`, `_` and `-`, at most {MOST_TAG}"
        )),
    }
}

/// `FOLDER`, `FOLDER:TAG`, and either with `:ro` or `:rw` behind. What is behind a colon is a tag unless
/// it has a `/`: a folder whose own name has a colon is written with a `/` at its end.
///
/// # Errors
/// No folder, and what is no tag.
pub fn share(text: &OsStr) -> Result<Share, String> {
    let bytes = text.as_bytes();
    let (rest, read_only) = match (bytes.strip_suffix(b":ro"), bytes.strip_suffix(b":rw")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => (bytes, false),
    };
    let mut parts = rest.rsplitn(2, |byte| *byte == b':');
    let (last, before) = (parts.next().unwrap_or_default(), parts.next());
    let (path, named) = match before {
        Some(path) if !last.contains(&b'/') => (path, Some(tag(&String::from_utf8_lossy(last))?)),
        _ => (rest, None),
    };
    if path.is_empty() {
        return Err("names no folder; write --share FOLDER, FOLDER:TAG or FOLDER:TAG:ro".into());
    }
    Ok(Share { path: PathBuf::from(OsString::from_vec(path.to_vec())), tag: named, read_only })
}

/// `PATH` or `PATH,cid=N`: only that ending is taken off, so a path may have commas.
///
/// # Errors
/// An empty path, one that ends in `/`, an address that no guest can have.
pub fn vsock(text: &OsStr) -> Result<Vsock, String> {
    const CID: &[u8] = b",cid=";
    let bytes = text.as_bytes();
    let at = bytes.windows(CID.len()).rposition(|window| window == CID);
    let (path, cid) = match at.and_then(|at| bytes.split_at_checked(at)) {
        None => (bytes, FIRST_CID),
        Some((path, rest)) => {
            let cid = rest.get(CID.len()..).and_then(|cid| std::str::from_utf8(cid).ok());
            let cid = cid.and_then(|cid| cid.parse().ok());
            let good = cid.filter(|cid| (FIRST_CID..=LAST_CID).contains(cid));
            (
                path,
                good.ok_or(format!(
                    "has no CID of a guest; give one from {FIRST_CID} to {LAST_CID}"
                ))?,
            )
        }
    };
    if path.is_empty() || path.ends_with(b"/") {
        return Err("names no socket; write PATH or PATH,cid=N".into());
    }
    let cid = u32::try_from(cid).unwrap_or(u32::MAX);
    Ok(Vsock { path: PathBuf::from(OsString::from_vec(path.to_vec())), cid })
}

/// `NAME=PATH`, cut at the first `=`. What names there can be is for the plan to say.
///
/// # Errors
/// No `=`, or nothing on a side of it.
pub fn channel(text: &OsStr) -> Result<Channel, String> {
    let mut parts = text.as_bytes().splitn(2, |byte| *byte == b'=');
    let name = parts.next().and_then(|name| std::str::from_utf8(name).ok());
    match name.zip(parts.next()) {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Channel {
            name: name.to_owned(),
            path: PathBuf::from(OsString::from_vec(path.to_vec())),
        }),
        _ => Err("names no port and socket; write --channel NAME=PATH".into()),
    }
}

/// `VOLUME:/PATH` or `VOLUME:/PATH:ro`, as OPS has it. A volume's name may have colons.
///
/// # Errors
/// Anything else.
pub fn mount(text: &str) -> Result<Mount, String> {
    let at = text.find(":/").or_else(|| text.find(':')).and_then(|at| text.split_at_checked(at));
    match at {
        Some((volume, path)) if !volume.is_empty() => {
            mount_at(volume, path.strip_prefix(':').unwrap_or(path))
        }
        _ => Err("names no volume and place; write --mounts VOLUME:/PATH".into()),
    }
}

/// A volume and where the guest mounts it: `/PATH`, or `/PATH:ro`. Nanos takes the first `:ro` for the end of the
/// path, and mounts nothing over its root.
///
/// # Errors
/// Any other path.
pub fn mount_at(volume: &str, text: &str) -> Result<Mount, String> {
    let (path, read_only) = match text.strip_suffix(":ro") {
        Some(path) => (path, true),
        None => (text, false),
    };
    if !path.starts_with('/') {
        return Err("names no place in the guest, which begins with `/`, as in /data".into());
    }
    if path.trim_matches('/').is_empty() {
        return Err("is the guest's root, where its image is: choose a folder, as in /data".into());
    }
    if path.contains(':') {
        return Err("has a `:` that is not the one of `:ro` at its end; leave it out".into());
    }
    Ok(Mount { volume: volume.to_owned(), path: path.to_owned(), read_only })
}

/// `KEY=VALUE`, cut at the first `=`, so that a value may have one.
///
/// # Errors
/// No `=`, or nothing before it.
pub fn env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("is not a variable; write KEY=VALUE".into()),
    }
}

/// An IPv4 address.
///
/// # Errors
/// Anything else.
pub fn ip4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| "is not an IPv4 address such as 10.0.2.15".into())
}

/// An IPv6 address.
///
/// # Errors
/// Anything else.
pub fn ip6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| "is not an IPv6 address such as fd00::15".into())
}

/// An IPv4 network mask, as an address: 255.255.255.0.
///
/// # Errors
/// Not an address, or one bits of which follow a zero bit.
pub fn netmask(text: &str) -> Result<Ipv4Addr, String> {
    let mask: Ipv4Addr = text.parse().map_err(|_| "is not a network mask such as 255.255.255.0")?;
    let bits = mask.to_bits();
    if bits.leading_ones().checked_add(bits.trailing_zeros()) != Some(32) && bits != 0 {
        return Err("is not a network mask such as 255.255.255.0".into());
    }
    Ok(mask)
}
