//! Which further devices a guest has, neither disks nor its network, as far as somebody said.

use std::path::PathBuf;

use super::Config;
use super::parse::Value;

/// A socket device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vsock {
    /// The host's socket, and the beginning of those that the guest reaches.
    pub path: PathBuf,
    /// The guest's address.
    pub cid: u32,
}

/// Further devices, on the command line and settled alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Devices {
    /// An entropy device, or none.
    pub rng: Option<bool>,
    /// A socket device.
    pub vsock: Option<Vsock>,
    /// Folders of the host to share, in the order the guest sees them.
    pub shares: Vec<Share>,
}

/// A folder of the host for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The folder.
    pub path: PathBuf,
    /// By what the guest finds it; its number among the shares, from 1 on, where nobody says.
    pub tag: Option<String>,
    /// The guest can only read it.
    pub read_only: bool,
}

/// What is typed stands, and for the rest what the config has; shares that are typed come after the
/// config's.
pub(super) fn settle(typed: Devices, config: &Config) -> Devices {
    let mut shares = match config.value("Runner.Shares") {
        Some(Value::Shares(shares)) => shares.clone(),
        _ => Vec::new(),
    };
    shares.extend(typed.shares);
    Devices {
        rng: typed.rng.or_else(|| config.switch("Runner.Rng")),
        shares,
        vsock: typed.vsock.or_else(|| match config.value("Runner.Vsock") {
            Some(Value::Vsock(vsock)) => Some(vsock.clone()),
            _ => None,
        }),
    }
}
