//! Devices by name, as a unikernel's manifest has them: `NAME=FILE`, `NAME=user`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::DiskFormat;
use super::network::NetChoice;
use crate::log::printable_path;

/// The most bytes of a name (Solo5, `mft_abi.h`, `MFT_NAME_MAX`).
const MOST: usize = 67;

/// Block storage for a guest that knows it by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBlock {
    /// The name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The guest can only read it.
    pub read_only: bool,
    /// Bytes of a block, where somebody said: a power of two from 512 on.
    pub block_size: Option<u16>,
}

/// A network for a guest that knows it by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedNet {
    /// The name.
    pub name: String,
    /// What it is.
    pub choice: NetChoice,
    /// The guest's hardware address there, where somebody said.
    pub mac: Option<[u8; 6]>,
}

/// In whose words a guest is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Runner's own.
    Runner,
    /// Those of Solo5's tender.
    Tender,
}

impl Dialect {
    /// The option for the device `name`, `--block` or `--net` as it is here.
    #[must_use]
    pub fn device(self, option: &str, name: &str) -> String {
        let between = match self {
            Dialect::Runner => ' ',
            Dialect::Tender => ':',
        };
        format!("{option}{between}{name}")
    }

    /// A network, as it stands behind the name; without one what anybody can give.
    #[must_use]
    pub fn network(self, choice: Option<&NetChoice>) -> String {
        match (self, choice) {
            (Dialect::Runner, None) => "user".to_owned(),
            (Dialect::Tender, None) => "TAP".to_owned(),
            (Dialect::Tender, Some(NetChoice::Tap(name))) => name.clone(),
            (_, Some(choice)) => choice.to_string(),
        }
    }

    /// The option for memory.
    #[must_use]
    pub fn memory(self) -> &'static str {
        match self {
            Dialect::Runner => "-m",
            Dialect::Tender => "--mem",
        }
    }
}

/// A name and what stands behind its `=`; `None` when it does not begin as a name does.
pub fn split(text: &OsStr) -> Option<(String, OsString)> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let (name, rest) = bytes.split_at_checked(at)?;
    let good = (1..=MOST).contains(&name.len()) && name.iter().all(u8::is_ascii_alphanumeric);
    let rest = rest.get(1..)?;
    good.then(|| (String::from_utf8_lossy(name).into_owned(), OsString::from_vec(rest.to_vec())))
}

/// `NAME=FILE`, `NAME=FILE,ro`.
///
/// # Errors
/// No name, or no file.
pub fn block(text: &OsStr) -> Result<NamedBlock, String> {
    let how = "write --block NAME=FILE, with the name that the guest's manifest has for it";
    let (name, file) = split(text).ok_or_else(|| format!("is no block storage by name; {how}"))?;
    let disk = super::values::disk(&file).map_err(|_| format!("names no file; {how}"))?;
    if disk.format != DiskFormat::Raw {
        return Err(format!(
            "is no raw file, and a Solo5 guest's storage is one: qemu-img convert -O raw {}",
            printable_path(&disk.path)
        ));
    }
    Ok(NamedBlock { name, path: disk.path, read_only: disk.read_only, block_size: None })
}

/// `NAME=WHICH`, or a network alone, as [`super::network::net`] has it.
///
/// # Errors
/// As there.
pub fn net(text: &OsStr) -> Result<Result<NamedNet, NetChoice>, String> {
    match split(text) {
        Some((name, which)) => {
            let choice = super::network::net(&which)?;
            Ok(Ok(NamedNet { name, choice, mac: None }))
        }
        None => super::network::net(text).map(Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_storage_has_a_name_and_a_file_which_may_have_anything_in_its_name() {
        let block = |text: &str| block(OsStr::new(text));
        let named = block("storage=a=b,c.img,ro").unwrap();
        assert_eq!((named.name.as_str(), named.read_only), ("storage", true));
        assert_eq!(named.path, PathBuf::from("a=b,c.img"));
        for wrong in ["disk.img", "=disk.img", "storage=", "a b=c", "a/b=c", &"n".repeat(70)] {
            assert!(block(wrong).unwrap_err().contains("--block NAME=FILE"), "{wrong}");
        }
        let why = block("storage=q.img,format=qcow2").unwrap_err();
        assert!(why.ends_with("qemu-img convert -O raw q.img"), "{why}");
        assert!(block(&format!("{}=f", "n".repeat(67))).is_ok());
        assert!(block(&format!("{}=f", "n".repeat(68))).is_err());
    }

    #[test]
    fn a_network_has_a_name_when_one_stands_before_it() {
        let net = |text: &str| net(OsStr::new(text));
        let named = net("service0=tap:tap=0").unwrap().unwrap();
        assert_eq!(named.name, "service0");
        assert_eq!(named.choice, NetChoice::Tap("tap=0".into()));
        assert_eq!(net("tap:a=b").unwrap(), Err(NetChoice::Tap("a=b".into())));
        assert_eq!(net("user").unwrap(), Err(NetChoice::User));
        assert!(net("service0=wifi").is_err());
    }
}
