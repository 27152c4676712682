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
    /// A balloon that is to take so many bytes, which may be 0.
    pub balloon: Option<u64>,
    /// Which console has stdin.
    pub console: Option<ConsoleChoice>,
    /// Ports of a virtio console's, in the order the guest sees them.
    pub channels: Vec<Channel>,
    /// Folders of the host to share, in the order the guest sees them.
    pub shares: Vec<Share>,
}

/// The guest's consoles. Both write to stdout; the serial port is there in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleChoice {
    /// The serial port alone.
    Serial,
    /// A virtio console besides, which has stdin.
    Virtio,
}

/// A port of the guest's before a socket of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// By what the guest finds it.
    pub name: String,
    /// Where a program of the host's listens.
    pub path: PathBuf,
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

/// What is typed stands, and for the rest what the config has; shares and channels that are typed come
/// after the config's.
pub(super) fn settle(typed: Devices, config: &Config) -> Devices {
    let mut shares = match config.value("Runner.Shares") {
        Some(Value::Shares(shares)) => shares.clone(),
        _ => Vec::new(),
    };
    shares.extend(typed.shares);
    let balloon = || match config.value("Runner.Balloon") {
        Some(Value::Balloon(size)) => *size,
        _ => None,
    };
    let channels = config.map("Runner.Channels").into_iter();
    let mut channels: Vec<_> =
        channels.map(|(name, path)| Channel { name, path: path.into() }).collect();
    channels.extend(typed.channels);
    Devices {
        channels,
        rng: typed.rng.or_else(|| config.switch("Runner.Rng")),
        balloon: typed.balloon.or_else(balloon),
        shares,
        vsock: typed.vsock.or_else(|| config.vsock("Runner.Vsock")),
        console: typed.console.or_else(|| config.console("Runner.Console")),
    }
}
