//! Which network, as people write it: `user`, `none`, `tap:NAME`, `bridge:NAME`, `unix:PATH`,
//! `unixgram:PATH`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::net::user::addresses::{DNS_MAC, GATEWAY_MAC};

/// The bridge that OPS means where none is named.
pub const BRIDGE: &str = "br0";

/// The most bytes of a network interface's name on Linux (`IFNAMSIZ`, less the NUL).
const INTERFACE_NAME: usize = 15;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetChoice {
    /// The user-mode network.
    User,
    /// No network device.
    None,
    /// A tap device of the host's, by its name.
    Tap(String),
    /// A tap device in a bridge of the host's.
    Bridge {
        /// The bridge.
        bridge: String,
        /// The tap device; one that is made for this run where none is named.
        tap: Option<String>,
    },
    /// A stream socket, each frame behind its length.
    Stream(PathBuf),
    /// A datagram socket, each frame a datagram.
    Datagram {
        /// The socket's name.
        path: PathBuf,
        /// The name of ours, where the other side wants a certain one.
        own: Option<PathBuf>,
        /// It is one of those that want to be greeted as by Apple's vfkit.
        vfkit: bool,
    },
}

impl fmt::Display for NetChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetChoice::User => f.write_str("user"),
            NetChoice::None => f.write_str("none"),
            NetChoice::Tap(name) => write!(f, "tap:{name}"),
            NetChoice::Bridge { bridge, .. } => write!(f, "bridge:{bridge}"),
            NetChoice::Stream(path) => write!(f, "unix:{}", path.display()),
            NetChoice::Datagram { path, own, vfkit } => {
                write!(f, "unixgram:{}", path.display())?;
                match own {
                    Some(own) => write!(f, ",own={}", own.display()),
                    None if *vfkit => f.write_str(",vfkit"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A network by its name. `unixgram:PATH,vfkit` greets its peer, and `unixgram:PATH,own=PATH` has the
/// second name itself; a path that has such an ending is written `PATH,plain`.
///
/// # Errors
/// Anything else.
pub fn net(text: &OsStr) -> Result<NetChoice, String> {
    const HOW: &str = "choose user, none, tap:NAME, bridge:NAME, unix:PATH, unixgram:PATH, \
        unixgram:PATH,vfkit or unixgram:PATH,own=PATH";
    let bytes = text.as_bytes();
    let (kind, rest) = match bytes.iter().position(|byte| *byte == b':') {
        Some(colon) => {
            let (kind, rest) = bytes.split_at_checked(colon).unwrap_or_default();
            (kind, rest.get(1..))
        }
        None => (bytes, None),
    };
    let name = || {
        let name = rest.and_then(|rest| str::from_utf8(rest).ok()).unwrap_or_default();
        interface(name)
    };
    let path = |rest: &[u8]| match rest.is_empty() {
        true => Err("names no socket; write unix:PATH or unixgram:PATH".to_owned()),
        false => Ok(PathBuf::from(OsString::from_vec(rest.to_vec()))),
    };
    match (kind, rest) {
        (b"user", None) => Ok(NetChoice::User),
        (b"none", None) => Ok(NetChoice::None),
        (b"tap", _) => name().map(NetChoice::Tap),
        (b"bridge", _) => name().map(|bridge| NetChoice::Bridge { bridge, tap: None }),
        (b"unix", _) => path(rest.unwrap_or_default()).map(NetChoice::Stream),
        (b"unixgram", _) => {
            let rest = rest.unwrap_or_default();
            let (rest, own, vfkit) = match (rest.strip_suffix(b",vfkit"), own(rest)) {
                (Some(rest), _) => (rest, None, true),
                (None, Some((rest, own))) => (rest, Some(path(own)?), false),
                (None, None) => (plain(rest)?, None, false),
            };
            let path = path(rest)?;
            if own.as_ref() == Some(&path) {
                return Err(
                    "names the same socket for both ends, where frames would come back; give \
                            ours a name of its own behind own="
                        .into(),
                );
            }
            Ok(NetChoice::Datagram { path, own, vfkit })
        }
        _ => Err(format!("is not a network; {HOW}")),
    }
}

/// What stands before and behind the last `,own=`.
fn own(text: &[u8]) -> Option<(&[u8], &[u8])> {
    const OWN: &[u8] = b",own=";
    let at = text.windows(OWN.len()).rposition(|window| window == OWN)?;
    let (path, own) = text.split_at_checked(at)?;
    Some((path, own.strip_prefix(OWN)?)).filter(|_| !text.ends_with(b",plain"))
}

/// A socket's path without a word behind it. What stands behind the last comma is a word that nobody
/// knows, unless it leads on to a folder, or `,plain` says that there is none.
fn plain(text: &[u8]) -> Result<&[u8], String> {
    if let Some(path) = text.strip_suffix(b",plain") {
        return Ok(path);
    }
    match text.iter().rposition(|byte| *byte == b',').and_then(|comma| text.get(comma..)?.get(1..))
    {
        Some(word) if !word.contains(&b'/') => Err(format!(
            "has `{}` behind the socket's path, which means nothing; write unixgram:PATH,vfkit or \
             unixgram:PATH,own=PATH, or put `,plain` behind a path that has a comma",
            word.escape_ascii()
        )),
        _ => Ok(text),
    }
}

/// The name of a network interface of the host's (`dev_valid_name` in Linux, net/core/dev.c).
///
/// # Errors
/// None, one that is too long, or one that no interface has.
pub(crate) fn interface(name: &str) -> Result<String, String> {
    let odd = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    if name.is_empty() {
        return Err("names no network interface; give its name, such as tap0".into());
    }
    if name.len() > INTERFACE_NAME || name.contains(odd) || [".", ".."].contains(&name) {
        return Err(format!(
            "is no name of a network interface, which has at most {INTERFACE_NAME} bytes and none of `/:%`; \
             give one such as tap0"
        ));
    }
    Ok(name.to_owned())
}

/// What OPS's names come to: a tap device, a bridge, both, or neither.
pub(crate) fn tap_and_bridge(
    tap: Option<String>,
    bridged: bool,
    bridge: Option<String>,
) -> Option<NetChoice> {
    let bridge = bridge.or_else(|| bridged.then(|| BRIDGE.to_owned()));
    match (tap, bridge) {
        (tap, Some(bridge)) => Some(NetChoice::Bridge { bridge, tap }),
        (Some(tap), None) => Some(NetChoice::Tap(tap)),
        (None, None) => None,
    }
}

/// A hardware address: six bytes in hexadecimal with colons between, of one network card.
///
/// # Errors
/// Anything else, a group's address, and that of nobody.
pub fn mac(text: &str) -> Result<[u8; 6], String> {
    const HOW: &str = "give six bytes such as 52:54:00:12:34:56";
    let mut bytes = Vec::new();
    for part in text.split([':', '-']) {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = u8::from_str_radix(part, 16).ok().filter(|_| digits);
        bytes.push(byte.ok_or_else(|| format!("is not a hardware address; {HOW}"))?);
    }
    let address: [u8; 6] =
        bytes.try_into().map_err(|_| format!("is not a hardware address; {HOW}"))?;
    let [first, ..] = address;
    if first & 1 != 0 || address == [0; 6] {
        return Err(format!("is no address of a single network card; {HOW}"));
    }
    if [GATEWAY_MAC, DNS_MAC].contains(&address) {
        return Err(format!(
            "is the user-mode network's own, of its gateway or name server; {HOW}"
        ));
    }
    Ok(address)
}
