//! The host's side: the socket that programs connect to, and those that the guest reaches.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::io::Errno;

use crate::io::socket::local::{LONGEST, Listener, Local};
use crate::log::printable_path;
use crate::warning;

/// The most bytes of `_` and a port.
const SUFFIX: usize = 11;

/// The sockets of a run. Dropped, they remove the one that is theirs, where the jail lets them.
#[derive(Debug)]
pub struct Sockets {
    listener: Listener,
    /// Its path, with room for a port behind it.
    path: Vec<u8>,
    /// As the user named it.
    name: String,
}

impl Sockets {
    /// Listens at `path`.
    ///
    /// # Errors
    /// One sentence.
    pub fn open(path: &Path) -> Result<Self, String> {
        let name = printable_path(path);
        let length = path.as_os_str().len();
        let most = LONGEST.saturating_sub(SUFFIX);
        if length > most {
            return Err(format!(
                "{name}: {length} bytes, and this socket's path has at most {most}, as a port comes \
                 behind it: give it from nearer (cd to its folder, and name the file alone), or put \
                 the socket elsewhere"
            ));
        }
        let listener = Listener::bind(path)?;
        let mut sockets = Self { listener, path: Vec::with_capacity(LONGEST), name };
        sockets.path.extend_from_slice(path.as_os_str().as_bytes());
        Ok(sockets)
    }

    /// Makes the socket's folder the process's own: from there paths lead to sockets in a jail that has
    /// nothing but this folder.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn enter(&mut self) -> io::Result<()> {
        let path = Path::new(OsStr::from_bytes(&self.path));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            rustix::process::chdir(folder)?;
        }
        let file = path.file_name().map(|name| name.as_bytes().to_vec());
        self.path.clear();
        self.path.extend_from_slice(&file.unwrap_or_default());
        Ok(())
    }

    /// What takes the host's connections.
    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Connects to who listens for `port`. `None`: there are others before us.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn connect(&mut self, port: u32) -> io::Result<Option<Local>> {
        let base = self.path.len();
        write!(self.path, "_{port}")?;
        let connected = Local::connect(Path::new(OsStr::from_bytes(&self.path)));
        self.path.truncate(base);
        if let Err(error) = &connected {
            self.complain(error, port);
        }
        connected
    }

    /// Says why the guest did not get through, where that is not simply that nobody is there.
    fn complain(&self, error: &io::Error, port: u32) {
        let name = &self.name;
        match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::CONNREFUSED) => {}
            Some(Errno::ACCESS | Errno::PERM) => warning!(
                "vsock: {name}_{port}: runner may not connect: chmod it, or the folder it is in (run as \
                 root, runner becomes the user of sudo, or nobody)"
            ),
            _ => warning!("vsock: {name}_{port}: {error}: the guest is refused"),
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Err(error) = unlinkat(CWD, &*self.path, AtFlags::empty()) {
            crate::info!("vsock: {} is left for the next run to remove: {error}", self.name);
        }
    }
}
