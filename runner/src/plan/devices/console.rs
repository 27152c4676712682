//! The guest's virtio console: whether stdout and stdin are behind it, and the ports that it has besides,
//! connected.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::config::Channel as Asked;
use crate::devices::virtio::console::{Channel, MOST_CHANNELS};
use crate::log::printable_path;

/// Bytes of the longest name.
const LONGEST: usize = 63;

/// A virtio console.
#[derive(Debug)]
pub struct ConsolePlan {
    /// Stdout and stdin are behind its first port.
    pub is_console: bool,
    asked: Vec<Asked>,
    /// Once they are connected, and until whoever runs the guest takes them.
    channels: Mutex<Vec<Channel>>,
}

impl ConsolePlan {
    /// One with what was asked for; none where that is nothing.
    ///
    /// # Errors
    /// Names that no port can have, one for two ports, too many ports.
    pub(super) fn new(is_console: bool, asked: Vec<Asked>) -> Result<Option<Self>, String> {
        for (index, Asked { name, path }) in asked.iter().enumerate() {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if name.is_empty() || name.len() > LONGEST || !name.bytes().all(good) {
                return Err(format!(
                    "--channel {}: a port's name has letters, digits, `.`, `_` and `-`, at most {LONGEST}",
                    name.escape_debug()
                ));
            }
            if path.as_os_str().is_empty() {
                return Err(format!("--channel {name}: no socket: write {name}=PATH"));
            }
            if asked.iter().take(index).any(|other| other.name == *name) {
                return Err(format!("two channels are called {name}: give each a name of its own"));
            }
        }
        if asked.len() > MOST_CHANNELS {
            let count = asked.len();
            return Err(format!(
                "{count} channels, and there can be {MOST_CHANNELS}: leave some out"
            ));
        }
        let is_any = is_console || !asked.is_empty();
        Ok(is_any.then(|| Self { is_console, asked, channels: Mutex::default() }))
    }

    /// Whether it has ports beside the console, or in its place.
    pub fn has_channels(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Connects each port: from here on programs know of the guest.
    pub(super) fn open(&self) -> Result<(), String> {
        let connect = |asked: &Asked| Channel::connect(&asked.name, &asked.path);
        let channels = self.asked.iter().map(connect).collect::<Result<_, _>>()?;
        *self.channels.lock().unwrap_or_else(PoisonError::into_inner) = channels;
        Ok(())
    }

    /// The ports, for the one who runs the guest: the second time there are none.
    pub fn take_channels(&self) -> Vec<Channel> {
        std::mem::take(&mut *self.channels.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `stdout and stdin, port agent to agent.sock`
impl fmt::Display for ConsolePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        if self.is_console {
            f.write_str("stdout and stdin")?;
            comma = ", ";
        }
        for Asked { name, path } in &self.asked {
            write!(f, "{comma}port {name} to {}", printable_path(path))?;
            comma = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    fn plan(names: &[&str], path: &Path) -> Result<Option<ConsolePlan>, String> {
        let asked = |name: &&str| Asked { name: (*name).to_owned(), path: path.to_owned() };
        ConsolePlan::new(false, names.iter().map(asked).collect())
    }

    #[test]
    fn a_channel_is_connected_to_who_listens_and_says_who_has_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let asked = plan(&["agent"], &path).unwrap().unwrap();
        assert_eq!(asked.to_string(), format!("port agent to {}", path.display()));
        let refusal = asked.open().unwrap_err();
        assert!(refusal.contains("agent=") && refusal.contains("start the program that listens"));
        let listener = UnixListener::bind(&path).unwrap();
        asked.open().unwrap();
        let (mut program, _) = listener.accept().unwrap();
        program.write_all(b"x").unwrap();
        assert_eq!(asked.take_channels().len(), 1);
        assert_eq!(asked.take_channels().len(), 0);
        let _ = program.read(&mut [0]);
    }

    #[test]
    fn names_are_such_as_a_file_can_have_and_differ() {
        let path = Path::new("a.sock");
        for (names, wanted) in [
            (&[""][..], "has letters, digits"),
            (&["a b"], "has letters, digits"),
            (&["../x"], "has letters, digits"),
            (&["a\n"], "--channel a\\n"),
            (&["a", "b", "a"], "two channels are called a"),
            (&["1", "2", "3", "4", "5", "6", "7", "8", "9"], "9 channels, and there can be 8"),
        ] {
            let refusal = plan(names, path).unwrap_err();
            assert!(refusal.contains(wanted), "{refusal}");
        }
        assert!(plan(&["x"], Path::new("")).unwrap_err().contains("write x=PATH"));
        assert!(plan(&[], path).unwrap().is_none());
    }
}
